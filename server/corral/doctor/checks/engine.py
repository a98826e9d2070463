"""What the engine could use of the CPU, and what of it took hold in the workers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath

from corral.doctor.evidence import Evidence
from corral.doctor.finding import Outcome, Status, check, info, ok, unknown
from corral.planning.explain import count
from corral.system.cpu_list import format_cpus, parse_cpu_list
from corral.system.tree import fields

#: Instruction sets as OpenVINO's kernels name them, the best first, and the CPU flags that give
#: each. Its names do not tell VNNI: brgconv_avx512_I8 is what it runs with it and without.
RANKS: tuple[tuple[str, frozenset[str]], ...] = (
    ("amx", frozenset({"amx_int8", "amx_bf16"})),
    ("avx512", frozenset({"avx512f"})),
    ("avx2", frozenset({"avx2"})),
    ("avx", frozenset({"avx"})),
    ("sse", frozenset({"sse4_1"})),
)
#: environment variables that hold an engine's kernels back, and the value that does not
_HOLDING_BACK = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY")
_LET_AMX = "let arch_prctl through the container's seccomp profile; kernel 5.16 or newer"
_ALL_ISAS = {"", "DEFAULT", "ALL"}


@check(
    "isa",
    "Instruction set",
    wanted="AMX or VNNI for INT8, AMX or AVX-512 BF16 for BF16",
    why="INT8 is 1.9 times FP32 on AVX2, 4.3 times with VNNI and 12 times with AMX; a hypervisor "
    "may hide what the CPU has.",
    source="corral: docs/precision.md; docs/benchmarks",
)
def isa(seen: Evidence) -> Outcome:
    """What of the instruction set matters to inference."""
    flags = seen.machine.isa
    if not flags:
        return unknown(seen.missing("proc/cpuinfo"))
    features = ", ".join(seen.machine.features) or "none that inference is fast with"
    if flags & {"amx_int8", "avx512_vnni", "avx_vnni", "i8mm", "asimddp"}:
        return ok(features)
    if not flags & {"avx2", "asimd"}:
        return Outcome(
            status=Status.WARNING,
            found=features,
            fix="take an instance with a newer CPU",
            cpus=seen.layout.worker_cpus,
        )
    return info(f"{features}: INT8 gains less here", "take an instance with VNNI or AMX")


@check(
    "amx-permission",
    "Permission to use AMX",
    wanted="granted: bit 18 of the process's permitted state",
    why="A process must ask the kernel before its first AMX instruction; a filter of system calls "
    "or a small signal stack makes that fail, and engines then fall back in silence.",
    source="kernel: Documentation/arch/x86/xstate.rst; CPython bpo-46968",
)
def amx_permission(seen: Evidence) -> Outcome:
    """Whether AMX was granted: to the workers, else to us."""
    if "amx_tile" not in seen.machine.isa:
        return ok("this CPU shows no AMX")
    told = {w.id: w.took_hold["amx"] for w in seen.layout.workers if "amx" in w.took_hold}
    if told:
        return _granted_to(seen, told)
    if seen.amx_allowed is None:
        return unknown("needs to ask this machine's kernel")
    if seen.amx_allowed:
        return ok("granted when asked for")
    return Outcome(status=Status.ERROR, found="refused", fix=_LET_AMX, cpus=seen.layout.worker_cpus)


def _granted_to(seen: Evidence, told: Mapping[int, str]) -> Outcome:
    """What the workers found in force; an engine asks when its first kernel needs AMX."""
    refused = tuple(worker for worker, text in told.items() if text != "permitted")
    if not refused:
        return ok("permitted to every worker")
    precisions = {w.engine.get("precision") for w in seen.layout.workers if w.id in refused}
    if precisions <= {"fp32", "none", None}:
        return ok("not asked for: the precision needs no AMX")
    found = f"not permitted to {count(len(refused), 'worker')}"
    return Outcome(status=Status.ERROR, found=found, fix=_LET_AMX, workers=refused)


@check(
    "engine-isa",
    "Instruction set that the engine uses",
    wanted="the best that the CPU has for the precision",
    why="An engine that was built or told otherwise computes on older instructions, and says "
    "nothing; no other tool looks.",
    source="the engine's own description of its compiled kernels",
)
def engine_isa(seen: Evidence) -> Outcome:
    """What the workers' kernels were compiled for, beside the CPU's flags."""
    held = _held_back(seen)
    if held is not None:
        return held
    if not seen.layout.running:
        return unknown(seen.no_server)
    told = {w.id: w.engine["isa"] for w in seen.layout.workers if w.engine.get("isa")}
    if not told:
        return unknown("the engine does not say which kernels it chose")
    precision = next(iter(w.engine.get("precision", "") for w in seen.layout.workers), "")
    best = best_isa(seen.machine.isa, precision)
    behind = tuple(w for w, text in told.items() if rank(text) > rank(best))
    found = ", ".join(sorted(set(told.values())))
    if not behind:
        return ok(found)
    return Outcome(
        status=Status.WARNING,
        found=f"{found}, where the CPU has {best}",
        fix="unset ONEDNN_MAX_CPU_ISA; update the engine; corral tune",
        workers=behind,
    )


def best_isa(flags: frozenset[str], precision: str) -> str:
    """The best instruction set of a CPU for a precision, by its name among ``RANKS``.

    FP32 has no use for what INT8 and BF16 are fast with.
    """
    for name, needed in RANKS:
        if precision in {"fp32", "none", ""} and name == "amx":
            continue
        if needed & flags:
            return name
    return "sse"


def rank(text: str) -> int:
    """How far down ``RANKS`` an engine's word for a kernel is: 0 for the best."""
    word = text.lower()
    for number, (name, _) in enumerate(RANKS):
        if name in word:
            return number
    return len(RANKS)


