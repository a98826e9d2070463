"""Where memory comes from: huge pages, nodes, channels, swap, limits."""

from __future__ import annotations

import re

from corral.doctor.evidence import NODE_FOLDER, Evidence
from corral.doctor.finding import Outcome, Status, check, info, ok, unknown
from corral.planning.explain import count
from corral.system.tree import fields

_LOCAL_PERCENT = 95.0
_MOST_SWAPPINESS = 10
#: pages a second from a node that was not asked for
_FEW_PAGES_S = 100
#: memory channels a package, by vendor, family and model
_CHANNELS = {
    ("GenuineIntel", 6): {85: 6, 106: 8, 108: 4, 143: 8, 207: 8, 173: 12, 175: 8},
    ("AuthenticAMD", 23): {1: 8, 49: 8},
    ("AuthenticAMD", 25): {1: 8, 17: 12, 160: 12},
    ("AuthenticAMD", 26): {2: 12, 17: 12},
}
_GIVEN_BYTES = 1 << 60


@check(
    "numa-balancing",
    "NUMA balancing",
    wanted="0 where workers are bound to nodes",
    why="The kernel unmaps pages to see who uses them, for a choice that pinning has made already. "
    "PerfSpect advises to turn it on: right for unbound processes, wrong for these.",
    source="Lenovo's flags for SPEC CPU2017: overhead for no benefit on bound workloads; "
    "against PerfSpect, report_tables.go",
)
def numa_balancing(seen: Evidence) -> Outcome:
    """Whether the kernel moves pages between nodes by itself."""
    on = seen.number("proc/sys/kernel/numa_balancing")
    nodes = len(seen.machine.nodes)
    if on is None:
        if nodes <= 1:
            return ok("one node, nothing to balance")
        return unknown(seen.missing("proc/sys/kernel/numa_balancing"))
    if nodes <= 1 or not on:
        return ok("off" if not on else "on, with one node")
    return Outcome(
        status=Status.WARNING,
        found=f"on, with {nodes} nodes",
        fix="sudo sysctl kernel.numa_balancing=0",
        cpus=seen.layout.worker_cpus,
    )


@check(
    "zone-reclaim",
    "Zone reclaim",
    wanted="0",
    why="With it a full node frees its page cache (the model's file, too) before it takes memory "
    "of another.",
    source="kernel: Documentation/admin-guide/sysctl/vm.rst, zone_reclaim_mode",
)
def zone_reclaim(seen: Evidence) -> Outcome:
    """What a full node does."""
    mode = seen.number("proc/sys/vm/zone_reclaim_mode")
    if mode is None:
        return unknown(seen.missing("proc/sys/vm/zone_reclaim_mode"))
    if not mode:
        return ok("0")
    fix = "sudo sysctl vm.zone_reclaim_mode=0"
    return info(str(mode), fix, cpus=seen.layout.worker_cpus)


@check(
    "memory-node",
    "Workers' memory on their node",
    wanted=f"{_LOCAL_PERCENT:g} % of anonymous pages or more",
    why="Memory of another node is half as fast and shares the link between packages.",
    source="kernel: /proc/PID/numa_maps",
)
def memory_node(seen: Evidence) -> Outcome:
    """Where the pages of each bound worker lie."""
    bound = [worker for worker in seen.layout.workers if worker.memory_node is not None]
    if len(seen.machine.nodes) <= 1:
        return ok("there is one node")
    if not seen.layout.running:
        return unknown(seen.no_server)
    shares = {}
    for worker in bound:
        pages = pages_by_node(seen.of_process(worker.pid, "numa_maps") or "")
        if pages:
            assert worker.memory_node is not None
            local = pages.get(worker.memory_node, 0)
            shares[worker.id] = 100 * local / sum(pages.values())
    if not shares:
        return unknown(seen.not_shown("numa_maps"))
    far = tuple(worker for worker, share in shares.items() if share < _LOCAL_PERCENT)
    found = f"{min(shares.values()):.0f} % or more"
    if not far:
        return ok(found)
    names = ", ".join(f"worker {worker}: {shares[worker]:.0f} %" for worker in far)
    return Outcome(
        status=Status.WARNING,
        found=names,
        fix="corral reload, once its node has free memory: numactl --hardware shows it",
        workers=far,
    )


