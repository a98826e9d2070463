"""All settings in one value, by group and by flat name."""

from __future__ import annotations

import functools
from typing import Any, Self

import msgspec

from corral.settings.groups import (
    AccuracySettings,
    EngineSettings,
    ModelSettings,
    PlacementSettings,
)
from corral.settings.option import Option, options_of
from corral.settings.queue_groups import NullSettings, QueueSettings
from corral.settings.server_groups import (
    LifecycleSettings,
    LimitSettings,
    ListenSettings,
    LoggingSettings,
    SecuritySettings,
    TelemetrySettings,
)


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every setting, in groups. A flat name is an option's, with underscores: ``accuracy_loss``."""

    model: ModelSettings = ModelSettings()
    engine: EngineSettings = EngineSettings()
    accuracy: AccuracySettings = AccuracySettings()
    placement: PlacementSettings = PlacementSettings()
    queue: QueueSettings = QueueSettings()
    listen: ListenSettings = ListenSettings()
    security: SecuritySettings = SecuritySettings()
    limits: LimitSettings = LimitSettings()
    null: NullSettings = NullSettings()
    lifecycle: LifecycleSettings = LifecycleSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    logging: LoggingSettings = LoggingSettings()

    @classmethod
    def flat(cls, **values: Any) -> Self:
        """Settings by flat names, unchecked: ``Settings.flat(max_batch=4)``.

        Raises:
            TypeError: there is no such setting.
        """
        return cls().replace(**values)

    def replace(self, **values: Any) -> Self:
        """The same settings but for some, by flat names, unchecked.

        Raises:
            TypeError: there is no such setting.
        """
        table = options()
        changed: dict[str, dict[str, Any]] = {}
        for flat, value in values.items():
            if flat not in table:
                raise TypeError(f"there is no setting {flat!r}")
            changed.setdefault(table[flat].group, {})[table[flat].field] = value
        groups = {
            name: msgspec.structs.replace(getattr(self, name), **fields)
            for name, fields in changed.items()
        }
        return msgspec.structs.replace(self, **groups)

    def value(self, flat: str) -> Any:
        """One setting by its flat name."""
        option = options()[flat]
        return getattr(getattr(self, option.group), option.field)


@functools.cache
def options() -> dict[str, Option]:
    """Every option by its flat name (``cores_per_worker``), in the order of the groups."""
    return {
        option.flat: option
        for group in msgspec.structs.fields(Settings)
        for option in options_of(group.name, group.type)
    }


def field_names() -> dict[str, str]:
    """Option name (``cores-per-worker``) by flat name (``cores_per_worker``)."""
    return {flat: option.name for flat, option in options().items()}


def live_names() -> frozenset[str]:
    """The flat names of what may differ between two deployments of a running server."""
    return frozenset(flat for flat, option in options().items() if option.live)
