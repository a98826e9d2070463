"""Every check on a machine that is in order and on one that is not; figures by hand."""

import dataclasses
import os

import msgspec
import pytest
from support.doctor_cases import BAD, GOOD, Machine, cpuinfo, idle, on_cpus, one_engine, stat
from support.machines import ComposedRoot

from corral.doctor import page
from corral.doctor.catalog import CHECKS, examine
from corral.doctor.checks.engine import best_isa, rank
from corral.doctor.checks.kernel import device_interrupts
from corral.doctor.finding import Finding, Status, count, exit_code, sentence
from corral.doctor.gather import gather
from corral.planning.topology import read_machine

IDS = [check.id for check in CHECKS]


def test_there_are_thirty_checks_and_a_good_and_a_bad_machine_for_each() -> None:
    assert len(IDS) >= 30
    assert len(set(IDS)) == len(IDS)
    assert set(GOOD) == set(BAD) == set(IDS)


@pytest.mark.parametrize("check", IDS)
def test_in_order(check: str, composed: ComposedRoot) -> None:
    found = GOOD[check].finding(composed, check)
    assert found.status is Status.OK, found
    assert not found.fix
    assert not found.workers


@pytest.mark.parametrize("check", IDS)
def test_not_in_order(check: str, composed: ComposedRoot) -> None:
    machine, status, workers = BAD[check]
    found = machine.finding(composed, check)
    assert found.status == status, found
    assert found.workers == workers
    assert found.found
    if found.status in {Status.WARNING, Status.ERROR}:
        assert found.fix
    for text in (found.wanted, found.why, found.source, found.title):
        assert text


@pytest.mark.parametrize("flags", ["avx2 avx512f avx512_vnni", "avx2 avx512f"])
def test_kernels_whose_names_cannot_tell_vnni_are_not_held_against_it(
    flags: str, composed: ComposedRoot
) -> None:
    said = one_engine(precision="int8", isa="brgconv_avx512_1x1_I8")
    machine = Machine(files={"proc/cpuinfo": cpuinfo(flags)}, running=True, layout=said)
    assert machine.finding(composed, "engine-isa").status is Status.OK


@pytest.mark.parametrize("odd", ["", "\ufffd\ufffd \ufffd", "²³", "9" * 400, "a:b:c\n:::"])
@pytest.mark.parametrize("check", IDS)
def test_files_of_any_content_end_no_check(check: str, odd: str, composed: ComposedRoot) -> None:
    for machine in (GOOD[check], BAD[check][0]):
        for path in machine.files:
            changed = dataclasses.replace(
                machine,
                files={**machine.files, path: odd},
                later=machine.later and {**machine.later, path: odd},
            )
            found = changed.finding(composed, check)
            assert len(found.found) < 1100
            if found.status in {Status.WARNING, Status.ERROR}:
                assert found.fix


@pytest.mark.timeout(20)
def test_a_pipe_in_the_place_of_a_file_holds_nothing_up(composed: ComposedRoot) -> None:
    seen = Machine(running=True).seen(composed)
    for path in ("proc/cpuinfo", "proc/self/cgroup", "proc/self/status"):
        file = composed.root / path
        file.unlink(missing_ok=True)
        file.parent.mkdir(parents=True, exist_ok=True)
        os.mkfifo(file)
    machine = read_machine(composed.root, live=False)
    assert len(machine.cores) == len(seen.machine.cores)
    assert examine(gather(composed.root, machine, seen.layout, live=False)).checks


def test_of_a_machine_that_shows_nothing_most_is_unknown_and_says_why(
    composed: ComposedRoot,
) -> None:
    report = examine(Machine().seen(composed))
    unknown = report.of(Status.UNKNOWN)
    assert len(unknown) > 25
    assert all(len(finding.found) > 10 for finding in unknown)
    governor = next(finding for finding in unknown if finding.id == "governor")
    assert "cpu0/cpufreq/scaling_governor is not there" in governor.found


def test_what_may_not_be_read_says_so(composed: ComposedRoot) -> None:
    seen = Machine(
        running=True, evidence={"refused": {"proc/4711/smaps_rollup": "permission denied"}}
    ).seen(composed)
    report = examine(seen)
    found = next(finding for finding in report.checks if finding.id == "huge-pages-got")
    assert found.status is Status.UNKNOWN
    assert "permission denied" in found.found


def test_numa_balancing_is_no_matter_on_one_node_and_contradicts_perfspect() -> None:
    check = next(check for check in CHECKS if check.id == "numa-balancing")
    assert "PerfSpect advises to turn it on: right for unbound processes, wrong for these" in (
        check.why
    )
    assert "against PerfSpect" in check.source


def test_deep_idle_states_are_welcome_for_throughput(composed: ComposedRoot) -> None:
    machine = BAD["idle-states"][0]
    found = Machine(files=machine.files, layout={"mode": "throughput"}).finding(
        composed, "idle-states"
    )
    assert found.status is Status.OK


