"""The ladder's rungs, figures and tables."""

from __future__ import annotations

import dataclasses
import io
import os
import re
from pathlib import Path
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from corral.accuracy import Fidelity
from corral.cli.main import run
from corral.errors import ConfigError
from corral.lab.ladder import chart, tables
from corral.lab.ladder import climb as climbing
from corral.lab.ladder.answers import Answers
from corral.lab.ladder.climb import (
    Place,
    _Standing,
    _turn,
    climb,
    rung_settings,
    share_cpus,
)
from corral.lab.ladder.results import Ladder, RungResult, SizeResult, percentile, summarise
from corral.lab.ladder.rungs import pick, rungs
from corral.models import registry
from corral.settings import BackendName, Precision, Settings, TorchMode
from corral.system.rapl import Meter
from corral.tensors import Datatype, Signature, TensorSpec


def _size(batch: int, speed: float) -> SizeResult:
    return SizeResult(batch=batch, images_per_s=speed, repeats=[speed], p50_ms=9, p99_ms=12)


def _rung(
    key: str, speed: float | None, reason: str = "", *, base: str | None = None
) -> RungResult:
    return RungResult(
        key=key,
        title=key.upper(),
        change="all",
        base=base,
        settings={},
        article=22.76,
        reason=reason,
        sizes=[] if speed is None else [_size(1, speed / 2), _size(8, speed)],
        fidelity=Fidelity(top1=1, cosine=0.9876, snr_db=23.4, pictures=32),
    )


_LADDER = Ladder(
    model="resnet50",
    weights="made up",
    synthetic=True,
    machine={"CPU": "a CPU"},
    versions={"torch": "2"},
    repeats=3,
    seconds=1.0,
    took_s=60.0,
    rungs=[
        _rung("a", 10),
        _rung("b", None, "this CPU has no AMX", base="a"),
        _rung("c", 30, base="a"),
    ],
)
#: the rungs of another model, with the article's figures as an older version wrote them
_VIT = msgspec.structs.replace(_LADDER, model="vit_b_16")


class _OneBatch:
    """A worker whose first batch consumes 4 J, by the counter of a composed tree."""

    def __init__(self, counter: Path) -> None:
        self._counter = counter
        self._ready, told = os.pipe()
        os.write(told, b"!")

    def fileno(self) -> int:
        return self._ready

    def run(self, datatype: Datatype, size: int) -> None:
        """Warms up."""

    def submit(self, datatype: Datatype, size: int) -> None:
        """Begins."""

    def collect(self) -> float:
        if self._counter.exists():
            self._counter.write_text("3000000")
        return 0.01


def test_keys_are_unique_and_the_articles_figures_are_there() -> None:
    every = rungs(bf16=True)
    assert len({rung.key for rung in every}) == len(every)
    figures = [rung.article for rung in every if rung.article is not None]
    assert (figures[0], figures[-1]) == (22.76, 482.46)


def test_without_bf16_only_its_own_rung_asks_for_it() -> None:
    asking = [rung.key for rung in rungs(bf16=False) if rung.precision is Precision.BF16]
    assert asking == ["bf16"]
    assert len([r for r in rungs(bf16=True) if r.precision is Precision.BF16]) > 5


def test_a_key_that_is_not_there_names_those_that_are() -> None:
    every = rungs(bf16=False)
    assert [rung.key for rung in pick(every, ["openvino", "eager"])] == ["eager", "openvino"]
    assert pick(every, []) == every
    with pytest.raises(ConfigError, match="no rung 'amx'; there are: eager, batch"):
        pick(every, ["amx"])


def test_another_interpreter_is_for_ipex_only() -> None:
    settings = Settings.flat(worker_python="/elsewhere/python")
    by_key = {rung.key: rung for rung in rungs(bf16=False)}
    assert rung_settings(settings, by_key["ipex"]).engine.worker_python == "/elsewhere/python"
    assert rung_settings(settings, by_key["openvino"]).engine.worker_python is None
    assert rung_settings(settings, by_key["openvino"]).engine.backend is BackendName.OPENVINO


