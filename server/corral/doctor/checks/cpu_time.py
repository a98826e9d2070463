"""Whether the CPUs that the plan counts on are ours: quota, cpuset, siblings, other load."""

from __future__ import annotations

from corral.doctor.evidence import Evidence, cpu_times
from corral.doctor.finding import Outcome, Status, check, info, ok, unknown
from corral.planning.explain import count
from corral.system.cpu_list import format_cpus
from corral.system.spun import between

#: share of a CPU's time that others may take of a worker, percent
_OTHERS_PERCENT = 2.0
_STEAL_PERCENT = 1.0
_PRESSURE_PERCENT = 1.0
_TICKS_PER_S = 100


@check(
    "cpu-quota",
    "CPU quota",
    wanted="none, or as many whole CPUs as the workers have threads",
    why="A quota stops every thread of the group until the next period of 100 ms; with fewer "
    "CPUs' worth of time than busy threads that happens in each period.",
    source="kernel: Documentation/scheduler/sched-bwc.rst",
)
def quota(seen: Evidence) -> Outcome:
    """The quota beside the threads that compute at once."""
    granted = seen.machine.cpu_quota
    if granted is None:
        return ok("no quota")
    threads = seen.layout.threads
    found = f"time of {granted:g} CPU{'s' * (granted != 1)} for {count(threads, 'thread')}"
    whole = int(granted)
    cpus = count(threads, "whole CPU")
    remedy = f"give the container {cpus} (Kubernetes: limits.cpu: {threads})"
    every = seen.layout.worker_cpus
    if granted < threads:
        return Outcome(status=Status.ERROR, found=found, fix=remedy, cpus=every)
    if whole != granted:
        lost = f"{found}: {granted - whole:g} of them no worker can use"
        return Outcome(status=Status.WARNING, found=lost, fix=remedy, cpus=every)
    return ok(found)


@check(
    "quota-throttling",
    "Throttling by the quota",
    wanted="no period in which the quota stopped us",
    why="A stopped worker answers up to a period, 100 ms, later; the p99 shows it first.",
    source="kernel: cpu.stat, Documentation/admin-guide/cgroup-v2.rst",
)
def throttling(seen: Evidence) -> Outcome:
    """How often the quota stopped us: while it was looked, and ever."""
    looks = seen.looks("throttling")
    # A group whose quota was taken away keeps its counts.
    if seen.machine.cpu_quota is None and (looks is None or looks[0] == "0 0"):
        return ok("no quota, so nothing is throttled")
    if looks is None:
        return unknown("the group's cpu.stat does not say")
    (periods, stopped), then = map(int, looks[0].split()), looks[1]
    every = seen.layout.worker_cpus
    remedy = "raise or remove the quota (Kubernetes: limits.cpu, static CPU manager)"
    if then is not None:
        more, stopped_more = (int(b) - int(a) for a, b in zip(looks[0].split(), then.split(),
                                                             strict=True))  # fmt: skip
        if stopped_more > 0:
            found = f"{stopped_more} of {more} periods in {seen.span_s:.0f} s"
            return Outcome(status=Status.ERROR, found=found, fix=remedy, cpus=every)
    if stopped > periods / 100:
        found = f"{stopped} of {periods} periods since the group was made"
        return Outcome(status=Status.WARNING, found=found, fix=remedy, cpus=every)
    return ok(f"{stopped} of {periods} periods")


@check(
    "whole-cores",
    "Whole cores",
    wanted="every core of a worker with all its hardware threads",
    why="Somebody else on a core's other thread takes up to half of its arithmetic, and no figure "
    "of ours shows who.",
    source="Kubernetes: CPU manager policy option full-pcpus-only",
)
def whole_cores(seen: Evidence) -> Outcome:
    """Siblings of workers' CPUs that others may use and we may not."""
    allowed, siblings = set(seen.machine.allowed_cpus), seen.siblings
    shared = {
        cpu: others
        for cpu in seen.layout.worker_cpus
        if (others := [s for s in siblings.get(cpu, ()) if s not in allowed])
    }
    if not shared:
        return ok("no worker's core is half somebody else's")
    theirs = sorted({cpu for others in shared.values() for cpu in others})
    return Outcome(
        status=Status.WARNING,
        found=f"CPUs {format_cpus(theirs)} are other threads of our cores, and not ours",
        fix="give whole cores (Kubernetes: cpuManagerPolicyOptions full-pcpus-only=true; "
        f"systemd: AllowedCPUs={format_cpus({*theirs, *allowed})})",
        cpus=tuple(shared),
    )