@pytest.mark.parametrize(
    ("latency_us", "fix"),
    [
        (190, "sudo cpupower --cpu 1-3,5-7 idle-set --disable-by-latency 50"),
        (1, "this machine shows no idle state that takes longer"),
    ],
)
def test_a_slow_wake_up_is_blamed_on_idle_states_that_are_there(
    latency_us: int, fix: str, composed: ComposedRoot
) -> None:
    machine = dataclasses.replace(BAD["probe-wake-up"][0], files=idle(latency_us))
    found = machine.finding(composed, "probe-wake-up")
    assert found.fix.startswith(fix)
    if latency_us > 50:
        assert found.fix == machine.finding(composed, "idle-states").fix


@pytest.mark.parametrize(
    ("vendor", "driver", "fix"),
    [
        ("Intel(R) Xeon(R)", "acpi-cpufreq", "boot the kernel with intel_pstate=active"),
        ("AMD EPYC", "acpi-cpufreq", "boot the kernel with amd_pstate=active"),
        ("AMD Opteron(tm)", "powernow-k8", ""),
    ],
)
def test_a_frequency_driver_is_advised_to_cpus_that_have_it(
    vendor: str, driver: str, fix: str, composed: ComposedRoot
) -> None:
    machine = Machine(files=on_cpus("cpufreq/scaling_driver", driver))
    seen = machine.seen(composed)
    named = dataclasses.replace(seen.machine, model_name=vendor)
    report = examine(dataclasses.replace(seen, machine=named))
    found = next(finding for finding in report.checks if finding.id == "frequency-driver")
    assert (found.status, found.fix) == (Status.INFO, fix)


def test_our_own_work_is_no_other_load(composed: ComposedRoot) -> None:
    ours = "1 (w) S 0 0 0 0 0 0 0 0 0 0 {ticks} 0 0 0 0"
    files = {"proc/stat": stat(10), "proc/4711/stat": ours.format(ticks=0)}
    later = {"proc/stat": stat(60), "proc/4711/stat": ours.format(ticks=150)}
    found = Machine(files=files, later=later, running=True).finding(composed, "other-load")
    # Three CPUs at 50 % are the worker's own 150 ticks; the other worker's are somebody else's.
    assert found.workers == [1]
    assert "worker 1: 50 %" in found.found


def test_a_fractional_quota_is_a_warning(composed: ComposedRoot) -> None:
    files = {
        "proc/mounts": "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0",
        "proc/self/cgroup": "0::/a",
        "sys/fs/cgroup/a/cpu.max": "650000 100000",
    }
    found = Machine(files=files).finding(composed, "cpu-quota")
    assert found.status is Status.WARNING
    assert "0.5 of them no worker can use" in found.found


@pytest.mark.parametrize(
    ("said", "precision", "behind"),
    [
        ("brgconv_avx512_amx_I8", "int8", False),
        ("brgconv_avx512_I8", "int8", True),
        ("jit_avx512_core_FP32", "fp32", False),
        ("jit_avx2_FP32", "fp32", True),
        ("ref_any_I8", "int8", True),
    ],
)
def test_an_engine_that_uses_less_than_the_cpu_has(
    said: str, precision: str, behind: bool, composed: ComposedRoot
) -> None:
    layout = one_engine(precision=precision, isa=said)
    found = Machine(running=True, layout=layout).finding(composed, "engine-isa")
    assert (found.status is Status.WARNING) is behind


def test_an_environment_that_holds_the_kernels_back(composed: ComposedRoot) -> None:
    files = {"proc/4711/environ": "PATH=/bin\0ONEDNN_MAX_CPU_ISA=AVX2\0"}
    found = Machine(files=files, running=True).finding(composed, "engine-isa")
    assert found.status is Status.WARNING
    assert "ONEDNN_MAX_CPU_ISA=AVX2" in found.found
    assert found.workers == [0]


def test_the_best_instruction_set_hangs_on_the_precision() -> None:
    flags = frozenset({"avx2", "avx512f", "avx512_vnni", "amx_int8"})
    assert best_isa(flags, "int8") == "amx"
    assert best_isa(flags, "fp32") == "avx512"
    # OpenVINO's kernels have the same names with VNNI and without.
    assert best_isa(flags - {"amx_int8"}, "int8") == "avx512"
    assert best_isa(frozenset({"avx2", "avx_vnni"}), "int8") == "avx2"
    assert best_isa(frozenset({"sse2"}), "fp32") == "sse"
    assert rank("gemm_any") > rank("jit_sse41")


def finding(status: Status, title: str = "A") -> Finding:
    return Finding(
        id="a",
        title=title,
        status=status,
        found="",
        wanted="",
        why="",
        fix="",
        workers=[],
        source="",
    )


@pytest.mark.parametrize(
    ("statuses", "fail_on", "code"),
    [
        ([Status.OK, Status.INFO, Status.UNKNOWN], Status.WARNING, 0),
        ([Status.OK, Status.WARNING], Status.WARNING, 1),
        ([Status.OK, Status.WARNING], Status.ERROR, 0),
        ([Status.WARNING, Status.ERROR], Status.WARNING, 2),
        ([Status.WARNING, Status.ERROR], Status.ERROR, 2),
    ],
)
def test_exit_codes(statuses: list[Status], fail_on: Status, code: int) -> None:
    assert exit_code([finding(status) for status in statuses], fail_on) == code