def pages_by_node(numa_maps: str) -> dict[int, int]:
    """Anonymous pages by node, of /proc/PID/numa_maps."""
    pages: dict[int, int] = {}
    for line in numa_maps.splitlines():
        if " anon=" in line:
            for node, count in re.findall(r"\bN(\d+)=(\d+)", line):
                pages[int(node)] = pages.get(int(node), 0) + int(count)
    return pages


@check(
    "numa-misses",
    "Pages from the wrong node",
    wanted="numa_miss and numa_foreign that do not grow",
    why="A node that is full hands out another node's memory.",
    source="kernel: Documentation/admin-guide/numastat.rst",
)
def numa_misses(seen: Evidence) -> Outcome:
    """How fast the nodes' misses grow."""
    if len(seen.machine.nodes) <= 1:
        return ok("there is one node")
    grown = 0
    for node in seen.machine.nodes:
        looks = seen.looks(f"{NODE_FOLDER}/node{node.id}/numastat")
        if looks is None or looks[1] is None:
            return unknown("needs two looks at this machine's numastat")
        before, after = fields(looks[0], " "), fields(looks[1], " ")
        names = ("numa_miss", "numa_foreign")
        grown += sum(int(after.get(n, 0)) - int(before.get(n, 0)) for n in names)
    rate = grown / max(seen.span_s, 1e-9)
    found = f"{rate:.0f} pages a second"
    if rate < _FEW_PAGES_S:
        return ok(found)
    fix = "numactl --hardware shows which node is full; move what fills it"
    return Outcome(status=Status.WARNING, found=found, fix=fix, cpus=seen.layout.worker_cpus)


@check(
    "node-clustering",
    "Nodes a package (SNC, NPS)",
    wanted="as many as the vendor offers, for INT8 of small models; one is simpler",
    why="Smaller nodes have shorter ways to their memory; corral binds each worker to one.",
    source="MLPerf Inference v4.1: six nodes on two packages of Xeon 6980P",
)
def node_clustering(seen: Evidence) -> Outcome:
    """How the firmware divides packages, and nodes without memory."""
    machine = seen.machine
    if not machine.nodes:
        return unknown(seen.missing(f"{NODE_FOLDER}/node0/meminfo"))
    empty = [node.id for node in machine.nodes if node.cpus and not node.memory_bytes]
    if empty:
        cpus = tuple(c for node in machine.nodes if node.id in empty for c in node.cpus)
        return Outcome(
            status=Status.WARNING,
            found=f"nodes {', '.join(map(str, empty))} have CPUs and no memory",
            fix="put memory into the sockets' own channels",
            cpus=cpus,
        )
    nodes, packages = len(machine.nodes), len(machine.packages)
    if nodes < packages:
        return info(
            f"{count(nodes, 'node')} for {packages} packages: firmware or kernel hide whose "
            "memory is where, or all share one path to it",
            "turn node interleaving off in the firmware, and boot without numa=off",
        )
    return ok(f"{nodes / max(1, packages):g} a package, {nodes} in all")


@check(
    "memory-channels",
    "Memory channels",
    wanted="a module in every channel of every package",
    why="Each empty channel takes its share of the bandwidth; layers that are not bound by "
    "arithmetic slow down by as much.",
    source="PerfSpect, cmd/report/report_tables.go",
)
def memory_channels(seen: Evidence) -> Outcome:
    """Channels that have a module, where the kernel's EDAC driver shows them."""
    files = seen.below("sys/devices/system/edac/mc")
    filled = set()
    for path, size in files.items():
        if path.endswith("/size") and size not in {"", "0"} and "/dimm" in path:
            folder = path.rpartition("/")[0]
            place = re.search(r"channel\D*(\d+)", files.get(f"{folder}/dimm_location", ""))
            filled.add((folder.split("/")[0], place[1] if place else folder))
    if not filled:
        path = "sys/devices/system/edac/mc/mc0/dimm0/size"
        probe = "; --probe measures the bandwidth" if seen.live and seen.probed is None else ""
        return unknown(f"{seen.missing(path)} (no EDAC driver){probe}")
    each = len(filled) / max(1, len(seen.machine.packages))
    most = expected_channels(seen.text("proc/cpuinfo") or "")
    found = f"{each:g} channel{'s' * (each != 1)} a package"
    if most is None:
        return info(f"{found}; how many this CPU has is not known")
    if each >= most:
        return ok(f"{found}, all of {most}")
    return Outcome(
        status=Status.WARNING,
        found=f"{found} of {most}",
        fix="put a module into each empty channel",
        cpus=seen.layout.worker_cpus,
        wanted=f"{most} channels a package",
    )


