"""Whether the regions of workers fit into the memory that there is.

A worker writes to every page of the region that a batch uses, before its engine takes anything.
"""

from __future__ import annotations

from pathlib import Path

from corral.batching.sizes import BatchSizes
from corral.errors import ConfigError
from corral.ipc.region import region_bytes
from corral.planning.explain import count
from corral.system.limits import memory_there
from corral.tensors import Signature

_MIB = 2**20
#: of the memory that is there, what batches that nobody asked for may take; engines need the rest
_SHARE = 0.5


def check_regions(
    model: str, signature: Signature, workers: int, max_batch: int | None, root: Path = Path("/")
) -> None:
    """Looks whether the regions of all workers can be had.

    Args:
        model: as ``--model`` names it.
        signature: its items.
        workers: of the plan.
        max_batch: what was asked for; None where corral tries sizes, of which one is the least.
        root: of /proc and /sys.

    Raises:
        ConfigError: they cannot; one line with the bytes and the way out.
    """
    there, whose = memory_there(root)
    needed = workers * region_bytes(signature, max_batch or 1)
    if needed <= there:
        return
    has = f"{whose} {there / _MIB:,.0f}"
    if max_batch is not None and workers * region_bytes(signature, 1) <= there:
        raise ConfigError(
            f"--max-batch {max_batch}: the batches of {count(workers, 'worker')} take "
            f"{needed / _MIB:,.0f} MiB of memory, and {has}"
        )
    item = max(signature.input_bytes.values()) + signature.output_bytes
    fewer = "fewer --workers, or " if workers > 1 and needed // workers <= there else ""
    regions = workers * region_bytes(signature, 1)
    raise ConfigError(
        f"--model {model}: an item with its answer takes {item / _MIB:,.0f} MiB, the regions of "
        f"{count(workers, 'worker')} {regions / _MIB:,.0f} MiB, and {has}: "
        f"{fewer}a model of smaller items, or more memory"
    )


def that_fit(
    batch: BatchSizes, signature: Signature, workers: int, root: Path = Path("/")
) -> BatchSizes:
    """The sizes to try without those whose regions would take more than half of the memory.

    Sizes that were asked for stay, and one item does.
    """
    if not batch.find_knee and not batch.known_s:
        return batch
    room = memory_there(root)[0] * _SHARE
    sizes = [s for s in batch.sizes if s == 1 or workers * region_bytes(signature, s) <= room]
    return BatchSizes(sizes=sizes, find_knee=batch.find_knee, known_s=batch.known_s)
