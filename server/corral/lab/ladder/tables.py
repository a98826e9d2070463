"""A ladder as a table on the terminal and as Markdown."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.table import Table

from corral.lab.ladder.results import Ladder, RungResult
from corral.lab.ladder.rungs import ARTICLE_MACHINE, ARTICLE_MODEL
from corral.planning.explain import count

_HEADINGS = (
    "rung",
    "batch 1",
    "best",
    "at",
    "p50 ms",
    "p99 ms",
    "J/image",
    "memory MB",
    "start s",
    "step",
    "total",
    "cosine",
    "SNR dB",
    "article",
)

_LEGEND = (
    "Images/s at batch 1 and at the best batch; *step* is the ratio to the rung that it is built "
    "on (docs/ladder.md), *total* to the baseline; cosine and SNR compare logits with the "
    "baseline's"
)
_ENERGY_LEGEND = (
    "; *J/image* is what the machine's processors consumed meanwhile, at the best batch, "
    "whatever else they did"
)
_ARTICLE_LEGEND = f"; *article* is the article's figure for ResNet50 on {ARTICLE_MACHINE}"


def headings(ladder: Ladder) -> tuple[str, ...]:
    """The columns; energy where it was read, and the article's, last, for its own model."""
    return tuple(_HEADINGS[index] for index in _columns(ladder))


def _columns(ladder: Ladder) -> list[int]:
    """Which of all columns have something to say."""
    absent = set()
    if ladder.model != ARTICLE_MODEL:
        absent.add("article")
    if not _has_energy(ladder):
        absent.add("J/image")
    return [index for index, name in enumerate(_HEADINGS) if name not in absent]


def _has_energy(ladder: Ladder) -> bool:
    return any(rung.ran and rung.best.joules_an_image is not None for rung in ladder.rungs)


def rows(ladder: Ladder) -> list[list[str]]:
    """A row a rung, in the order of the headings; a rung that did not run says why."""
    columns = _columns(ladder)
    found = []
    for rung, (step, total) in zip(ladder.rungs, ladder.ratios(), strict=True):
        article = "" if rung.article is None else f"{rung.article:.1f}"
        if not rung.ran:
            cells = [rung.title, rung.reason, *[""] * 11, article]
        else:
            measured = [*_measured(rung), _ratio(step), _ratio(total)]
            cells = [*measured, *_closeness(rung), article]
        found.append([cells[index] for index in columns])
    return found


#: shorter climbs are told in seconds
_MINUTES_S = 120.0
#: more than this that others took is told to be too much
_BUSY = 0.05
#: what a narrow terminal has room for
_ESSENTIAL = {"rung", "best", "at", "p50 ms", "step", "total", "SNR dB", "article"}
_WIDE = 120


def table(ladder: Ladder, width: int, *, interrupted: bool = False) -> Table:
    """For a terminal ``width`` columns wide; a narrow one gets fewer columns.

    Args:
        ladder: the outcome.
        width: columns.
        interrupted: not all repeats were measured.
    """
    names = headings(ladder)
    kept = [i for i, name in enumerate(names) if width >= _WIDE or name in _ESSENTIAL]
    most = "interrupted, at most " if interrupted else ""
    repeats = f"{most}{ladder.repeats} x {ladder.seconds:g} s"
    shown = Table(
        title=f"corral ladder: {ladder.model}, images/s ({repeats})",
        title_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1),
        show_footer=False,
    )
    for index in kept:
        shown.add_column(names[index], justify="right" if index else "left", no_wrap=True)
    for row, rung in zip(rows(ladder), ladder.rungs, strict=True):
        cells = row if rung.ran else [row[0], "-", "-", *row[3:]]
        shown.add_row(*(cells[index] for index in kept))
    return shown


def reasons(ladder: Ladder) -> list[str]:
    """A line for every rung that did not run."""
    return [f"{rung.title}: {rung.reason}" for rung in ladder.rungs if not rung.ran]


