"""Every library's switch against reports to its maker, as environment variables. Pure.

A library reads them when it is imported, so a process has them before it imports anything. What a
user has set against such reports is handed on as well: the name of the next library is not known
yet.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

#: what corral itself sets in every process; a user's own value does not switch a report on
OPT_OUTS: Mapping[str, str] = {
    # ONNX Runtime 1.31 keeps a device id in ~/.cache and talks to its maker every few seconds.
    "ORT_DISABLE_TELEMETRY": "1",
    # Hugging Face's libraries, and what goes by the common names.
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "BENTOML_DO_NOT_TRACK": "True",
    "GRADIO_ANALYTICS_ENABLED": "False",
}
_USERS_OWN = re.compile(r"TELEMETRY|DO_?NOT_?TRACK|ANALYTICS|USAGE_STATS|OPT_?OUT|_OFFLINE$")


def _is_opt_out(name: str) -> bool:
    """Whether it is a library's; corral's own settings do not travel by the environment."""
    return not name.startswith("CORRAL_") and _USERS_OWN.search(name) is not None


def opt_outs(environ: Mapping[str, str]) -> dict[str, str]:
    """What a process that corral starts gets: corral's own, and what the user has set.

    Args:
        environ: the environment of whoever starts it.
    """
    own = {name: value for name, value in environ.items() if _is_opt_out(name)}
    return {**own, **OPT_OUTS}
