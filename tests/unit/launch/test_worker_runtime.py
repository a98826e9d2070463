import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from corral.artifacts import curve_cache
from corral.artifacts.curve_cache import CurveCache
from corral.backends.registry import ENGINES
from corral.batching.cost_curve import CostCurve
from corral.batching.sizes import BatchSizes, batch_sizes
from corral.cli.command_line import settings_of
from corral.ipc.messages import ModelBoot
from corral.launch.worker_runtime import worker_extras
from corral.settings import BackendName, build
from corral.tensors import Datatype

#: batching pays up to 4
CURVE = CostCurve({(Datatype.FP32, 1): 1.0, (Datatype.FP32, 2): 1.5, (Datatype.FP32, 4): 2.0})
MODEL = ModelBoot(name="m", artefact="a.xml", precision="int8", synthetic=False, weights="w")


def sizes(curve: CostCurve | None = None, **settings: Any) -> BatchSizes:
    return batch_sizes(build({k.replace("_", "-"): v for k, v in settings.items()}), curve)


def test_rti_looks_once_for_the_sizes_that_shorten_a_backlog() -> None:
    assert sizes(mode="rti") == BatchSizes(sizes=[1, 2, 4, 8], find_knee=True)
    assert sizes(CURVE, mode="rti") == BatchSizes(sizes=[1, 2, 4], find_knee=False)
    one = CostCurve({(Datatype.FP32, 1): 1.0})
    assert sizes(one, mode="rti") == BatchSizes(sizes=[1], find_knee=False)


def test_rti_runs_one_at_a_time_where_that_is_asked_for() -> None:
    assert sizes(CURVE, mode="rti", max_batch=1) == BatchSizes(sizes=[1], find_knee=False)
    assert sizes(mode="rti", backend="null") == BatchSizes(sizes=[1, 2, 4, 8], find_knee=True)
    asked = sizes(mode="rti", backend="null", max_batch=4)
    assert asked == BatchSizes(sizes=[1, 2, 4], find_knee=False)


def test_a_largest_batch_that_was_asked_for_is_compiled_whatever_it_costs() -> None:
    for mode in ("rti", "throughput"):
        asked = sizes(CURVE, mode=mode, max_batch=6)
        assert asked == BatchSizes(sizes=[1, 2, 4, 6], find_knee=False)


def test_throughput_looks_for_the_knee_once() -> None:
    first = sizes(mode="throughput")
    assert first == BatchSizes(sizes=[1, 2, 4, 8, 16, 32], find_knee=True)
    assert sizes(CURVE, mode="throughput") == BatchSizes(sizes=[1, 2, 4], find_knee=False)


def cache(
    folder: Path,
    cores: int = 2,
    model: ModelBoot = MODEL,
    cpu: str = "a CPU",
    isa: Iterable[str] = ("avx2",),
    **settings: Any,
) -> CurveCache:
    asked = {name.replace("_", "-"): value for name, value in settings.items()}
    asked.setdefault("backend", "openvino")
    return CurveCache(build({"cache-dir": str(folder), **asked}), model, cores, cpu, frozenset(isa))


def test_a_curve_is_found_again_for_the_same_width_and_backend_only(tmp_path: Path) -> None:
    assert cache(tmp_path).load() is None
    cache(tmp_path).save(CURVE.names())
    assert cache(tmp_path).load() == CURVE
    assert cache(tmp_path, cores=4).load() is None
    assert cache(tmp_path, mode="throughput").load() is None


def test_a_curve_of_a_busy_machine_is_measured_again_and_the_quietest_is_kept(
    tmp_path: Path,
) -> None:
    """What was measured three times is gone by: nobody measures a fourth time."""
    for share, found in ((0.6, None), (0.4, None), (0.8, 2.0)):
        cache(tmp_path).save({"FP32:1": share * 5}, share)
        loaded = cache(tmp_path).load()
        assert (loaded and loaded.costs_s[Datatype.FP32, 1]) == found


