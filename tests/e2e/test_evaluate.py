"""corral evaluate as a user runs it, and a guard that judges on a user's labelled pictures."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

_MODELS = Path(__file__).parents[1] / "data" / "models"
_COLOURS = {"red": (200, 40, 40), "green": (40, 190, 50), "blue": (50, 60, 210)}


def _pictures(folder: Path, each: int) -> Path:
    """Labelled pictures, mostly of one colour; one red lies among the blue."""
    random = np.random.default_rng(2)
    for label, colour in _COLOURS.items():
        (folder / label).mkdir(parents=True)
        for number in range(each):
            shown = _COLOURS["red"] if (label, number) == ("blue", 0) else colour
            pixels = np.clip(np.array(shown) + random.normal(0, 25, (40, 40, 3)), 0, 255)
            picture = Image.fromarray(pixels.astype(np.uint8))
            picture.save(folder / label / f"{number}.png")
    return folder


def _corral(tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    model = tmp_path / "colours.onnx"
    for file in _MODELS.glob("colours.*"):
        shutil.copy(file, tmp_path)
    return subprocess.run(
        [sys.executable, "-m", "corral", *words, "--model", str(model)],
        env={**os.environ, "CORRAL_CACHE": str(tmp_path / "cache"), "CORRAL_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def test_an_evaluation_is_a_table_json_and_a_page(tmp_path: Path) -> None:
    folder = _pictures(tmp_path / "pictures", 8)
    words = ("evaluate", str(folder), "--backend", "openvino", "--precision", "fp32")
    done = _corral(tmp_path, *words, "--json", "--html", str(tmp_path / "page.html"))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    (row,) = found["rows"]
    assert (found["pictures"], found["classes_seen"], row["candidate"]) == (24, 3, "openvino fp32")
    assert (row["top1"]["right"], row["top1"]["of"], row["top5"]) == (23, 24, None)
    assert row["confusions"] == [{"label": "blue", "taken_for": "red", "times": 1}]
    assert row["images_per_s"] > 0
    assert "95.8% (79.8 to 99.3)" in (tmp_path / "page.html").read_text()


def test_the_guard_goes_by_a_user_s_labels(tmp_path: Path) -> None:
    folder = _pictures(tmp_path / "pictures", 8)
    done = _corral(
        tmp_path, "prepare", "--backend", "openvino", "--precision", "int8",
        "--evaluation", str(folder), "--calibration", str(folder),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (entry,) = (tmp_path / "cache" / "guard").glob("*.json")
    content = json.loads(entry.read_text())["content"]
    assert (content["labelled"], content["pictures"]) == (True, 24)
    assert content["accuracy"] == pytest.approx(23 / 24)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("evaluate", "wolves"), "no class is called 'wolves'"),
        (("evaluate", "broken", "--backend", "openvino", "--precision", "fp32"), "0.png: "),
        (("prepare", "--precision", "int8", "--calibration", "heap"), "2 pictures; 20 or more"),
    ],
)
def test_bad_pictures_end_it_with_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    good = _pictures(tmp_path / "good", 1) / "red" / "0.png"
    for name in ("wolves/wolves/0.png", "broken/red/0.png", "heap/0.png", "heap/1.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(good, tmp_path / name)
    (tmp_path / "broken" / "red" / "0.png").write_bytes(good.read_bytes()[:60])
    done = _corral(tmp_path, *words)
    assert (done.returncode, done.stdout) == (2, "")
    # A worker's log lines may stand before it.
    assert said in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