def test_ipex_with_torch_compile_is_a_step_from_ipex() -> None:
    """The article found it slower than the trace: 144.5 images/s after 159.31."""
    by_key = {rung.key: rung for rung in rungs(bf16=True)}
    rung = by_key["ipex-compile"]
    assert (rung.base, rung.article) == ("ipex", 144.5)
    engine = rung_settings(Settings(), rung).engine
    assert (engine.backend, engine.torch_mode) == (BackendName.IPEX, TorchMode.COMPILE)


def test_a_step_is_the_ratio_to_the_rung_that_it_is_built_on() -> None:
    assert _LADDER.ratios() == [(None, 1.0), (None, None), (3.0, 3.0)]
    beside = [*_LADDER.rungs, _rung("d", 15, base="a"), _rung("e", 60, base="b")]
    ratios = msgspec.structs.replace(_LADDER, rungs=beside).ratios()
    assert ratios[3:] == [(1.5, 1.5), (None, 6.0)]


@pytest.mark.parametrize("bf16", [True, False])
def test_every_rung_is_built_on_one_before_it(bf16: bool) -> None:
    seen: list[str | None] = [None]
    for rung in rungs(bf16=bf16):
        assert rung.base in seen
        assert (rung.base is None) is (rung.key == "eager")
        seen.append(rung.key)
    by_key = {rung.key: rung for rung in rungs(bf16=bf16)}
    assert by_key["traced"].base == "huge-pages"
    assert by_key["tcmalloc"].base == ("bf16" if bf16 else "channels-last")


def test_huge_pages_are_the_servers_setting() -> None:
    settings = {rung.key: rung_settings(Settings(), rung) for rung in rungs(bf16=False)}
    without = [key for key, found in settings.items() if not found.placement.huge_pages]
    assert without == ["eager", "batch", "channels-last", "bf16", "tcmalloc"]


def test_summary_takes_the_median_of_repeats() -> None:
    (found,) = summarise({4: [0.1, 0.2, 0.3]}, {4: [10.0, 30.0, 20.0]})
    assert (found.images_per_s, found.p50_ms, found.p99_ms) == (20.0, 200.0, 300.0)


def test_joules_are_the_median_of_the_repeats_that_could_be_read() -> None:
    seconds, rates = {1: [0.1], 8: [0.2]}, {1: [10.0], 8: [40.0]}
    found = summarise(seconds, rates, {1: [], 8: [0.5, 0.4, 0.9]})
    assert [size.joules_an_image for size in found] == [None, 0.5]


def test_a_column_has_joules_where_they_were_read() -> None:
    rungs_here = list(_LADDER.rungs)
    best = msgspec.structs.replace(rungs_here[2].sizes[1], joules_an_image=0.456)
    rungs_here[2] = msgspec.structs.replace(rungs_here[2], sizes=[rungs_here[2].sizes[0], best])
    ladder = msgspec.structs.replace(_LADDER, rungs=rungs_here)
    page = tables.markdown(ladder, None)
    assert "*J/image*" in page
    column = tables.headings(ladder).index("J/image")
    assert [row[column] for row in tables.rows(ladder)] == ["", "", "0.46"]
    assert {len(row) for row in tables.rows(ladder)} == {len(tables.headings(ladder))}
    assert "J/image" not in tables.markdown(_LADDER, None)


def test_a_turn_reads_what_the_processors_consumed(tmp_path: Path) -> None:
    zone = tmp_path / "class" / "powercap" / "intel-rapl:0"
    zone.mkdir(parents=True)
    for name, text in {"name": "package-0", "max_energy_range_uj": "100000000"}.items():
        (zone / name).write_text(text)
    counter = zone / "energy_uj"
    counter.write_text("99000000")
    trial = _OneBatch(counter)
    answers = Answers({}, Signature({Datatype.FP32: (3, 8, 8)}, (10,)))
    one = _Standing(rungs(bf16=False)[0], [trial], 0.0, answers, Datatype.FP32, "")  # type: ignore[list-item]
    # 99 J to 3 J, over a range of 100 J, for a batch of 8
    _turn(one, 8, 0.0, Meter(tmp_path))
    assert one.joules == {8: [0.5]}
    counter.unlink()
    _turn(one, 8, 0.0, Meter(tmp_path))
    assert (len(one.rates[8]), one.joules) == (2, {8: [0.5]})


