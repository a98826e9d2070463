"""What has to be settled before a framework is imported.

``import openvino`` alone reports its use to an analytics service and leaves a client id in
``~/intel``, and so does nncf (openvino-telemetry 2025.2, seen in both). ONNX Runtime 1.31 looks its
maker up within seconds of a session and keeps a device id in ``~/.cache``. A server must not.
"""

from __future__ import annotations

import os
import sys

from corral.system.optouts import OPT_OUTS


def silence_telemetry() -> None:
    """Keeps every engine from reporting home. Call it before the first import of any.

    openvino and nncf fall back to a stub when their telemetry package cannot be imported, which is
    what an entry of None in ``sys.modules`` brings about. The others read the environment, which a
    process that corral has started finds set; one that has not been sets it here.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    os.environ.update(OPT_OUTS)
