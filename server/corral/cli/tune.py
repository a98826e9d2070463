"""``corral tune``: the fastest engine for the mode, or the highest rate under a latency bound."""

from __future__ import annotations

import argparse
import functools
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from corral.artifacts.figures import FigureCache
from corral.artifacts.served_model import served_model
from corral.backends.registry import engine
from corral.cli.command_line import named
from corral.cli.files import check_apart, check_writable, is_stream, write_each
from corral.cli.interrupting import INTERRUPTED, interrupts
from corral.cli.measured_server import measured
from corral.errors import ConfigError, CorralError, one_line
from corral.ipc.messages import ModelBoot
from corral.launch.libraries import find_libraries
from corral.models import registry
from corral.planning import topology
from corral.planning.request import plan_for
from corral.settings import Allocator, BackendName, Mode, Precision, Settings, TorchMode, options
from corral.settings.files import write_text
from corral.slo import page, picture, view
from corral.slo.command import Subject, Tuning
from corral.slo.gaps import read_gaps
from corral.slo.history import History
from corral.slo.order import TuneOrder
from corral.slo.report import TuneReport
from corral.slo.running import Servers
from corral.slo.shapes import plans
from corral.slo.space import Arithmetic, Memory, Shape, Space, as_toml, batchings
from corral.slo.survey import Engine
from corral.system.other_load import MUCH
from corral.system.terminal import standard_output
from corral.tuning import prepare, report
from corral.tuning.select import Selected

#: For measuring. Without engines to choose from there is less to measure: a minute, less what the
#: last round takes beyond it.
_BUDGET_S = 300.0
_SHORT_BUDGET_S = 56.0
_SPINS_MS = (1, 200)


def run(
    settings: Settings,
    options_: argparse.Namespace,
    environ: Mapping[str, str],
) -> int:
    """Measures; returns the exit code.

    Args:
        settings: of the server.
        options_: of the command.
        environ: this process's environment.

    Raises:
        CorralError: an option is of no use, or something cannot be had.
    """
    given = named(options_, environ)
    bound_ms = settings.queue.p99_ms
    if bound_ms is None:
        _check_unused(options_)
        return _fastest(settings, every=options_.every)
    order = _order(settings, options_, given, bound_ms)
    tuning = _make(settings, order, given, environ, every=options_.every)
    code = 0
    with interrupts() as signals:
        try:
            tuning.run(environ)
            signals.hold()
        except KeyboardInterrupt:
            signals.hold()
            print("corral: interrupted; this is what is known", file=sys.stderr)
            code = INTERRUPTED
        except CorralError as error:
            signals.hold()
            tuning.note(f"not complete: {one_line(error)}")
            if (found := tuning.report()).candidates:
                _show(found, options_, interrupted=True)
            raise
        found = tuning.report()
        _show(found, options_, interrupted=bool(code))
    return code or (0 if found.winner else 1)


def _fastest(settings: Settings, *, every: bool) -> int:
    """Which engine and precision is fastest for the mode; later starts go by it."""
    if not engine(settings.engine.backend).computes:
        raise ConfigError("--backend null computes nothing; there is nothing to measure")
    pen = plan_for(settings, topology.read_machine()).first_worker
    selected = prepare.prepare_apart(settings, pen, again=True, every=every)
    if selected.search is None:
        print(f"{selected.backend.value} {selected.precision.value}: nothing to choose from")
    else:
        standard_output().print(report.render(selected.search, settings))
    gain = FigureCache(settings, topology.read_machine().model_name).load().one_core_gain
    if gain is not None:
        print(f"workers of one core make {gain:+.1%} images a second, on the same cores")
    return 0


def _check_unused(options_: argparse.Namespace) -> None:
    """Options of a search under a bound, without one."""
    used = {
        "--rate": options_.rate is not None,
        "--arrivals": options_.arrivals != "poisson",
        "--budget-s": options_.budget_s is not None,
        "--exhaustive": options_.exhaustive,
        "--html": options_.html is not None,
        "--out": options_.out is not None,
        "--json": options_.json,
    }
    named = next((name for name, is_used in used.items() if is_used), None)
    if named is not None:
        raise ConfigError(f"{named} needs --p99-ms: the latency that 99 % of requests are to keep")


