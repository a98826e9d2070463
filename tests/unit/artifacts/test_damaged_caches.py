"""What is cached and damaged is a warning, and made again: every form of artefact, and the rest."""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from corral.accuracy import Fidelity
from corral.artifacts import store as artefact
from corral.artifacts.build import make_order
from corral.artifacts.order import Order
from corral.artifacts.store import Artefact
from corral.backends.registry import ENGINES
from corral.backends.torch import aot
from corral.backends.torch.aot import PackageCache
from corral.errors import PassingError
from corral.models import photos, registry
from corral.models.spec import Weights
from corral.settings import BackendName, Precision
from corral.system import folders
from corral.tuning import accuracy as measuring
from corral.tuning import search_cache, select
from corral.tuning.bench import Bench
from corral.tuning.candidates import Candidate, Row

_WEIGHTS = Weights(source="synthetic", description="made up", path=None, digest="1")
_FP32 = Candidate(backend=BackendName.OPENVINO, precision=Precision.FP32)
_INT8 = Candidate(backend=BackendName.OPENVINO, precision=Precision.INT8)

Damage = Callable[[bytes], bytes]


def _cut(content: bytes) -> bytes:
    return content[:-1]


def _flip(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


# --- artefacts, of whatever form ---


@pytest.mark.parametrize("damage", [_cut, _flip])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("backend", [name for name, row in ENGINES.items() if row.artifact])
def test_every_file_of_every_form_of_artefact_is_looked_at(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    backend: BackendName,
    precision: str,
    damage: Damage,
) -> None:
    spec = registry.get("resnet50")
    order = make_order(spec, _WEIGHTS, precision, frozenset(), backend)
    for name in order.files:
        stored = _store(tmp_path, order)
        file = stored.path.with_name(name)
        file.write_bytes(damage(file.read_bytes()))
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            assert artefact.find(tmp_path, order) is None
        assert f"damaged ({name} has" in caplog.text
        assert "prepared again" in caplog.text
        assert artefact.find(tmp_path, order) is None
        assert _store(tmp_path, order) == artefact.find(tmp_path, order)


def _store(cache: Path, order: Order) -> Artefact:
    def write(first: Path) -> None:
        for name in order.files:
            first.with_name(name).write_bytes(name.encode() * 100)

    with artefact.exclusive(cache, order, pytest.fail):
        return artefact.store(cache, order, write)


# --- compiled packages ---


class _Compiler:
    """Takes the compiler's and the loader's place; a package is a zip with one word in it."""

    def __init__(self, folder: Path) -> None:
        self.cache = PackageCache(folder, [])
        self.package = folder / "key.pt2"
        self.compiled = 0

    def compile(self, entry: object, example: object, package: Path) -> None:
        self.compiled += 1
        _pack(package, "module")

    def open(self, package: Path) -> str:
        with zipfile.ZipFile(package) as archive:
            word = archive.read("data").decode()
        if word != "module":
            raise RuntimeError(f"undefined symbol: {word}\nand more")
        return word

    def load(self) -> str:
        return str(self.cache.load(object, None))


def _pack(package: Path, word: str) -> None:
    draft = package.with_suffix(".draft")
    with zipfile.ZipFile(draft, "w") as archive:
        archive.writestr("data", word)
    draft.rename(package)


@pytest.fixture
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> _Compiler:
    found = _Compiler(tmp_path / "inductor")
    monkeypatch.setattr(PackageCache, "_key", lambda cache, example: "key")
    monkeypatch.setattr(aot, "_compile", found.compile)
    monkeypatch.setattr(aot, "_open", found.open)
    return found


def _in_directory(offset: int, value: int) -> Damage:
    """Changes a byte of the zip's entry in its directory."""

    def damage(content: bytes) -> bytes:
        place = content.index(b"PK\x01\x02") + offset
        return content[:place] + bytes([value]) + content[place + 1 :]

    return damage


def _other_module(content: bytes) -> bytes:
    """Whole, with the right checksum, and of no use."""
    return content


@pytest.mark.parametrize(
    ("damage", "cause"),
    [
        (_cut, "not a zip"),
        (lambda content: content.replace(b"module", b"mobile"), "another checksum"),
        (_in_directory(8, 1), "encrypted"),
        (_in_directory(10, 99), "not supported"),
        (lambda content: b"", "not a zip"),
        (_other_module, "undefined symbol: other"),
    ],
    ids=["cut", "other bytes", "encrypted", "unknown compression", "empty", "does not load"],
)
def test_a_package_of_no_use_is_compiled_again(
    compiler: _Compiler, caplog: pytest.LogCaptureFixture, damage: Damage, cause: str
) -> None:
    assert compiler.load() == "module"
    if damage is _other_module:
        _pack(compiler.package, "other")
    compiler.package.write_bytes(damage(compiler.package.read_bytes()))
    with caplog.at_level(logging.WARNING):
        assert compiler.load() == "module"
    (warning,) = caplog.messages
    assert cause in warning
    # It is whole, and only fits no more: nobody need look for a fault of the disk.
    assert ("damaged" in warning) is (damage is not _other_module)
    assert "compiled again" in warning
    assert "\n" not in warning
    assert compiler.compiled == 2
    caplog.clear()
    assert compiler.load() == "module"
    assert compiler.compiled == 2
    assert not caplog.messages


def test_a_package_that_another_worker_has_mended_is_taken(
    compiler: _Compiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert compiler.load() == "module"
    _pack(compiler.package, "other")

    def beaten(package: Path) -> None:
        _pack(package, "module")

    monkeypatch.setattr(aot, "_load", beaten)
    assert compiler.load() == "module"
    assert compiler.compiled == 1


def test_a_whole_package_that_cannot_be_loaded_here_is_not_compiled_again(
    compiler: _Compiler, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert compiler.load() == "module"

    def noexec(package: Path) -> None:
        raise PassingError("no folder that programs can be loaded from")

    monkeypatch.setattr(aot, "_open", noexec)
    with caplog.at_level(logging.WARNING), pytest.raises(PassingError, match="no folder"):
        compiler.load()
    assert compiler.compiled == 1
    assert not caplog.messages


def test_what_cannot_be_kept_is_compiled_all_the_same(
    compiler: _Compiler, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "inductor").write_text("in the way")
    with caplog.at_level(logging.WARNING):
        assert compiler.load() == "module"
    (warning,) = caplog.messages
    assert "is not kept" in warning
    assert compiler.compiled == 1


def test_without_a_folderfor_programs_one_line_names_tmpdir(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(folders, "for_programs", lambda candidates: None)
    with pytest.raises(PassingError, match="TMPDIR") as caught:
        aot.for_programs([Path("/tmp")])
    assert "\n" not in str(caught.value)


def test_what_a_killed_compiler_left_is_removed(compiler: _Compiler) -> None:
    mine, others = (compiler.package.with_name(name) for name in (".key.dead", ".another.alive"))
    for folder in (mine, others):
        folder.mkdir(parents=True)
        (folder / "draft.pt2").write_bytes(b"half")
    compiler.load()
    assert not mine.exists()
    assert others.exists()


# --- what the guard and a search found ---


def _artefact(precision: Precision) -> Artefact:
    return Artefact(
        path=Path("model.xml"),
        model="resnet50",
        precision=precision.value,
        synthetic=True,
        weights="none",
        key=precision.value,
    )


@pytest.mark.parametrize("content", [b"", b"{", b'{"cosine": "high"}', b"\xff"])
def test_a_damaged_guard_result_is_measured_again(
    bench: Bench,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    content: bytes,
) -> None:
    monkeypatch.setattr(photos, "crops", lambda *_: np.zeros((1, 4, 4, 3), np.uint8))
    monkeypatch.setattr(measuring, "_answers", lambda *_: {"output": np.eye(80, dtype=np.float32)})
    asked = (_INT8, _artefact(Precision.INT8), _FP32, _artefact(Precision.FP32))
    first = measuring.measure_fidelity(bench, *asked)
    (file,) = tmp_path.glob("guard/*.json")
    file.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert measuring.measure_fidelity(bench, *asked) == first
    assert "measured again" in caplog.text
    entry = msgspec.json.decode(file.read_bytes())
    assert msgspec.convert(entry["content"], type=Fidelity) == first


@pytest.mark.parametrize("content", [b"", b"{", b'{"winner": "openvino"}', b"\xff"])
def test_a_damaged_choice_is_made_again(
    bench: Bench,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    content: bytes,
) -> None:
    searches = []

    def find(*_: object) -> list[Row]:
        searches.append(1)
        return [Row(candidate=_FP32)]

    monkeypatch.setattr(select, "search", find)
    monkeypatch.setattr(Bench, "prepare", lambda *_: _artefact(Precision.FP32))

    def choose() -> None:
        options = [_FP32, _INT8]
        found = search_cache.remembered(bench, options, _FP32)
        select.by_search(bench, found or select.search_again(bench, options, _FP32, None))

    for _ in range(2):
        choose()
    assert len(searches) == 1
    (file,) = tmp_path.glob("profiles/*.json")
    file.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            choose()
    assert len(searches) == 2
    assert "measured again" in caplog.text
