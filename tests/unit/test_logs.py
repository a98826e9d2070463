import json
import logging
from collections.abc import Iterator

import pytest

from corral import logs
from corral.settings import build


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in (None, "corral", "__main__")]
    before = [(logger.level, list(logger.handlers)) for logger in loggers]
    yield
    for logger, (level, handlers) in zip(loggers, before, strict=True):
        logger.setLevel(level)
        logger.handlers[:] = handlers


def test_a_line_says_who_speaks(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(build().logging, "worker 3")
    logging.getLogger("corral.worker.process").info("batch %d failed", 7)
    assert capsys.readouterr().err.endswith("INFO    worker 3: batch 7 failed\n")


def test_json_lines_are_json(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(build({"log-format": "json"}).logging, "frontend 0")
    logging.getLogger("corral.x").warning("it is %s", "late")
    line = json.loads(capsys.readouterr().err)
    assert line.pop("time")
    assert line == {"level": "WARNING", "message": "it is late", "process": "frontend 0"}


def test_levels_are_ours_and_libraries_are_quieter(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(build({"log-level": "debug"}).logging, "supervisor")
    logging.getLogger("asyncio").info("selector")
    logging.getLogger("__main__").debug("seen")
    assert "selector" not in (shown := capsys.readouterr().err)
    assert "seen" in shown
    logs.configure(build({"log-level": "error"}).logging, "supervisor")
    logging.getLogger("corral.x").warning("unseen")
    assert capsys.readouterr().err == ""
