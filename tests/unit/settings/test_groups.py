"""Settings by group and by flat name."""

import re

import msgspec
import pytest

from corral.errors import ConfigError
from corral.settings import Mode, Settings, build, options

_PERCENTAGE = "a percentage from 0% to 50%, such as 1%, is needed"


def test_flat_names_find_their_group() -> None:
    made = Settings.flat(model="a.onnx", max_batch=4, accuracy_loss=0.5, null_spin=True)
    assert (made.model.name, made.queue.max_batch) == ("a.onnx", 4)
    assert (made.accuracy.loss, made.null.spin) == (0.5, True)
    assert made.value("accuracy_loss") == 0.5
    assert made == Settings().replace(
        max_batch=4, model="a.onnx", null_spin=True, accuracy_loss=0.5
    )


def test_other_settings_stay() -> None:
    first = Settings.flat(max_batch=4, workers=3)
    assert first.replace(mode=Mode.THROUGHPUT).replace(mode=Mode.RTI) == first


def test_a_setting_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(TypeError, match="'max_butch'"):
        Settings.flat(max_butch=4)


def test_children_get_what_was_sent() -> None:
    sent = build({"cores-per-worker": "node", "allow-client": [], "grace-s": 1e300, "mode": "rti"})
    assert msgspec.json.decode(msgspec.json.encode(sent), type=Settings) == sent


def test_every_option_tells_what_a_user_needs() -> None:
    for option in options().values():
        assert option.help, option.name
        numbers = option.kind in {int, float}
        assert not numbers or (option.least is not None and option.most is not None), option.name
        assert option.kind is bool or option.choices or option.metavar, option.name
        assert option.default, f"--{option.name}: what holds without it?"


def test_every_default_can_be_written_out() -> None:
    given = {
        option.name: option.fallback
        for option in options().values()
        if option.fallback not in {None, ()}
    }
    assert build(given) == Settings()


@pytest.mark.parametrize(
    ("given", "read"), [("1%", 0.01), (" 2.5 % ", 0.025), ("0.03", 0.03), (0.04, 0.04), (0, 0.0)]
)
def test_a_share_may_be_a_percentage(given: str | float, read: float) -> None:
    assert build({"accuracy-loss": given}).accuracy.loss == pytest.approx(read)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("much", f"--accuracy-loss: {_PERCENTAGE}, not 'much'"),
        ("1", f"--accuracy-loss: {_PERCENTAGE}, not '1'"),
        ("51%", f"--accuracy-loss: {_PERCENTAGE}, not '51%'"),
        ("-1%", f"--accuracy-loss: {_PERCENTAGE}, not '-1%'"),
        ("nan%", f"--accuracy-loss: {_PERCENTAGE}, not 'nan%'"),
    ],
)
def test_what_is_no_share_is_refused(given: str, words: str) -> None:
    with pytest.raises(ConfigError, match="^" + re.escape(words)):
        build({"accuracy-loss": given})
