"""Tools run as children: own process group, limits, a watch on progress, the last error lines kept, never outliving us."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import IO

LAUNCHER = Path(__file__).with_name("launch.py")
KEPT_LINES = 40
CLOSING_S = 5.0
LOOK_S = 0.5  # how soon a child is ended whose folder was taken away
BACKGROUND = 7  # nice(2): a fifth of the weight of what runs at 0, the nodes that serve viewers among it
LAST_OF_ALL = 12  # a third of the weight of what runs at BACKGROUND: nobody waits for it
OUTPUT_LIMIT_BYTES = 64 * 2**20


class Ending(StrEnum):
    """How a child ended; also a metric label."""

    DONE = "done"
    FAILED = "failed"
    STALLED = "stalled"  # no progress for too long: killed
    FILE_LIMIT = "file-limit"
    ABANDONED = "abandoned"  # its folder was taken away: nobody wants its result, and it was killed
    KILLED = "killed"  # by the kernel, when it passed its processor time or the machine's memory


@dataclass(frozen=True, slots=True)
class Limits:
    """`stall_s`: seconds without a word of progress. `nice` is that of nice(2).

    Memory is address space: generous, since codecs map much of it.
    """

    cpu_s: int
    file_bytes: int
    stall_s: float
    memory_bytes: int = 16 * 2**30
    open_files: int = 64
    nice: int = 0

    def arguments(self) -> list[str]:
        return [
            f"cpu={self.cpu_s}",
            f"fsize={self.file_bytes}",
            f"as={self.memory_bytes}",
            f"nofile={self.open_files}",
            "core=0",
            f"priority={self.nice}",
        ]


@dataclass(frozen=True, slots=True)
class ChildResult:
    ending: Ending
    status: int
    output: bytes
    errors: str


@dataclass(slots=True)
class _Watch:
    """What came out of the child so far."""

    output: bytearray = field(default_factory=bytearray)
    errors: deque[bytes] = field(default_factory=lambda: deque(maxlen=KEPT_LINES))
    unfinished: bytes = b""
    last_progress: bytes = b""

    def take_output(self, chunk: bytes) -> bool:
        """True when this is news: a tool that repeats one line makes no progress."""
        if len(self.output) < OUTPUT_LIMIT_BYTES:
            self.output += chunk
        news = chunk != self.last_progress
        self.last_progress = chunk
        return news

    def take_errors(self, chunk: bytes) -> None:
        *lines, self.unfinished = (self.unfinished + chunk).replace(b"\r", b"\n").split(b"\n")
        self.unfinished = self.unfinished[-4096:]
        self.errors.extend(line[:1000] for line in lines if line.strip())

    def error_text(self) -> str:
        lines = [*self.errors, self.unfinished] if self.unfinished.strip() else list(self.errors)
        return b"\n".join(lines).decode(errors="replace")


def run_child(
    command: Sequence[str],
    folder: Path,
    limits: Limits,
    *,
    clock: Callable[[], float] = time.monotonic,
    environment: dict[str, str] | None = None,
) -> ChildResult:
    """Runs `command` (its first word an absolute path) in `folder` until it ends or stalls. Blocks."""
    launcher = [sys.executable, "-I", "-S", str(LAUNCHER), str(os.getpid()), *limits.arguments(), "--"]
    process = subprocess.Popen(
        [*launcher, *command],
        cwd=folder,
        env={"LC_ALL": "C", "TMPDIR": str(folder), "HOME": str(folder), **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    watch = _Watch()
    given_up: Ending | None = None
    try:
        given_up = _follow(process, watch, limits.stall_s, clock, folder)
        if given_up is None:
            process.wait(CLOSING_S)  # its pipes are closed: a moment to exit by itself, so that its own status is seen
    except subprocess.TimeoutExpired:
        given_up = Ending.STALLED
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)  # not reaped yet, so the group is still ours
            process.wait()
    ending = given_up or _ending(process.returncode)
    return ChildResult(ending, process.returncode, bytes(watch.output), watch.error_text())


def network_is_cut(folder: Path) -> bool:
    """Whether this kernel lets children run without a network: in a child, not even loopback has a route."""
    code = (
        "import socket, sys\n"
        "with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:\n"
        "    try: probe.connect(('127.0.0.1', 9))\n"
        "    except OSError: sys.exit(0)\n"
        "sys.exit(1)"
    )
    limits = Limits(cpu_s=10, file_bytes=0, stall_s=10)
    return run_child([sys.executable, "-I", "-S", "-c", code], folder, limits).ending is Ending.DONE


def _follow(
    process: subprocess.Popen[bytes], watch: _Watch, stall_s: float, clock: Callable[[], float], folder: Path
) -> Ending | None:
    """Reads both pipes to their end. Says why when it gave up before: no progress for `stall_s`, or `folder` is gone."""
    assert process.stdout is not None
    assert process.stderr is not None
    with selectors.DefaultSelector() as selector, process.stdout, process.stderr:
        selector.register(process.stdout, selectors.EVENT_READ)
        selector.register(process.stderr, selectors.EVENT_READ)
        deadline = clock() + stall_s
        while selector.get_map():
            ready = selector.select(max(0.0, min(LOOK_S, deadline - clock())))
            for key, _ in ready:
                pipe: IO[bytes] = key.fileobj  # type: ignore[assignment]  # we registered the pipes themselves
                chunk = os.read(pipe.fileno(), 65536)
                if not chunk:
                    selector.unregister(pipe)
                elif pipe is process.stderr:
                    watch.take_errors(chunk)
                elif watch.take_output(chunk):
                    deadline = clock() + stall_s
            if clock() >= deadline:
                return Ending.STALLED
            if not folder.exists():
                return Ending.ABANDONED
    return None


def _ending(status: int) -> Ending:
    match -status:
        case 0:
            return Ending.DONE
        case signal.SIGXFSZ:
            return Ending.FILE_LIMIT
        case number if number > 0:
            return Ending.KILLED
    return Ending.FAILED