def test_a_quiet_start_takes_the_place_of_a_busy_one(tmp_path: Path) -> None:
    cache(tmp_path).save({"FP32:1": 9.0}, 0.6)
    cache(tmp_path).save(CURVE.names(), 0.1)
    assert cache(tmp_path).load() == CURVE


@pytest.mark.parametrize(
    "other",
    [
        {"model": msgspec.structs.replace(MODEL, artefact="other/a.xml")},
        {"model": msgspec.structs.replace(MODEL, precision="bf16")},
        {"cores": 4},
        {"cpu": "another CPU"},
        {"isa": ("avx2", "avx_vnni")},
        {"backend": "onnxruntime"},
        {"torch_mode": "eager"},
        {"worker_python": "/opt/python"},
        {"allocator": "system"},
        {"huge_pages": False},
        {"mode": "throughput"},
    ],
    ids=str,
)
def test_a_curve_depends_on(tmp_path: Path, other: dict[str, Any]) -> None:
    cache(tmp_path).save(CURVE.names())
    assert cache(tmp_path, **other).load() is None


def test_a_curve_depends_on_the_backends_revision_and_on_the_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache(tmp_path).save(CURVE.names())
    assert cache(tmp_path).load() == CURVE
    with monkeypatch.context() as patch:
        row = dataclasses.replace(ENGINES[BackendName.OPENVINO], revision=99)
        patch.setattr(curve_cache, "ENGINES", {BackendName.OPENVINO: row})
        assert cache(tmp_path).load() is None
    with monkeypatch.context() as patch:
        patch.setattr(curve_cache, "versions", lambda names: dict.fromkeys(names, "next"))
        assert cache(tmp_path).load() is None


def test_a_curve_of_an_older_format_is_replaced_without_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(curve_cache, "FORMAT", curve_cache.FORMAT - 1)
        cache(tmp_path).save(CURVE.names())
    assert cache(tmp_path).load() is None
    cache(tmp_path).save(CURVE.names())
    assert cache(tmp_path).load() == CURVE
    assert len(list((tmp_path / "curves").iterdir())) == 1
    assert not caplog.messages


def test_the_null_backend_leaves_nothing_behind(tmp_path: Path) -> None:
    null = cache(tmp_path, backend="null")
    null.save(CURVE.names())
    assert null.load() is None
    assert list(tmp_path.iterdir()) == []


def test_an_allocator_that_is_there_is_preloaded_and_looked_for() -> None:
    library = Path("/usr/lib/libtcmalloc_minimal.so.4")
    extras = worker_extras(build({"allocator": "tcmalloc"}).placement, {"tcmalloc": library})
    assert extras.env["LD_PRELOAD"] == str(library)
    assert extras.expected_libraries == {"allocator": str(library)}
    assert extras.warnings == []


def test_an_allocator_that_is_missing_is_one_sentence_that_helps() -> None:
    extras = worker_extras(build({"allocator": "jemalloc"}).placement, {"jemalloc": None})
    assert "LD_PRELOAD" not in extras.env
    assert extras.expected_libraries == {}
    (warning,) = extras.warnings
    assert "apt-get install libjemalloc2" in warning


def test_the_systems_allocator_needs_nothing() -> None:
    extras = worker_extras(build({"allocator": "system"}).placement, {})
    assert "LD_PRELOAD" not in extras.env
    assert extras.warnings == []


@pytest.mark.parametrize("option", ["--huge-pages", "--no-huge-pages"])
def test_huge_pages_are_an_option(option: str) -> None:
    settings = settings_of(["serve", "--allocator", "system", option], {})
    env = worker_extras(settings.placement, {}).env
    assert bool(env) is settings.placement.huge_pages is (option == "--huge-pages")


def test_huge_pages_are_asked_for_unless_told_otherwise() -> None:
    assert worker_extras(build({}).placement, {}).env["THP_MEM_ALLOC_ENABLE"] == "1"
