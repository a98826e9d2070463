"""What the kernel does beside the workers: interrupts, timers, isolation, limits, mitigations."""

from __future__ import annotations

import re

from corral.doctor.evidence import CPU_FOLDER, Evidence
from corral.doctor.finding import Outcome, Status, check, info, ok, unknown
from corral.system.cpu_list import format_cpus, parse_cpu_list
from corral.system.tree import whole_number

_MUCH_INTERRUPTS_S = 1000.0
_LEAST_FILES = 4096
_LEAST_LOCKED_BYTES = 64 * 1024
_CLOCKSOURCE = "sys/devices/system/clocksource/clocksource0/current_clocksource"
_FAST_CLOCKS = {"tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter"}
#: mitigations that slow down vector code or each call of the kernel
_COSTLY = {
    "gather_data_sampling": "gathers of vector code",
    "retbleed": "calls of the kernel",
    "mds": "calls of the kernel",
    "l1tf": "switches between guests",
    "spec_rstack_overflow": "calls of the kernel",
}
_AMX_KERNEL = (5, 16)


@check(
    "interrupts",
    "Interrupts on workers' CPUs",
    wanted=f"fewer than {_MUCH_INTERRUPTS_S:g} device interrupts a second on each",
    why="Each takes a thread of a batch off its core for some microseconds, and its caches.",
    source="PerfSpect's table of NICs; SPEC's flags of Quanta and xFusion",
)
def interrupts(seen: Evidence) -> Outcome:
    """Interrupts of devices, CPU by CPU, between the looks."""
    looks = seen.looks("proc/interrupts")
    if looks is None or looks[1] is None:
        return unknown("needs two looks at /proc/interrupts of this machine")
    before, after = device_interrupts(looks[0]), device_interrupts(looks[1])
    rates = {
        cpu: (after[cpu] - before.get(cpu, 0)) / max(seen.span_s, 1e-9)
        for cpu in seen.layout.worker_cpus
        if cpu in after
    }
    busy = tuple(cpu for cpu, rate in rates.items() if rate >= _MUCH_INTERRUPTS_S)
    found = f"at most {max(rates.values(), default=0.0):.0f} a second"
    if not busy:
        return ok(found)
    spare = set(seen.machine.allowed_cpus) - set(seen.layout.worker_cpus)
    there = format_cpus(spare or set(seen.layout.frontend_cpus) - set(busy)) or "OTHER_CPUS"
    return Outcome(
        status=Status.WARNING,
        found=f"{found}, on CPUs {format_cpus(busy)}",
        fix=f"echo {there} | sudo tee /proc/irq/NUMBER/smp_affinity_list",
        cpus=busy,
    )


def device_interrupts(text: str) -> dict[int, int]:
    """Interrupts of devices by CPU, of /proc/interrupts: those with a number."""
    lines = text.splitlines()
    heads = [whole_number(word[3:]) for word in lines[0].split()] if lines else []
    cpus = [cpu for cpu in heads if cpu is not None]
    totals = dict.fromkeys(cpus, 0)
    for line in lines[1:]:
        name, _, rest = line.partition(":")
        if whole_number(name.strip()) is not None:
            for cpu, count in zip(cpus, rest.split(), strict=False):
                totals[cpu] += whole_number(count) or 0
    return totals


@check(
    "irqbalance",
    "irqbalance",
    wanted="not running, or kept off the workers' CPUs",
    why="It moves interrupts to idle CPUs, and a worker between two batches looks idle.",
    source="SPEC's flags of Quanta and xFusion stop it; corral warns only where interrupts come",
)
def irqbalance(seen: Evidence) -> Outcome:
    """Whether the daemon runs."""
    runs = seen.text("found/irqbalance")
    if runs is None:
        return unknown("needs to look at this machine's processes")
    if runs != "yes":
        return ok("not running")
    fix = f"IRQBALANCE_BANNED_CPULIST={format_cpus(seen.layout.worker_cpus)} in its environment"
    if interrupts.look(seen).status is Status.WARNING:
        found = "running, and interrupts come to workers' CPUs"
        return Outcome(status=Status.WARNING, found=found, fix=fix, cpus=seen.layout.worker_cpus)
    return info("running; few interrupts come to workers' CPUs", fix)


