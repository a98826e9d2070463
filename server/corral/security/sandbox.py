"""What a child gives up for itself once it has what it needs.

What must hold before its interpreter starts (no new privileges, capabilities, user) is the
launcher's part.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource

from corral import extras
from corral.errors import ConfigError

_PR_SET_DUMPABLE = 4

#: What a worker that is ready has no business with. Threads, memory and files stay: engines need
#: them. Sockets that it has stay, too, so that it can be given batches.
FORBIDDEN_CALLS = (
    # programs
    "execve", "execveat", "fork", "vfork",
    # the network
    "socket", "socketpair", "connect", "bind", "listen", "accept", "accept4",
    # other processes
    "ptrace", "process_vm_readv", "process_vm_writev", "pidfd_open", "pidfd_getfd", "kcmp",
    # the machine
    "mount", "umount2", "pivot_root", "chroot", "unshare", "setns", "move_mount", "open_tree",
    "fsopen", "init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load",
    "reboot", "swapon", "swapoff", "settimeofday", "clock_settime", "sethostname",
    # what kernels were attacked through
    "bpf", "perf_event_open", "userfaultfd", "keyctl", "add_key", "request_key",
    "io_uring_setup", "io_uring_enter", "io_uring_register", "personality",
    "name_to_handle_at", "open_by_handle_at",
)  # fmt: skip


def keep_memory_private() -> None:
    """No core dumps, and no debugger of the same user: memory holds clients' data, and keys.

    Raises:
        ConfigError: the kernel, or a filter of its calls, refuses it.
    """
    # What is not dumpable has no core either, where that limit may not be set.
    # A refusal is a ValueError in Python.
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise ConfigError(
            "memory cannot be kept from other processes of the same user: "
            f"prctl(PR_SET_DUMPABLE): {os.strerror(ctypes.get_errno())}"
        )


def require_seccomp() -> None:
    """Makes sure that a system call filter can be made here.

    Raises:
        ConfigError: the Python package or the library behind it is missing.
    """
    try:
        import pyseccomp  # noqa: F401
    except ModuleNotFoundError:
        raise ConfigError(
            "--seccomp: the Python package 'pyseccomp' is not installed; "
            f"{extras.install('hardening')} brings it"
        ) from None
    except (OSError, RuntimeError):
        raise ConfigError(
            "--seccomp: libseccomp.so.2 is not installed; Debian's package is libseccomp2"
        ) from None


def forbid_calls() -> None:
    """Has the kernel answer EPERM to FORBIDDEN_CALLS, in every thread of this process, for good.

    Raises:
        ConfigError: the kernel takes no filter.
    """
    require_seccomp()
    import pyseccomp

    filter_ = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
    for name in FORBIDDEN_CALLS:
        try:
            filter_.add_rule(pyseccomp.ERRNO(1), name)
        except ValueError:
            # This architecture, or a library older than the call, has no such call.
            continue
    try:
        # Engines have started their threads already; all of them get the filter, or none. A filter
        # that was there before (a container's, systemd's) may forbid to ask for that.
        filter_.set_attr(pyseccomp.Attr.CTL_TSYNC, 1)
        filter_.load()
    except OSError as error:
        raise ConfigError(f"--seccomp: refused by the kernel: {error.strerror}") from None
