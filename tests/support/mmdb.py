"""Writes small databases in MaxMind's format (specification 2.0), so that tests need none of anybody's."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any

RECORD_BITS = 24
MARKER = b"\xab\xcd\xefMaxMind.com"
UINT16, UINT32, UINT64 = 5, 6, 9
MAPPED_BITS = 96  # IPv4 stands at ::/96 of an IPv6 tree

Tree = list[Any]  # a node: [left, right], each None, a node, or the index of a record


def write_mmdb(file: Path, records: dict[IPv4Network | IPv6Network, dict[str, Any]]) -> None:
    """An IPv6 tree of the networks, which must not overlap. `records` are maps of strings and maps."""
    root: Tree = [None, None]
    data, offsets = b"", []
    for network, record in records.items():
        offsets.append(len(data))
        data += _encoded(record)
        _insert(root, network, len(offsets) - 1)
    nodes = _numbered(root)
    numbers = {id(node): number for number, node in enumerate(nodes)}

    def pointer(child: Any) -> bytes:
        if child is None:
            value = len(nodes)
        else:
            value = len(nodes) + 16 + offsets[child] if isinstance(child, int) else numbers[id(child)]
        return value.to_bytes(RECORD_BITS // 8, "big")

    tree = b"".join(pointer(node[0]) + pointer(node[1]) for node in nodes)
    metadata = {
        "node_count": (UINT32, len(nodes)),
        "record_size": (UINT16, RECORD_BITS),
        "ip_version": (UINT16, 6),
        "database_type": "Test",
        "languages": [],
        "binary_format_major_version": (UINT16, 2),
        "binary_format_minor_version": (UINT16, 0),
        "build_epoch": (UINT64, 1_800_000_000),
        "description": {},
    }
    aside = file.with_suffix(".new")
    aside.write_bytes(tree + bytes(16) + data + MARKER + _encoded(metadata))
    aside.replace(file)


def country(code: str, continent: str) -> dict[str, Any]:
    return {"country": {"iso_code": code}, "continent": {"code": continent}}


def _insert(root: Tree, network: IPv4Network | IPv6Network, record: int) -> None:
    value, length = int(network.network_address), network.prefixlen + (MAPPED_BITS if network.version == 4 else 0)
    node = root
    for depth in range(length):
        bit = value >> (127 - depth) & 1
        if depth == length - 1:
            assert node[bit] is None
            node[bit] = record
            return
        node[bit] = node[bit] or [None, None]
        node = node[bit]


def _numbered(root: Tree) -> list[Tree]:
    nodes, waiting = [], [root]
    while waiting:
        node = waiting.pop()
        nodes.append(node)
        waiting += [child for child in node if isinstance(child, list)]
    return nodes


def _encoded(value: Any) -> bytes:
    if isinstance(value, str):
        return _head(2, len(value.encode())) + value.encode()
    if isinstance(value, dict):
        return _head(7, len(value)) + b"".join(_encoded(key) + _encoded(item) for key, item in value.items())
    if isinstance(value, list):
        return _head(11, len(value)) + b"".join(map(_encoded, value))
    kind, number = value
    size = (number.bit_length() + 7) // 8
    return _head(kind, size) + number.to_bytes(size, "big")


def _head(kind: int, size: int) -> bytes:
    assert size < 29
    return bytes([size, kind - 7]) if kind > 7 else bytes([kind << 5 | size])