def test_a_short_climb_of_one_turn_is_told_as_one() -> None:
    assert "3 interleaved repeats of 1 s a batch size; 60 s." in tables.markdown(_LADDER, None)
    one = msgspec.structs.replace(_LADDER, repeats=1, took_s=600.0)
    assert "1 interleaved repeat of 1 s a batch size; 10 minutes." in tables.markdown(one, None)


def test_a_ladder_tells_what_others_took() -> None:
    busy = msgspec.structs.replace(_LADDER, other_load=0.43)
    assert "- others took 43.0% of the CPUs meanwhile: figures are too low\n" in tables.markdown(
        busy, None
    )
    assert tables.others(msgspec.structs.replace(_LADDER, other_load=0.01)).endswith("meanwhile")
    assert "others" not in tables.markdown(_LADDER, None)


def test_an_interrupted_climb_tells_what_it_knows(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = rungs(bf16=False)[:2]
    trial = SimpleNamespace(
        sizes=[1, 8], start_s=1.0, report=SimpleNamespace(memory_bytes=1, engine={"version": "1"})
    )
    turns = []

    def turn(one: _Standing, size: int, *_: object) -> None:
        turns.append((one.rung.key, size))
        if len(turns) == 2:
            raise KeyboardInterrupt
        one.seconds[size].append(0.1)
        one.rates[size].append(10.0)

    monkeypatch.setattr(climbing, "_turn", turn)
    monkeypatch.setattr(
        climbing, "_stand",
        lambda _, rung, *__: _Standing(rung, [trial], 0.0, None, Datatype.FP32, ""),  # type: ignore[arg-type,list-item]
    )  # fmt: skip
    monkeypatch.chdir(tmp_path)
    words = ["ladder", "--rungs", f"{first.key},{second.key}", "--weights", "synthetic"]
    assert run(words, {"HOME": str(tmp_path)}) == 130
    captured = capsys.readouterr()
    assert f"{first.title} " in captured.out
    assert " 10.0 " in captured.out
    assert "images/s (interrupted, at most " in captured.out
    assert f"not run here: {second.title}: interrupted" in captured.out
    assert re.search(r"^others took \d+\.\d% of the CPUs meanwhile", captured.out, re.MULTILINE)
    assert captured.err.endswith("corral: interrupted; nothing was written\n")
    assert not list(tmp_path.glob("ladder-*"))


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.01, 1))
def test_percentile_covers_its_share(values: list[float], share: float) -> None:
    found = percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-9


@given(st.integers(1, 64), st.integers(1, 8))
def test_workers_share_cpus_without_overlap(count: int, workers: int) -> None:
    shares = share_cpus(range(count), workers)
    assert len(shares) == workers
    assert all(shares)
    if workers <= count:
        assert sorted(cpu for share in shares for cpu in share) == list(range(count))


@pytest.mark.parametrize("width", [80, 140])
def test_table_fits_and_says_what_did_not_run(width: int) -> None:
    stream = io.StringIO()
    Console(file=stream, width=width).print(tables.table(_LADDER, width))
    text = stream.getvalue()
    assert max(map(len, text.splitlines())) <= width
    assert "30.0" in text
    assert "…" not in text
    assert tables.reasons(_LADDER) == ["B: this CPU has no AMX"]


def test_a_rung_that_is_int8_by_name_alone_says_so() -> None:
    assert tables.remarks(_LADDER) == []
    first, *others = _LADDER.rungs
    named = msgspec.structs.replace(first, remark="no layer is in INT8")
    ladder = msgspec.structs.replace(_LADDER, rungs=[named, *others])
    assert tables.remarks(ladder) == [f"{first.title}: no layer is in INT8"]
    assert f"By name alone:\n\n- {first.title}: no layer is in INT8\n" in tables.markdown(
        ladder, None
    )