def _order(
    settings: Settings, options_: argparse.Namespace, given: Mapping[str, Any], bound_ms: float
) -> TuneOrder:
    """Everything that can be wrong is, before anything is measured."""
    budget_s = options_.budget_s
    if budget_s is None:
        budget_s = _BUDGET_S if _searches_engines(settings) else _SHORT_BUDGET_S
    gaps = read_gaps(options_.arrivals)
    written = {"--out": options_.out or Path("tuned.toml"), "--html": options_.html}
    check_apart({**written, "--html's chart": chart_beside(options_.html)})
    for option, path in written.items():
        check_writable(path, option)
    check_writable(chart_beside(options_.html), "--html")
    return TuneOrder(
        bound_ms=bound_ms,
        rate=options_.rate,
        gaps=gaps,
        arrivals="Poisson" if options_.arrivals == "poisson" else options_.arrivals,
        budget_s=budget_s,
        exhaustive=options_.exhaustive,
        given=dict(given),
    )


def chart_beside(html: Path | None) -> Path | None:
    """Where the page's chart lies: beside it. There is none beside a stream."""
    if html is None or is_stream(html):
        return None
    return html.with_suffix(".png") if html.suffix != ".png" else html.with_suffix(".png.png")


def _searches_engines(settings: Settings) -> bool:
    return engine(settings.engine.backend).computes and settings.engine.is_searched


def _make(
    settings: Settings,
    order: TuneOrder,
    given: Mapping[str, Any],
    environ: Mapping[str, str],
    *,
    every: bool,
) -> Tuning:
    machine = topology.read_machine()
    flat = {option.flat for option in options().values() if option.name in given}
    found = plans(settings, machine, flat)
    spec = registry.get(settings.model.name, settings.model.shape)
    engines, left_out = _engines(settings, flat, every=every)
    subject = Subject(
        settings=settings,
        spec=spec,
        machine=machine,
        space=_space(settings, order.bound_ms, flat, tuple(found), engines),
        engines=engines,
        plans=found,
        left_out=left_out,
    )
    served = served_model(spec, settings.model.served_name)
    base = measured(settings, given)
    base.pop("p99-ms", None)
    timeout_s = settings.lifecycle.boot_timeout_s
    history = History(settings, machine.model_name, machine.cpu_budget)
    return Tuning(subject, order, lambda: Servers(base, served, timeout_s), history, _say)


def _engines(
    settings: Settings, flat: frozenset[str] | set[str], *, every: bool
) -> tuple[list[Engine], list[str]]:
    """What passed the guard, the fastest first; and what did not, with its reason."""
    if not engine(settings.engine.backend).computes:
        return [_null(settings)], []
    _say("preparing the model")
    pen = plan_for(settings, topology.read_machine()).first_worker
    selected = prepare.prepare_apart(settings, pen, every=every)
    search = selected.search
    if search is None:
        chosen = Arithmetic(
            backend=selected.backend,
            precision=selected.precision,
            torch_mode=settings.engine.torch_mode,
        )
        return [Engine(arithmetic=chosen, model=lambda: selected.model)], []
    engines, left_out = [], []
    for row in search.rows:
        candidate = row.candidate
        if row.excluded:
            left_out.append(f"{candidate.name}: {row.excluded}")
            continue
        for mode in _modes(settings, candidate.backend, candidate.precision, flat):
            arithmetic = Arithmetic(
                backend=candidate.backend, precision=candidate.precision, torch_mode=mode
            )
            told = mode is settings.engine.torch_mode and search.other_load <= MUCH
            rate = row.images_per_s if told else None
            model = functools.cache(functools.partial(_model, settings, arithmetic, selected))
            engines.append(Engine(arithmetic=arithmetic, model=model, per_s=rate or None))
    return engines, left_out


def _model(settings: Settings, arithmetic: Arithmetic, selected: Selected) -> ModelBoot:
    if (arithmetic.backend, arithmetic.precision) == (selected.backend, selected.precision):
        return selected.model
    return prepare.make_apart(
        settings.replace(backend=arithmetic.backend, precision=arithmetic.precision)
    )


