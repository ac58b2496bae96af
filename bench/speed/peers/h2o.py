"""H2O: it has no cache of its own, so it serves the same bytes as files (its fastest way); one thread, no signature, no log."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bench.speed.servers import Server, Site, free_port, program, running, wait_until_serving
from bench.speed.upstream import body_of

NAME = "H2O"
_CONFIG = """
user: root
num-threads: 1
pid-file: {folder}/h2o.pid
error-log: {folder}/error.log
http1-request-timeout: 300
max-connections: 8192
listen: {{host: 127.0.0.1, port: {plain}}}
listen: {{host: 127.0.0.1, port: {tls}, ssl: {{certificate-file: {pem}, key-file: {pem}, minimum-version: TLSv1.3}}}}
hosts:
  default:
    paths:
      "/":
        file.dir: {folder}/files
"""


@contextmanager
def server(site: Site, names: dict[str, str]) -> Iterator[Server | None]:
    command = program("h2o")
    if command is None:
        yield None
        return
    for path in names.values():
        file = site.folder / "files" / path.removeprefix("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(body_of(path))
    plain, tls = free_port(), free_port()
    config = site.folder / "h2o.conf"
    config.write_text(_CONFIG.format(folder=site.folder, pem=site.pem, plain=plain, tls=tls))
    with running([command, "-m", "worker", "-c", str(config)], site.folder) as pid:
        wait_until_serving(("127.0.0.1", plain))
        yield Server(NAME, "files instead of a cache, unsigned, no log", pid, ("127.0.0.1", plain), ("127.0.0.1", tls), names)