def test_markdown_has_a_row_a_rung_and_the_reasons() -> None:
    page = tables.markdown(_LADDER, "ladder-resnet50.png")
    tables_of_page = [line for line in page.splitlines() if line.startswith("|")]
    # The whole ladder, and the narrow one beside the article's.
    full, narrow = np.split(np.array(tables_of_page), 2)
    assert len(full) == len(narrow) == 2 + len(_LADDER.rungs)
    assert len({line.count("|") for line in full}) == 1
    assert len({line.count("|") for line in narrow}) == 1
    assert narrow[-1] == "| C | 30.0 | 3.00 x | 22.8 | 1.00 x |"
    assert "- B: this CPU has no AMX" in page
    assert "ladder-resnet50.png" in page


def test_the_articles_figures_are_for_its_own_model_only() -> None:
    assert all(rung.article is None for rung in rungs(bf16=False, model="vit_b_16"))
    page = tables.markdown(_VIT, None)
    assert "article" not in page
    assert "22.8" not in page
    lines = [line for line in page.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in lines} == {13}
    stream = io.StringIO()
    Console(file=stream, width=140).print(tables.table(_VIT, 140))
    assert "article" not in stream.getvalue()


def test_the_committed_page_is_what_the_committed_figures_say() -> None:
    stem = Path(__file__).parents[3] / "docs" / "benchmarks" / "ladder-resnet50"
    ladder = msgspec.json.decode(stem.with_suffix(".json").read_bytes(), type=Ladder)
    assert tables.markdown(ladder, f"{stem.name}.png") == stem.with_suffix(".md").read_text()


def test_json_comes_back_as_it_was() -> None:
    assert msgspec.json.decode(msgspec.json.encode(_LADDER), type=Ladder) == _LADDER


def test_chart_is_written_twice(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    png, svg = chart.draw(_LADDER, tmp_path / "ladder-resnet50")
    assert png.read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in svg.read_bytes()
    assert b"in the article" in svg.read_bytes()
    _, alone = chart.draw(_VIT, tmp_path / "ladder-vit_b_16")
    assert b"in the article" not in alone.read_bytes()


def test_a_model_without_pictures_has_no_ladder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rows = dataclasses.replace(
        registry.get("resnet50"), shapes=Signature({Datatype.FP32: (5,)}, (3,))
    )
    monkeypatch.setattr(registry, "get", lambda *_: rows)
    place = Place(
        settings=Settings.flat(model="rows.onnx", cache_dir=str(tmp_path)),
        cpus=[0],
        memory_node=None,
        environ={},
        repeats=1,
        seconds=0.1,
    )
    with pytest.raises(
        ConfigError, match=r"--model rows\.onnx: the ladder is measured on pictures"
    ):
        climb(place, rungs(bf16=False), lambda step, share: None)


def _detectors_answers(noise: float, *, renamed: bool = False, cut: bool = True) -> Answers:
    """Scores before and after their sort, by an engine that may call them otherwise."""
    random = np.random.default_rng(1)
    scores = random.random((8, 50)).astype(np.float32)
    scores = scores + np.float32(noise) * random.normal(size=scores.shape).astype(np.float32)
    name = "r" if renamed else "s"
    specs = [
        Signature(
            {Datatype.FP32: (3, 8, 8)}, (50,), outputs=(TensorSpec(one, Datatype.FP32, (50,)),)
        )
        for one in ("sorted", name)
    ]
    order = np.argsort(-scores, axis=1)
    labels = np.take_along_axis(np.arange(50)[np.newaxis].repeat(8, 0), order, 1)
    served = {"sorted": labels.astype(np.float32)}
    if not cut:
        return Answers(served, specs[0])
    return Answers(served, specs[0], {name: scores}, specs[1])


def test_a_detectors_answers_are_compared_before_their_sort() -> None:
    exact = _detectors_answers(0)
    found = exact.fidelity(_detectors_answers(0.01, renamed=True))
    assert found is not None
    assert (found.output, found.snr_db > 25) == ("s", True)
    # Where an engine cannot say what its sorts take, there are the outputs.
    after = exact.fidelity(_detectors_answers(0.02, cut=False))
    assert after is not None
    assert (after.output, after.snr_db < 15) == ("sorted", True)
    # Integers that no float is known of cannot be compared.
    nothing = Answers({}, exact.signature)
    assert nothing.fidelity(nothing) is None