def _held_back(seen: Evidence) -> Outcome | None:
    """A worker whose environment holds its engine's kernels back."""
    found: dict[int, str] = {}
    for worker in seen.layout.workers:
        environ = fields(seen.of_process(worker.pid, "environ") or "", "=")
        for name in _HOLDING_BACK:
            if environ.get(name, "").upper() not in _ALL_ISAS:
                found[worker.id] = f"{name}={environ[name]}"
    if not found:
        return None
    return Outcome(
        status=Status.WARNING,
        found=f"{', '.join(sorted(set(found.values())))} in the workers' environment",
        fix=f"unset {' '.join(sorted({f.partition('=')[0] for f in found.values()}))}; "
        "then start the server again",
        workers=tuple(found),
    )


@check(
    "allocator",
    "Allocator",
    wanted="the one that was asked for, mapped in every worker",
    why="An allocator that could not be preloaded is not missed by anybody.",
    source="corral: docs/ladder.md; Intel's guide for AI",
)
def allocator(seen: Evidence) -> Outcome:
    """What the workers have mapped."""
    asked = seen.layout.allocator
    if not seen.layout.running:
        return unknown(seen.no_server)
    told = {w.id: _mapped_allocator(seen, w.pid) or w.took_hold.get("allocator", "")
            for w in seen.layout.workers}  # fmt: skip
    known = {worker: name for worker, name in told.items() if name}
    if not known:
        return unknown("no worker has said")
    found = ", ".join(sorted(set(known.values())))
    wrong = tuple(worker for worker, name in known.items() if asked and asked not in name)
    if not wrong:
        return ok(found)
    return Outcome(
        status=Status.WARNING,
        found=f"{found} in place of {asked}",
        fix="apt-get install libtcmalloc-minimal4 libjemalloc2; then start the server again",
        workers=wrong,
    )


def _mapped_allocator(seen: Evidence, pid: int | None) -> str | None:
    maps = seen.of_process(pid, "maps")
    if maps is None:
        return None
    names = {PurePosixPath(line.split()[-1]).name for line in maps.splitlines() if "/" in line}
    return next(
        (n for n in sorted(names) if n.startswith(("libtcmalloc", "libjemalloc", "libmimalloc"))),
        "system",
    )


@check(
    "openmp",
    "OpenMP runtimes",
    wanted="one a worker",
    why="Two runtimes in a process each start their threads, on the same cores.",
    source="Intel's guide for AI; corral: docs/backends.md",
)
def openmp(seen: Evidence) -> Outcome:
    """Which runtimes the workers have mapped."""
    if not seen.layout.running:
        return unknown(seen.no_server)
    found: dict[int, list[str]] = {}
    for worker in seen.layout.workers:
        maps = seen.of_process(worker.pid, "maps")
        if maps is not None:
            names = set(re.findall(r"/(lib(?:gomp|iomp5|omp)[-\w]*\.so[.\w]*)", maps))
            found[worker.id] = sorted(names)
    if not found:
        return unknown(seen.not_shown("maps"))
    several = tuple(
        worker
        for worker, names in found.items()
        if len({name.split(".so")[0].split("-")[0] for name in names}) > 1
    )
    shown = ", ".join(sorted({name for names in found.values() for name in names})) or "none"
    if not several:
        return ok(shown)
    active = _threads(seen, several[0])
    text = f"{shown} in one worker" + (f", which has {active} threads" if active else "")
    return info(text, "corral plan --explain shows which one is bound", workers=several)


def _threads(seen: Evidence, worker: int) -> str:
    pid = next(w.pid for w in seen.layout.workers if w.id == worker)
    return fields(seen.of_process(pid, "status") or "").get("Threads", "")


@check(
    "thread-affinity",
    "Threads on their CPUs",
    wanted="every thread of a worker inside its CPUs",
    why="A thread that may run anywhere meets another worker's, and both wait.",
    source="corral: ARCHITECTURE.md",
)
def thread_affinity(seen: Evidence) -> Outcome:
    """Masks of the workers' threads."""
    if not seen.layout.running:
        return unknown(seen.no_server)
    strays: dict[int, str] = {}
    looked = 0
    for worker in seen.layout.workers:
        masks = seen.of_process(worker.pid, "masks")
        for line in (masks or "").splitlines():
            looked += 1
            cpus = set(parse_cpu_list(line))
            if not cpus <= set(worker.cpus):
                strays[worker.id] = format_cpus(cpus)
    if not looked:
        return unknown(seen.not_shown("status"))
    if not strays:
        return ok(f"{count(looked, 'thread')} of {count(len(seen.layout.workers), 'worker')}")
    shown = ", ".join(f"worker {worker}: CPUs {cpus}" for worker, cpus in strays.items())
    return Outcome(status=Status.WARNING, found=shown, fix="corral reload", workers=tuple(strays))


@check(
    "server-warnings",
    "What the server says of itself",
    wanted="no warnings",
    why="The server knows what it asked for and did not get.",
    source="corral status",
)
def server_warnings(seen: Evidence) -> Outcome:
    """The running server's own warnings."""
    if not seen.layout.running:
        return unknown(seen.no_server)
    down = tuple(worker.id for worker in seen.layout.workers if worker.pid is None)
    if down and not seen.layout.hidden:
        found = f"{len(down)} of {len(seen.layout.workers)} workers do not run"
        return Outcome(status=Status.ERROR, found=found, fix="corral status", workers=down)
    if not seen.layout.warnings:
        return ok("none")
    return info("; ".join(seen.layout.warnings), "corral status")
