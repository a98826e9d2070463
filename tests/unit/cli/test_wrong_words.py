"""Words that are no command, option or value of corral: one line that says what there is."""

from __future__ import annotations

import pytest

from corral.cli.main import run


def _said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    try:
        code = run(words, {"HOME": "/nowhere"})
    except SystemExit as end:
        code = end.code  # type: ignore[assignment]  # argparse ends with a number
    captured = capsys.readouterr()
    assert code == 2
    assert not captured.out
    (line,) = captured.err.splitlines()
    return line


def test_what_is_no_command_names_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    commands = "the commands are: serve, plan, doctor, "
    assert _said(capsys, "nonsense").startswith(f"corral: no command 'nonsense'; {commands}")
    assert _said(capsys, "Serve").startswith(
        f"corral: no command 'Serve' (did you mean serve?); {commands}"
    )
    for word in ("", " ", "x" * 5000, "\n", "\udcff"):
        assert commands in _said(capsys, word)


@pytest.mark.parametrize("command", ["serve", "plan", "tune", "status", "doctor"])
def test_what_is_no_option_names_the_one_that_was_meant(
    capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert _said(capsys, command, "--prot", "8001") == (
        f"corral {command}: no option '--prot' (did you mean --port?) (see corral {command} --help)"
    )


def test_an_option_before_a_command_is_the_servers(capsys: pytest.CaptureFixture[str]) -> None:
    assert _said(capsys, "--max-bach=3").startswith(
        "corral serve: no option '--max-bach' (did you mean --max-batch?)"
    )


def test_what_belongs_to_no_option_is_said_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert _said(capsys, "serve", "model.onnx").startswith(
        "corral serve: 'model.onnx' belongs to no option; a setting is written --NAME VALUE"
    )


@pytest.mark.parametrize("text", ["x", "", "1.5", "1e20", "0x10", "nan"])
def test_what_is_no_number_is_refused_with_the_range(
    capsys: pytest.CaptureFixture[str], text: str
) -> None:
    assert _said(capsys, "plan", f"--max-batch={text}") == (
        f"corral plan: --max-batch: a whole number of items, 1 to 256, is needed, not {text!r} "
        "(see corral plan --help)"
    )


@pytest.mark.parametrize("command", ["status", "top", "reload"])
@pytest.mark.parametrize(("text", "shown"), [("65536", "65536"), ("-1", "-1"), ("x", "'x'")])
def test_a_command_to_a_server_has_ranges_too(
    capsys: pytest.CaptureFixture[str], command: str, text: str, shown: str
) -> None:
    assert _said(capsys, command, f"--port={text}") == (
        f"corral {command}: --port: a whole number, 0 to 65535, is needed, not {shown} "
        f"(see corral {command} --help)"
    )


def test_what_is_no_number_of_a_commands_own_is_said_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert _said(capsys, "top", "--interval", "x").startswith(
        "corral top: --interval: a number of seconds, 0.1 to 3600, is needed, not 'x' (see"
    )


@pytest.mark.parametrize("command", ["plan", "doctor"])
def test_a_name_that_no_file_has_is_no_machine(
    capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert _said(capsys, command, "--sysfs", "x" * 5000).endswith(": file name too long")


def test_rungs_that_are_none_are_not_all_of_them(capsys: pytest.CaptureFixture[str]) -> None:
    for text in ("", " ", ","):
        assert _said(capsys, "ladder", f"--rungs={text}").startswith(
            "corral ladder: --rungs: keys of rungs are needed, not "
        )


def test_results_that_cannot_be_written_are_told_first(capsys: pytest.CaptureFixture[str]) -> None:
    for path in ("/etc", "x" * 5000, "/dev/null/at/all.html"):
        assert _said(capsys, "doctor", "--html", path).startswith(f"corral: --html {path}: ")
        assert _said(capsys, "evaluate", "/etc", "--html", path).startswith(
            f"corral: --html {path}: "
        )
        assert _said(capsys, "evaluate", "x" * 5000).endswith("File name too long")


@pytest.mark.parametrize(
    "words",
    [
        ("doctor", "--html"),
        ("doctor", "--sysfs"),
        ("plan", "--sysfs"),
        ("plan", "--config"),
        ("profile", "--html"),
        ("profile", "--trace"),
        ("tune", "--p99-ms", "9", "--out"),
        ("tune", "--p99-ms", "9", "--html"),
        ("ladder", "--out"),
        ("evaluate", "pictures", "--html"),
    ],
)
def test_an_empty_path_is_not_the_folder_that_one_is_in(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    assert f"{words[-1]}: a path is needed, not ''" in _said(capsys, *words, "")
    assert f"{words[-1]}: a path is needed, not ''" in _said(capsys, *words[:-1], f"{words[-1]}=")


def test_an_empty_path_is_no_profile_and_no_pictures(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--compare: a path is needed, not ''" in _said(capsys, "profile", "--compare", "a", "")
    assert "a path is needed, not ''" in _said(capsys, "evaluate", "")
