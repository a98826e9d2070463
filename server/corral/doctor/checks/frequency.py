"""How fast the cores may run."""

from __future__ import annotations

from corral.doctor.evidence import CPU_FOLDER, Evidence, spread
from corral.doctor.finding import Outcome, Status, check, info, ok, unknown
from corral.planning.explain import count
from corral.system.cpu_list import format_cpus
from corral.system.tree import whole_number

_TUNED_DRIVERS = {"intel_pstate", "amd-pstate-epp", "amd-pstate", "cppc_cpufreq"}
#: that of AMD's CPUs from before 2011, which amd-pstate does not know
_OLD_DRIVER = "powernow-k8"
PERFSPECT = "PerfSpect, cmd/report/report_tables.go"
_CPUFREQ = "kernel: Documentation/admin-guide/pm/cpufreq.rst"


@check(
    "governor",
    "Frequency governor",
    wanted="performance on every CPU of the plan",
    why="Other governors raise the frequency after the load has come, so that the first "
    "milliseconds of a batch run slowly.",
    source=f"{PERFSPECT}; {_CPUFREQ}",
)
def governor(seen: Evidence) -> Outcome:
    """Governors, CPU by CPU."""
    found = seen.by_cpu("cpufreq/scaling_governor")
    if not found:
        return unknown(seen.missing(f"{CPU_FOLDER}/cpu{_first(seen)}/cpufreq/scaling_governor"))
    slow = tuple(cpu for cpu, name in found.items() if name != "performance")
    if not slow:
        return ok("performance")
    return Outcome(
        status=Status.WARNING,
        found=spread(found),
        fix=f"sudo cpupower --cpu {format_cpus(slow)} frequency-set --governor performance",
        cpus=slow,
    )


def _first(seen: Evidence) -> int:
    return next(iter(seen.layout.all_cpus), 0)


@check(
    "frequency-driver",
    "Frequency driver",
    wanted="intel_pstate, amd-pstate or cppc_cpufreq",
    why="The older drivers know a few frequencies only and decide slowly.",
    source=f"{PERFSPECT}; kernel: Documentation/admin-guide/pm/amd-pstate.rst",
)
def driver(seen: Evidence) -> Outcome:
    """Who sets the frequency."""
    found = seen.by_cpu("cpufreq/scaling_driver")
    if not found:
        return unknown(seen.missing(f"{CPU_FOLDER}/cpu{_first(seen)}/cpufreq/scaling_driver"))
    if set(found.values()) <= _TUNED_DRIVERS:
        return ok(spread(found))
    if _OLD_DRIVER in found.values():
        return info(spread(found), cpus=tuple(found))
    maker = "amd" if "amd" in seen.machine.model_name.lower() else "intel"
    return info(spread(found), f"boot the kernel with {maker}_pstate=active", cpus=tuple(found))


@check(
    "energy-preference",
    "Energy preference (EPP)",
    wanted="performance",
    why="It tells the CPU how readily to raise its frequency; balanced values cost the first "
    "milliseconds of each burst.",
    source=f"{PERFSPECT} (by MSR 0x774, as root); sysfs says the same without",
)
def energy_preference(seen: Evidence) -> Outcome:
    """The hint that the driver gives the CPU."""
    name = "cpufreq/energy_performance_preference"
    found = seen.by_cpu(name)
    if not found:
        return unknown(seen.missing(f"{CPU_FOLDER}/cpu{_first(seen)}/{name}"))
    slow = tuple(cpu for cpu, value in found.items() if value not in {"performance", "0"})
    if not slow:
        return ok("performance")
    return Outcome(
        status=Status.WARNING,
        found=spread(found),
        fix=f"echo performance | sudo tee /{CPU_FOLDER}/cpu*/{name}",
        cpus=slow,
    )


@check(
    "energy-bias",
    "Energy bias (EPB)",
    wanted="0, performance",
    why="The CPU takes it into account where it decides on frequencies by itself.",
    source=f"{PERFSPECT} (by MSR 0x1B0, as root); kernel: pm/intel_epb.rst",
)
def energy_bias(seen: Evidence) -> Outcome:
    """The older hint, of Intel's CPUs."""
    found = seen.by_cpu("power/energy_perf_bias")
    if not found:
        return unknown(seen.missing(f"{CPU_FOLDER}/cpu{_first(seen)}/power/energy_perf_bias"))
    saving = tuple(cpu for cpu, value in found.items() if value != "0")
    if not saving:
        return ok("0, performance")
    fix = f"echo 0 | sudo tee /{CPU_FOLDER}/cpu*/power/energy_perf_bias"
    return info(spread(found), fix, cpus=saving)


@check(
    "turbo",
    "Turbo",
    wanted="on; off only for figures that are to be compared",
    why="Without it the cores stay at their base frequency, a third below what they can do.",
    source=f"{PERFSPECT}; a model server's guide locks it, for reproducible figures only",
)
def turbo(seen: Evidence) -> Outcome:
    """Whether the cores may exceed their base frequency."""
    for path, on, fix in (
        (f"{CPU_FOLDER}/intel_pstate/no_turbo", "0", "echo 0"),
        (f"{CPU_FOLDER}/cpufreq/boost", "1", "echo 1"),
    ):
        text = seen.text(path)
        if text is None:
            continue
        if text == on:
            return ok("on")
        return Outcome(
            status=Status.WARNING,
            found="off",
            fix=f"{fix} | sudo tee /{path}",
            cpus=seen.layout.all_cpus,
        )
    paths = (f"{CPU_FOLDER}/intel_pstate/no_turbo", f"{CPU_FOLDER}/cpufreq/boost")
    return unknown(seen.missing(*paths))


