"""Processes of the bench: started on one core, waited for, measured, and stopped whatever happens."""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SERVER_CORE, LOAD_CORE, BOTH_CORES = "0", "1", "0,1"
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Site:
    """What every server is given: the site behind it, a folder of its own, and a certificate with its key, in one PEM file."""

    upstream: int
    folder: Path
    pem: Path


@dataclass(frozen=True, slots=True)
class Server:
    """A running cache. `target` is the URL path (with whatever signature it checks) of the object `{name}`."""

    name: str
    note: str
    pid: int
    plain: tuple[str, int]
    tls: tuple[str, int] | None
    targets: Mapping[str, str]

    def url(self, name: str, *, tls: bool) -> str:
        host, port = (self.tls if tls else self.plain) or self.plain
        return f"{'https' if tls else 'http'}://{host}:{port}{self.targets[name]}"

    def cpu_s(self) -> float:
        """CPU seconds that the process and its children have used."""
        return sum(cpu_s_of(pid) for pid in children(self.pid))


def free_port(host: str = "127.0.0.1") -> int:
    with socket.socket() as one:
        one.bind((host, 0))
        return int(one.getsockname()[1])


def program(*names: str) -> str | None:
    """The first that is installed; those of the system's administrators too."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    return next((found for name in names if (found := shutil.which(name, path=path))), None)


@contextmanager
def running(command: list[str], folder: Path, *, core: str = SERVER_CORE, **environment: str) -> Iterator[int]:
    """The pid of a command that runs pinned to a core, in a group of its own, until the context ends."""
    with (folder / "output.log").open("ab") as output:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "TERM", "taskset", "-c", core, *command],  # it ends with the bench, however that ends
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=folder,
            env={**os.environ, **environment},
            start_new_session=True,
        )
    try:
        yield process.pid
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(process.pid, number)
                process.wait(5)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue
        process.wait()


def fetch(
    url_host: tuple[str, int], path: str, *, tls: bool = False, host: str | None = None, asked: str | None = None
) -> tuple[int, bytes]:
    """(status, body) of one GET, of the range `asked` where there is one, on a connection of its own. Raises OSError and
    http.client.HTTPException."""
    context = ssl._create_unverified_context() if tls else None
    connection: http.client.HTTPConnection = (
        http.client.HTTPSConnection(*url_host, timeout=10, context=context)
        if tls
        else http.client.HTTPConnection(*url_host, timeout=10)
    )
    try:
        fields = {"Host": host, "Range": asked}
        connection.request("GET", path, headers={name: value for name, value in fields.items() if value})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def wait_until_serving(address: tuple[str, int], timeout_s: float = 20.0) -> None:
    """Raises TimeoutError."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        try:
            socket.create_connection(address, 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise TimeoutError(f"nothing listens on {address[0]}:{address[1]} after {timeout_s:g} s")


def children(pid: int) -> list[int]:
    """A process and all that descend from it."""
    found = [pid]
    for one in found:
        for task in Path(f"/proc/{one}/task").glob("*"):
            try:
                found += [int(child) for child in (task / "children").read_text().split()]
            except OSError:
                continue
    return found


def cpu_s_of(pid: int) -> float:
    """CPU seconds of one process; 0 when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS


def cpu_us_of(pid: int) -> float:
    """CPU microseconds of one process and its threads so far, by the scheduler's own clock: exact where ticks are too coarse."""
    return sum(int(task.read_text().split()[0]) for task in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1000