def test_the_summary_names_what_is_wrong_and_not_what_is_right() -> None:
    findings = [finding(Status.OK)] * 3
    assert sentence(findings) == "3 of 3 checks are well"
    findings += [finding(Status.WARNING, title) for title in ("B", "C", "D", "E")]
    assert sentence(findings) == (
        "4 warnings (B, C, D, 1 more); 3 of 7 checks are well; corral doctor says more"
    )
    assert count(findings) == {"error": 0, "warning": 4, "info": 0, "unknown": 0, "ok": 3}


def test_a_mixture_says_which_cpus_have_what(composed: ComposedRoot) -> None:
    files = {
        **on_cpus("cpufreq/scaling_governor", "performance"),
        **on_cpus("cpufreq/scaling_governor", "powersave", range(4, 8)),
    }
    found = Machine(files=files).finding(composed, "governor")
    assert found.found == "performance on CPUs 0-3, powersave on CPUs 4-7"
    assert found.fix == "sudo cpupower --cpu 4-7 frequency-set --governor performance"


def test_interrupts_of_odd_numbers_are_none() -> None:
    text = "CPU0 CPU\N{SUPERSCRIPT TWO}\n 9: 5 3\n \N{SUPERSCRIPT TWO}: 1 1\n"
    assert device_interrupts(text) == {0: 5}


@pytest.mark.parametrize("odd", ["\x1b[31mred", "a\nb", "\x9b2J"])
@pytest.mark.parametrize("check", IDS)
def test_no_file_moves_a_terminals_cursor(check: str, odd: str, composed: ComposedRoot) -> None:
    machine = BAD[check][0]
    for path, text in machine.files.items():
        found = dataclasses.replace(machine, files={**machine.files, path: text + odd}).finding(
            composed, check
        )
        assert (found.found + found.fix).isprintable()


def test_names_and_texts_that_are_no_utf_8_stand_on_page_and_in_json(
    composed: ComposedRoot,
) -> None:
    folder = composed.root / "sys/class/net" / os.fsdecode(b"eth\xff\x1b")
    (folder / "device").mkdir(parents=True)
    (folder / "speed").write_text("10")
    (folder / "device/numa_node").write_text("0")
    seen = Machine(files={"proc/sys/kernel/osrelease": "5.4\x1b[2J" + "9" * 5000}).seen(composed)
    report = examine(seen)
    network = next(finding for finding in report.checks if finding.id == "network")
    assert "eth\\udcff\\x1b" in network.found
    assert report.machine.kernel.startswith("5.4\\x1b[2J")
    assert len(report.machine.kernel) <= 100
    assert msgspec.json.encode(report)
    page.render(report, seen).encode()


def test_a_servers_own_control_group_counts(composed: ComposedRoot) -> None:
    group = "sys/fs/cgroup/server"
    files = {
        "proc/self/mountinfo": "31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw",
        "proc/self/cgroup": "0::/",
        "proc/4709/cgroup": "0::/server",
        "proc/4709/status": "Cpus_allowed_list:\t0-5\n",
        f"{group}/cpu.max": "250000 100000",
        f"{group}/cpu.stat": "nr_periods 900\nnr_throttled 90\nthrottled_usec 9",
        f"{group}/memory.max": "1000",
        f"{group}/memory.current": "999",
        f"{group}/pids.max": "10",
        f"{group}/pids.current": "9",
    }
    seen = Machine(files=files, running=True, layout={"supervisor": 4709}).seen(composed)
    machine = read_machine(composed.root, live=False, process=4709)
    found = {
        row.id: row.status for row in examine(dataclasses.replace(seen, machine=machine)).checks
    }
    assert machine.allowed_cpus == tuple(range(6))
    assert found["cpu-quota"] == found["cpuset"] == "error"
    assert found["quota-throttling"] == found["memory-limit"] == found["processes"] == "warning"
    with pytest.raises(ProcessLookupError):
        read_machine(process=2**22 + 1)


def test_one_is_one(composed: ComposedRoot) -> None:
    files = {
        "proc/self/mountinfo": "31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw",
        "proc/self/cgroup": "0::/",
        "sys/fs/cgroup/cpu.max": "100000 100000",
    }
    worker = Machine(running=True).make_layout().workers[:1]
    one = dataclasses.replace(worker[0], cpus=(1,), cores=1)
    machine = Machine(files=files, running=True, layout={"workers": (one,)})
    assert machine.finding(composed, "cpu-quota").found == "time of 1 CPU for 1 thread"


def test_without_a_quota_nothing_is_throttled(composed: ComposedRoot) -> None:
    files = {
        "proc/self/mountinfo": "33 31 0:30 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu",
        "proc/self/cgroup": "1:cpu:/",
        "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
        "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
        "sys/fs/cgroup/cpu/cpu.stat": "nr_periods 0\nnr_throttled 0\nthrottled_time 0",
    }
    found = Machine(files=files).finding(composed, "quota-throttling")
    assert found.found == "no quota, so nothing is throttled"
