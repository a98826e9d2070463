"""What lies in a PyTorch file is told without PyTorch."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import pytest

from corral.backends.openvino.torch_files import check_torch_file
from corral.errors import ModelError

_SCRIPT = ("constants.pkl", "data.pkl", "code/net.py")
_PROGRAM = ("archive_format", "models/model.json", "data/weights/weight_0")
_SAVED = ("data.pkl", "version", "data/0")
_WAY_OUT = r"torch.export.save\(torch.export.export\(module, \(example,\)\), 'net.pt2'\)"


def _archive(file: Path, names: tuple[str, ...]) -> Path:
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(f"{file.stem}/{name}", b"")
    return file


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("net.pt", _SCRIPT),
        ("net.pth", _SCRIPT),
        ("net.torchscript", _SCRIPT),
        ("net.pt2", _PROGRAM),
        ("net.pt2", ("serialized_exported_program.json",)),
    ],
)
def test_a_network_of_its_suffix_passes(tmp_path: Path, name: str, names: tuple[str, ...]) -> None:
    check_torch_file(_archive(tmp_path / name, names))


@pytest.mark.parametrize(
    ("name", "names", "said"),
    [
        ("net.pt", _SAVED, _WAY_OUT),
        ("net.pth", _SAVED, _WAY_OUT),
        ("net.pt2", _SAVED, _WAY_OUT),
        ("net.pt2", _SCRIPT, "it holds TorchScript: call it net.pt$"),
        ("net.pt", _PROGRAM, "it holds an exported program: call it net.pt2$"),
    ],
)
def test_what_is_none_has_a_way_out(
    tmp_path: Path, name: str, names: tuple[str, ...], said: str
) -> None:
    with pytest.raises(ModelError, match=said) as refusal:
        check_torch_file(_archive(tmp_path / name, names))
    assert "\n" not in str(refusal.value)


def test_weights_as_they_were_saved_before_archives(tmp_path: Path) -> None:
    file = tmp_path / "net.pth"
    file.write_bytes(pickle.dumps({"weight": 1}))
    with pytest.raises(ModelError, match=_WAY_OUT):
        check_torch_file(file)


def test_an_archive_of_neither_is_left_to_torch(tmp_path: Path) -> None:
    check_torch_file(_archive(tmp_path / "net.pt", ("other",)))


@pytest.mark.parametrize("content", [b"", b"no model", b"PK\3\4 and the rest is cut"])
def test_what_is_no_archive_has_a_way_out(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "net.pt").write_bytes(content)
    with pytest.raises(ModelError, match=f"empty, cut or of another kind; .*{_WAY_OUT}"):
        check_torch_file(tmp_path / "net.pt")
