"""An evaluation as a table for a terminal."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from corral.lab.evaluate.results import Evaluation, EvaluationRow, Share


def interval(share: Share | None) -> str:
    """ "76.5 % (70.1 to 81.9)"; "-" where there is none."""
    if share is None:
        return "-"
    return f"{share.share:.1%} ({share.low * 100:.1f} to {share.high * 100:.1f})"


def loss(row: EvaluationRow) -> str:
    """What is lost of FP32's accuracy, and how much that may be."""
    if row.fidelity is None or row.fidelity.loss is None:
        return "-"
    most = row.fidelity.loss_most
    return f"{row.fidelity.loss:.2%}" + ("" if most is None else f", at most {most:.2%}")


def verdict(row: EvaluationRow) -> str:
    """What the guard would say by these labels."""
    if row.reason:
        return row.reason
    if row.fidelity is None:
        found = "is FP32" if row.candidate.endswith("fp32") else "not compared"
    else:
        found = (", ".join(row.faults) or "passes") + (
            row.why_snr and f" by SNR, for {row.why_snr}"
        )
    return "; ".join(filter(None, (found, row.remark)))


def summary(found: Evaluation) -> str:
    """What was evaluated, in one line."""
    others = sum(found.left_out.values())
    are = "1 file is" if others == 1 else f"{others} files are"
    without = f" ({are} no JPEG or PNG)" if others else ""
    pictures = "1 picture" if found.pictures == 1 else f"{found.pictures} pictures"
    if found.pictures < found.asked:
        pictures = f"the first {pictures} of {found.asked}, interrupted,"
    return (
        f"{found.model} ({found.weights}) on {pictures}{without} of "
        f"{found.classes_seen} of "
        f"{found.classes} classes; {found.cpu}, {found.cores} cores, batches of {found.batch}"
    )


def render(found: Evaluation) -> Group:
    """All of it, to print."""
    table = Table(box=SIMPLE_HEAD, title_justify="left", pad_edge=False)
    table.add_column("candidate")
    for heading in ("top-1 (95 %)", "top-5 (95 %)", "loss", "images/s"):
        table.add_column(heading, justify="right")
    table.add_column("guard, by labels")
    for row in found.rows:
        rate = f"{row.images_per_s:.1f}" if row.images_per_s else "-"
        table.add_row(
            row.candidate, interval(row.top1), interval(row.top5), loss(row), rate, verdict(row)
        )
    parts: list[RenderableType] = [Text(summary(found)), table]
    shown = next((row for row in found.rows if row.top1 is not None), None)
    if shown is not None and shown.worst:
        parts.append(_worst(shown))
        parts.append(_confusions(shown))
    return Group(*parts)


def _worst(row: EvaluationRow) -> Table:
    table = Table(
        title=f"worst classes of {row.candidate}", box=SIMPLE_HEAD, title_justify="left",
        pad_edge=False,
    )  # fmt: skip
    table.add_column("class")
    table.add_column("right", justify="right")
    for one in row.worst:
        table.add_row(one.label, f"{one.right} of {one.of}")
    return table


def _confusions(row: EvaluationRow) -> Table:
    table = Table(
        title=f"confusions of {row.candidate}", box=SIMPLE_HEAD, title_justify="left",
        pad_edge=False,
    )  # fmt: skip
    table.add_column("class")
    table.add_column("taken for")
    table.add_column("times", justify="right")
    for one in row.confusions:
        table.add_row(one.label, one.taken_for, str(one.times))
    return table
