"""A real S3-speaking server (`rclone serve s3`) on a free port, for as long as a test session lasts."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config

from headwater.settings.origin import S3Store, Store
from tests.support.deployments import free_port

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CORSRuleTypeDef

ACCESS_KEY = "headwater-test"
SECRET_KEY = "headwater-test-secret"
STARTS_WITHIN_S = 20.0


@dataclass(frozen=True)
class S3Server:
    endpoint: str
    folder: Path

    def client(self) -> S3Client:
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
        )

    def bucket(self, name: str, *, browsers: bool = False) -> S3Store:
        """Settings of a fresh bucket, made through the server: a folder made behind its back it would see only later.

        With `browsers`, pages of any origin may send parts to it.
        """
        client = self.client()
        client.create_bucket(Bucket=name)
        if browsers:
            rule: CORSRuleTypeDef = {"AllowedOrigins": ["*"], "AllowedMethods": ["PUT"], "AllowedHeaders": ["content-md5"]}
            client.put_bucket_cors(Bucket=name, CORSConfiguration={"CORSRules": [rule]})
        return S3Store(kind="s3", endpoint=self.endpoint, bucket=name, prefix="lab")

    def keys(self, store: Store) -> list[str]:
        """Every key in the store's bucket, as the store itself has it."""
        assert isinstance(store, S3Store)
        return [entry["Key"] for entry in self.client().list_objects_v2(Bucket=store.bucket).get("Contents", [])]


@contextmanager
def s3_server(folder: Path) -> Iterator[S3Server]:
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    rclone = Path(sys.executable).with_name("rclone")
    command = [str(rclone), "serve", "s3", "--auth-key", f"{ACCESS_KEY},{SECRET_KEY}", "--addr", f"127.0.0.1:{port}"]
    command += ["--config", "/dev/null", "--log-level", "ERROR", str(folder)]  # no config file of the user's
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        _wait_for(port, process)
        yield S3Server(f"http://127.0.0.1:{port}", folder)
    finally:
        process.kill()  # asked politely it waits for idle connections; its folder is thrown away anyway
        process.wait()


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + STARTS_WITHIN_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"rclone ended with status {process.returncode}")
        with socket.socket() as probe:
            probe.settimeout(0.2)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)  # until the server's own socket listens
    raise RuntimeError(f"rclone did not listen within {STARTS_WITHIN_S:.0f} s")
