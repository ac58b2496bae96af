"""Runs a program under limits, dying with its parent: `python -I -S launch.py PARENT LIMIT=VALUE… -- PROGRAM ARGUMENT…`

It is its own tiny program because what must happen between fork and exec is not safe in a process with threads, which
a task worker is. Limits are those of getrlimit(2) in lower case, and `priority`, that of nice(2). PARENT is the pid that must
still be the parent.
"""

import ctypes
import os
import resource
import signal
import sys

PR_SET_PDEATHSIG = 1  # prctl(2): survives exec, so the tool is killed when its worker dies


def main(arguments: list[str]) -> None:
    split = arguments.index("--")
    parent, limits, command = int(arguments[0]), arguments[1:split], arguments[split + 1 :]
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)  # the parent died before the signal was armed
    for limit in limits:
        name, _, value = limit.partition("=")
        if name == "priority":
            os.nice(int(value))
            continue
        resource.setrlimit(getattr(resource, f"RLIMIT_{name.upper()}"), (int(value), int(value)))
    os.execv(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
