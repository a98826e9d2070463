"""What more cores would carry, modelled from one request's measured cost. Pure.

A model, and not a measurement: it takes the cost of a request as it is here, and knows two limits,
the cores and what one frontend can carry. Memory bandwidth and the load generator are not in it.
"""

from __future__ import annotations

import msgspec

CORES = (2, 4, 8, 16, 32, 64)
CELLS = (1, 2, 4, 8, 16, 32)


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """Measured where the model starts from.

    Attributes:
        server_cpu_s: CPU time of a request with the null backend, all of the server's processes.
        frontend_per_s: requests that one frontend carries at most. It is measured beside a
            generator on few cores, so it is a lower bound.
        inference_cpu_s: CPU time of one inference alone.
    """

    server_cpu_s: float
    frontend_per_s: float
    inference_cpu_s: float


def carried_per_s(cost: Cost, cores: int, cells: int, inference: bool) -> float:
    """Requests a second that ``cores`` cores with ``cells`` frontends carry.

    Raises:
        ValueError: no core or no cell.
    """
    if cores < 1 or cells < 1:
        raise ValueError("a server has at least one core and one cell")
    cpu_s = cost.server_cpu_s + (cost.inference_cpu_s if inference else 0.0)
    return min(cells * cost.frontend_per_s, cores / cpu_s)


def enough_cells(cost: Cost, cores: int, inference: bool) -> int:
    """The least number of cells with which the cores are the limit."""
    cells = 1
    while carried_per_s(cost, cores, cells, inference) < carried_per_s(
        cost, cores, cells + 1, inference
    ):
        cells += 1
    return cells


def table(cost: Cost) -> str:
    """The curve as Markdown: the null backend by cells, and ResNet50 with enough of them."""
    lines = [
        f"From {cost.server_cpu_s * 1e6:.0f} µs of server CPU a request (null backend, UINT8),",
        f"{cost.frontend_per_s:.0f} requests/s through one frontend, and",
        f"{cost.inference_cpu_s * 1e3:.1f} ms of CPU an inference, all measured in this run.",
        "Requests/s: cells times one frontend, or cores ÷ CPU a request if that is less. A model:",
        "its load generator is elsewhere; here it shared the cores, and slowed the frontend.",
        "",
        "| cores | " + " | ".join(f"null, {n} cells" for n in CELLS) + " | ResNet50 | its cells |",
        "| ---: " * (len(CELLS) + 3) + "|",
    ]
    for cores in CORES:
        null = (f"{carried_per_s(cost, cores, n, inference=False):,.0f}" for n in CELLS)
        cells = enough_cells(cost, cores, inference=True)
        real = carried_per_s(cost, cores, cells, inference=True)
        lines.append(f"| {cores} | {' | '.join(null)} | {real:,.0f} | {cells} |")
    return "\n".join(lines)
