"""A ladder as a bar chart, PNG and SVG."""

from __future__ import annotations

from pathlib import Path

from corral.errors import ConfigError
from corral.ladder.results import Ladder

_OURS, _MISSING = "#2a6f97", "#c0c0c0"


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
            "the chart needs matplotlib: pip install 'corral[ladder]' brings it"
        ) from None
    figure = Figure(figsize=(9, 0.42 * len(ladder.rungs) + 1.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    names = [rung.title for rung in ladder.rungs]
    speeds = [rung.best.images_per_s if rung.ran else 0.0 for rung in ladder.rungs]
    places = range(len(names))
    axes.barh(places, speeds, color=_OURS)
    top = max([*speeds, 1e-9])
    for place, (rung, (_, total)) in enumerate(zip(ladder.rungs, ladder.ratios(), strict=True)):
        text = f"{speeds[place]:.1f}  ({total:.2f}x)" if rung.ran and total else "not run here"
        colour = "black" if rung.ran else _MISSING
        axes.text(speeds[place] + top * 0.01, place, text, va="center", color=colour, fontsize=9)
    axes.set_yticks(places, names)
    axes.invert_yaxis()
    axes.set_xlim(0, top * 1.2)
    axes.set_xlabel("images/s, best batch")
    axes.set_title(f"{ladder.model} on {ladder.machine.get('CPU', '?')}", loc="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    files = [stem.with_name(f"{stem.name}.{kind}") for kind in ("png", "svg")]
    for file in files:
        figure.savefig(file, dpi=150)
    return files