@check(
    "kernel",
    "Kernel",
    wanted="5.16 or newer on a CPU with AMX",
    why="Older kernels do not switch AMX's registers, so that no process gets them.",
    source="kernel: Documentation/arch/x86/xstate.rst; Intel's guide for AI",
)
def kernel(seen: Evidence) -> Outcome:
    """The release, and whether AMX needs a newer one."""
    release = seen.kernel
    if not release:
        return unknown(seen.missing("proc/sys/kernel/osrelease"))
    found = re.match(r"(\d+)\.(\d+)", release)
    amx = "amx_tile" in seen.machine.isa
    if amx and found and (int(found[1]), int(found[2])) < _AMX_KERNEL:
        return Outcome(
            status=Status.ERROR,
            found=f"{release}, on a CPU with AMX",
            fix="install kernel 5.16 or newer",
            cpus=seen.layout.worker_cpus,
        )
    return ok(release)


@check(
    "mitigations",
    "Mitigations",
    wanted="known; corral never advises to turn them off",
    why="Some slow down vector code or each call of the kernel.",
    source="kernel: Documentation/admin-guide/hw-vuln",
)
def mitigations(seen: Evidence) -> Outcome:
    """Which of the costly ones are in force."""
    files = seen.below(f"{CPU_FOLDER}/vulnerabilities")
    if not files:
        return unknown(seen.missing(f"{CPU_FOLDER}/vulnerabilities/mds"))
    open_ones = sorted(n for n, text in files.items() if text.startswith("Vulnerable"))
    costly = sorted(
        n for n, text in files.items() if text.startswith("Mitigation") and n in _COSTLY
    )
    parts = [f"{name} (costs {_COSTLY[name]})" for name in costly]
    if open_ones:
        parts.append(f"vulnerable: {', '.join(open_ones)}")
    return info("; ".join(parts)) if parts else ok("none that costs inference anything")


@check(
    "clocksource",
    "Clock source",
    wanted="tsc, or the hypervisor's page of it",
    why="Others make each look at the clock a call of the kernel; a request has a dozen.",
    source="kernel: Documentation/virt/kvm/x86/timekeeping.rst",
)
def clocksource(seen: Evidence) -> Outcome:
    """Where the time comes from."""
    source = seen.text(_CLOCKSOURCE)
    if source is None:
        return unknown(seen.missing(_CLOCKSOURCE))
    if source in _FAST_CLOCKS:
        return ok(source)
    return Outcome(
        status=Status.WARNING,
        found=source,
        fix=f"echo tsc | sudo tee /{_CLOCKSOURCE}; for good: boot with clocksource=tsc",
        cpus=seen.layout.all_cpus,
    )


@check(
    "isolation",
    "Isolated CPUs",
    wanted="isolated CPUs in the mask of the server, or none",
    why="isolcpus takes CPUs out of every process's mask: the plan never sees them. It also turns "
    "off balancing, so that unpinned threads pile up on one CPU.",
    source="kernel: Documentation/admin-guide/kernel-parameters.txt, isolcpus",
)
def isolation(seen: Evidence) -> Outcome:
    """CPUs that the kernel keeps tasks off, and whether they are ours."""
    text = seen.text(f"{CPU_FOLDER}/isolated")
    line = seen.text("proc/cmdline") or ""
    if text is None:
        named = re.search(r"\bisolcpus=(\S+)", line)
        if named is None:
            return ok("none") if line else unknown(seen.missing(f"{CPU_FOLDER}/isolated"))
        text = ",".join(word for word in named[1].split(",") if word[:1].isdigit())
    isolated = set(parse_cpu_list(text))
    tickless = seen.text(f"{CPU_FOLDER}/nohz_full") or ""
    if not isolated:
        quiet = tickless.strip() not in {"", "(null)"}
        return ok(f"none; no timer ticks on CPUs {tickless}" if quiet else "none")
    ours = isolated & set(seen.machine.allowed_cpus)
    found = f"CPUs {format_cpus(isolated)} are isolated, {len(ours)} of them ours"
    if ours == isolated:
        return ok(found)
    fix = (
        f"taskset --cpu-list {format_cpus(isolated | set(seen.machine.allowed_cpus))} corral serve"
    )
    return info(found, fix)


@check(
    "open-files",
    "Open files",
    wanted=f"{_LEAST_FILES} or more a process",
    why="Each connection takes one; beyond the limit clients are refused.",
    source="corral: docs/behaviour.md",
)
def open_files(seen: Evidence) -> Outcome:
    """The soft limit of descriptors, of a frontend or of whoever asks."""
    limit = _limit(seen, "Max open files")
    if limit is None:
        return unknown(seen.missing("proc/self/limits"))
    if limit >= _LEAST_FILES:
        return ok(_shown(limit))
    fix = f"ulimit -n {_LEAST_FILES * 4} (systemd: LimitNOFILE=)"
    return Outcome(status=Status.WARNING, found=_shown(limit), fix=fix)


