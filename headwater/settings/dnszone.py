"""Settings of what the DNS zone holds beside its logical hosts, and of how its server protects others and itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Final, TypeAlias

import dns.exception
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
from pydantic import BeforeValidator, Field

from headwater.settings.model import Settings, quantity
from headwater.settings.units import Address, DurationS

# Types that stand for themselves. SOA and NS are the server's own; a CNAME or DNAME would speak for names of others.
RECORD_TYPES: Final = ("A", "AAAA", "CAA", "HTTPS", "MX", "SRV", "SVCB", "TLSA", "TXT")


def _texts(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


RecordTexts = Annotated[list[str], BeforeValidator(_texts)]
# By name relative to the zone (`@` is the zone itself), then by type.
Records: TypeAlias = dict[str, dict[str, RecordTexts]]


class RateLimit(Settings):
    """Answers over UDP to clients without a cookie. Valid cookies and TCP prove the address and are not limited."""

    answers: int = Field(
        200, description="Answers about one name a second to a client network (/24, /56); 0 is no limit.", ge=0, le=10**6
    )
    errors: int = Field(
        50, description="Refusals, errors and answers that a name does not exist, a second to a client network; 0 is no limit.",
        ge=0, le=10**6,
    )  # fmt: skip
    slip: int = Field(
        2,
        description="Every so-manieth answer beyond is sent empty and truncated, so that a real client asks by TCP; others are "
        "dropped. 0 drops all.",
        ge=0,
        le=100,
    )


class KeyRollover(Settings):
    """How the keys of a signed zone are replaced. Waits follow from the TTLs here and of the zone."""

    zsk_every: DurationS | None = Field(
        None,
        description="Age at which the key that signs the zone is replaced; by default only by `headwater dns keys roll zsk`.",
    )
    ksk_every: DurationS | None = Field(
        None,
        description="Age at which the key that the parent names is replaced; by default when `headwater dns keys roll` says so.",
    )
    key_ttl: DurationS = quantity("1 h", description="TTL of the sets DNSKEY, CDS and CDNSKEY.", ge=0, le=86400)
    propagation: DurationS = quantity(
        "1 h", description="How long a change of the keys' file may take to reach every server of the zone.", ge=0, le=604_800
    )
    parent_servers: list[Address] = Field(
        [],
        description="The parent zone's name servers. They are asked, over TCP, whether they have a new key's DS; without them "
        "`headwater dns keys seen` tells it.",
    )


def record_problems(records: Records, reserved: frozenset[str]) -> list[str]:
    """What is wrong with static records; `reserved` are first labels that the server answers itself."""
    problems = []
    for name, by_type in records.items():
        where = f"dns.records.{name}"
        if name != "@" and not _is_relative_name(name):
            problems.append(f"{where}: a name relative to the zone was expected, such as 'www', '_acme-challenge' or '@'")
        elif name.rpartition(".")[2] in reserved:
            problems.append(f"{where}: the server answers for this name itself; choose another")
        for kind, texts in by_type.items():
            if kind not in RECORD_TYPES:
                problems.append(f"{where}.{kind}: one of {', '.join(RECORD_TYPES)} was expected")
                continue
            problems += [f"{where}.{kind}: {text!r}: {why}" for text in texts if (why := _unreadable(kind, text))]
    return problems


def name_problems(names: Iterable[tuple[str, str, bool]], zone: str) -> Iterator[str]:
    """What is wrong with what the server makes names of: (path of the setting, name, whether it has to be in the zone)."""
    try:
        origin = dns.name.from_text(zone)
    except dns.exception.DNSException as error:
        yield f"zone: {zone!r} can be no name of DNS: {error}"
        return
    for path, name, within in names:
        try:
            made = dns.name.from_text(name, origin)
        except dns.exception.DNSException as error:
            yield f"{path}: {name!r} can be no name of DNS: {error}"
            continue
        if within and (not made.is_subdomain(origin) or made == origin):
            yield f"{path}: {name!r} is no name in the zone {zone}; leave the dot at its end out"


def _is_relative_name(name: str) -> bool:
    try:
        return not name.endswith(".") and "*" not in name and dns.name.from_text(name, None) != dns.name.empty
    except dns.exception.DNSException:
        return False


def _unreadable(kind: str, text: str) -> str | None:
    try:
        dns.rdata.from_text(dns.rdataclass.IN, dns.rdatatype.from_text(kind), text, origin=dns.name.root)
    except (dns.exception.DNSException, ValueError) as error:
        return str(error) or "not the form of this type"
    return None
