"""What keys of cached work depend on: each ingredient, and no source file."""

from __future__ import annotations

import ast
import dataclasses
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

import corral
from corral.artifacts import build
from corral.artifacts import order as artefact_order
from corral.artifacts.build import make_order
from corral.artifacts.store import Artefact
from corral.backends import calibration, layer_search
from corral.backends import registry as engines
from corral.backends.registry import ENGINES
from corral.models import evaluation, photos, registry
from corral.models.spec import ModelSpec, Weights
from corral.settings import AccuracySettings, Allocator, BackendName, Mode, Precision, TorchMode
from corral.tensors import Recipe, Signature
from corral.tuning import accuracy as measuring
from corral.tuning import search_cache
from corral.tuning.bench import Bench
from corral.tuning.candidates import Candidate

_WEIGHTS = Weights(source="synthetic", description="made up", path=None, digest="1")
_NARROW = frozenset({"avx2"})
_FP32 = Candidate(backend=BackendName.OPENVINO, precision=Precision.FP32)
_INT8 = Candidate(backend=BackendName.OPENVINO, precision=Precision.INT8)
_TORCH = Candidate(backend=BackendName.TORCH, precision=Precision.FP32)

_ENGINES = [
    name for name, row in ENGINES.items() if row.artifact and row.artifact.engine == name.value
]
#: patches a module's attribute
Patch = Callable[[pytest.MonkeyPatch], None]


def _patch(module: object, name: str, value: object) -> Patch:
    return lambda patch: patch.setattr(module, name, value)


def _other_versions(module: object) -> Patch:
    return _patch(module, "versions", lambda names: dict.fromkeys(names, "next"))


# --- artefacts ---


def _key(
    spec: ModelSpec | None = None,
    weights: Weights = _WEIGHTS,
    precision: str = "int8",
    isa: frozenset[str] = _NARROW,
    backend: BackendName = BackendName.OPENVINO,
) -> str:
    return make_order(spec or registry.get("resnet50"), weights, precision, isa, backend).key


def _changed(**fields: Any) -> ModelSpec:
    return dataclasses.replace(registry.get("resnet50"), **fields)


@pytest.mark.parametrize(
    "other",
    [
        {"spec": _changed(name="other")},
        {"spec": _changed(revision=2)},
        {"spec": _changed(recipe=Recipe(resize=300))},
        {"spec": _changed(transformer=True)},
        {"weights": dataclasses.replace(_WEIGHTS, digest="2")},
        {"precision": "fp32"},
        {"isa": frozenset({"avx2", "avx_vnni"})},
        {"backend": BackendName.ONNXRUNTIME},
        {"backend": BackendName.TORCH},
    ],
    ids=[
        "name",
        "revision",
        "recipe",
        "transformer",
        "weights",
        "precision",
        "overflow fix",
        "onnxruntime",
        "torch",
    ],
)
def test_an_artefact_depends_on(other: dict[str, Any]) -> None:
    assert _key(**other) != _key()


@pytest.mark.parametrize(
    ("backend", "source", "depends"),
    [
        (BackendName.OPENVINO, "file", True),
        # Nothing is searched; or what is left out is in FP32 everywhere.
        (BackendName.OPENVINO, "synthetic", False),
        (BackendName.ONNXRUNTIME, "file", False),
        (BackendName.TORCH, "file", False),
    ],
)
def test_where_layers_are_searched_int8_depends_on_bf16(
    backend: BackendName, source: str, depends: bool
) -> None:
    weights = dataclasses.replace(_WEIGHTS, source=source)
    keys = {
        _key(weights=weights, backend=backend, isa=_NARROW | more)
        for more in (frozenset[str](), frozenset({"avx512_bf16"}))
    }
    assert (len(keys) == 2) is depends


