"""HAProxy: its small cache in memory, one thread, no signature checked, no access log."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bench.speed.servers import Server, Site, free_port, program, running, wait_until_serving

NAME = "HAProxy"
_CONFIG = """
global
  nbthread 1
  maxconn 8192
defaults
  mode http
  timeout connect 5s
  timeout client 300s
  timeout server 30s
cache objects
  total-max-size 256
  max-object-size 8388608
  max-age 3600
frontend all
  bind 127.0.0.1:{plain}
  bind 127.0.0.1:{tls} ssl crt {pem} ssl-min-ver TLSv1.3
  http-request cache-use objects
  http-response cache-store objects
  default_backend site
backend site
  server site 127.0.0.1:{upstream}
"""


@contextmanager
def server(site: Site, names: dict[str, str]) -> Iterator[Server | None]:
    command = program("haproxy")
    if command is None:
        yield None
        return
    plain, tls = free_port(), free_port()
    file = site.folder / "haproxy.cfg"
    file.write_text(_CONFIG.format(plain=plain, tls=tls, pem=site.pem, upstream=site.upstream))
    with running([command, "-db", "-f", str(file)], site.folder) as pid:
        wait_until_serving(("127.0.0.1", plain))
        yield Server(NAME, "unsigned, no log", pid, ("127.0.0.1", plain), ("127.0.0.1", tls), names)
