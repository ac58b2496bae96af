"""Every object store there is, for the contract tests: files, two S3 servers of different makers, and the tests' own fake."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from headwater.settings.origin import S3Store
from origin.objects.files import FileObjects
from origin.objects.interface import TierStore
from origin.objects.s3 import S3Objects
from tests.support.ceph import Ceph
from tests.support.memory_store import MemoryObjects
from tests.support.s3server import ACCESS_KEY, SECRET_KEY, S3Server, s3_server


@pytest.fixture(scope="session")
def running_s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever runs on Ceph runs in the worker that has it."""
    for item in items:
        if "ceph" in getattr(getattr(item, "callspec", None), "params", {}).values():
            item.add_marker(pytest.mark.xdist_group("ceph"))


@pytest.fixture
def bucket(running_s3: S3Server, credentials: None) -> S3Store:
    """Settings of a fresh bucket at rclone's S3 server."""
    return running_s3.bucket(f"bucket-{secrets.token_hex(4)}")


@pytest.fixture
def ceph_bucket(ceph: Ceph, credentials: None) -> S3Store:
    """Settings of a fresh bucket at Ceph."""
    return ceph.bucket(f"bucket-{secrets.token_hex(4)}")


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.delenv("AWS_PROFILE", raising=False)


@pytest.fixture(params=["files", "rclone", "ceph", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> TierStore:
    match request.param:
        case "files":
            return FileObjects(tmp_path / "objects")
        case "rclone":
            return S3Objects(request.getfixturevalue("bucket"))
        case "ceph":
            return S3Objects(request.getfixturevalue("ceph_bucket"))
        case _:
            return MemoryObjects()


@pytest.fixture(params=["files", "ceph", "memory"])
def store_at_once(request: pytest.FixtureRequest, tmp_path: Path) -> TierStore:
    """Stores that replace body and metadata at once; rclone's server writes one after the other."""
    match request.param:
        case "files":
            return FileObjects(tmp_path / "objects")
        case "ceph":
            return S3Objects(request.getfixturevalue("ceph_bucket"))
        case _:
            return MemoryObjects()
