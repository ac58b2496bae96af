"""Queries with a client subnet or a cookie, answered from what is known of the same query without options. Pure.

Nearly every query with options has one shape: header, one question, an OPT record at the end. Its answer is the plain one of the
client's region with options in its own OPT record, so that as many client networks and cookies as there are cost one answer a
region. Whatever has another shape is left to `answer`, and to nothing else: both agree byte for byte on the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import dns.exception
from dns.rdatatype import AAAA, HTTPS, A

from dnssteer.answer import Asker, KnownBy, Policy, Reply, Steered, answer
from dnssteer.cookies import Judged, Shown
from dnssteer.memory import ID_BYTES, NAME_AT, Memory
from dnssteer.query import Edns, MalformedQuery, read_edns
from dnssteer.reply import AUTHORITATIVE, Outcome, limit_bytes, options_of
from dnssteer.zone import Zone
from headwater.rules.steering import World, region_of

REMEMBERED_OUTCOMES: Final = frozenset({Outcome.NOERROR, Outcome.NODATA})
_COUNTS: Final = b"\x00\x01\x00\x00\x00\x00\x00\x01"  # one question, one additional record
_OPT: Final = b"\x00\x00\x29"  # the root's name and the type
_OPT_BYTES: Final = 11  # without options
_NOT_A_QUERY: Final = 0xF8  # of the first byte of flags: QR and the opcode


def varied(
    wire: bytes,
    asker: Asker,
    zone: Zone,
    world: World,
    policy: Policy,
    memory_of: Callable[[str], Memory],
    judged: Judged,
) -> Reply | None:
    """The same as `answer`, or None for what has another shape. `memory_of` gives a region's memory for the asker's transport."""
    shape = _without_options(wire)
    if shape is None:
        return None
    plain_wire, edns = shape
    cookie = edns.cookie if policy.secrets else None
    shown, kept = judged.judged(cookie, asker.address, policy.secrets, asker.now)
    if policy.require_cookies and not asker.over_tcp and shown in (Shown.CLIENT_ONLY, Shown.BAD):
        return None
    told, scope_len = False, 0
    if edns.subnet is not None and edns.subnet.address is not None and edns.subnet.source_len > 0:
        match = region_of(edns.subnet.address, world, edns.subnet.source_len)
        told, region, scope_len = True, match.region, match.prefix_len
    else:
        region = region_of(asker.address, world).region
    plain, plain_reply = _plain(plain_wire, replace(asker, region=region), zone, world, policy, memory_of(region))
    if plain.outcome is Outcome.REFUSED:
        return replace(plain, wire=plain_reply, shown=shown)
    if plain.outcome not in AUTHORITATIVE or plain.truncated or plain_reply is None:
        return None
    depends = plain.steered is not None and plain.qtype in (A, AAAA, HTTPS)
    reply = _with_options(plain_reply, options_of(edns.subnet, scope_len if depends else 0, kept))
    if reply is None or len(reply) > limit_bytes(edns, asker.over_tcp):
        return None
    steered = Steered(plain.steered.region, KnownBy.SUBNET) if told and plain.steered is not None else plain.steered
    return replace(plain, wire=reply, steered=steered, shown=shown)


def _plain(wire: bytes, asker: Asker, zone: Zone, world: World, policy: Policy, memory: Memory) -> tuple[Reply, bytes | None]:
    known = memory.in_another_case(wire)
    if known is not None:
        return replace(known[0].tally.reply, named=known[0].named), wire[:ID_BYTES] + known[1]
    made = answer(wire, asker, zone, world, policy)
    if made.outcome in REMEMBERED_OUTCOMES:
        memory.put(wire, made)
    return made, made.wire


def _without_options(wire: bytes) -> tuple[bytes, Edns] | None:
    """(the query with an empty OPT record, what its own says), when it has the shape and options that are well formed."""
    if len(wire) < NAME_AT or wire[2] & _NOT_A_QUERY or wire[4:NAME_AT] != _COUNTS:
        return None
    at = NAME_AT
    while at < len(wire) and 0 < wire[at] < 64:
        at += wire[at] + 1
    opt = at + 5  # behind the name's end, the type and the class
    options = opt + _OPT_BYTES
    if len(wire) <= options or wire[at] or wire[opt : opt + 3] != _OPT or wire[opt + 6]:
        return None
    if int.from_bytes(wire[options - 2 : options], "big") != len(wire) - options:
        return None
    payload_bytes, ttl = int.from_bytes(wire[opt + 3 : opt + 5], "big"), int.from_bytes(wire[opt + 5 : opt + 9], "big")
    try:
        edns = read_edns(payload_bytes, ttl, wire[options:])
    except (dns.exception.DNSException, MalformedQuery):
        return None
    return wire[: options - 2] + b"\x00\x00", edns


def _with_options(reply: bytes, options: bytes) -> bytes | None:
    """The reply with options in its OPT record, which is its last."""
    if reply[-_OPT_BYTES : 3 - _OPT_BYTES] != _OPT or reply[-2:] != b"\x00\x00":
        return None
    return reply[:-2] + len(options).to_bytes(2, "big") + options