@check(
    "cpuset",
    "CPUs that are ours",
    wanted="an affinity mask and a cpuset that agree, and every CPU online",
    why="Workers can only be placed on CPUs that the mask and the cpuset both allow.",
    source="kernel: Documentation/admin-guide/cgroup-v2.rst, cpuset",
)
def cpuset(seen: Evidence) -> Outcome:
    """What mask and cpuset leave of the machine."""
    machine = seen.machine
    allowed, online = set(machine.allowed_cpus), set(machine.online_cpus)
    outside = set(seen.layout.all_cpus) - allowed
    if outside:
        return Outcome(
            status=Status.ERROR,
            found=f"CPUs {format_cpus(outside)} have processes of ours, and are not allowed",
            fix="corral reload",
            cpus=tuple(sorted(outside)),
        )
    parts = [f"{len(allowed)} of {len(online)} CPUs are ours"]
    if machine.affinity_cpus is not None and machine.cpuset_cpus is not None:
        narrower = set(machine.cpuset_cpus) - set(machine.affinity_cpus)
        if narrower & online:
            parts.append(f"the affinity mask leaves out {format_cpus(narrower & online)}")
    if machine.offline_cpus:
        parts.append(f"CPUs {format_cpus(machine.offline_cpus)} are offline")
    found = "; ".join(parts)
    return ok(found) if allowed == online and len(parts) == 1 else info(found)


@check(
    "other-load",
    "Other load on our CPUs",
    wanted=f"less than {_OTHERS_PERCENT:g} % of each worker's CPUs",
    why="A worker is done when its slowest thread is: one busy neighbour on one of its CPUs slows "
    "all of them.",
    source="corral: docs/latency-under-load.md",
)
def other_load(seen: Evidence) -> Outcome:
    """What runs on workers' CPUs and is not ours, between the two looks."""
    shares = others_percent(seen)
    if shares is None:
        return unknown("needs two looks at /proc/stat of this machine")
    busy = {worker: share for worker, share in shares.items() if share >= _OTHERS_PERCENT}
    worst = max(shares.values(), default=0.0)
    if not busy:
        return ok(f"at most {worst:.1f} % in {seen.span_s:.1f} s")
    names = ", ".join(f"worker {worker}: {share:.0f} %" for worker, share in busy.items())
    return Outcome(
        status=Status.WARNING,
        found=f"{names} in {seen.span_s:.1f} s",
        fix="move it elsewhere: taskset --all-tasks --cpu-list --pid CPUS PID; "
        "top -1 shows what it is",
        workers=tuple(busy),
    )


def others_percent(seen: Evidence) -> dict[int, float] | None:
    """Percent of each worker's CPU time that was not ours, by worker; None where unknown."""
    looks = seen.looks("proc/stat")
    if looks is None or looks[1] is None or seen.span_s <= 0 or seen.layout.hidden:
        return None
    before, after = cpu_times(looks[0]), cpu_times(looks[1])
    spun_s = _spun_s(seen)
    found = {}
    for worker in seen.layout.workers:
        busy = sum(_busy(before[cpu], after[cpu]) for cpu in worker.cpus if cpu in after)
        ours = sum(_process_s(seen, pid) for pid in _on(seen, worker.cpus))
        ours += sum(spun_s.get(cpu, 0.0) for cpu in worker.cpus)
        span = seen.span_s * _TICKS_PER_S * len(worker.cpus)
        found[worker.id] = max(0.0, 100 * (busy - ours * _TICKS_PER_S) / span)
    return found


