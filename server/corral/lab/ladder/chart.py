"""A ladder as a bar chart, PNG and SVG; for the article's own model, its figures beside ours."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from corral import extras
from corral.errors import ConfigError
from corral.lab.ladder.results import Ladder, RungResult
from corral.lab.ladder.rungs import ARTICLE_MACHINE, ARTICLE_MODEL

_OURS, _THEIRS, _MISSING = "#2a6f97", "#c98b3c", "#757575"
#: room right of the longest bar, for its figure
_MARGIN = 1.42
_REASON_CHARACTERS = 44


def draw(ladder: Ladder, stem: Path) -> list[Path]:
    """Writes ``stem.png`` and ``stem.svg``; a rung that did not run is a name with its reason.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise ConfigError(
            f"the chart needs matplotlib: {extras.install('ladder')} brings it"
        ) from None
    beside = ladder.model == ARTICLE_MODEL
    height = 0.36 * len(ladder.rungs) + 1.5
    figure = Figure(figsize=(13 if beside else 9, height), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(
        1, 2 if beside else 1, sharey=True, squeeze=False, width_ratios=[3, 2] if beside else None
    )[0]
    _draw_ours(panels[0], ladder)
    if beside:
        _draw_article(panels[1], ladder.rungs)
    files = [stem.with_name(f"{stem.name}.{kind}") for kind in ("png", "svg")]
    for file in files:
        figure.savefig(file, dpi=150)
    return files


def _draw_ours(axes: Any, ladder: Ladder) -> None:
    speeds = [rung.best.images_per_s if rung.ran else None for rung in ladder.rungs]
    _bars(axes, speeds, _OURS)
    top = max([speed for speed in speeds if speed] or [1.0])
    for place, rung in enumerate(ladder.rungs):
        if not rung.ran:
            reason = _shorten(rung.reason)
            axes.text(top * 0.01, place, reason, va="center", color=_MISSING, fontsize=8)
    axes.set_yticks(range(len(speeds)), [rung.title for rung in ladder.rungs], fontsize=9)
    axes.invert_yaxis()
    title = f"{ladder.model} here: {ladder.machine.get('CPU', '?')}"
    axes.set_title(title, loc="left", fontsize=10)


def _draw_article(axes: Any, rungs: Sequence[RungResult]) -> None:
    _bars(axes, [rung.article for rung in rungs], _THEIRS)
    axes.tick_params(labelleft=False)
    axes.set_title(f"in the article: {ARTICLE_MACHINE}", loc="left", fontsize=10)


def _bars(axes: Any, speeds: Sequence[float | None], colour: str) -> None:
    """A bar a rung with its images/s and its ratio to the first; None is an empty place."""
    axes.barh(range(len(speeds)), [speed or 0.0 for speed in speeds], color=colour)
    known = [speed for speed in speeds if speed]
    top, first = max(known, default=1.0), next(iter(known), 1.0)
    for place, speed in enumerate(speeds):
        if speed:
            text = f" {speed:.1f}  ({speed / first:.2f}x)"
            axes.text(speed, place, text, va="center", fontsize=9)
    axes.set_xlim(0, top * _MARGIN)
    axes.set_xlabel("images/s, best batch")
    axes.spines[["top", "right"]].set_visible(False)


def _shorten(reason: str) -> str:
    """The reason without the option it begins with, as long as there is room."""
    text = reason.partition(": ")[2] or reason
    text = text.partition(";")[0]
    if len(text) > _REASON_CHARACTERS:
        text = text[: _REASON_CHARACTERS - 1].rstrip() + "…"
    return f"not run: {text}"
