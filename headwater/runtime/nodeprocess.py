"""One node as a child process: its logs, its end, and its death together with the process that started it.

The child leads a process group of its own. Ctrl-C on the terminal therefore reaches only the parent, which stops its children
in order; and what a dead node leaves behind (an ffmpeg, a task worker) is killed with its group. Linux only (pidfd, prctl).
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

LOG_LIMIT_BYTES = 64 * 2**20
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


@dataclass(frozen=True, slots=True)
class LogFiles:
    """Where a node writes: its service log (stderr) and its access log (stdout)."""

    service: Path
    access: Path

    def __iter__(self) -> Iterator[Path]:
        yield self.service
        yield self.access


def log_files(data: Path, node: str) -> LogFiles:
    return LogFiles(data / "log" / f"{node}.log", data / "log" / f"{node}.access.jsonl")


class NodeProcess:
    """A started node. `exited` becomes its exit status, negative for a signal; nothing of its group is alive then."""

    def __init__(self, node: str, process: subprocess.Popen[bytes], logs: LogFiles, log_start: int) -> None:
        self.node = node
        self.pid = process.pid
        self.logs = logs
        self.started = time.monotonic()
        self.exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._process = process
        self._log_start = log_start
        self._pidfd = os.pidfd_open(process.pid)
        asyncio.get_running_loop().add_reader(self._pidfd, self._collect)

    @classmethod
    def start(cls, node: str, config: Path, data: Path) -> NodeProcess:
        """Starts `headwater run NODE -c CONFIG` with this interpreter."""
        logs = log_files(data, node)
        logs.service.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "headwater", "run", node, "-c", str(config), "--parent", str(os.getpid())]
        with _appending(logs.access) as stdout, _appending(logs.service) as stderr:
            log_start = stderr.seek(0, os.SEEK_END)
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, start_new_session=True)
        return cls(node, process, logs, log_start)

    @property
    def alive(self) -> bool:
        return not self.exited.done()

    @property
    def ran_s(self) -> float:
        return time.monotonic() - self.started

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to the node itself; no effect once it has ended."""
        if self.alive:
            signal.pidfd_send_signal(self._pidfd, number)

    def kill_group(self) -> None:
        """Kills the node and all that it started, at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    async def stop(self, grace_s: float) -> int:
        """Asks the node to drain and end; kills it when it has not after `grace_s`. Returns its exit status."""
        self.signal(signal.SIGTERM)
        try:
            return await asyncio.wait_for(asyncio.shield(self.exited), grace_s)
        except TimeoutError:
            self.kill_group()
            return await asyncio.shield(self.exited)

    def last_words(self, lines: int = 1) -> str:
        """The last plain lines (not JSON events) that the node wrote to its service log since its start, or any lines."""
        with self.logs.service.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(self._log_start if file.tell() >= self._log_start else 0, file.tell() - 64 * 1024))
            written = [line for line in file.read().decode(errors="replace").splitlines() if line.strip()]
        plain = [line for line in written if not line.startswith("{")]
        return "\n".join((plain or written)[-lines:])

    def _collect(self) -> None:
        # The pidfd is readable: the node is dead but not yet reaped, so its pid still names its group and nothing else.
        self.kill_group()
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        self.exited.set_result(self._process.wait())


def _appending(path: Path) -> BinaryIO:
    keep_bounded(path)
    return path.open("ab")


def keep_bounded(path: Path, limit_bytes: int = LOG_LIMIT_BYTES) -> None:
    """Moves the content of a log that has grown past the limit to `{name}.1`.

    The content is copied and the file emptied, because running nodes hold it open (for appending). Lines written between
    the two are lost, and all of them when the disk has no room for the copy; that is the price of a disk that never fills with
    logs.
    """
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size > limit_bytes:
            aside = path.with_name(f"{path.name}.1")
            try:
                shutil.copyfile(path, aside)
            except OSError:
                with contextlib.suppress(OSError):
                    aside.unlink()  # a part of it, for which there was room
            os.truncate(path, 0)


def end_with_parent(parent: int) -> bool:
    """Makes the kernel send this process SIGTERM when its parent ends, however that ends. False: it has ended already."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    return os.getppid() == parent
