"""Which settings may change while the server runs."""

import msgspec
import pytest

from corral.errors import ConfigError
from corral.settings import Mode, Settings, field_names
from corral.supervisor.reload import LIVE, refuse_fixed


def test_what_may_change_may_change() -> None:
    refuse_fixed(Settings(), Settings(mode=Mode.THROUGHPUT, workers=3, weights="w.safetensors"))


def test_what_is_fixed_is_named() -> None:
    wanted = Settings(port=1, http_port=3, metrics_port=2, cells=3, workers=7)
    with pytest.raises(ConfigError) as caught:
        refuse_fixed(Settings(), wanted)
    assert str(caught.value) == (
        "--cells, --port, --http-port, --metrics-port cannot change while the server runs: "
        "restart it for that; nothing was changed"
    )


def test_every_live_setting_exists() -> None:
    assert set(field_names()) >= LIVE


@pytest.mark.parametrize("field", ["host", "model", "cells", "cache_dir", "max_items", "seccomp"])
def test_these_are_fixed(field: str) -> None:
    changed = msgspec.structs.replace(Settings(), **{field: "other"})
    with pytest.raises(ConfigError, match="cannot change"):
        refuse_fixed(Settings(), changed)