def _modes(
    settings: Settings, backend: BackendName, precision: Precision, flat: set[str] | frozenset[str]
) -> Sequence[TorchMode]:
    """How torch may run it: as asked for, or in every way that is no lesson in slowness."""
    asked = settings.engine.torch_mode
    allowed = engine(backend).torch_modes
    if allowed is None or "torch_mode" in flat or precision is Precision.INT8:
        return (asked,)
    others = set(allowed.allowed) - {allowed.preferred, TorchMode.EAGER, *allowed.unsearched}
    return (asked, *sorted(others))


def _null(settings: Settings) -> Engine:
    """The null backend, which takes the time that it is told to."""
    name = settings.model.served_name or registry.get(settings.model.name, ()).name
    model = ModelBoot(name=name, artefact=None, precision="fp32", synthetic=True, weights="none")
    chosen = Arithmetic(backend=BackendName.NULL, precision=settings.engine.precision)
    return Engine(arithmetic=chosen, model=lambda: model)


def _space(
    settings: Settings,
    bound_ms: float,
    flat: set[str],
    shapes: Sequence[Shape],
    engines: Sequence[Engine],
) -> Space:
    mode, largest = settings.model.mode, settings.queue.max_batch
    modes = (mode,) if "mode" in flat else tuple(Mode)
    delays_ms = [settings.queue.max_queue_delay_ms] if "max_queue_delay_ms" in flat else None
    sizes = {} if largest is None else {"largest": (largest,)}
    arithmetics = [one.arithmetic for one in engines]
    return Space(
        arithmetics=arithmetics,
        shapes=shapes,
        batchings=batchings(bound_ms, modes=modes, delays_ms=delays_ms, **sizes),
        memories={one: _memories(settings, one, flat) for one in arithmetics},
    )


def _memories(settings: Settings, one: Arithmetic, flat: set[str]) -> list[Memory]:
    """The memory that was asked for, then others that there are."""
    place, row = settings.placement, engine(one.backend)
    allocators = [place.allocator]
    if "allocator" not in flat and row.computes:
        found = [a for a in Allocator if a is Allocator.SYSTEM or find_libraries(a)[a.value]]
        allocators += [a for a in found if a is not place.allocator]
    pages = [place.huge_pages]
    if "huge_pages" not in flat and row.computes:
        pages.append(not place.huge_pages)
    spins = [place.openmp_spin_ms]
    openmp = row.obeys_openmp and find_libraries(Allocator.SYSTEM, openmp=True)["openmp"]
    if openmp and "openmp_spin_ms" not in flat:
        spins += [spin for spin in _SPINS_MS if spin != place.openmp_spin_ms]
    return [
        Memory(allocator=allocator, huge_pages=huge, openmp_spin_ms=spin)
        for allocator in allocators
        for huge in pages
        for spin in spins
    ]


_BEGUN_S = time.monotonic()


def _say(phase: str) -> None:
    seconds = time.monotonic() - _BEGUN_S
    print(f"tune: {seconds:3.0f} s  {phase}", file=sys.stderr, flush=True)


def _show(found: TuneReport, options_: argparse.Namespace, *, interrupted: bool) -> None:
    """Prints what is known, and writes it; settings of an interrupted search if confirmed.

    Raises:
        CorralError: a file cannot be written any more; all else was printed and written.
    """
    console = standard_output(150)
    if options_.json:
        print(msgspec.json.format(msgspec.json.encode(found)).decode(), flush=True)
    else:
        console.print(view.render(found))

    def settings() -> None:
        winner, out = found.winner, options_.out or Path("tuned.toml")
        if winner is None or not (winner.confirmed or not interrupted):
            return
        remarks = [
            f"corral tune: {view.headline(found)}",
            view.winner_line(winner, found.p99_ms),
        ]
        write_text(out, "--out", as_toml(winner.settings, remarks))
        if not options_.json:
            console.print(f"{out}: corral serve --config {out}", highlight=False)

    def html() -> None:
        if options_.html is not None:
            write_text(options_.html, "--html", page.render(found))

    def chart() -> None:
        file = chart_beside(options_.html)
        if file is not None and (why_not := picture.write(found, file)):
            _say(why_not)

    write_each(settings, html, chart)
