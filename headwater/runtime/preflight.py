"""What must hold before a deployment is started on this machine. Each check gives clear sentences that name the cure."""

from __future__ import annotations

import errno
import os
import platform
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

from headwater.settings.deployment import Deployment
from headwater.settings.units import Address, format_size

FREE_DISK_BYTES = 512 * 2**20


def problems(deployment: Deployment, config: Path) -> list[str]:
    """Everything that would keep the deployment from running here; empty when it can start."""
    return [
        *operating_system(),
        *data_folder(deployment.data),
        *ports(deployment, config),
    ]


def operating_system() -> Iterator[str]:
    if platform.system() != "Linux":
        yield f"`headwater up` runs on Linux, this is {platform.system()}: use a Linux machine, container or virtual machine."


def data_folder(data: Path) -> Iterator[str]:
    try:
        data.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=data) as file:
            file.write(b"\0" * 4096)
            os.fsync(file.fileno())
        free = shutil.disk_usage(data).free
    except OSError as error:
        yield f"{data} cannot be written ({error.strerror}): change `data` in the config, the folder's owner, or free its disk."
        return
    if free < FREE_DISK_BYTES:
        yield (
            f"{data} has {free // 2**20} MiB of free disk, {format_size(FREE_DISK_BYTES)} are needed: "
            "free some, or name another `data` folder in the config."
        )


def ports(deployment: Deployment, config: Path) -> Iterator[str]:
    """Every address can be listened on; DNS needs its own by UDP too."""
    for setting, address in deployment.listeners():
        yield from _port(setting, address, socket.SOCK_STREAM, config)
    yield from _port("dns.listen", deployment.dns.listen, socket.SOCK_DGRAM, config)


def _port(setting: str, address: Address, kind: socket.SocketKind, config: Path) -> Iterator[str]:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    protocol, flags = ("TCP", "-ltnp") if kind is socket.SOCK_STREAM else ("UDP", "-lunp")
    with socket.socket(family, kind) as probe:
        if kind is socket.SOCK_STREAM:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the servers do: a closing connection is no hindrance
        try:
            probe.bind((address.host, address.port))
            if kind is socket.SOCK_STREAM:
                probe.listen(1)
        except OSError as error:
            change = f"change {setting} in {config}"
            if error.errno == errno.EADDRINUSE:
                stop = f"stop the program that has it (`ss {flags} 'sport = :{address.port}'` names it)"
                yield f"{protocol} {address} ({setting}) is in use: {stop}, or {change}."
            elif error.errno == errno.EADDRNOTAVAIL:
                yield f"{address.host} ({setting}) is no address of this machine: add it to an interface, or {change}."
            elif error.errno in (errno.EACCES, errno.EPERM):
                yield f"{protocol} {address} ({setting}) may not be opened by this user: {change} to a port above 1023."
            else:
                yield f"{protocol} {address} ({setting}) cannot be opened ({error.strerror}): {change}."
