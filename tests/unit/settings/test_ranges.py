"""A value that an option does not take is refused in words: the option, its range, its unit."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest

from corral.errors import ConfigError
from corral.settings import Option, build, options

#: what a person would not write: msgspec's words, and Python's
_NOT_WORDS = re.compile(
    r"`|[Ee]xpected|got |<=|>=|\| null|\$\.|\bfloat\b|\bint\b|\bstr\b|e\+1\d|None"
)
_OBJECTS: list[Any] = [[], {}, "nonsense \N{SNOWMAN}", math.nan, math.inf, -math.inf]


def _refused(option: Option, value: Any) -> str | None:
    try:
        build({option.name: value})
    except ConfigError as error:
        return str(error)
    return None


@pytest.mark.parametrize("option", options().values(), ids=lambda option: option.name)
def test_every_option_says_what_it_needs(option: Option) -> None:
    beyond: list[Any] = [[], {}, ""] if option.kind is str else list(_OBJECTS)
    if option.least is not None and option.most is not None:
        below = option.least if option.above else math.nextafter(option.least, -math.inf)
        beyond += [below, math.nextafter(option.most, math.inf)]
    said = [text for value in beyond if (text := _refused(option, value))]
    if option.kind in {int, float}:
        assert len(said) == len(beyond)
    assert said
    for text in said:
        shown = text.rpartition(", not ")[0]
        assert re.match(f"--{option.name}: .* is needed$", shown), text
        assert not _NOT_WORDS.search(shown), text
        if option.kind in {int, float} and option.unit:
            assert ("percentage" if option.unit == "%" else f"number of {option.unit}") in shown


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"max-batch": 0}, "--max-batch: a whole number of items, 1 to 256, is needed, not 0"),
        ({"max-batch": "x"}, "--max-batch: a whole number of items, 1 to 256, is needed, not 'x'"),
        ({"max-queue": 0}, "--max-queue: a whole number of items, 1 or more, is needed, not 0"),
        (
            {"max-queue": 2**63},
            f"--max-queue: a whole number of items, 1 to {2**63 - 1}, is needed, not {2**63}",
        ),
        ({"p99-ms": 0.0}, "--p99-ms: a number of ms, more than 0, is needed, not 0.0"),
        (
            {"accuracy-snr-db": math.inf},
            "--accuracy-snr-db: a finite number of dB is needed, not inf",
        ),
        (
            {"cores-per-worker": "nod"},
            "--cores-per-worker: a whole number of cores, 1 to 8192, or node is needed, not 'nod'",
        ),
        ({"offline": 1}, "--offline: true or false is needed, not 1"),
        ({"mode": "fast"}, "--mode: rti or throughput is needed, not 'fast'"),
        ({"cache-dir": ""}, "--cache-dir: a text that is not empty is needed, not ''"),
        (
            {"allow-client": [""]},
            "--allow-client: a list of texts that are not empty is needed, not ['']",
        ),
    ],
)
def test_refusals_are_these(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(words)}$"):
        build(given)


def test_a_long_value_is_cut() -> None:
    with pytest.raises(ConfigError) as refused:
        build({"max-batch": "x" * 5000})
    assert len(str(refused.value)) < 150


def test_an_unknown_setting_finds_the_one_that_was_meant() -> None:
    with pytest.raises(
        ConfigError, match=r"^unknown setting 'max-bach' \(did you mean max-batch\?"
    ):
        build({"max-bach": 1})


@pytest.mark.parametrize("name", ["resnet50\n", "a b", "-a", ".", "é", "a" * 101])
def test_a_model_is_called_what_can_stand_in_an_address(name: str) -> None:
    with pytest.raises(ConfigError, match="--model-name: a name of 1 to 100 letters"):
        build({"model-name": name})
