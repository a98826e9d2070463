"""``corral ladder``: climbs with a progress bar, and writes what it found."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import platform
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from corral.artifacts.order import versions
from corral.backends.registry import pays
from corral.errors import ConfigError
from corral.lab.ladder import chart, tables
from corral.lab.ladder.climb import Climbed, ClimbInterrupted, Place, climb
from corral.lab.ladder.results import Ladder
from corral.lab.ladder.rungs import pick, rungs
from corral.models import registry
from corral.planning import topology
from corral.planning.plan import PlannedWorker
from corral.settings import Precision, Settings
from corral.settings.files import write_text
from corral.system.cpu_list import format_cpus
from corral.system.progress_bar import progress_bar
from corral.system.terminal import standard_output

logger = logging.getLogger(__name__)

#: flags that decide what is fast
_TELLING = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
_PACKAGES = ("torch", "torchao", "openvino", "nncf", "onnxruntime")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LadderOptions:
    """What the command line adds to the settings.

    Attributes:
        repeats: turns of every rung.
        seconds: of each turn and batch size.
        keys: rungs to climb; all if empty.
        out: folder for ladder-MODEL.json, .md, .png and .svg.
        asked: of the settings that rungs decide, those that a user has named.
    """

    repeats: int
    seconds: float
    keys: tuple[str, ...]
    out: Path
    asked: Mapping[str, object] = dataclasses.field(default_factory=dict)


def run(
    settings: Settings, options: LadderOptions, pen: PlannedWorker, environ: Mapping[str, str]
) -> int:
    """Measures, prints the table, writes the files; returns the exit code.

    Raises:
        ConfigError: no such rung, or the folder cannot be written to.
    """
    machine = topology.read_machine()
    bf16 = pays(Precision.BF16, machine.isa)
    chosen = pick(rungs(bf16=bf16, model=settings.model.name), options.keys, options.asked)
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out {options.out}: {error.strerror}") from None
    place = Place(
        settings=settings,
        cpus=pen.cpus,
        memory_node=pen.memory_node,
        environ=environ,
        repeats=options.repeats,
        seconds=options.seconds,
    )
    weights = registry.get(settings.model.name, settings.model.shape).find_weights(
        settings.model.weights, Path(settings.model.cache_dir), settings.model.offline
    )
    began_s = time.monotonic()
    interrupted: ClimbInterrupted | None = None
    with _shown() as progress:
        try:
            found = climb(place, chosen, progress)
        except ClimbInterrupted as end:
            interrupted, found = end, end.rungs
    ladder = Ladder(
        model=registry.get(settings.model.name, settings.model.shape).name,
        weights=weights.description,
        synthetic=weights.synthetic,
        machine={
            "CPU": machine.model_name,
            "flags": " ".join(flag for flag in _TELLING if flag in machine.isa),
            "CPUs used": f"{format_cpus(pen.cpus)} ({pen.cores} cores)",
            "kernel": platform.release(),
            "energy": f"unknown: {place.meter.reason}" if place.meter.reason else "RAPL",
        },
        versions={name: text for name, text in versions(_PACKAGES).items() if text != "absent"},
        repeats=options.repeats,
        seconds=options.seconds,
        took_s=time.monotonic() - began_s,
        other_load=round(place.load.share, 4),
        rungs=found,
    )
    _show(ladder, interrupted=interrupted is not None)
    if interrupted is not None:
        raise interrupted
    _write(ladder, options.out)
    return 0


@contextlib.contextmanager
def _shown() -> Iterator[Climbed]:
    """A bar on standard error; where none can move, a log line for every step."""
    with progress_bar("ladder") as bar:
        yield bar or (lambda step, share: logger.info("%3.0f %%  %s", 100 * share, step))


def _show(ladder: Ladder, *, interrupted: bool) -> None:
    """Prints the table, and why rungs are not in it."""
    console = standard_output(140)
    console.print(tables.table(ladder, console.width, interrupted=interrupted))
    if line := tables.others(ladder):
        console.print(f"others {line}", highlight=False)
    for line in tables.remarks(ladder):
        console.print(f"by name alone: {line}", highlight=False)
    for line in tables.reasons(ladder):
        console.print(f"not run here: {line}", highlight=False)


def _write(ladder: Ladder, out: Path) -> None:
    """Writes JSON, Markdown, and the chart where matplotlib is installed."""
    stem = out / f"ladder-{ladder.model}"
    try:
        files = chart.draw(ladder, stem)
    except ConfigError as error:
        logger.warning("%s", error)
        files = []
    picture = files[0].name if files else None
    page, data = stem.with_name(f"{stem.name}.md"), stem.with_name(f"{stem.name}.json")
    write_text(page, "--out", tables.markdown(ladder, picture))
    content = msgspec.json.format(msgspec.json.encode(ladder), indent=1).decode()
    write_text(data, "--out", f"{content}\n")
    names = ", ".join(str(file) for file in (data, page, *files))
    standard_output(140).print(f"written: {names}", highlight=False)