@check(
    "locked-memory",
    "Locked memory",
    wanted="64 KiB or more; corral itself locks nothing",
    why="Libraries that lock buffers of theirs (huge pages, rings to the kernel) fail below it.",
    source="kernel: getrlimit(2), RLIMIT_MEMLOCK",
)
def locked_memory(seen: Evidence) -> Outcome:
    """The soft limit of locked memory."""
    limit = _limit(seen, "Max locked memory")
    if limit is None:
        return unknown(seen.missing("proc/self/limits"))
    found = "unlimited" if limit == float("inf") else f"{limit / 1024:.0f} KiB"
    if limit >= _LEAST_LOCKED_BYTES:
        return ok(found)
    return info(found, "ulimit -l 8192 (systemd: LimitMEMLOCK=8M)")


@check(
    "processes",
    "Processes and threads",
    wanted="a few hundred more than run",
    why="A worker starts threads when it starts; at the limit it cannot be replaced.",
    source="kernel: pids.max; getrlimit(2), RLIMIT_NPROC",
)
def processes(seen: Evidence) -> Outcome:
    """The group's limit of tasks beside the threads of the plan."""
    limit, now = seen.number("group/pids.max"), seen.number("group/pids.current")
    # A worker has its threads twice while it is replaced, and some of its libraries'.
    needed = 4 * seen.layout.threads + 16 * max(1, len(seen.layout.workers))
    if limit is None:
        return ok("no limit")
    found = f"{now if now is not None else '?'} of {limit} used; the plan needs some {needed}"
    room = limit - (0 if seen.layout.running else now or 0)
    if room >= needed:
        return ok(found)
    fix = "raise pids.max (Kubernetes: podPidsLimit; systemd: TasksMax=)"
    return Outcome(status=Status.WARNING, found=found, fix=fix, cpus=seen.layout.worker_cpus)


def _limit(seen: Evidence, name: str) -> float | None:
    """A soft limit, of a frontend where one runs, else of this process."""
    pid = next((front.pid for front in seen.layout.frontends if front.pid is not None), None)
    text = seen.of_process(pid, "limits") or seen.text("proc/self/limits") or ""
    found = re.search(rf"^{name}\s+(\S+)", text, re.MULTILINE)
    if found is None:
        return None
    return float("inf") if found[1] == "unlimited" else float(found[1])


def _shown(limit: float) -> str:
    return "unlimited" if limit == float("inf") else f"{limit:.0f}"


@check(
    "network",
    "Network cards",
    wanted="on a node that has a cell, and fast enough",
    why="A card on another package costs each packet a way over the link between them.",
    source="PerfSpect's table of NICs",
)
def network(seen: Evidence) -> Outcome:
    """Physical cards: speed, and whether their node has a cell."""
    files = seen.below("sys/class/net")
    names = sorted({path.split("/")[0] for path in files if "/device/" in path})
    if not names:
        return unknown("no card of its own below /sys/class/net: a container's, or a virtual one")
    node_of = {cpu: core.node for core in seen.machine.cores for cpu in core.cpus}
    ours = {node_of[cpu] for cpu in seen.layout.frontend_cpus if cpu in node_of}
    parts, far = [], []
    for name in names:
        speed = whole_number(files.get(f"{name}/speed", ""))
        node = whole_number(files.get(f"{name}/device/numa_node", ""))
        # -1 is the kernel's for nobody knows.
        known = node is not None and node >= 0
        shown = "speed not shown" if speed is None or speed < 0 else f"{speed / 1000:g} Gb/s"
        parts.append(f"{name}: {shown}" + (f", node {node}" if known else ""))
        if known and ours and node not in ours:
            far.append(name)
    found = "; ".join(parts)
    if not far:
        return ok(found)
    return info(f"{found}; {', '.join(far)} is on a node without a cell", "corral serve --cells 1")


@check(
    "hypervisor",
    "Hypervisor",
    wanted="known: a virtual CPU is a hardware thread as a rule",
    why="Frequency, idle states and steal are the hypervisor's to decide; two virtual CPUs may be "
    "one core.",
    source="kernel: /proc/cpuinfo flag hypervisor; /sys/class/dmi/id",
)
def hypervisor(seen: Evidence) -> Outcome:
    """Whether this is a guest, and whose."""
    dmi = seen.below("sys/class/dmi/id")
    names = [dmi[name] for name in ("sys_vendor", "product_name") if dmi.get(name)]
    whose = " ".join(names)
    if not seen.machine.isa:
        return unknown(seen.missing("proc/cpuinfo"))
    if not seen.virtual:
        return ok(f"none{f': {whose}' if whose else ''}")
    single = all(len(core.cpus) == 1 for core in seen.machine.cores)
    hidden = "; it shows one thread a core, which may not be so" if single else ""
    return info(f"a guest{f' of {whose}' if whose else ''}{hidden}")
