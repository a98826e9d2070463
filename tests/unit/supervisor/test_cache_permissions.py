"""Cache folders that others can change are noticed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from corral.settings import BackendName, Settings
from corral.supervisor import cache_permissions

NOBODY = 65534


@pytest.fixture
def artefact(tmp_path: Path) -> Path:
    folder = tmp_path / "artefacts" / "m-fp32-0123"
    folder.mkdir(parents=True)
    packages = tmp_path / "inductor"
    packages.mkdir()
    for file in (folder / "model.pt2", folder / "meta.json", packages / "k.pt2"):
        file.write_text("")
        file.chmod(0o644)
    for path in (tmp_path, folder.parent, folder, packages):
        path.chmod(0o755)
    return folder / "model.pt2"


def warnings(artefact: Path, uid: int | None = None) -> list[str]:
    settings = Settings.flat(cache_dir=str(artefact.parents[2]), backend=BackendName.TORCH)
    return cache_permissions.warnings(settings, str(artefact), os.geteuid() if uid is None else uid)


def test_what_is_ours_is_in_no_doubt(artefact: Path) -> None:
    assert warnings(artefact) == []
    assert cache_permissions.warnings(Settings.flat(cache_dir="/tmp"), None, 0) == [], (
        "nothing is loaded"
    )


@pytest.mark.parametrize(
    "path",
    [
        ".", "artefacts", "artefacts/m-fp32-0123", "artefacts/m-fp32-0123/model.pt2",
        "artefacts/m-fp32-0123/meta.json", "inductor", "inductor/k.pt2",
    ],
)  # fmt: skip
def test_what_others_can_change_is_one_line(artefact: Path, tmp_path: Path, path: str) -> None:
    (tmp_path / path).chmod(0o777)
    (sentence,) = warnings(artefact)
    assert sentence.startswith(f"{tmp_path / path} can be written to by everybody: ")
    (tmp_path / path).chmod(0o775)
    assert warnings(artefact) == []
    if os.geteuid() == 0:
        os.chown(tmp_path / path, NOBODY, NOBODY)
        (sentence,) = warnings(artefact)
        assert sentence.startswith(f"{tmp_path / path} belongs to ")


def test_what_belongs_to_another_user_is_one_line(artefact: Path) -> None:
    if os.geteuid() == 0:
        os.chown(artefact, NOBODY, NOBODY)
        (sentence,) = warnings(artefact)
        assert sentence.startswith(f"{artefact} belongs to ")
        assert warnings(artefact, NOBODY) == []
    else:
        (sentence,) = warnings(artefact, os.geteuid() + 1)
        assert " belongs to " in sentence
