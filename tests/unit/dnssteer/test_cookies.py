"""DNS cookies: the vectors of RFC 9018, and what the server does with what clients show."""

from __future__ import annotations

from ipaddress import ip_address

import dns.edns
import dns.message
import dns.rcode
import pytest

from dnssteer.answer import Asker, Policy, Reply, answer
from dnssteer.cookies import Shown, needs_renewal, server_cookie, shown
from dnssteer.reply import Outcome
from tests.unit.dnssteer.test_answer import WORLD, ZONE

NOW = 1_800_000_000.0
SECRET = bytes(range(16))
CLIENT = ip_address("127.0.0.1")

VECTORS = [
    # RFC 9018 appendix A: secret, client cookie, client, time, server cookie
    ("e5e973e5a6b2a43f48e7dc849e37bfcf", "2464c4abcf10c957", "198.51.100.100", 1559731985, "010000005cf79f111f8130c3eee29480"),
    ("e5e973e5a6b2a43f48e7dc849e37bfcf", "fc93fc62807ddb86", "203.0.113.203", 1559734700, "010000005cf7a9acf73a7810aca2381e"),
    ("445536bcd2513298075a5d379663c962", "22681ab97d52c298", "2001:db8:220:1:59de:d0f4:8769:82b8", 1559741961,
     "010000005cf7c609a6bb79d16625507a"),
]  # fmt: skip


@pytest.mark.parametrize(("secret", "client_cookie", "client", "made", "expected"), VECTORS)
def test_the_vectors_of_rfc_9018(secret: str, client_cookie: str, client: str, made: int, expected: str) -> None:
    made_cookie = server_cookie(bytes.fromhex(client_cookie), ip_address(client), bytes.fromhex(secret), made)
    assert made_cookie.hex() == expected


def cookie(made_at: float = NOW, secret: bytes = SECRET, client: str = "127.0.0.1") -> bytes:
    return b"clientck" + server_cookie(b"clientck", ip_address(client), secret, made_at)


JUDGED = [
    (None, Shown.NONE, "no option"),
    (b"clientck", Shown.CLIENT_ONLY, "the first query of a client"),
    (cookie(), Shown.GOOD, "just made"),
    (cookie(NOW - 3600), Shown.GOOD, "an hour old (RFC 9018 section 4.3)"),
    (cookie(NOW - 3601), Shown.BAD, "too old"),
    (cookie(NOW + 300), Shown.GOOD, "a clock five minutes ahead"),
    (cookie(NOW + 301), Shown.BAD, "from the future"),
    (cookie(secret=bytes(16)), Shown.BAD, "another secret"),
    (cookie(client="127.0.0.2"), Shown.BAD, "another client's"),
    (b"clientck" + bytes(16), Shown.BAD, "another version"),
    (b"clientck" + bytes(8), Shown.BAD, "shorter than ours"),
]


@pytest.mark.parametrize(("option", "judged", "why"), JUDGED)
def test_what_a_cookie_proves(option: bytes | None, judged: Shown, why: str) -> None:
    assert shown(option, CLIENT, (SECRET,), NOW) is judged, why


def test_a_cookie_of_the_secret_before_is_still_good_and_an_old_one_is_renewed() -> None:
    assert shown(cookie(), CLIENT, (bytes(16), SECRET), NOW) is Shown.GOOD
    assert not needs_renewal(cookie(NOW - 1800), NOW)
    assert needs_renewal(cookie(NOW - 1801), NOW)


def asked(option: bytes | None, *, required: bool = False, over_tcp: bool = False) -> tuple[Reply, bytes]:
    options = [] if option is None else [dns.edns.GenericOption(dns.edns.OptionType.COOKIE, option)]
    wire = dns.message.make_query("v3fa.cdn.test", "A", use_edns=0, options=options).to_wire()
    return answer(wire, Asker(CLIENT, over_tcp, NOW), ZONE, WORLD, Policy((SECRET,), required)), wire


def cookie_of(reply: Reply) -> bytes | None:
    assert reply.wire is not None
    found = [option for option in dns.message.from_wire(reply.wire).options if option.otype == dns.edns.OptionType.COOKIE]
    return found[0].to_wire() if found else None


def test_a_client_cookie_gets_an_answer_and_a_server_cookie_that_is_good() -> None:
    reply, _ = asked(b"clientck")
    assert reply.outcome is Outcome.NOERROR
    assert shown(cookie_of(reply), CLIENT, (SECRET,), NOW) is Shown.GOOD
    assert cookie_of(asked(cookie(NOW - 60))[0]) == cookie(NOW - 60), "a good one is kept"
    assert cookie_of(asked(cookie(NOW - 2000))[0]) == cookie(NOW), "an old one is renewed"
    assert cookie_of(asked(None)[0]) is None


@pytest.mark.parametrize("size", [1, 7, 9, 15, 41])
def test_a_cookie_of_no_legal_length_is_a_format_error(size: int) -> None:
    assert asked(bytes(size))[0].outcome is Outcome.FORMERR


REQUIRED = [
    (None, False, Outcome.NOERROR, "who does not speak cookies is answered"),
    (b"clientck", False, Outcome.TRUNCATED, "BADCOOKIE would be longer than its query"),
    (cookie(0), False, Outcome.BADCOOKIE, "RFC 7873 section 5.2.4"),
    (cookie(), False, Outcome.NOERROR, "proven"),
    (b"clientck", True, Outcome.NOERROR, "TCP proves the address"),
]


@pytest.mark.parametrize(("option", "over_tcp", "outcome", "why"), REQUIRED)
def test_where_cookies_are_required(option: bytes | None, over_tcp: bool, outcome: Outcome, why: str) -> None:
    reply, wire = asked(option, required=True, over_tcp=over_tcp)
    assert reply.outcome is outcome, why
    assert reply.wire is not None
    if outcome is Outcome.BADCOOKIE:
        assert dns.message.from_wire(reply.wire).rcode() == dns.rcode.BADCOOKIE
        assert shown(cookie_of(reply), CLIENT, (SECRET,), NOW) is Shown.GOOD
    if outcome is not Outcome.NOERROR:
        assert len(reply.wire) <= len(wire), "nobody is sent more than they asked with"
