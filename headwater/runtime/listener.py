"""Listening sockets: a clear sentence when one cannot be opened, and the kernel's congestion control."""

from __future__ import annotations

import resource
import socket
from pathlib import Path

from headwater.runtime.httpsite import LISTEN_BACKLOG, cannot_listen
from headwater.runtime.logs import Log
from headwater.settings.units import Address

_AVAILABLE = Path("/proc/sys/net/ipv4/tcp_available_congestion_control")


def raise_file_limit() -> None:
    """Lets this process open as many files as it may: a connection is one, and the soft limit is often 1024 by habit only."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def listening_socket(address: Address, *, congestion: str | None = None, log: Log | None = None) -> socket.socket:
    """A listening TCP socket; its connections inherit the congestion control. Raises CannotStart."""
    listener = socket.socket(socket.AF_INET6 if ":" in address.host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # inherited: who vanished without a word is noticed
        listener.bind((address.host, address.port))
        listener.listen(LISTEN_BACKLOG)
    except OSError as error:
        listener.close()
        raise cannot_listen(error, address) from error
    listener.setblocking(False)
    if congestion is not None:
        _set_congestion(listener, congestion, log)
    return listener


def _set_congestion(listener: socket.socket, name: str, log: Log | None) -> None:
    """A kernel without it keeps its default: slower on bad networks is better than no service."""
    try:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, name.encode())
    except OSError as error:
        if log is not None:
            known = _AVAILABLE.read_text().split() if _AVAILABLE.exists() else []
            log.warning(
                "congestion control not available; keeping the kernel's default", wanted=name, known=known, error=str(error)
            )
