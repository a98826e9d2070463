"""The settings: frozen groups, built once, unknown keys refused. The command line names them.

A field says everything about its option: type, range, default, unit, help, and whether a reload
may change it. The parser, the list of live settings and docs/configuration.md derive from that.
``cli/`` alone reads argv and the environment; children receive a Settings by descriptor.
"""

from corral.settings.groups import (
    AccuracySettings,
    EngineSettings,
    ModelSettings,
    PlacementSettings,
)
from corral.settings.kinds import (
    Allocator,
    BackendName,
    KeepWarm,
    LogFormat,
    LogLevel,
    Mode,
    Precision,
    TorchMode,
)
from corral.settings.option import Option
from corral.settings.queue_groups import NullSettings, QueueSettings
from corral.settings.reading import build, is_loopback, read_toml
from corral.settings.server_groups import (
    LifecycleSettings,
    LimitSettings,
    ListenSettings,
    LoggingSettings,
    SecuritySettings,
    TelemetrySettings,
)
from corral.settings.whole import Settings, field_names, live_names, options

__all__ = [
    "AccuracySettings",
    "Allocator",
    "BackendName",
    "EngineSettings",
    "KeepWarm",
    "LifecycleSettings",
    "LimitSettings",
    "ListenSettings",
    "LogFormat",
    "LogLevel",
    "LoggingSettings",
    "Mode",
    "ModelSettings",
    "NullSettings",
    "Option",
    "PlacementSettings",
    "Precision",
    "QueueSettings",
    "SecuritySettings",
    "Settings",
    "TelemetrySettings",
    "TorchMode",
    "build",
    "field_names",
    "is_loopback",
    "live_names",
    "options",
    "read_toml",
]
