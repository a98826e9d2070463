"""PID 1 of a container: hands signals on and reaps, while the command runs in a child.

The kernel does not deliver to PID 1 what it has no handler for, and whatever loses its parent
becomes PID 1's child. Both belong to a process that does nothing else, so that a signal ends the
command at every moment of its life and no zombie stays. Elsewhere nothing is forked.

Imports nothing but the standard library: it runs before all else.
"""

from __future__ import annotations

import contextlib
import os
import signal

#: what people and supervisors of containers send
_FORWARDED = {
    *(signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT),
    *(signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH, signal.SIGPWR),
}


def become_init() -> int | None:
    """Forks where this process is PID 1.

    Returns:
        None in the process that goes on as the command; in PID 1 the exit code, once the command
        has ended.
    """
    if os.getpid() != 1:
        return None
    watched = _FORWARDED | {signal.SIGCHLD}
    # Blocked, and not handled: what comes between two waits is kept until the next one.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, watched)
    command = os.fork()
    if command == 0:
        _lead()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return None
    while True:
        number = signal.sigwait(watched)
        if number == signal.SIGCHLD:
            code = _reap(command)
            if code is not None:
                return code
        else:
            # Not reaped yet, so its number is its own.
            os.kill(command, number)


def _lead() -> None:
    """Gives the command a process group, which a terminal's signals reach instead of PID 1."""
    os.setpgid(0, 0)
    with contextlib.suppress(OSError):
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC)
        # To take the terminal over stops a process that does not ignore this.
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        os.tcsetpgrp(terminal, os.getpgrp())
        signal.signal(signal.SIGTTOU, signal.SIG_DFL)
        os.close(terminal)


def _reap(command: int) -> int | None:
    """Reaps whatever has ended; returns the exit code when the command is among it."""
    code = None
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0] != 0:
            pid, status = ended
            if pid == command:
                code = os.waitstatus_to_exitcode(status)
    return 128 - code if code is not None and code < 0 else code
