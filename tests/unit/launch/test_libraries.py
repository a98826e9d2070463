"""Where shared objects are found."""

from __future__ import annotations

from pathlib import Path

from corral.launch.libraries import NAMES, find_libraries, find_library, library_folders
from corral.settings import Allocator


def put(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_the_better_name_wins_over_the_nearer_folder(tmp_path: Path) -> None:
    put(tmp_path / "near" / "libtcmalloc.so.4")
    better = put(tmp_path / "far" / "libtcmalloc_minimal.so.4")
    assert find_library(NAMES["tcmalloc"], [tmp_path / "near", tmp_path / "far"]) == better
    assert find_library(["libnothing.so"], [tmp_path / "near"]) is None


def test_debians_multiarch_folder_and_the_python_environment(tmp_path: Path) -> None:
    system = put(tmp_path / "usr/lib/aarch64-linux-gnu/libjemalloc.so.2")
    own = put(tmp_path / "venv/lib/libiomp5.so")
    folders = library_folders(tmp_path / "venv", tmp_path)
    assert find_library(NAMES["jemalloc"], folders) == system
    assert find_library(NAMES["openmp"], folders) == own
    assert folders[0] == own.parent


def test_the_system_allocator_needs_no_library() -> None:
    assert find_libraries(Allocator.SYSTEM) == {}
    assert set(find_libraries(Allocator.JEMALLOC, openmp=True)) == {"jemalloc", "openmp"}
