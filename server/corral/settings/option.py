"""What a field of a group says about its option, and how it is read from there."""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from typing import Any, ClassVar

import msgspec


class Group(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings that belong together; each field's type is ``Annotated[..., option(...)]``."""

    #: the heading over its options in ``--help`` and on the configuration page
    TITLE: ClassVar[str]
    #: what stands before a field's name in its option's name
    PREFIX: ClassVar[str] = ""


def option(
    text: str,
    *,
    live: bool = False,
    metavar: str | None = None,
    unit: str = "",
    default: str | None = None,
    name: str | None = None,
    path: bool = False,
) -> msgspec.Meta:
    """The part of a field's type that tells about its option.

    Args:
        text: what it does, for ``--help`` and the configuration page; ``{models}`` is the zoo.
        live: a reload may change it; anything else needs a restart, so that a setting that is new
            is fixed until somebody has thought about it.
        metavar: what stands for the value in ``--help``.
        unit: what a number counts, for the configuration page.
        default: what holds where nothing is given, in words; None for the field's own default.
        name: the flat name, if it is not the group's prefix and the field's name.
        path: its value is, or may be, a path: ``~`` in front of it is a home.
    """
    details = {"live": live, "metavar": metavar, "unit": unit, "default": default, "name": name}
    details["path"] = path
    return msgspec.Meta(description=text, extra=details)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Option:
    """One option.

    Attributes:
        group: the group's name in Settings, "queue".
        title: the group's heading.
        field: its name there, "max_items"; "loss" of the group "accuracy".
        flat: its name among all settings, "max_items", "accuracy_loss".
        kind: int, float, str, bool, tuple or the enum of its choices.
        words: what it takes besides, e.g. "node".
        least, most: the range, both ends included; None where there is no end.
        above: it is more than ``least``.
        pattern: what a text has to match, as a regular expression; None: nothing.
        needed: the same in words; "" where type and range say it.
        fallback: the field's default.
        default: the default in words; "" for one that goes without saying.
        help, live, metavar, unit, path: see ``option``. A unit "%": people write a percentage.
    """

    group: str
    title: str
    field: str
    flat: str
    kind: type
    words: tuple[str, ...]
    least: float | None
    most: float | None
    above: bool
    pattern: str | None
    needed: str
    fallback: Any
    default: str
    help: str
    live: bool
    metavar: str | None
    unit: str
    path: bool

    @property
    def name(self) -> str:
        """As on the command line and in TOML, "max-items"."""
        return self.flat.replace("_", "-")

    @property
    def choices(self) -> tuple[str, ...]:
        """The values of an enum; () for anything else."""
        if issubclass(self.kind, enum.Enum):
            return tuple(member.value for member in self.kind)
        return ()


def options_of(name: str, group: type[Group]) -> list[Option]:
    """The options of a group, in the order of its fields.

    Args:
        name: the group's name in Settings.
        group: its type.
    """
    found = []
    for field in msgspec.structs.fields(group):
        metas: list[msgspec.Meta] = []
        kinds: list[type] = []
        words: list[str] = []
        _walk(field.type, metas, kinds, words)
        about = next(meta for meta in metas if meta.description is not None)
        details = about.extra or {}
        bounds = next((m for m in metas if m.le is not None or m.ge is not None), msgspec.Meta())
        found.append(
            Option(
                group=name,
                title=group.TITLE,
                field=field.name,
                flat=details["name"] or group.PREFIX + field.name,
                kind=kinds[0],
                words=tuple(words),
                least=bounds.ge if bounds.gt is None else bounds.gt,
                most=bounds.le,
                above=bounds.gt is not None,
                pattern=next((meta.pattern for meta in metas if meta.pattern), None),
                needed=next((e["needed"] for m in metas if "needed" in (e := m.extra or {})), ""),
                fallback=field.default,
                default=details["default"] or _shown(field.default),
                help=about.description or "",
                live=details["live"],
                metavar=details["metavar"],
                unit=details["unit"],
                path=details["path"],
            )
        )
    return found


def _walk(kind: Any, metas: list[msgspec.Meta], kinds: list[type], words: list[str]) -> None:
    """Takes a field's type apart: what is said of it, its types, its literal words."""
    origin = typing.get_origin(kind)
    if origin is typing.Annotated:
        inner, *said = typing.get_args(kind)
        metas += [meta for meta in said if isinstance(meta, msgspec.Meta)]
        _walk(inner, metas, kinds, words)
    elif origin in {typing.Union, types.UnionType}:
        for part in typing.get_args(kind):
            _walk(part, metas, kinds, words)
    elif origin is typing.Literal:
        words += typing.get_args(kind)
    elif origin is tuple:
        kinds.append(tuple)
    elif kind is not type(None):
        kinds.append(kind)


def _shown(default: Any) -> str:
    if default is None or default == ():
        return ""
    if isinstance(default, bool):
        return "on" if default else "off"
    return f"{default:g}" if isinstance(default, float) else str(default)
