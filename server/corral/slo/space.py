"""What there is to choose from: configurations of a server, as settings. Pure."""

from __future__ import annotations

import enum
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from corral.settings import Allocator, BackendName, Mode, Precision, TorchMode

#: largest batches that are tried
BATCHES = (1, 2, 4, 8, 16)
#: queue delays that are tried, as shares of the bound
DELAY_SHARES = (0.0, 0.05, 0.2)


class Arithmetic(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """What computes: an engine with a precision, and for torch how it runs the model."""

    backend: BackendName
    precision: Precision
    torch_mode: TorchMode = TorchMode.AUTO

    @property
    def name(self) -> str:
        """ "openvino int8", "torch fp32 traced"."""
        if self.backend is BackendName.NULL:
            return self.backend.value
        mode = "" if self.torch_mode is TorchMode.AUTO else f" {self.torch_mode.value}"
        return f"{self.backend.value} {self.precision.value}{mode}"


class Shape(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """How many workers of how many cores each."""

    workers: int
    cores: int

    @property
    def name(self) -> str:
        """ "2 workers of 1 core"."""
        workers = "1 worker" if self.workers == 1 else f"{self.workers} workers"
        return f"{workers} of {self.cores} core" + ("s" if self.cores > 1 else "")


class Memory(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """What workers' memory and their waiting threads are like."""

    allocator: Allocator
    huge_pages: bool
    openmp_spin_ms: int

    @property
    def name(self) -> str:
        """ "tcmalloc with huge pages, spinning 200 ms"."""
        pages = "with" if self.huge_pages else "without"
        spin = "" if self.openmp_spin_ms == 1 else f", spinning {self.openmp_spin_ms} ms"
        return f"{self.allocator.value} {pages} huge pages{spin}"


class Batching(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """How requests become batches."""

    max_batch: int
    #: real-time inference or throughput: by which rule a free worker takes several
    mode: Mode
    delay_ms: float = 0.0

    @property
    def name(self) -> str:
        """ "batches of one", "batches up to 4 (rti)"."""
        if self.max_batch == 1:
            return "batches of one"
        wait = f", waiting up to {self.delay_ms:g} ms" if self.delay_ms else ""
        return f"batches up to {self.max_batch} ({self.mode.value}{wait})"


class Configuration(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """One way to run the server."""

    arithmetic: Arithmetic
    shape: Shape
    batching: Batching
    memory: Memory

    @property
    def name(self) -> str:
        """Everything but the memory, in one line."""
        return f"{self.arithmetic.name}, {self.shape.name}, {self.batching.name}"

    def flat(self) -> dict[str, Any]:
        """Flat names and values, for ``Settings.replace``."""
        return {
            "mode": self.batching.mode,
            "backend": self.arithmetic.backend,
            "precision": self.arithmetic.precision,
            "torch_mode": self.arithmetic.torch_mode,
            "workers": self.shape.workers,
            "cores_per_worker": self.shape.cores,
            "max_batch": self.batching.max_batch,
            "max_queue_delay_ms": self.batching.delay_ms,
            "allocator": self.memory.allocator,
            "huge_pages": self.memory.huge_pages,
            "openmp_spin_ms": self.memory.openmp_spin_ms,
        }

    def settings(self) -> dict[str, Any]:
        """Option names and values, as a settings file has them."""
        null = self.arithmetic.backend is BackendName.NULL
        left_out = {"precision", "torch_mode"} if null else set()
        if self.arithmetic.torch_mode is TorchMode.AUTO:
            left_out.add("torch_mode")
        return {
            name.replace("_", "-"): value.value if isinstance(value, enum.Enum) else value
            for name, value in self.flat().items()
            if name not in left_out
        }


class Space(msgspec.Struct, frozen=True, kw_only=True):
    """What there is to choose from, by kind; the first memory is the one asked for."""

    arithmetics: Sequence[Arithmetic]
    shapes: Sequence[Shape]
    batchings: Sequence[Batching]
    #: by arithmetic: what spins is of engines on libiomp5 alone
    memories: Mapping[Arithmetic, Sequence[Memory]]

    def __len__(self) -> int:
        """How many configurations there are."""
        return len(self.shapes) * len(self.batchings) * sum(map(len, self.memories.values()))

    def configurations(self, arithmetic: Arithmetic) -> Iterator[Configuration]:
        """All with one of the arithmetics."""
        for shape, batching, memory in itertools.product(
            self.shapes, self.batchings, self.memories[arithmetic]
        ):
            yield Configuration(
                arithmetic=arithmetic, shape=shape, batching=batching, memory=memory
            )

    def describe(self) -> dict[str, list[str]]:
        """What was chosen from, by kind, in words."""
        memories = dict.fromkeys(m.name for found in self.memories.values() for m in found)
        return {
            "engines": [one.name for one in self.arithmetics],
            "workers": [one.name for one in self.shapes],
            "batches": [one.name for one in self.batchings],
            "memory": list(memories),
        }


def batchings(
    bound_ms: float,
    *,
    modes: Sequence[Mode],
    largest: Sequence[int] = BATCHES,
    delays_ms: Sequence[float] | None = None,
) -> list[Batching]:
    """The ways to batch that differ: one without company has no rule and waits for none.

    Args:
        bound_ms: of the latency; delays are shares of it.
        modes: whose rules may be used.
        largest: most items of a batch.
        delays_ms: None for those that suit the bound.
    """
    if delays_ms is None:
        delays_ms = [round(share * bound_ms, 3) for share in DELAY_SHARES]
    found: list[Batching] = []
    for size in largest:
        if size == 1:
            found.append(Batching(max_batch=1, mode=modes[0]))
            continue
        if 0.0 in delays_ms:
            found += [Batching(max_batch=size, mode=mode) for mode in modes]
        # What waits for company takes all that came, whatever the mode.
        found += [
            Batching(max_batch=size, mode=modes[-1], delay_ms=delay)
            for delay in delays_ms
            if delay > 0
        ]
    return found


def as_toml(settings: Mapping[str, Any], remarks: Sequence[str]) -> str:
    """A settings file that ``corral serve --config`` takes, with remarks above."""
    lines = [f"# {remark}" for remark in remarks]
    lines += [f"{name} = {_toml(value)}" for name, value in settings.items()]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, int | float):
        return repr(value)
    # JSON's strings are TOML's, but for a character that TOML wants escaped.
    return msgspec.json.encode(str(value)).decode().replace("\x7f", "\\u007f")