def others(ladder: Ladder) -> str:
    """What others took of the CPUs; empty where it is not known."""
    if ladder.other_load is None:
        return ""
    slow = ": figures are too low" if ladder.other_load >= _BUSY else ""
    return f"took {ladder.other_load:.1%} of the CPUs meanwhile{slow}"


def remarks(ladder: Ladder) -> list[str]:
    """A line for every rung that ran and is not what its title says."""
    return [f"{rung.title}: {rung.remark}" for rung in ladder.rungs if rung.ran and rung.remark]


def markdown(ladder: Ladder, chart: str | None) -> str:
    """A page: the machine, the chart, the table, and what could not run.

    Args:
        ladder: the outcome.
        chart: file name of the chart beside it, or None.
    """
    lines = [f"# Ladder: {ladder.model}", ""]
    repeats = count(ladder.repeats, "interleaved repeat")
    took = count(round(ladder.took_s / 60), "minute")
    if ladder.took_s < _MINUTES_S:
        took = f"{ladder.took_s:.0f} s"
    turns = f"{repeats} of {ladder.seconds:g} s a batch size"
    lines += [f"{turns}; {took}. Weights: {ladder.weights}.", ""]
    lines += [f"- {name}: {text}" for name, text in ladder.machine.items()]
    lines += [f"- others {line}" for line in [others(ladder)] if line]
    lines += [f"- {name} {version}" for name, version in ladder.versions.items()] + [""]
    if chart is not None:
        lines += [f"![images/s by rung]({chart})", ""]
    names, article = headings(ladder), ladder.model == ARTICLE_MODEL
    lines += [
        f"{_legend(ladder)}.",
        "",
        "| " + " | ".join(names) + " |",
        "| --- |" + " ---: |" * (len(names) - 1),
    ]
    for row, rung in zip(rows(ladder), ladder.rungs, strict=True):
        cells = row if rung.ran else [row[0], "-", "-", *row[3:]]
        lines.append("| " + " | ".join(cells) + " |")
    if article:
        lines += ["", f"Beside the article ({ARTICLE_MACHINE}):", "", beside_article(ladder)]
    for head, told in (("By name alone:", remarks(ladder)), ("Not run here:", reasons(ladder))):
        if told:
            lines += ["", head, "", *(f"- {line}" for line in told)]
    return "\n".join(lines) + "\n"


def _legend(ladder: Ladder) -> str:
    energy = _ENERGY_LEGEND if _has_energy(ladder) else ""
    article = _ARTICLE_LEGEND if ladder.model == ARTICLE_MODEL else ""
    return f"{_LEGEND}{energy}{article}"


def beside_article(ladder: Ladder) -> str:
    """A narrow table of this ladder and the article's, for a README."""
    lines = [
        f"| {ladder.model} | here, images/s | | article, images/s | |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    ground = next((rung.article for rung in ladder.rungs if rung.article), None)
    for rung, (_, total) in zip(ladder.rungs, ladder.ratios(), strict=True):
        ours = [f"{rung.best.images_per_s:.1f}", _times(total)] if rung.ran else ["not run", ""]
        theirs = ["", ""]
        if rung.article and ground:
            theirs = [f"{rung.article:.1f}", _times(rung.article / ground)]
        lines.append("| " + " | ".join([rung.title, *ours, *theirs]) + " |")
    return "\n".join(lines)


def _times(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f} x"


def _measured(rung: RungResult) -> list[str]:
    best, single = rung.best, rung.single
    return [
        rung.title,
        f"{single.images_per_s:.1f}",
        f"{best.images_per_s:.1f}",
        str(best.batch),
        f"{single.p50_ms:.1f}",
        f"{single.p99_ms:.1f}",
        _ratio(best.joules_an_image),
        f"{rung.memory_bytes / 2**20:.0f}",
        f"{rung.start_s:.1f}",
    ]


def _closeness(rung: RungResult) -> list[str]:
    if rung.fidelity is None:
        return ["", ""]
    return [f"{rung.fidelity.cosine:.4f}", f"{rung.fidelity.snr_db:.1f}"]


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
