"""A file that an engine looks into: asked once while it stays as it is."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest

from corral.errors import ModelError, PassingError
from corral.models import asking
from corral.models.asking import Question, Reply
from corral.models.onnx_header import Port

_REPLY = Reply(inputs=[Port("x", "FP32", (None, 3))], outputs=[Port("y", "INT64", (None, 2))])


class Engine:
    """What is run in place of the process."""

    def __init__(self, output: bytes) -> None:
        self.output = output
        self.asked: list[Question] = []

    def run(self, command: list[str], **options: Any) -> subprocess.CompletedProcess[bytes]:
        self.asked.append(msgspec.json.decode(options["input"], type=Question))
        return subprocess.CompletedProcess(command, 1, self.output, b"first\nit fell over\n")


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    found = Engine(msgspec.json.encode(_REPLY))
    monkeypatch.setattr(subprocess, "run", found.run)
    monkeypatch.setattr(asking, "_answered", {})
    return found


def test_it_is_asked_once_until_the_file_changes(tmp_path: Path, engine: Engine) -> None:
    file = tmp_path / "m.tflite"
    file.write_bytes(b"1")
    for _ in range(2):
        inputs, outputs = asking.ask(file, {"x": (3,)}, {})
        assert (inputs, outputs) == (_REPLY.inputs, _REPLY.outputs)
    assert engine.asked == [Question(str(file), [("x", (3,))])]
    asking.ask(file, {"x": (4,)}, {})
    file.write_bytes(b"12")
    asking.ask(file, {"x": (3,)}, {})
    assert len(engine.asked) == 3


def test_what_another_process_was_told_is_known(tmp_path: Path, engine: Engine) -> None:
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").write_bytes(b"1")
    asking.ask(tmp_path / "saved", {}, {})
    told = asking.answered()
    asking._answered.clear()
    asking.know(told)
    asking.ask(tmp_path / "saved", {}, {})
    assert len(engine.asked) == 1


def test_a_refusal_and_a_death_are_one_line_with_the_file(tmp_path: Path, engine: Engine) -> None:
    file = tmp_path / "m.tflite"
    file.write_bytes(b"1")
    engine.output = msgspec.json.encode(Reply(error="no such operator"))
    with pytest.raises(ModelError) as refused:
        asking.ask(file, {}, {})
    assert str(refused.value) == f"--model {file}: no such operator"
    engine.output = b"half a rep"
    with pytest.raises(PassingError) as died:
        asking.ask(file, {"x": (1,)}, {})
    assert str(died.value).endswith("the engine died while it looked into it (it fell over)")
    with pytest.raises(ModelError, match="No such file"):
        asking.ask(tmp_path / "none.tflite", {}, {})
