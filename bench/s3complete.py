"""What `complete` reads of a large master in S3: parts fetched ahead, beside one after another as it was before.

python -m bench.s3complete [MIB] [--write]     (--write puts the table into docs/benchmarks.md)

Over a real Ceph radosgw on loopback (Debian: radosgw, ceph-mon, ceph-osd, ceph-mgr). Both in turn, several times.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import sys
import time
from datetime import UTC, datetime
from statistics import median

from bench.placing import placed
from origin.objects.s3 import S3Objects
from origin.objects.s3multipart import Multipart, Span
from origin.objects.s3verify import AT_ONCE, parts_with_digests
from tests.support.ceph import running_ceph
from tests.support.deployments import ROOT
from tests.support.s3server import ACCESS_KEY, SECRET_KEY

PART_BYTES = 8 * 2**20
MIB, ROUNDS = 256, 3


def read(multipart: Multipart, spans: list[Span], at_once: int) -> tuple[float, str]:
    """(seconds, SHA-256 of all)."""
    began = time.perf_counter()
    whole = hashlib.sha256()
    for chunks, _ in parts_with_digests(spans, multipart.chunks, at_once):
        for chunk in chunks:
            whole.update(chunk)
    return time.perf_counter() - began, whole.hexdigest()


def run(mib: int) -> str:
    load = os.getloadavg()[0]
    os.environ |= {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
    with running_ceph() as ceph:
        objects = S3Objects(ceph.bucket("bench"))
        body = secrets.token_bytes(mib * 2**20)
        objects.connection.client.put_object(Bucket=objects.connection.bucket, Key="whole", Body=body)
        spans = [Span(number, "whole", first, min(PART_BYTES, len(body) - first)) for number, first in _firsts(len(body))]
        multipart, wanted = Multipart(objects.connection), hashlib.sha256(body).hexdigest()
        rows = []
        for _ in range(ROUNDS):
            one, ahead = read(multipart, spans, 1), read(multipart, spans, AT_ONCE)
            assert one[1] == ahead[1] == wanted
            rows.append((one[0], ahead[0]))
    return table(rows, mib, load)


def _firsts(size_bytes: int) -> list[tuple[int, int]]:
    return list(enumerate(range(0, size_bytes, PART_BYTES), start=1))


def table(rows: list[tuple[float, float]], mib: int, load: float) -> str:
    ratio = median(one for one, _ in rows) / median(ahead for _, ahead in rows)
    return "\n".join(
        [
            "## Checking a master in S3",
            "",
            f"Measured {datetime.now(UTC):%Y-%m-%d %H:%M} UTC by `python -m bench.s3complete {mib}`, {os.cpu_count()} cores, "
            f"load average when it began: {load:.1f}. {mib} MiB in parts of 8 MiB out of Ceph's radosgw on the same machine, "
            "with both digests.",
            "",
            "| round | one part after another, s | parts fetched ahead, s |",
            "|---:|---:|---:|",
            *(f"| {number} | {one:.2f} | {ahead:.2f} |" for number, (one, ahead) in enumerate(rows, 1)),
            "",
            f"Fetched ahead it is **{ratio:.2f}** times as fast (medians).",
            "",
        ]
    )


def main() -> None:
    numbers = [int(argument) for argument in sys.argv[1:] if argument.isdigit()]
    text = run(numbers[0] if numbers else MIB)
    print(text)
    if "--write" in sys.argv[1:]:
        placed(ROOT / "docs" / "benchmarks.md", "s3complete", text)


if __name__ == "__main__":
    main()
