"""Where packages of torch.compile are unpacked."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from corral.backends.torch import aot


def test_python_does_not_remember_the_folder_that_a_package_was_unpacked_in(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    with aot._own_temporary_folder(tmp_path):
        inside = Path(tempfile.gettempdir())
        assert inside.name.startswith("corral-inductor-")
    assert not inside.exists()
    assert Path(tempfile.gettempdir()).is_dir()
