"""No peer but a measure: the least that any program can do on this kernel, in C (floor.c)."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.speed.servers import Server, Site, free_port, program, running, wait_until_serving
from bench.speed.upstream import body_of

NAME = "Floor, C"
SOURCE = Path(__file__).with_name("floor.c")
PAGED_FROM_BYTES = 128 * 1024  # as our RAM tier does


@contextmanager
def server(site: Site, names: dict[str, str]) -> Iterator[Server | None]:
    compiler = program("cc", "gcc")
    if compiler is None:
        yield None
        return
    binary, port = site.folder / "floor", free_port()
    subprocess.run([compiler, "-O2", "-o", str(binary), str(SOURCE)], check=True)
    bodies = site.folder / "bodies"
    lines = []
    for name, path in names.items():
        file = site.folder / name
        file.write_bytes(body_of(path))
        lines.append(f"{path} {file}\n")
    bodies.write_text("".join(lines))
    with running(["sh", "-c", f"exec {binary} {port} {PAGED_FROM_BYTES} < {bodies}"], site.folder) as pid:
        wait_until_serving(("127.0.0.1", port))
        yield Server(NAME, "the least that any program can do with this kernel", pid, ("127.0.0.1", port), None, names)