def expected_channels(cpuinfo: str) -> int | None:
    """Memory channels of a package, by /proc/cpuinfo's vendor, family and model."""
    found = fields(cpuinfo.partition("\n\n")[0])
    try:
        family, model = int(found["cpu family"]), int(found["model"])
    except (KeyError, ValueError):
        return None
    return _CHANNELS.get((found.get("vendor_id", ""), family), {}).get(model)


@check(
    "swap",
    "Swap",
    wanted=f"none, or swappiness of {_MOST_SWAPPINESS} or less",
    why="A worker whose pages were swapped out takes seconds for its next batch, which looks like "
    "a hang.",
    source="kernel: Documentation/admin-guide/sysctl/vm.rst, swappiness",
)
def swap(seen: Evidence) -> Outcome:
    """Whether there is swap, and how readily it is used."""
    text = seen.text("proc/swaps")
    if text is None:
        return unknown(seen.missing("proc/swaps"))
    areas = text.splitlines()[1:]
    if not areas:
        return ok("none")
    swappiness = seen.number("proc/sys/vm/swappiness")
    found = f"{len(areas)} areas, swappiness {swappiness}"
    if swappiness is not None and swappiness <= _MOST_SWAPPINESS:
        return ok(found)
    fix = f"sudo sysctl vm.swappiness={_MOST_SWAPPINESS}"
    return Outcome(status=Status.WARNING, found=found, fix=fix, cpus=seen.layout.worker_cpus)


@check(
    "swapped-workers",
    "Workers swapped out",
    wanted="VmSwap of 0 in every process of the server",
    why="What is swapped out comes back by page faults, in the middle of a batch.",
    source="kernel: /proc/PID/status",
)
def swapped_workers(seen: Evidence) -> Outcome:
    """What of the workers lies in swap."""
    if not seen.layout.running:
        return unknown(seen.no_server)
    kib = {}
    for worker in seen.layout.workers:
        status = fields(seen.of_process(worker.pid, "status") or "")
        if "VmSwap" in status:
            kib[worker.id] = int(status["VmSwap"].split()[0])
    if not kib:
        return unknown(seen.not_shown("status"))
    out = tuple(worker for worker, size in kib.items() if size)
    if not out:
        return ok("nothing")
    return Outcome(
        status=Status.WARNING,
        found=f"{sum(kib.values()) / 1024:.0f} MiB of {count(len(out), 'worker')}",
        fix="sudo swapoff -a && sudo swapon -a, once there is memory enough",
        workers=out,
    )


@check(
    "memory-limit",
    "Memory limit",
    wanted="a quarter of the limit free, or no limit",
    why="At its limit the group reclaims pages of its own, the model's file first; beyond it a "
    "process is killed.",
    source="kernel: Documentation/admin-guide/cgroup-v2.rst, memory.max",
)
def memory_limit(seen: Evidence) -> Outcome:
    """The group's limit beside what it uses."""
    limit, used = seen.number("group/memory.max"), seen.number("group/memory.current")
    if limit is None or limit >= _GIVEN_BYTES:
        return ok("no limit")
    found = f"{(used or 0) / 2**30:.1f} of {limit / 2**30:.1f} GiB used"
    if used is None:
        return info(f"{limit / 2**30:.1f} GiB; what is used cannot be read")
    if used < 0.75 * limit:
        return ok(found)
    return Outcome(
        status=Status.WARNING,
        found=found,
        fix="raise it (Kubernetes: limits.memory; systemd: MemoryMax=)",
        cpus=seen.layout.worker_cpus,
    )
