"""Every real machine of the archives, examined; what each shows was read by hand in its files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support.machines import ARCHIVES

from corral.doctor import page
from corral.doctor.catalog import examine
from corral.doctor.evidence import Evidence
from corral.doctor.finding import Report, Status
from corral.doctor.gather import gather
from corral.doctor.layout import planned
from corral.doctor.view import render
from corral.planning.request import plan_for
from corral.planning.topology import read_machine
from corral.settings import Settings

NAMES = sorted(path.name.removesuffix(".tar.bz2") for path in ARCHIVES.glob("*.tar.bz2"))
#: by archive: checks whose status, and a word of what was found, can be told from its files
SHOWN = {
    "16em64t-4s2c2t-offlines": {
        "cpuset": (Status.INFO, "2,5,13-14 are offline"),
        "thermal-throttling": (Status.OK, "never"),
        "isa": (Status.WARNING, "none"),
        "node-clustering": (Status.INFO, "1 node for 4 packages"),
        "allocator": (Status.UNKNOWN, "needs the machine itself"),
        "probe-front": (Status.UNKNOWN, "--probe on that machine"),
    },
    "20em64t-hybrid-1p6c2t+2ca4co1t": {
        "governor": (Status.WARNING, "powersave"),
        "frequency-driver": (Status.OK, "intel_pstate"),
        "energy-preference": (Status.WARNING, "balance_performance"),
        "core-kinds": (Status.INFO, "slower cores"),
        "kernel": (Status.OK, "6.1.0-13-amd64"),
        "hypervisor": (Status.OK, "none"),
        "isa": (Status.OK, "AVX-VNNI"),
    },
    "32amd64-4s2n4c-cgroup2": {
        "governor": (Status.WARNING, "ondemand"),
        "frequency-driver": (Status.INFO, "powernow-k8"),
        "cpuset": (Status.INFO, "6 of 32 CPUs are ours"),
    },
    "32intel64-2p8co2t+8ve": {
        "turbo": (Status.OK, "on"),
        "isolation": (Status.OK, "none"),
        "isa": (Status.INFO, "AVX-512"),
    },
    "40intel64-2g2n4c+pcilocality": {
        "idle-states": (Status.WARNING, "NHM-C6 takes 200 µs"),
        "thermal-throttling": (Status.INFO, "times since the machine started"),
    },
    "48amd64-4pa2n6c-sparse": {
        "frequency-driver": (Status.INFO, "powernow-k8"),
        "node-clustering": (Status.OK, "a package"),
    },
    "64amd64-4s2n4ca2co": {
        "node-clustering": (Status.OK, "2 a package"),
        "smt": (Status.OK, "one computing thread a core"),
    },
}


@pytest.fixture(scope="session")
def examined(archive_root: Callable[[str], Path]) -> Callable[[str], tuple[Report, Evidence]]:
    found: dict[str, tuple[Report, Evidence]] = {}

    def examine_archive(name: str) -> tuple[Report, Evidence]:
        if name not in found:
            root = archive_root(name)
            machine = read_machine(root, live=False)
            layout = planned(plan_for(Settings(), machine), Settings())
            seen = gather(root, machine, layout, live=False)
            found[name] = examine(seen), seen
        return found[name]

    return examine_archive


def test_every_archive_is_examined() -> None:
    assert set(SHOWN) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_what_an_archive_shows_is_found(
    name: str, examined: Callable[[str], tuple[Report, Evidence]]
) -> None:
    report, _ = examined(name)
    by_id = {finding.id: finding for finding in report.checks}
    for check, (status, words) in SHOWN[name].items():
        assert by_id[check].status is status, by_id[check]
        assert words in by_id[check].found
    # Nothing of this machine is taken for the archive's.
    for check in ("other-load", "interrupts", "allocator", "probe-wake-up"):
        assert by_id[check].status is Status.UNKNOWN


@pytest.mark.parametrize("name", NAMES)
def test_an_archive_is_drawn_with_every_cpu_and_every_finding(
    name: str, examined: Callable[[str], tuple[Report, Evidence]]
) -> None:
    report, seen = examined(name)
    drawn = page.render(report, seen)
    assert drawn.count('class="cpu') == len(seen.machine.online_cpus)
    assert drawn.count('class="package"') == len(seen.machine.packages)
    for finding in report.checks:
        assert finding.title.replace("'", "&#x27;") in drawn
    for finding in report.of(Status.WARNING):
        assert f'href="#{finding.id}"' in drawn
    assert "<script" not in drawn
    assert "http" not in drawn
    assert render(report).renderables


def test_a_page_tells_a_shared_nodes_memory_as_shared(
    examined: Callable[[str], tuple[Report, Evidence]],
) -> None:
    drawn = page.render(*examined("16em64t-4s2c2t-offlines"))
    assert drawn.count("node 0, 16 GiB for several packages") == 4
    assert ">2 warnings</span>" in page.render(*examined("20em64t-hybrid-1p6c2t+2ca4co1t"))
