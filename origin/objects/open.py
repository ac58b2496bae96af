"""From settings to stores. What speaks S3 is imported where a deployment has such a store: boto3 costs each process that imports
it a tenth of a second and some megabytes."""

from __future__ import annotations

import secrets
from pathlib import Path

from headwater.runtime.httpsite import CannotStart
from headwater.runtime.wholefiles import make_once
from headwater.settings.deployment import Deployment
from headwater.settings.origin import FileStore, S3Store, Store
from origin.objects.fileparts import FilePartStore
from origin.objects.files import FileObjects
from origin.objects.interface import TierStore
from origin.objects.parts import PartStore


def open_store(store: Store, data: Path) -> TierStore:
    """The store that the settings name. Touches the disk, not the network: call it at start, not per request."""
    match store:
        case FileStore():
            return FileObjects(data / store.path)
        case S3Store():
            from origin.objects.s3 import S3Objects

            return S3Objects(store)


def open_part_store(store: Store, deployment: Deployment) -> PartStore:
    """Where parts arrive for objects of this store."""
    match store:
        case FileStore():
            secret = part_url_secret(deployment.data)
            return FilePartStore(FileObjects(deployment.data / store.path), deployment.origin.public_url, secret)
        case S3Store():
            from origin.objects.s3 import S3Objects
            from origin.objects.s3parts import LEAST_PART_BYTES, S3PartStore

            uploads = deployment.origin.uploads
            if min(uploads.part_size, uploads.min_part_size) < LEAST_PART_BYTES:
                cure = "set origin.uploads.part_size and origin.uploads.min_part_size to 5 MiB or more"
                raise CannotStart(f"S3 joins parts of 5 MiB and more, but smaller ones are allowed here: {cure}.")
            return S3PartStore(S3Objects(store))


def part_url_secret(data: Path) -> bytes:
    """32 random bytes, made on first use (mode 0600; two starters agree on one)."""
    path = data / "secrets" / "part-urls.key"
    make_once(path, secrets.token_bytes(32))
    return path.read_bytes()
