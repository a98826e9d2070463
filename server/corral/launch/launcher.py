"""The step between the supervisor's spawn and a child's interpreter.

Run by path as ``python -I -S launcher.py KIND NUMBER FD``: the smallest interpreter there is. It
puts in force what must hold before the child's own interpreter maps a single library (death with
the supervisor, no new privileges, no capabilities, CPU affinity, memory policy), then replaces
itself by the child with the complete environment. FD is a JSON object:

    parent          pid of the supervisor
    argv            the child's command line; argv[0] is the program
    env             the child's whole environment
    cpus            logical CPUs; empty: leave the affinity alone
    memory_node     NUMA node to bind memory to, or null
    user            [uid, gid] to become, or null; only root can
    drop            whether to give up all capabilities, where there are any
    warnings_variable   names what was refused, in the child's environment

What the machine refuses (containers forbid memory policies) is no reason not to start: the child
finds a sentence for each refusal in its environment, under that name, one a line.

Imports nothing of corral and nothing outside the standard library.
"""

import ctypes
import json
import os
import signal
import sys

#: They end a server in order: by people, by a power supply, by a soft limit of CPU time.
ENDING_SIGNALS = (
    *(signal.SIGTERM, signal.SIGINT, signal.SIGQUIT),
    *(signal.SIGPWR, signal.SIGXCPU),
)
#: They say nothing to a server, and would end it by default.
MEANINGLESS_SIGNALS = (
    *(signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF),
    *(signal.SIGIO, signal.SIGSTKFLT),
    *range(signal.SIGRTMIN, signal.SIGRTMAX + 1),
)
#: what a whole control group is sent: ends are the supervisor's, which lets work be finished
IGNORED_SIGNALS = (*ENDING_SIGNALS, signal.SIGHUP, *MEANINGLESS_SIGNALS)

_PR_SET_PDEATHSIG = 1
_PR_CAPBSET_READ = 23
_PR_CAPBSET_DROP = 24
_CAPABILITY_VERSION = 0x20080522
_PR_SET_NO_NEW_PRIVS = 38
_MPOL_BIND = 2
_SYS_SET_MEMPOLICY = {"x86_64": 238, "aarch64": 237, "riscv64": 237, "ppc64le": 261, "s390x": 270}
_MAX_NODES = 1024


def main() -> None:
    """Replaces this process by the child that the launch file describes."""
    # What is ignored stays so in the child's program; the supervisor has them blocked until here.
    for number in IGNORED_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, IGNORED_SIGNALS)
    fd = int(sys.argv[-1])
    with os.fdopen(fd, "rb") as file:
        launch = json.load(file)
    libc = ctypes.CDLL(None, use_errno=True)
    warnings = []
    if launch["cpus"]:
        try:
            os.sched_setaffinity(0, launch["cpus"])
        except OSError as error:
            warnings.append(f"CPU affinity refused ({error.strerror}): processes are not pinned")
    if launch["memory_node"] is not None:
        refusal = _bind_memory(libc, launch["memory_node"])
        if refusal:
            warnings.append(
                f"NUMA memory policy refused ({refusal}): pages lie where they are first touched"
            )
    if launch["drop"]:
        refusal = _drop_privileges(libc, launch["user"], launch["argv"][0])
        if refusal:
            warnings.append(refusal)
    # After the change of user, which would take the death signal back.
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    # A supervisor that died before the line above sends no signal any more.
    if os.getppid() != launch["parent"]:
        sys.exit("the supervisor is gone")
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    env = launch["env"]
    if warnings:
        env[launch["warnings_variable"]] = "\n".join(warnings)
    os.execve(launch["argv"][0], launch["argv"], env)  # noqa: S606 - our own program


def _drop_privileges(libc: ctypes.CDLL, user: list[int] | None, program: str) -> str:
    """Gives up the user, if another is named, and all capabilities; returns a refusal, or "".

    Capabilities are what makes root special: without the bounding set, root's next program has
    none of them, and can get none back.
    """
    if os.geteuid() != 0:
        return ""
    if user is None and not readable_without_capabilities(libc, program):
        return "capabilities are kept: without them root cannot read the server's own files"
    # The bounding set first: to change it needs a capability that other users do not have.
    for number in range(64):
        if libc.prctl(_PR_CAPBSET_READ, number, 0, 0, 0) == 1 and (
            libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0) != 0
        ):
            return f"capabilities are kept: {os.strerror(ctypes.get_errno())}"
    if user is not None:
        uid, gid = user
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    return ""


def readable_without_capabilities(libc: ctypes.CDLL, program: str) -> bool:
    """Whether root, when it is nobody special, could run the program with our modules."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    before = (ctypes.c_uint32 * 6)()
    if libc.capget(header, before) != 0:
        return False
    # Effective, permitted, inheritable, of the first 32; then again, of the others.
    without = (ctypes.c_uint32 * 6)(0, before[1], before[2], 0, before[4], before[5])
    if libc.capset(header, without) != 0:
        return False
    try:
        return all(
            os.access(path, os.R_OK | os.X_OK, effective_ids=True)
            for path in (program, os.path.dirname(__file__))  # noqa: PTH120 - no pathlib: it is slow
        )
    finally:
        libc.capset(header, before)


def _bind_memory(libc: ctypes.CDLL, node: int) -> str:
    """Binds this process's future pages to a node; returns why not, or an empty string."""
    number = _SYS_SET_MEMPOLICY.get(os.uname().machine)
    if number is None:
        return f"unknown on {os.uname().machine}"
    bits = ctypes.sizeof(ctypes.c_ulong) * 8
    mask = (ctypes.c_ulong * (_MAX_NODES // bits))()
    mask[node // bits] = 1 << (node % bits)
    # The kernel reads one bit less than it is told.
    arguments = (ctypes.c_long(_MPOL_BIND), mask, ctypes.c_ulong(_MAX_NODES + 1))
    if libc.syscall(ctypes.c_long(number), *arguments) != 0:
        return os.strerror(ctypes.get_errno())
    return ""


if __name__ == "__main__":
    main()
