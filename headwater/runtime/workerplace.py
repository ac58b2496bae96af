"""One worker's place in its node: which of how many it is, and the files by which the processes of a node find each other.

{node folder}/workers/{index}.{pid}.sock    where this process answers its siblings and the parent (mode 0700 above it)
{node folder}/workers/{index}.sock          leads to the process that holds the place now
"""

from __future__ import annotations

import os
import re
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from headwater.runtime.httpsite import CannotStart

UNIX_PATH_BYTES: Final = 107  # sockaddr_un.sun_path of Linux without its final zero
_PROCESS_SOCKET = re.compile(r"(\d+)\.(\d+)\.sock\Z")

# A request on a worker's own socket that carries this field is for the process, not for an object; its value says what for.
CALL_HEADER: Final = "Headwater-Call"
CALL_TAKE_OVER: Final = "take-over"
CALL_TELL: Final = "tell"


@dataclass(frozen=True, slots=True)
class WorkerPlace:
    """`listeners` are the file descriptors of the inherited listening sockets, door by door; `replaces` says that the worker
    whose place this is still runs and keeps the disk until the parent says so (CALL_TAKE_OVER)."""

    index: int
    workers: int
    listeners: tuple[int, ...]
    replaces: bool = False

    def sockets(self) -> list[socket.socket]:
        """The inherited listening sockets."""
        inherited = [socket.socket(fileno=descriptor) for descriptor in self.listeners]
        for one in inherited:
            one.setblocking(False)
        return inherited


def sockets_folder(node_folder: Path) -> Path:
    return node_folder / "workers"


def make_sockets_folder(node_folder: Path) -> Path:
    """The folder, open to this user only: whoever may open a socket in it is a process of the node. Raises CannotStart."""
    folder = sockets_folder(node_folder)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.chmod(0o700)
    longest = len(os.fsencode(admin_socket(process_socket(folder, 99, 2**22))))
    if longest > UNIX_PATH_BYTES:
        raise CannotStart(
            f"{folder} is too long a path for the sockets of several workers ({longest} of {UNIX_PATH_BYTES} bytes): "
            "choose a shorter `data` folder, or set `workers` to 1."
        )
    return folder


def place_socket(folder: Path, index: int) -> Path:
    return folder / f"{index}.sock"


def process_socket(folder: Path, index: int, pid: int) -> Path:
    return folder / f"{index}.{pid}.sock"


def admin_socket(process_socket: Path) -> Path:
    """Where the process serves what a node serves at its admin address."""
    return process_socket.with_suffix(".admin")


def last_metrics(process_socket: Path) -> Path:
    return process_socket.with_suffix(".metrics")


def process_sockets(folder: Path) -> list[Path]:
    """The sockets of all worker processes, also of those that drain or have died."""
    return sorted(path for path in folder.iterdir() if _PROCESS_SOCKET.fullmatch(path.name))


def hold_place(folder: Path, index: int) -> None:
    """Makes the place lead to this process, in one step."""
    draft = folder / f".{index}.{os.getpid()}"
    draft.unlink(missing_ok=True)
    draft.symlink_to(process_socket(folder, index, os.getpid()).name)
    draft.replace(place_socket(folder, index))
