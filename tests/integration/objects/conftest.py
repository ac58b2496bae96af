"""Every object store there is, for the contract tests."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from headwater.settings.origin import S3Store
from origin.objects.files import FileObjects
from origin.objects.interface import TierStore
from origin.objects.s3 import S3Objects
from tests.support.memory_store import MemoryObjects
from tests.support.s3server import ACCESS_KEY, SECRET_KEY, S3Server, s3_server


@pytest.fixture(scope="session")
def running_s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def bucket(running_s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Store:
    """Settings of a fresh bucket, the credentials in the environment."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    return running_s3.bucket(f"bucket-{secrets.token_hex(4)}")


@pytest.fixture(params=["files", "s3", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> TierStore:
    match request.param:
        case "files":
            return FileObjects(tmp_path / "objects")
        case "s3":
            return S3Objects(request.getfixturevalue("bucket"))
        case _:
            return MemoryObjects()


@pytest.fixture(params=["files", "memory"])
def store_at_once(request: pytest.FixtureRequest, tmp_path: Path) -> TierStore:
    """Stores that replace body and metadata at once, as a real S3 does; the test server writes one after the other."""
    return FileObjects(tmp_path / "objects") if request.param == "files" else MemoryObjects()