@pytest.mark.parametrize("source", ["file", "synthetic"])
@pytest.mark.parametrize(
    "backend", [BackendName.OPENVINO, BackendName.ONNXRUNTIME, BackendName.TORCH]
)
def test_where_layers_are_searched_int8_depends_on_what_passes(
    backend: BackendName, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = dataclasses.replace(_WEIGHTS, source=source)
    spec = registry.get("resnet50")
    orders = [
        make_order(
            spec, weights, "int8", _NARROW, backend, accuracy=AccuracySettings(snr_db=snr_db)
        )
        for snr_db in (20, 30)
    ]
    assert (orders[0].key != orders[1].key) is (source == "file")
    monkeypatch.setattr(layer_search, "FORMAT", 99)
    again = make_order(
        spec, weights, "int8", _NARROW, backend, accuracy=AccuracySettings(snr_db=20)
    )
    assert (orders[0].key != again.key) is (source == "file")


@pytest.mark.parametrize(
    "patch",
    [
        _other_versions(build),
        _patch(photos, "digest", lambda: "other photographs"),
        _patch(photos, "FORMAT", 99),
        _patch(calibration, "FORMAT", 99),
        _patch(calibration, "SYNTHETIC_CROPS", 99),
        _patch(artefact_order, "_FORM", 99),
    ],
    ids=["versions", "photographs", "crops", "calibration", "number of crops", "folder"],
)
def test_an_int8_artefact_depends_on(patch: Patch, monkeypatch: pytest.MonkeyPatch) -> None:
    before = _key()
    patch(monkeypatch)
    assert _key() != before


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("backend", _ENGINES)
def test_an_artefact_depends_on_its_makers_format(
    backend: BackendName, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {engine: _key(precision=precision, backend=engine) for engine in _ENGINES}
    row = ENGINES[backend]
    assert row.artifact is not None
    changed = dataclasses.replace(row, artifact=dataclasses.replace(row.artifact, format=99))
    monkeypatch.setattr(engines, "ENGINES", {**ENGINES, backend: changed})
    after = {engine: _key(precision=precision, backend=engine) for engine in _ENGINES}
    assert [engine for engine in _ENGINES if before[engine] != after[engine]] == [backend]


def test_fp32_depends_on_no_photographs(monkeypatch: pytest.MonkeyPatch) -> None:
    before = _key(precision="fp32")
    monkeypatch.setattr(photos, "digest", lambda: "other photographs")
    assert _key(precision="fp32") == before


def test_a_users_file_depends_on_no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    def versions(names: list[str]) -> dict[str, str]:
        return {name: versions_of.get(name, "1") for name in names}

    versions_of: dict[str, str] = {}
    monkeypatch.setattr(build, "versions", versions)
    own = _changed(file=Path("m.onnx"))
    zoo, users = _key(), _key(own)
    versions_of["torch"] = "2"
    assert _key() != zoo
    assert _key(own) == users
    versions_of["nncf"] = "2"
    assert _key(own) != users


# --- what was measured ---


def _made(precision: str, key: str = "k") -> Artefact:
    return Artefact(
        path=Path("model.xml"), model="resnet50", precision=precision,
        synthetic=True, weights="none", key=key,
    )  # fmt: skip


def _with(bench: Bench, **settings: Any) -> Bench:
    changed = bench.settings.replace(**settings)
    return dataclasses.replace(bench, settings=changed)


def _wider(bench: Bench) -> Bench:
    return dataclasses.replace(bench, pen=msgspec.structs.replace(bench.pen, cores=2))


def _fidelity(
    bench: Bench, candidate: Candidate = _INT8, made: str = "int8", exact: str = "fp32"
) -> dict[str, str]:
    reference = dataclasses.replace(_made("fp32"), key=exact)
    return measuring.fidelity_ingredients(bench, candidate, _made("int8", made), _FP32, reference)


_BENCHES: list[Callable[[Bench], Bench]] = [
    lambda bench: dataclasses.replace(bench, cpu_model="another CPU"),
    lambda bench: dataclasses.replace(bench, isa=bench.isa | {"avx_vnni"}),
    _wider,
    lambda bench: _with(bench, worker_python="/opt/python"),
]
_MEASURED = ["cpu", "isa", "cores", "worker python"]


@pytest.mark.parametrize("change", _BENCHES, ids=_MEASURED)
def test_a_fidelity_depends_on_where(bench: Bench, change: Callable[[Bench], Bench]) -> None:
    assert _fidelity(change(bench)) != _fidelity(bench)


@pytest.mark.parametrize("other", [{"made": "x"}, {"exact": "x"}, {"candidate": _TORCH}], ids=str)
def test_a_fidelity_depends_on_what(bench: Bench, other: dict[str, Any]) -> None:
    assert _fidelity(bench, **other) != _fidelity(bench)


_PATCHES: list[tuple[Any, str, Any]] = [
    (evaluation, "SYNTHETIC_CROPS", 99),
    (
        measuring,
        "ENGINES",
        {
            **ENGINES,
            BackendName.OPENVINO: dataclasses.replace(ENGINES[BackendName.OPENVINO], revision=99),
        },
    ),
    (photos, "digest", lambda: "other photographs"),
    (photos, "FORMAT", 99),
]


@pytest.mark.parametrize(
    "patch",
    [*(_patch(*patch) for patch in _PATCHES), _other_versions(measuring)],
    ids=["pictures", "runners", "photographs", "crops", "versions"],
)
def test_a_fidelity_depends_on_how(
    bench: Bench, patch: Patch, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = _fidelity(bench)
    patch(monkeypatch)
    assert _fidelity(bench) != before


@pytest.mark.parametrize(
    "change",
    [
        *_BENCHES,
        lambda bench: _with(bench, mode=Mode.THROUGHPUT),
        lambda bench: _with(bench, max_batch=4),
        lambda bench: _with(bench, allocator=Allocator.SYSTEM),
        lambda bench: _with(bench, huge_pages=False),
        lambda bench: _with(bench, accuracy_loss=0.5),
        lambda bench: _with(bench, torch_mode=TorchMode.TRACED),
    ],
    ids=[*_MEASURED, "mode", "max batch", "allocator", "huge pages", "thresholds", "torch mode"],
)
def test_a_search_depends_on_where(bench: Bench, change: Callable[[Bench], Bench]) -> None:
    options = [_FP32, _TORCH]
    assert search_cache.search_ingredients(
        change(bench), options
    ) != search_cache.search_ingredients(bench, options)


@pytest.mark.parametrize(
    "patch",
    [
        *(_patch(*patch) for patch in _PATCHES),
        _other_versions(search_cache),
        _patch(calibration, "FORMAT", 99),
    ],
    ids=["pictures", "runners", "photographs", "crops", "versions", "an option's artefact"],
)
def test_a_search_depends_on_how(
    bench: Bench, patch: Patch, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = search_cache.search_ingredients(bench, [_FP32, _INT8])
    assert search_cache.search_ingredients(bench, [_FP32]) != before
    patch(monkeypatch)
    assert search_cache.search_ingredients(bench, [_FP32, _INT8]) != before


@pytest.mark.parametrize("classes", [True, False])
def test_a_search_depends_on_how_answers_are_judged_that_are_no_classes(
    bench: Bench, classes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = Signature(bench.spec.signature.input_shapes, (5,) if classes else (5, 8, 8))
    spec = _changed(shapes=shapes)
    monkeypatch.setattr(registry, "get", lambda *_: spec)
    before = search_cache.search_ingredients(bench, [_FP32])
    monkeypatch.setattr(search_cache, "FIDELITY_FORMAT", 99)
    assert (search_cache.search_ingredients(bench, [_FP32]) == before) is classes


# --- and on no source file ---


def test_an_edited_comment_changes_no_key(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads of corral's own source, as any hash of it needs, show an edit; no key moves."""
    read_bytes, read_text = Path.read_bytes, Path.read_text
    edited: list[Path] = []

    def bytes_of(file: Path) -> bytes:
        edit = file.suffix == ".py"
        edited.extend([file] * edit)
        return read_bytes(file) + b"# edited" * edit

    def text_of(file: Path, *arguments: Any, **options: Any) -> str:
        edit = file.suffix == ".py"
        edited.extend([file] * edit)
        return read_text(file, *arguments, **options) + "# edited" * edit

    def keys() -> list[object]:
        artefacts = [_key(precision=p, backend=b) for p in ("fp32", "int8") for b in _ENGINES]
        options = [_FP32, _INT8]
        return [*artefacts, _fidelity(bench), search_cache.search_ingredients(bench, options)]

    before = keys()
    monkeypatch.setattr(Path, "read_bytes", bytes_of)
    monkeypatch.setattr(Path, "read_text", text_of)
    assert keys() == before
    assert edited == []


def test_no_module_hashes_source_files() -> None:
    """Where a module knows its own file, it does not hash: they are told apart by their names."""
    package = Path(inspect.getfile(corral)).parent
    both = []
    for file in package.rglob("*.py"):
        names = {
            node.id for node in ast.walk(ast.parse(file.read_text())) if type(node) is ast.Name
        }
        if {"__file__", "hashlib"} <= names:
            both.append(file.name)
    assert both == []
