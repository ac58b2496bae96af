"""Purge records as they are kept in files and told from control to nodes: JSON, in files a line each behind its CRC-32."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from headwater.rules.purging import PurgeKind, PurgeRecord


def members_of(record: PurgeRecord) -> dict[str, Any]:
    return asdict(record)


def record_from(members: object) -> PurgeRecord:
    """A record from its JSON members. Raises ValueError, KeyError or TypeError on anything else."""
    if not isinstance(members, dict):
        raise TypeError("a record is an object")
    return PurgeRecord(
        sequence=int(members["sequence"]),
        kind=PurgeKind(members["kind"]),
        target=str(members["target"]),
        soft=bool(members["soft"]),
        at=float(members["at"]),
    )


def line_of(record: PurgeRecord) -> bytes:
    text = json.dumps(members_of(record)).encode()
    return b"%08x %b\n" % (zlib.crc32(text), text)


def valid_lines(content: bytes) -> Iterator[tuple[bytes, PurgeRecord]]:
    """The lines up to the first one that is torn or damaged, as they stand there."""
    for line in content.splitlines(keepends=True):
        checksum, _, text = line.rstrip(b"\n").partition(b" ")
        if not line.endswith(b"\n") or checksum != b"%08x" % zlib.crc32(text):
            return
        try:
            yield line, record_from(json.loads(text))
        except (ValueError, KeyError, TypeError):
            return