def _busy(before: dict[str, int], after: dict[str, int]) -> int:
    kinds = ("user", "nice", "system", "irq", "softirq")
    return sum(after.get(kind, 0) - before.get(kind, 0) for kind in kinds)


def _on(seen: Evidence, cpus: tuple[int, ...]) -> set[int]:
    layout, wanted = seen.layout, set(cpus)
    pids = {w.pid for w in layout.workers if wanted.intersection(w.cpus)}
    pids |= {front.pid for front in layout.frontends if wanted.intersection(front.cpus)}
    return {pid for pid in pids if pid is not None}


def _spun_s(seen: Evidence) -> dict[int, float]:
    """By CPU, of what spins there for a server of ours, which gives way to everything."""
    return {} if seen.second is None else between(seen.first.spun_s, seen.second.spun_s)


def _process_s(seen: Evidence, pid: int) -> float:
    assert seen.second is not None
    return seen.second.cpu_s.get(pid, 0.0) - seen.first.cpu_s.get(pid, 0.0)


@check(
    "steal",
    "Stolen time",
    wanted=f"less than {_STEAL_PERCENT:g} % of our CPUs' time",
    why="The hypervisor gave our CPU to another guest meanwhile; nothing in this machine can help.",
    source="kernel: Documentation/filesystems/proc.rst, /proc/stat",
)
def steal(seen: Evidence) -> Outcome:
    """Steal between the looks, or since the machine started."""
    looks = seen.looks("proc/stat")
    if looks is None:
        return unknown(seen.missing("proc/stat"))
    after = cpu_times(looks[1] if looks[1] is not None else looks[0])
    before = cpu_times(looks[0]) if looks[1] is not None else {}
    cpus = [cpu for cpu in seen.layout.all_cpus if cpu in after]
    spent = {
        cpu: {kind: after[cpu][kind] - before.get(cpu, {}).get(kind, 0) for kind in after[cpu]}
        for cpu in cpus
    }
    if not cpus or not all("steal" in kinds for kinds in spent.values()):
        return unknown("/proc/stat of this kernel does not say")
    shares = {cpu: 100 * k["steal"] / max(1, sum(k.values())) for cpu, k in spent.items()}
    when = f"in {seen.span_s:.1f} s" if looks[1] is not None else "since the machine started"
    worst = max(shares.values())
    found = f"{worst:.1f} % {when}"
    if worst < _STEAL_PERCENT:
        return ok(found)
    return Outcome(
        status=Status.WARNING,
        found=found,
        fix="take an instance with CPUs of its own (dedicated, not burstable)",
        cpus=tuple(cpu for cpu, share in shares.items() if share >= _STEAL_PERCENT),
    )


@check(
    "cpu-pressure",
    "Waiting for a CPU",
    wanted=f"some avg10 below {_PRESSURE_PERCENT:g} %",
    why="Tasks that could run had no CPU: more threads are runnable than there are CPUs for.",
    source="kernel: Documentation/accounting/psi.rst",
)
def pressure(seen: Evidence) -> Outcome:
    """The kernel's pressure stall figures of the whole machine."""
    text = seen.text("proc/pressure/cpu")
    if text is None:
        return unknown(f"{seen.missing('proc/pressure/cpu')} (kernels boot it with psi=1)")
    words = dict(w.split("=") for w in text.splitlines()[0].split()[1:] if "=" in w)
    share = float(words.get("avg10", 0))
    found = f"{share:g} % of the last 10 s"
    if share < _PRESSURE_PERCENT:
        return ok(found)
    if any(_spun_s(seen).values()):
        return info(f"{found}; what spins for --keep-warm on, and gives way, counts as waiting")
    if seen.layout.running:
        return info(f"{found}; with a server under load its own threads count, too")
    return Outcome(
        status=Status.WARNING,
        found=found,
        fix="top shows what runs; start fewer programs beside the server",
        cpus=seen.layout.worker_cpus,
    )