@check(
    "frequency-ceiling",
    "Frequency ceiling",
    wanted="scaling_max_freq as high as cpuinfo_max_freq",
    why="Somebody has set a limit below what the cores can do.",
    source=_CPUFREQ,
)
def ceiling(seen: Evidence) -> Outcome:
    """What is allowed beside what the cores can do."""
    allowed = seen.numbers_by_cpu("cpufreq/scaling_max_freq")
    able = seen.numbers_by_cpu("cpufreq/cpuinfo_max_freq")
    both = allowed.keys() & able.keys()
    if not both:
        return unknown(seen.missing(f"{CPU_FOLDER}/cpu{_first(seen)}/cpufreq/scaling_max_freq"))
    # A few kHz of rounding are none.
    capped = tuple(sorted(cpu for cpu in both if allowed[cpu] < 0.99 * able[cpu]))
    if not capped:
        return ok(f"{max(able[cpu] for cpu in both) / 1e6:.2f} GHz")
    cpu = capped[0]
    return Outcome(
        status=Status.WARNING,
        found=f"{allowed[cpu] / 1e6:.2f} of {able[cpu] / 1e6:.2f} GHz on CPUs "
        f"{format_cpus(capped)}",
        fix=f"sudo cpupower --cpu {format_cpus(capped)} frequency-set --max {able[cpu]}kHz",
        cpus=capped,
    )


@check(
    "thermal-throttling",
    "Thermal throttling",
    wanted="counters that do not grow",
    why="A core that gets too hot slows down until it has cooled.",
    source="kernel: sysfs thermal_throttle of x86",
)
def thermal(seen: Evidence) -> Outcome:
    """Throttling events of our cores: between the looks, and since the machine started."""
    names = ("core_throttle_count", "package_throttle_count", "count")
    paths = {
        path: cpu
        for cpu in seen.layout.all_cpus
        for name in names
        if (path := f"{CPU_FOLDER}/cpu{cpu}/thermal_throttle/{name}") in seen.first.texts
    }
    if not paths:
        folder = f"{CPU_FOLDER}/cpu{_first(seen)}/thermal_throttle"
        return unknown(seen.missing(f"{folder}/core_throttle_count"))
    ever = sum(int(seen.first.texts[path] or 0) for path in paths)
    grown = {
        cpu
        for path, cpu in paths.items()
        if seen.second is not None
        and int(seen.second.texts.get(path) or 0) > int(seen.first.texts[path] or 0)
    }
    fix = "clean the fans, raise their speed in the BMC, or lower the power limit"
    if grown:
        return Outcome(
            status=Status.WARNING,
            found=f"{count(len(grown), 'CPU')} throttled in {seen.span_s:.1f} s",
            fix=fix,
            cpus=tuple(sorted(grown)),
        )
    times = f"{count(ever, 'time')} since the machine started, none now"
    return info(times, fix) if ever else ok("never")


@check(
    "power-limit",
    "Power limit",
    wanted="the long-term limit at the package's largest",
    why="Under vector load a package at its limit lowers the frequency of all its cores.",
    source="kernel: Documentation/power/powercap/powercap.rst",
)
def power_limit(seen: Evidence) -> Outcome:
    """The packages' long-term power limits."""
    zones = seen.below("sys/class/powercap")
    limits = {
        name.split("/")[0]: limit
        for name, text in zones.items()
        if name.endswith("/constraint_0_power_limit_uw")
        and (limit := whole_number(text)) is not None
    }
    if not limits:
        path = "sys/class/powercap/intel-rapl:0/constraint_0_power_limit_uw"
        return unknown(seen.missing(path))
    low = {
        zone: (limit, most)
        for zone, limit in limits.items()
        if (most := whole_number(zones.get(f"{zone}/constraint_0_max_power_uw", ""))) is not None
        and most > limit
    }
    watts = ", ".join(f"{limit / 1e6:.0f} W" for limit in sorted(limits.values()))
    if not low:
        return ok(watts)
    zone, (limit, able) = next(iter(low.items()))
    fix = (
        f"echo {able} | sudo tee /sys/class/powercap/{zone}/constraint_0_power_limit_uw, "
        "if the cooling allows it"
    )
    return info(f"{limit / 1e6:.0f} of {able / 1e6:.0f} W", fix, cpus=seen.layout.all_cpus)


@check(
    "uncore",
    "Uncore frequency",
    wanted="the largest as shipped; for lowest latency the smallest as large",
    why="Caches and memory controllers run on it; a lowered one costs memory bandwidth.",
    source="kernel: pm/intel_uncore_frequency_scaling.rst; " + PERFSPECT,
)
def uncore(seen: Evidence) -> Outcome:
    """The range that the uncore may use, package by package."""
    folder = f"{CPU_FOLDER}/intel_uncore_frequency"
    files = seen.below(folder)
    dies = sorted({path.split("/")[0] for path in files})
    ranges = {die: (files.get(f"{die}/max_freq_khz"), files.get(f"{die}/initial_max_freq_khz"))
              for die in dies}  # fmt: skip
    known = {die: (int(a), int(b)) for die, (a, b) in ranges.items() if a and b}
    if not known:
        return unknown(seen.missing(f"{folder}/package_00_die_00/max_freq_khz"))
    capped = {die: pair for die, pair in known.items() if pair[0] < pair[1]}
    if not capped:
        return ok(f"up to {max(a for a, _ in known.values()) / 1e6:.1f} GHz, as shipped")
    die, (now, shipped) = next(iter(capped.items()))
    return Outcome(
        status=Status.WARNING,
        found=f"{die}: {now / 1e6:.1f} of {shipped / 1e6:.1f} GHz",
        fix=f"echo {shipped} | sudo tee /{folder}/{die}/max_freq_khz",
        cpus=seen.layout.all_cpus,
    )
