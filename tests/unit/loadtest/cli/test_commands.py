"""The one command: its words, its help, and what it refuses."""

from __future__ import annotations

import json
import re

import pytest

from corral_loadtest.cli.main import COMMANDS, main, overview
from corral_loadtest.cli.options import make_parser, specify
from corral_loadtest.specification import ClosedLoop, OpenLoop, WrongInput


def test_the_overview_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--help"])
    shown = capsys.readouterr().out
    assert shown.strip() == overview()
    assert re.findall(r"^  (\w+) ", shown, re.MULTILINE) == list(COMMANDS)
    assert set(COMMANDS) == {
        "run", "ramp", "bars", "settings", "compare", "engines", "starts", "mlperf", "peers",
    }  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
def test_a_commands_help_calls_it_by_its_name(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: corral-loadtest {name} ")


def test_an_unknown_command_is_one_line_with_those_that_there_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["ba\nr"])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "no command 'ba\\nr'; there are run, ramp," in said


def test_options_without_a_command_are_those_of_run(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--json-schema"])
    plain = capsys.readouterr().out
    main(["run", "--json-schema"])
    assert plain == capsys.readouterr().out
    assert json.loads(plain)["$defs"]["Result"]
    with pytest.raises(SystemExit) as ended:
        main(["--clients", "2", "--rate", "5"])
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("corral-loadtest run: --clients is a closed loop")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--rate", "5", "--workers", "2"], "not with a ramp"),
        (["--trace", "arrivals.txt"], "no trace"),
        (["--trace", "arrivals.txt", "--rate", "5"], "no trace"),
    ],
)
def test_a_ramp_refuses_what_cannot_rise(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["ramp", *words])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("corral-loadtest ramp: ")
    assert says in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--clients", "0"], "--clients: a whole number, 1 to 100000, is needed, not 0 (see"),
        (["--clients", "x"], "--clients: a whole number, 1 to 100000, is needed, not x (see"),
        (["--rate", "nan"], "--rate: a finite number of requests a second, more than 0, at most"),
        (
            ["--duration", "inf"],
            "--duration: a finite number of seconds, more than 0, is needed",
        ),
        (["--drain", "-1"], "--drain: a number of seconds, 0 or more, is needed, not -1"),
        (["--window", "0"], "--window: a number of seconds, 0.05 to 60, is needed, not 0"),
        (["--quality", "101"], "--quality: a whole number, 1 to 100, is needed, not 101"),
        (["--workers", "0"], "--workers: a whole number, 1 to 100000, is needed, not 0"),
        (
            ["--workers", "1", "--service-ms", "0"],
            "--service-ms: a number of milliseconds, more than 0",
        ),
        (["--picture-size", "0x3"], "--picture-size: a whole number, 1 or more, is needed"),
        (["--shape", "3,0"], "--shape: a whole number, 1 or more, is needed"),
        (["--json", ""], "--json: a path is needed, not '' (see"),
        (["--nonsense-x"], "no such option or argument: --nonsense-x (see"),
        (["--durations=3"], "no such option or argument: --durations (did you mean --duration?)"),
    ],
)
def test_what_cannot_be_names_the_option_and_its_range(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["run", *words])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"corral-loadtest run: {said}")


def test_options_become_a_specification() -> None:
    parser = make_parser("run", "", "")
    words = "--unix-socket /run/s --shape 3,224,224 --picture-size 64X48 --rate 7 --burst 2"
    given = vars(parser.parse_args([*words.split(), "--arrivals", "bursts", "--batch", "3"]))
    found = specify(given)
    assert found.target.address == "unix:/run/s"
    assert (found.payload.shape, found.payload.batch) == ((3, 224, 224), 3)
    assert (found.payload.picture_width, found.payload.picture_height) == (64, 48)
    assert isinstance(found.load, OpenLoop)
    assert (found.load.rate_per_s, found.load.burst, found.load.arrivals) == (7, 2, "bursts")
    assert specify(vars(parser.parse_args([]))).load == ClosedLoop(clients=1)
    with pytest.raises(WrongInput, match="WIDTHxHEIGHT"):
        specify({"picture_size": "5"})
