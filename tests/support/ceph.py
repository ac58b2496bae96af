"""A real S3 server of another maker: Ceph's radosgw over a monitor, a manager and one object daemon in memory, all on loopback.

It takes about twelve seconds to start, so a test session starts one, for the tests of the xdist group `ceph`.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError

import pytest

from tests.support.deployments import free_port
from tests.support.s3server import ACCESS_KEY, SECRET_KEY, S3Server

PROGRAMS = ("ceph-mon", "ceph-mgr", "ceph-osd", "ceph-authtool", "monmaptool", "ceph", "radosgw", "radosgw-admin", "rados")
STARTS_WITHIN_S = 120

# One copy of everything, small placement groups, the S3 floor of 5 MiB for parts; nothing listens beyond 127.0.0.1.
CONFIG = """
[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{mon},v1:127.0.0.1:{mon_v1}]
mon initial members = a
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pg autoscale mode = off
mon allow pool size one = true
osd crush chooseleaf type = 0
mon max pg per osd = 2000
run dir = {folder}
log file = {folder}/$name.log
admin socket = {folder}/$name.asok
pid file = {folder}/$name.pid
keyring = {folder}/keyring
setuser match path =
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind ipv6 = false
[mon]
mon data = {folder}/mon
mgr initial modules =
[mgr]
mgr data = {folder}/mgr
[osd]
osd data = {folder}/osd
osd objectstore = memstore
memstore device bytes = 1073741824
osd memory target = 939524096
[client.rgw]
rgw frontends = beast endpoint=127.0.0.1:{s3}
rgw multipart min part size = 5242880
rgw data = {folder}/rgw
"""


class Ceph(S3Server):
    """`folder` holds the configuration and the daemons' pid files."""

    def rados(self, *arguments: str, body: bytes | None = None) -> bytes:
        """Looks at, or changes, what lies below the S3 door, as a failing disk would."""
        command = ["rados", "-c", str(self.folder / "ceph.conf"), *arguments]
        return subprocess.run(command, input=body, capture_output=True, check=True, timeout=60).stdout


@contextmanager
def running_ceph() -> Iterator[Ceph]:
    """Skips the test where Ceph's programs are missing."""
    if missing := [program for program in PROGRAMS if shutil.which(program) is None]:
        pytest.skip(f"{', '.join(missing)} missing: install radosgw, ceph-mon, ceph-osd and ceph-mgr")
    # Not pytest's folder: the paths of the daemons' sockets have at most 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="headwater-ceph-"))
    try:
        yield _started(folder)
    finally:
        _stop(folder)
        shutil.rmtree(folder, ignore_errors=True)


def _started(folder: Path) -> Ceph:
    for name in ("mon", "mgr", "osd", "rgw"):
        (folder / name).mkdir()
    fsid, ports = str(uuid.uuid4()), {name: free_port() for name in ("mon", "mon_v1", "s3")}
    (folder / "ceph.conf").write_text(CONFIG.format(fsid=fsid, folder=folder, **ports))
    _make_keys(folder / "keyring")
    monitor = f"[v2:127.0.0.1:{ports['mon']},v1:127.0.0.1:{ports['mon_v1']}]"
    _run(folder, "monmaptool", "--create", "--addv", "a", monitor, "--fsid", fsid, str(folder / "monmap"))
    _run(folder, "ceph-mon", "--mkfs", "-i", "a", "--monmap", str(folder / "monmap"), "--keyring", str(folder / "keyring"))
    _run(folder, "ceph-mon", "-i", "a")
    _run(folder, "ceph-mgr", "-i", "x")
    osd = str(uuid.uuid4())
    number = _run(folder, "ceph", "osd", "new", osd).strip()
    _run(folder, "ceph-osd", "-i", number, "--mkfs", "--osd-uuid", osd)
    _run(folder, "ceph-osd", "-i", number)
    user = ("--uid=test", "--display-name=test", f"--access-key={ACCESS_KEY}", f"--secret-key={SECRET_KEY}")
    _run(folder, "radosgw-admin", "user", "create", *user)
    _run(folder, "radosgw", "-n", "client.rgw", "--keyring", str(folder / "keyring"))
    endpoint = f"http://127.0.0.1:{ports['s3']}"
    _wait_until_it_answers(endpoint)
    return Ceph(endpoint, folder)


def _make_keys(keyring: Path) -> None:
    everything = ("--cap", "mon", "allow *", "--cap", "osd", "allow *", "--cap", "mgr", "allow *")
    for place, name in enumerate(("mon.", "client.admin", "client.rgw", "mgr.x", "osd.0")):
        made = ("--create-keyring",) if place == 0 else ()
        command = ["ceph-authtool", *made, str(keyring), "--gen-key", "-n", name, *everything]
        subprocess.run(command, check=True, capture_output=True, timeout=60)


def _run(folder: Path, program: str, *arguments: str) -> str:
    """Output goes to files: a daemon that forks keeps a pipe open for ever."""
    out = folder / f"{program}.out"
    # `monmaptool` reads the configuration of the environment alone.
    command = [program, *arguments] if program == "monmaptool" else [program, "-c", str(folder / "ceph.conf"), *arguments]
    with open(out, "w+") as file, open(f"{out}.err", "w+") as errors:
        try:
            subprocess.run(
                command, check=True, stdin=subprocess.DEVNULL, stdout=file, stderr=errors, timeout=STARTS_WITHIN_S,
                env={**os.environ, "CEPH_CONF": str(folder / "ceph.conf")},
            )  # fmt: skip
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            errors.seek(0)
            raise RuntimeError(f"{program} did not do its part of starting Ceph: {errors.read()[-2000:]}") from error
        file.seek(0)
        return file.read()


def _wait_until_it_answers(endpoint: str) -> None:
    deadline = time.monotonic() + STARTS_WITHIN_S
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(endpoint, timeout=1):
                return
        except HTTPError:
            return  # it answers, if only to refuse us
        except OSError:
            time.sleep(0.1)  # until radosgw's own socket listens
    raise RuntimeError(f"radosgw did not answer within {STARTS_WITHIN_S} s")


def _stop(folder: Path) -> None:
    """Killed at once: asked politely it takes seconds, and all it has is thrown away."""
    for file in folder.glob("*.pid"):
        try:
            os.kill(int(file.read_text()), signal.SIGKILL)
        except (ProcessLookupError, ValueError):
            continue  # ended by itself, or before it wrote its number
