"""Runs a program under limits and without a network, dying with its parent.

`python -I -S launch.py PARENT LIMIT=VALUE… -- PROGRAM ARGUMENT…`

It is its own tiny program because what must happen between fork and exec is not safe in a process with threads, which
a task worker is. Limits are those of getrlimit(2) in lower case, and `priority`, that of nice(2). PARENT is the pid that must
still be the parent.
"""

import ctypes
import os
import resource
import signal
import sys
import time

AUTOGROUP_TRIES = 25
CLONE_NEWUSER, CLONE_NEWNET = 0x1000_0000, 0x4000_0000  # unshare(2)
PR_SET_PDEATHSIG = 1  # prctl(2): survives exec, so the tool is killed when its worker dies


def cut_network(libc: ctypes.CDLL) -> None:
    """A network of its own, in which not even loopback is up. Where the kernel refuses, the tool's own allow-lists remain.

    Without privileges it takes a user namespace too, in which the user and the group are what they were.
    """
    user, group = os.geteuid(), os.getegid()
    if libc.unshare(CLONE_NEWNET) == 0 or libc.unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0:
        return
    for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def lower_priority(nice: int) -> None:
    """By `nice`, among the threads of this session and among all sessions.

    Where the kernel groups tasks by session (sched(7), autogroup), which is usual, nice(2) says nothing outside of the session,
    and every tool has one of its own: two encodes in the background would take half of the processors from what is waited for.
    """
    os.nice(nice)
    for _ in range(AUTOGROUP_TRIES if nice else 0):
        try:
            with open("/proc/self/autogroup", "w") as file:
                file.write(str(os.getpriority(os.PRIO_PROCESS, 0)))
            return
        except BlockingIOError:  # one change in a tenth of a second, of all users of the machine together
            time.sleep(0.02)
        except OSError:
            return  # no such groups here


def main(arguments: list[str]) -> None:
    split = arguments.index("--")
    parent, limits, command = int(arguments[0]), arguments[1:split], arguments[split + 1 :]
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        cut_network(libc)
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # after the above, which changes credentials and so would clear it
    if os.getppid() != parent:
        os._exit(1)  # the parent died before the signal was armed
    for limit in limits:
        name, _, value = limit.partition("=")
        if name == "priority":
            lower_priority(int(value))
            continue
        resource.setrlimit(getattr(resource, f"RLIMIT_{name.upper()}"), (int(value), int(value)))
    os.execv(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
