"""The words of ``corral-client``: where the server is may be said before the command, too."""

from __future__ import annotations

import pytest

from corral_client.options import make_parser


@pytest.mark.parametrize(
    "words",
    [
        ["--url", "h:1", "--http", "--tls", "metadata"],
        ["metadata", "--url", "h:1", "--http", "--tls"],
        ["--url", "h:1", "--http", "metadata", "--tls"],
        ["--url", "other:2", "--tls", "metadata", "--http", "--url", "h:1"],
    ],
    ids=" ".join,
)
def test_before_and_after_the_command_mean_the_same(words: list[str]) -> None:
    found = make_parser().parse_args(words)
    assert (found.url, found.http, found.tls, found.ca) == ("h:1", True, True, None)


@pytest.mark.parametrize("command", ["metadata", "statistics", "wait", "classify x.jpg"])
def test_neither_is_the_default(command: str) -> None:
    found = make_parser().parse_args(command.split())
    assert (found.url, found.http, found.tls, found.token_file) == (None, False, False, None)


@pytest.mark.parametrize(
    "words", ["infer --save", "classify", "metadata --ca", "metadata --token-file"]
)
def test_an_empty_path_is_not_the_folder_that_one_is_in(
    words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        make_parser().parse_args([*words.split(), ""])
    assert end.value.code == 2
    assert "a path is needed, not ''" in capsys.readouterr().err
