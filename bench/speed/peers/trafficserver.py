"""Apache Traffic Server: RAM cache over a cache file, one event thread, no signature checked, no access log."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.speed.servers import Server, Site, free_port, program, running, wait_until_serving

NAME = "Traffic Server"
_RECORDS = """
CONFIG proxy.config.http.server_ports STRING {plain}:ip-in=127.0.0.1 {tls}:ssl:ip-in=127.0.0.1
CONFIG proxy.config.exec_thread.autoconfig INT 0
CONFIG proxy.config.exec_thread.limit INT 1
CONFIG proxy.config.accept_threads INT 0
CONFIG proxy.config.cache.ram_cache.size INT 268435456
CONFIG proxy.config.log.logging_enabled INT 0
CONFIG proxy.config.url_remap.remap_required INT 1
CONFIG proxy.config.url_remap.pristine_host_hdr INT 0
CONFIG proxy.config.http.keep_alive_no_activity_timeout_in INT 300
CONFIG proxy.config.admin.user_id STRING {user}
CONFIG proxy.config.ssl.server.cert.path STRING {pem_folder}
CONFIG proxy.config.ssl.server.private_key.path STRING {pem_folder}
CONFIG proxy.config.ssl.TLSv1_2 INT 0
CONFIG proxy.config.bin_path STRING {folder}
CONFIG proxy.config.local_state_dir STRING {folder}
CONFIG proxy.config.log.logfile_dir STRING {folder}
CONFIG proxy.config.diags.logfile.filename STRING diags.log
"""
_SYSTEM = Path("/etc/trafficserver")


@contextmanager
def server(site: Site, names: dict[str, str]) -> Iterator[Server | None]:
    command = program("traffic_server")
    if command is None:
        yield None
        return
    plain, tls = free_port(), free_port()
    for file in _SYSTEM.glob("*"):
        if file.is_file():
            (site.folder / file.name).write_bytes(file.read_bytes())
    fields = {"plain": plain, "tls": tls, "folder": site.folder, "pem_folder": site.pem.parent, "user": _user()}
    (site.folder / "records.config").write_text(_RECORDS.format(**fields))
    (site.folder / "remap.config").write_text(f"map / http://127.0.0.1:{site.upstream}/\n")
    (site.folder / "storage.config").write_text(f"{site.folder} 512M\n")
    (site.folder / "plugin.config").write_text("")
    (site.folder / "ssl_multicert.config").write_text(f"dest_ip=* ssl_cert_name={site.pem.name} ssl_key_name={site.pem.name}\n")
    _runroot(site.folder)
    with running([command], site.folder, TS_RUNROOT=str(site.folder / "runroot.yaml")) as pid:
        wait_until_serving(("127.0.0.1", plain))
        yield Server(NAME, "unsigned, no log", pid, ("127.0.0.1", plain), ("127.0.0.1", tls), names)


def _runroot(folder: Path) -> None:
    folders = dict.fromkeys(("sysconfdir", "localstatedir", "runtimedir", "logdir", "cachedir", "datadir"), folder)
    folders |= {"prefix": Path("/usr"), "exec_prefix": Path("/usr"), "bindir": Path("/usr/bin"), "sbindir": Path("/usr/sbin")}
    folders |= {
        "libdir": Path("/usr/lib"),
        "includedir": Path("/usr/include"),
        "libexecdir": Path("/usr/lib/trafficserver/modules"),
    }
    (folder / "runroot.yaml").write_text("".join(f"{name}: {path}\n" for name, path in folders.items()))
    if os.geteuid() == 0:
        for one in (folder, *folder.iterdir()):
            shutil.chown(one, _user())


def _user() -> str:
    """It refuses to serve as root, and gives up root only for a user by name."""
    return "trafficserver" if os.geteuid() == 0 else "#-1"
