"""Varnish: everything in memory, no signature checked, no access log (varnishncsa would be a process of its own)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bench.speed.servers import Server, Site, free_port, program, running, wait_until_serving

NAME = "Varnish"
_CONFIG = 'vcl 4.1;\nbackend site { .host = "127.0.0.1"; .port = "%d"; }\n'


@contextmanager
def server(site: Site, names: dict[str, str]) -> Iterator[Server | None]:
    command = program("varnishd")
    if command is None:
        yield None
        return
    plain = free_port()
    file = site.folder / "site.vcl"
    file.write_text(_CONFIG % site.upstream)
    arguments = ["-F", "-j", "none", "-n", str(site.folder / "run"), "-a", f"127.0.0.1:{plain}", "-f", str(file)]
    with running([command, *arguments, "-s", "malloc,512m", "-p", "thread_pools=1"], site.folder) as pid:
        wait_until_serving(("127.0.0.1", plain))
        yield Server(NAME, "unsigned, no log, no TLS of its own", pid, ("127.0.0.1", plain), None, names)
