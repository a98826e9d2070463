"""What the probes measured; each says so where nothing was measured."""

from __future__ import annotations

from corral.doctor.checks.cores import deep_states, without_deep_states
from corral.doctor.evidence import CPU_FOLDER, Evidence
from corral.doctor.finding import Outcome, Status, check, info, ok, unknown
from corral.planning.explain import count
from corral.settings import Mode
from corral.system.cpu_list import format_cpus

#: beside the best of its kind
_FAIR = 0.8
_SAME_FREQUENCY = 0.9
_WAKE_US = 50.0
_SLOW_WAKE_US = 200.0
#: messages of 150 KB that a bare server on one core took a second, 2026-11, AMD EPYC of 2021
_BARE_PER_S = 2800.0
#: KVM polls on the host for its ``halt_poll_ns`` before it lets go of a CPU
_NOT_IDLE_STATES = (
    "this machine shows no idle state that takes longer; of a guest the host decides "
    "(KVM: /sys/module/kvm/parameters/halt_poll_ns there)"
)


@check(
    "probe-bandwidth",
    "Memory bandwidth (measured)",
    wanted=f"every node at {_FAIR:.0%} of the fastest or more",
    why="Layers with few operations a byte run at the memory's speed; empty channels show here, "
    "whoever may read what is plugged in.",
    source="corral: a copy of 64 MiB by a thread on every core of the node",
)
def bandwidth(seen: Evidence) -> Outcome:
    """Copies on each node."""
    probed = seen.probed
    if probed is None:
        return unknown(seen.not_probed)
    found = probed.bandwidth
    if not found:
        return unknown(probed.why_not.get("bandwidth", "not measured"))
    each = {node: rate / probed.threads[node] for node, rate in found.items()}
    shown = "; ".join(
        f"node {node}: {rate:.0f} GB/s by {count(probed.threads[node], 'core')}"
        for node, rate in found.items()
    )
    slow = [node for node, rate in each.items() if rate < _FAIR * max(each.values())]
    if not slow:
        return ok(shown)
    cpus = tuple(cpu for core in seen.machine.cores if core.node in slow for cpu in core.cpus)
    fix = "look at the memory modules of the slow node: sudo dmidecode --type memory"
    return Outcome(status=Status.WARNING, found=shown, fix=fix, cpus=cpus)


@check(
    "probe-frequency",
    "Frequency under load (measured)",
    wanted=f"every worker's CPU at {_SAME_FREQUENCY:.0%} of the fastest or more, and of the base "
    "frequency",
    why="Files say what a core may do; this is what it did with all workers busy.",
    source="corral: multiplications that wait for one another, three cycles each",
)
def frequency(seen: Evidence) -> Outcome:
    """What the workers' CPUs ran at, all at once."""
    probed = seen.probed
    if probed is None:
        return unknown(seen.not_probed)
    found = probed.frequency_ghz
    if not found:
        return unknown(probed.why_not.get("frequency", "not measured"))
    base = {cpu: khz / 1e6 for cpu, khz in seen.numbers_by_cpu("cpufreq/base_frequency").items()}
    fastest = max(found.values())
    slow = tuple(
        cpu
        for cpu, ghz in found.items()
        if ghz < _SAME_FREQUENCY * max(fastest, base.get(cpu, 0.0))
    )
    shown = f"{min(found.values()):.2f} to {fastest:.2f} GHz"
    if not slow:
        return ok(shown)
    return Outcome(
        status=Status.WARNING,
        found=f"{shown}; CPUs {format_cpus(slow)} are slow",
        fix=f"see governor, power limit and thermal throttling; /{CPU_FOLDER}/cpu*/cpufreq",
        cpus=slow,
    )


@check(
    "probe-wake-up",
    "Wake-up (measured)",
    wanted=f"p50 of {_WAKE_US:g} µs or less for real-time inference",
    why="Each batch wakes its worker; deep idle states and a hypervisor's own make that slow.",
    source="corral: a message to a sleeping process on a worker's CPU, 100 times",
)
def wake_up(seen: Evidence) -> Outcome:
    """Message to a process that sleeps."""
    probed = seen.probed
    if probed is None:
        return unknown(seen.not_probed)
    waits = probed.wake_up
    if waits is None:
        return unknown(probed.why_not.get("wake-up", "not measured"))
    shown = f"p50 {waits.p50_us:.0f} µs, p99 {waits.p99_us:.0f} µs"
    if waits.p50_us <= _WAKE_US:
        return ok(shown)
    deep, _ = deep_states(seen)
    fix = without_deep_states(deep) if deep else _NOT_IDLE_STATES
    if waits.p50_us <= _SLOW_WAKE_US or seen.layout.mode != Mode.RTI.value:
        return info(shown, fix, cpus=seen.layout.worker_cpus)
    return Outcome(status=Status.WARNING, found=shown, fix=fix, cpus=seen.layout.worker_cpus)


@check(
    "probe-front",
    "The frontend's loop (measured)",
    wanted=f"{_BARE_PER_S:,.0f} messages a second or more",
    why="It is the most that a frontend can receive here, before it has read a byte of them.",
    source="corral: 150 KB over loopback, answered with 4 KB; beside a bare server's figure",
)
def front(seen: Evidence) -> Outcome:
    """Messages over loopback."""
    probed = seen.probed
    if probed is None:
        return unknown(seen.not_probed)
    rate = probed.front_per_s
    if rate is None:
        return unknown(probed.why_not.get("front", "not measured"))
    size_kb = probed.front_bytes / 1024
    found = f"{rate:,.0f} messages of {size_kb:.0f} KB a second, {1e6 / max(rate, 1):.0f} µs each"
    return (
        ok(found) if rate >= _BARE_PER_S else info(found, "corral serve --cells 2, if it is busy")
    )
