"""What has to be settled before a framework is imported.

``import openvino`` alone reports its use to an analytics service and leaves a client id in
``~/intel``, and so does nncf (openvino-telemetry 2025.2, seen in both). A server must not.
"""

from __future__ import annotations

import sys


def silence_telemetry() -> None:
    """Keeps openvino and nncf from reporting home. Call it before the first import of either.

    Both fall back to a stub when their telemetry package cannot be imported, which is what an
    entry of None in ``sys.modules`` brings about. Elsewhere in the process nothing changes.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
