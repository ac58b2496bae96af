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
FEW_PORTS = 4  # more than that in use at once is another start of the same deployment, and one sentence says so


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
    needed = [(setting, address, socket.SOCK_STREAM) for setting, address in deployment.listeners()]
    needed.append(("dns.listen", deployment.dns.listen, socket.SOCK_DGRAM))
    refused = [(*need, error) for need in needed if (error := _why_not(*need[1:])) is not None]
    in_use = [address for _, address, _, error in refused if error.errno == errno.EADDRINUSE]
    if len(in_use) > FEW_PORTS:
        yield (
            f"{len(in_use)} of the {len(needed)} addresses in {config} are in use ({in_use[0]}, {in_use[1]}, …), as if it ran "
            "already: stop the other `headwater up` (`ss -ltnp` names the programs), or change the addresses."
        )
        refused = [refusal for refusal in refused if refusal[3].errno != errno.EADDRINUSE]
    for refusal in refused:
        yield _port_sentence(*refusal, config)


def _why_not(address: Address, kind: socket.SocketKind) -> OSError | None:
    """Why nobody can listen there just now; None when it can be done."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with socket.socket(family, kind) as probe:
        try:
            if kind is socket.SOCK_STREAM:
                # As the servers do: a closing connection is no hindrance.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((address.host, address.port))
                probe.listen(1)
            else:
                probe.bind((address.host, address.port))
        except OSError as error:
            return error
    return None


def _port_sentence(setting: str, address: Address, kind: socket.SocketKind, error: OSError, config: Path) -> str:
    protocol, flags = ("TCP", "-ltnp") if kind is socket.SOCK_STREAM else ("UDP", "-lunp")
    change = f"change {setting} in {config}"
    if error.errno == errno.EADDRINUSE:
        stop = f"stop the program that has it (`ss {flags} 'sport = :{address.port}'` names it)"
        return f"{protocol} {address} ({setting}) is in use: {stop}, or {change}."
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{address.host} ({setting}) is no address of this machine: add it to an interface, or {change}."
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"{protocol} {address} ({setting}) may not be opened by this user: {change} to a port above 1023."
    return f"{protocol} {address} ({setting}) cannot be opened ({error.strerror}): {change}."
