"""What an evaluation makes of answers and labels, and how it is shown."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import msgspec
import numpy as np
import pytest
from rich.console import Console
from support.own_pictures import draw_picture

from corral.accuracy import Fidelity, Thresholds, why_noise
from corral.cli.main import run
from corral.ipc.messages import ModelBoot
from corral.lab.evaluate import measure, page, tables
from corral.lab.evaluate.results import Evaluation, EvaluationRow, row, share
from corral.tensors import Datatype

_COLOURS = Path(__file__).parents[2] / "data" / "models" / "colours.onnx"
_NAMES = ("cat", "dog", "cow", "hen", "pig", "<b>ox</b>", "yak")


def _logits(first: list[int], second: list[int]) -> np.ndarray:
    """Each picture's first and second answer."""
    logits = np.zeros((len(first), len(_NAMES)), np.float32)
    logits[np.arange(len(first)), second] = 1
    logits[np.arange(len(first)), first] = 2
    return logits


@pytest.mark.parametrize(
    ("right", "of", "low", "high"),
    [
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (8, 10, 0.4902, 0.9433),
        (50, 100, 0.4038, 0.5962),
    ],
)
def test_intervals_are_wilsons(right: int, of: int, low: float, high: float) -> None:
    found = share(right, of)
    assert (found.right, found.of, found.share) == (right, of, right / of)
    assert found.low == pytest.approx(low, abs=2e-4)
    assert found.high == pytest.approx(high, abs=2e-4)


def test_a_row_counts_what_is_right_worst_and_confused() -> None:
    labels = np.array([0, 0, 0, 1, 1, 2, 5])
    first = [0, 1, 1, 1, 2, 2, 6]
    found = row("an engine", _logits(first, [3] * 7), labels, _NAMES, 12.5)
    assert found.top1 is not None and found.top5 is not None
    assert (found.top1.right, found.top1.of, found.top5.right) == (3, 7, 6)
    assert [(one.label, one.right, one.of) for one in found.worst] == [
        ("<b>ox</b>", 0, 1),
        ("cat", 1, 3),
        ("dog", 1, 2),
    ]
    first_pair = found.confusions[0]
    assert (first_pair.label, first_pair.taken_for, first_pair.times) == ("cat", "dog", 2)
    assert found.images_per_s == 12.5


def test_top_5_is_there_for_six_classes_and_more() -> None:
    labels = np.array([0, 1, 2])
    five = row("few", np.eye(5, dtype=np.float32)[[0, 1, 1]], labels, _NAMES[:5], 1.0)
    assert five.top5 is None
    seven = np.zeros((3, 7), np.float32)
    seven[:, 0] = -1
    found = row("many", seven, np.array([0, 1, 6]), _NAMES, 1.0)
    # The first class is last, and of equal ones those with small numbers come first.
    assert found.top5 is not None
    assert found.top5.right == 1


def test_an_answer_that_is_no_number_is_wrong() -> None:
    logits = _logits([0, 1], [1, 0])
    logits[1, 3] = np.nan
    found = row("broken", logits, np.array([0, 1]), _NAMES, 1.0)
    assert found.top1 is not None
    assert found.top1.right == 1
    assert found.confusions[0].taken_for == "no answer"


def test_a_class_that_is_ruled_out_is_never_named_and_spoils_nothing() -> None:
    logits = _logits([0, 1], [1, 0])
    logits[:, 3] = -np.inf
    logits[1] = np.where(np.arange(len(_NAMES)) == 1, logits[1], -np.inf)
    found = row("masked", logits, np.array([0, 1]), _NAMES, 1.0)
    assert found.top1 is not None
    assert found.top1.right == 2
    nothing = row("nothing", np.full_like(logits, -np.inf), np.array([0, 1]), _NAMES, 1.0)
    assert [one.taken_for for one in nothing.confusions] == ["no answer"] * 2


def _evaluation() -> Evaluation:
    labels = np.array([0, 0, 1, 5])
    exact = row("e fp32", _logits([0, 0, 1, 5], [3] * 4), labels, _NAMES, 10.0)
    other = row("e int8", _logits([0, 1, 1, 6], [3] * 4), labels, _NAMES, 20.0)
    fidelity = Fidelity(
        loss=0.5, loss_most=0.75, cosine=0.9, snr_db=9, pictures=4, crops=4, labelled=True
    )
    other = msgspec.structs.replace(other, fidelity=fidelity, faults=["loss of accuracy 50.00%"])
    return Evaluation(
        model="zoo <1>", weights="made up", synthetic=False, source="pictures", pictures=4,
        classes_seen=3, classes=7, cpu="a CPU", cores=2, batch=1,
        rows=[exact, other, EvaluationRow(candidate="e bf16", reason="no such CPU")],
    )  # fmt: skip


def test_the_table_shows_every_candidate() -> None:
    stream = io.StringIO()
    Console(file=stream, width=160).print(tables.render(_evaluation()))
    text = stream.getvalue()
    assert re.search(r"e int8 +50.0% \(15.0 to 85.0\) .* 50.00%, at most 75.00% +20.0", text)
    assert "no such CPU" in text


