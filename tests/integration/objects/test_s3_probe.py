"""What two S3 servers of different makers can do, as they show it themselves; and stores that cannot be used are named."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from headwater.settings.origin import S3Store
from origin.objects.interface import ObjectStoreFailed
from origin.objects.s3 import S3Objects
from origin.objects.s3probe import Capability, probe
from tests.support.deployments import ROOT, lab_config
from tests.support.s3server import S3Server


@pytest.mark.xdist_group("ceph")
async def test_ceph_can_do_all_but_conditional_deletes(ceph_bucket: S3Store) -> None:
    found = await probe(ceph_bucket)
    assert [capability for capability, able in found.items() if not able] == [Capability.CONDITIONAL_DELETE]
    assert [info async for info in S3Objects(ceph_bucket).list("")] == []  # nothing is left of it


async def test_rclone_takes_uploads_in_parts_and_checks_them(bucket: S3Store) -> None:
    found = await probe(bucket)
    assert found[Capability.MULTIPART]
    assert found[Capability.CONTENT_MD5]
    assert not found[Capability.PART_COPY]


async def test_a_store_that_cannot_be_used_says_why(bucket: S3Store) -> None:
    with pytest.raises(ObjectStoreFailed, match="has no bucket"):
        await probe(bucket.model_copy(update={"bucket": "not-there"}))
    with pytest.raises(ObjectStoreFailed, match="does not answer"):
        await probe(bucket.model_copy(update={"endpoint": "http://127.0.0.1:1"}))


async def test_the_command_says_what_each_store_can_do(running_s3: S3Server, bucket: S3Store, tmp_path: Path) -> None:
    config = lab_config(tmp_path)
    content = yaml.safe_load(config.read_text())
    content["origin"]["masters"] = {"kind": "s3", "endpoint": bucket.endpoint, "bucket": bucket.bucket}
    config.write_text(yaml.safe_dump(content))
    command = [sys.executable, "-m", "headwater", "store", "check", str(config)]
    told = await asyncio.to_thread(subprocess.run, command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    assert f"masters: bucket {bucket.bucket}" in told.stdout
    assert "hot: local files" in told.stdout
