"""``corral doctor`` on another machine's files, and with wrong input."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from support.machines import ARCHIVES

from corral.cli import doctor
from corral.cli.main import run
from corral.doctor.probing import run as probing

ARCHIVE = str(ARCHIVES / "16em64t-4s2c2t-offlines.tar.bz2")


def test_another_machine_from_its_archive(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "--sysfs", ARCHIVE, "--json"], {}) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["machine"]["cpus"] == 12
    (row,) = (row for row in report["checks"] if row["id"] == "cpuset")
    assert "2,5,13-14 are offline" in row["found"]
    assert run(["doctor", "--sysfs", ARCHIVE, "--fail-on", "error"], {}) == 0
    assert "Instruction set" in capsys.readouterr().out


def test_a_plan_from_an_archive(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", "--sysfs", ARCHIVE, "--json"], {}) == 0
    assert json.loads(capsys.readouterr().out)["machine"]["cpus"] == 12


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--sysfs", "/proc/none"), "--sysfs /proc/none: no such folder or archive"),
        (("--sysfs", "/dev/zero"), "--sysfs /dev/zero: no such folder or archive"),
        (("--sysfs", __file__), "no archive of a machine"),
        (
            ("--html", "/proc/none/page.html"),
            "--html /proc/none/page.html: no such file or directory",
        ),
        (("--sysfs", ARCHIVE, "--probe"), "--probe measures this machine"),
    ],
)
def test_wrong_input_is_one_line_and_exit_2(
    words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["doctor", *words], {}) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert len(captured.err.splitlines()) == 1
    assert not captured.out


def test_a_page_is_not_left_where_nothing_was_written(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert run(["doctor", "--sysfs", "/proc/none", "--html", str(page)], {}) == 2
    assert not page.exists()


def test_interrupted_probes_leave_what_is_known(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def probe(*_: object) -> None:
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(probing, "probe", probe)
    monkeypatch.setattr(doctor, "_INTERVAL_S", 0.05)
    page = tmp_path / "page.html"
    words = ["doctor", "--probe", "--json", "--html", str(page)]
    assert run([*words, "--backend", "null"], {"HOME": str(tmp_path)}) == 130
    captured = capsys.readouterr()
    assert captured.err == "corral: interrupted; this is what is known\n"
    assert len(json.loads(captured.out)["checks"]) > 30
    assert page.read_text().endswith("</html>\n")