def test_pictures_that_were_left_out_stand_in_summary_and_json() -> None:
    found = msgspec.structs.replace(_evaluation(), left_out={".webp": 3, ".tif": 1})
    assert "on 4 pictures (4 files are no JPEG or PNG) of 3 of 7 classes" in tables.summary(found)
    assert json.loads(msgspec.json.encode(found))["left_out"] == {".webp": 3, ".tif": 1}
    assert "left" not in tables.summary(_evaluation())


class _Trial:
    """Answers "green", and is interrupted where it has none left."""

    def __init__(self, answers: int) -> None:
        self._left = answers

    def batch(self, items: np.ndarray, _: Datatype) -> tuple[float, np.ndarray]:
        if not self._left:
            raise KeyboardInterrupt
        self._left -= 1
        return 0.1, np.tile(np.array([[0, 1, 0]], np.float32), (len(items), 1))


@pytest.mark.parametrize("answers", [2, 0])
def test_an_interrupted_evaluation_tells_what_it_knows(
    answers: int,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for label in ("green", "red"):
        for number in range(2):
            draw_picture(tmp_path / "pictures" / label / f"{number}.png")
    boot = ModelBoot(name="colours", artefact=None, precision="fp32", synthetic=False, weights="")
    monkeypatch.setattr(
        measure, "_start",
        lambda _, candidate, __: measure._Running(candidate, boot, _Trial(answers), [], []),  # type: ignore[arg-type]
    )  # fmt: skip
    words = ["evaluate", str(tmp_path / "pictures"), "--model", str(_COLOURS)]
    words += ["--backend", "openvino", "--precision", "fp32", "--html", str(tmp_path / "page.html")]
    assert run(words, {"HOME": str(tmp_path)}) == 130
    captured = capsys.readouterr()
    assert captured.err.endswith("corral: interrupted; nothing was written\n")
    told = "on the first 2 pictures of 4, interrupted, of 1 of 3 classes"
    assert (told in " ".join(captured.out.split())) is bool(answers)
    assert ("100.0%" in captured.out) is bool(answers)
    assert not (tmp_path / "page.html").exists()


def test_what_no_fp32_was_there_for_is_not_compared() -> None:
    alone = row("e int8", _logits([0], [1]), np.array([0]), _NAMES, 1.0)
    assert tables.verdict(alone) == "not compared"
    assert tables.verdict(msgspec.structs.replace(alone, candidate="e fp32")) == "is FP32"


@pytest.mark.parametrize(
    ("changes", "synthetic", "why"),
    [({}, False, ""),
     ({"loss": None, "loss_shown": None, "loss_most": None}, False, "FP32 is never right"),
     ({"pictures": 9, "loss_shown": None, "loss_most": None}, False, "fewer than 10 pictures"),
     ({"blind_loss": 0.0}, False,
      "one answer to all of these pictures would lose no more than is allowed"),
     ({"loss_most": 0.14, "pictures": 20}, False, "20 pictures are few for labels alone"),
     ({"loss_most": 0.14, "loss_shown": 0.1}, False, ""),
     ({"loss_most": 0.14, "snr_db": 9.0}, False, ""),
     ({}, True, "the weights are synthetic")],
)  # fmt: skip
def test_a_verdict_that_labels_did_not_decide_says_so(
    changes: dict[str, float | None], synthetic: bool, why: str
) -> None:
    fidelity = Fidelity(
        loss=0, loss_most=0.005, loss_shown=0, blind_loss=0.8, cosine=1, snr_db=30, pictures=400,
        labelled=True,
    )  # fmt: skip
    fidelity = msgspec.structs.replace(fidelity, **changes)
    found = why_noise(fidelity, Thresholds(), synthetic=synthetic)
    assert found == why
    shown = EvaluationRow(candidate="e int8", fidelity=fidelity, why_snr=found)
    told = f" by SNR, for {why}" if why else ""
    assert tables.verdict(shown) == f"passes{told}"
    refused = msgspec.structs.replace(shown, faults=["SNR 9.0 dB < 20 dB"])
    assert tables.verdict(refused) == f"SNR 9.0 dB < 20 dB{told}"


def test_what_is_int8_by_name_alone_is_told_beside_its_verdict() -> None:
    named = EvaluationRow(candidate="e int8", remark="no layer is in INT8")
    assert tables.verdict(named) == "not compared; no layer is in INT8"


def test_the_page_needs_nothing_else_and_escapes_names() -> None:
    text = page.render(_evaluation())
    assert text.startswith("<!doctype html>")
    assert "<b>ox" not in text
    assert "&lt;b&gt;ox&lt;/b&gt;" in text
    assert "zoo &lt;1&gt; on pictures" in text
    assert not re.search(r"(src|href)=|@import|url\(", text)
    assert "50.0% (15.0 to 85.0)" in text


def test_synthetic_weights_are_told() -> None:
    assert "synthetic" not in page.render(_evaluation())
    made_up = msgspec.structs.replace(_evaluation(), synthetic=True)
    assert "accuracies mean nothing" in page.render(made_up)
