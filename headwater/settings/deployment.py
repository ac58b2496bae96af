"""One deployment: everything that one YAML file says. The cross-checks between its parts are here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from headwater.rules.hostfield import covers
from headwater.rules.names import BUCKETS
from headwater.rules.nodeidentity import LONGEST_NAME, can_be_named
from headwater.settings.dnszone import name_problems, record_problems
from headwater.settings.enrolment import Enrolment
from headwater.settings.model import Settings, quantity
from headwater.settings.origin import Origin
from headwater.settings.preposition import Preposition
from headwater.settings.staging import Staging
from headwater.settings.topology import Dns, Edge, NodeName, Pop, Property, Region, Shield, Steering
from headwater.settings.units import Address, DurationS, ListenAddress


class Control(Settings):
    """Desired config, health and the operator page."""

    listen: ListenAddress = Field(description="API and page for operators, snapshots for nodes.")
    probe_interval: DurationS = quantity("1 s", description="How often each node's health is checked.", gt=0)
    probe_timeout: DurationS = quantity("1 s", description="A check without an answer for this long has failed.", gt=0)
    down_after: int = Field(2, description="Failed checks in a row that mark a node down.", ge=1)
    up_after: int = Field(2, description="Good checks in a row that mark it up again.", ge=1)
    rollout: Literal["immediate", "staged"] = Field(
        "immediate",
        description="What an edit of this file does: live at once, or rolled out in steps as `headwater apply` does.",
    )
    staging: Staging = Field(Staging(), description="The steps of a rollout.")
    enrolment: Enrolment | None = Field(
        None,
        description="Enrolment of nodes by one-time tokens, and mutual TLS between them and control; without it they know each "
        "other by tokens, in plain, for a private network.",
    )
    preposition: Preposition | None = Field(
        None, description="The nightly window in which edges are filled with what is likely to be watched; without it, nothing."
    )


class Signing(Settings):
    """How grants are made."""

    keys: Path = Field(Path("keys"), description="Folder of the key ring; relative to the data folder.")
    algorithm: Literal["ed25519", "hmac-sha256"] = Field("ed25519", description="Algorithm of newly made keys.")
    lifetime: DurationS = quantity("6 h", description="Lifetime of a playback grant.", gt=0)
    leeway: DurationS = quantity("5 s", description="Clock difference forgiven at not-before and expiry.", ge=0, le=300)
    bind_network: bool = Field(False, description="Whether playback grants name the viewer's network (/24 or /48).")


class Deployment(Settings):
    """A whole deployment."""

    name: str = Field(description="The deployment's name, in logs and metrics.", pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")
    zone: str = Field(description="The DNS zone of logical hosts.", pattern=r"^[a-z0-9-]+(\.[a-z0-9-]+)+$")
    data: Path = Field(description="Data folder; relative to the config file's folder.")
    control: Control = Field(description="The control plane.")
    origin: Origin = Field(description="The origin.")
    shields: dict[NodeName, Shield] = Field(description="Shields by name.", min_length=1)
    regions: dict[str, Region] = Field(description="Regions by name.", min_length=1)
    pops: dict[str, Pop] = Field(description="POPs by name.", min_length=1)
    steering: Steering = Field(description="How viewers are mapped to POPs.")
    dns: Dns = Field(description="The DNS server.")
    signing: Signing = Field(Signing(), description="Grants.")
    properties: dict[str, Property] = Field(description="Sites served, by name.", min_length=1)

    @model_validator(mode="after")
    def _references_hold(self) -> Deployment:
        problems = [
            *self._unknown_regions(),
            *self._shared_names(),
            *self._shared_addresses(),
            *self._zone_problems(),
            *self._unreachable_properties(),
        ]
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _unknown_regions(self) -> Iterator[str]:
        known = ", ".join(sorted(self.regions))
        for pop_name, pop in self.pops.items():
            if pop.region not in self.regions:
                yield f"pops.{pop_name}.region: {pop.region!r} is no region (regions: {known})"
        for region_name, region in self.regions.items():
            for other in region.spill:
                if other not in self.regions:
                    yield f"regions.{region_name}.spill: {other!r} is no region (regions: {known})"
        if self.steering.default_region not in self.regions:
            yield f"steering.default_region: {self.steering.default_region!r} is no region (regions: {known})"

        geo = self.steering.geo
        for kind, mapped in (("countries", geo.countries), ("continents", geo.continents)) if geo is not None else ():
            for code, region_name in mapped.items():
                if region_name not in self.regions:
                    yield f"steering.geo.{kind}.{code}: {region_name!r} is no region (regions: {known})"

    def _shared_names(self) -> Iterator[str]:
        seen: set[str] = {"control", "dns", "origin-api", "origin-bytes", "origin-transcoder"}
        for name in [*self.shields, *(name for name, _, _ in self.edges())]:
            if name in seen:
                yield f"{name!r} names two nodes; give each node its own name"
            seen.add(name)
            if self.control.enrolment is not None and not can_be_named(name):
                yield f"{name!r} can be in no certificate: 1 to {LONGEST_NAME} letters, digits, and . _ - within, were expected"

    def _shared_addresses(self) -> Iterator[str]:
        seen: dict[Address, str] = {}
        for owner, address in self.listeners():
            if address in seen:
                yield f"{owner} and {seen[address]} both listen on {address}; give one another port"
            seen[address] = owner

    def _zone_problems(self) -> Iterator[str]:
        own = frozenset((*self.dns.nameservers, *(name for name, _, _ in self.edges()), *(f"v{b:03x}" for b in range(BUCKETS))))
        yield from record_problems(self.dns.records, own)
        yield from name_problems(self._dns_names(), self.zone)
        for name in self.dns.addresses:
            if name not in self.dns.nameservers:
                yield f"dns.addresses.{name}: no name server of that name (dns.nameservers: {', '.join(self.dns.nameservers)})"

    def _unreachable_properties(self) -> Iterator[str]:
        """A request is for the first property that has its host and path."""
        before: dict[str, Property] = {}
        for name, settings in self.properties.items():
            whole = {one: other for one, other in before.items() if settings.paths.startswith(other.paths)}
            taking = [next((one for one, other in whole.items() if covers(other.hosts, host)), None) for host in settings.hosts]
            if all(taking):
                takers = ", ".join(dict.fromkeys(f"properties.{one}" for one in taking))
                yield f"properties.{name}: {takers} before it takes all of its hosts and paths; move it up, or give it others"
            before[name] = settings

    def _dns_names(self) -> Iterator[tuple[str, str, bool]]:
        """What the DNS server makes names of, as `name_problems` takes it."""
        for server in self.dns.nameservers:
            yield "dns.nameservers", server, False
        yield "dns.hostmaster", self.dns.hostmaster, False
        for name, pop, edge in self.edges():
            yield f"pops.{pop}.edges.{name}", name, True
            if edge.host is not None:
                yield f"pops.{pop}.edges.{name}.host", f"{edge.host}.", False

    def edges(self) -> Iterator[tuple[NodeName, str, Edge]]:
        """Every edge as (node name, POP name, edge)."""
        for pop_name, pop in self.pops.items():
            for edge_name, edge in pop.edges.items():
                yield edge_name, pop_name, edge

    def edge(self, name: NodeName) -> Edge:
        return next(edge for edge_name, _, edge in self.edges() if edge_name == name)

    def listeners(self) -> Iterator[tuple[str, Address]]:
        """Every TCP listener as (setting path, address)."""
        yield "control.listen", self.control.listen
        if self.control.enrolment is not None:
            yield "control.enrolment.listen", self.control.enrolment.listen
        yield "origin.api.listen", self.origin.api.listen
        yield "origin.api.admin", self.origin.api.admin
        yield "origin.bytes.listen", self.origin.bytes.listen
        yield "origin.bytes.admin", self.origin.bytes.admin
        if self.origin.bytes.tls is not None:
            yield "origin.bytes.tls.listen", self.origin.bytes.tls.listen
        yield "origin.transcoder_admin", self.origin.transcoder_admin
        yield "dns.listen", self.dns.listen
        yield "dns.admin", self.dns.admin
        if self.dns.http is not None:
            yield "dns.http.listen", self.dns.http.listen
            if self.dns.http.tls is not None:
                yield "dns.http.tls.listen", self.dns.http.tls.listen
        for name, shield in self.shields.items():
            yield f"shields.{name}.listen", shield.listen
            yield f"shields.{name}.admin", shield.admin
            if shield.tls is not None:
                yield f"shields.{name}.tls.listen", shield.tls.listen
        for name, pop, edge in self.edges():
            yield f"pops.{pop}.edges.{name}.listen", edge.listen
            yield f"pops.{pop}.edges.{name}.admin", edge.admin
            if edge.tls is not None:
                yield f"pops.{pop}.edges.{name}.tls.listen", edge.tls.listen


Role = Literal["control", "origin-api", "origin-bytes", "origin-transcoder", "dns", "shield", "edge"]


def nodes_of(deployment: Deployment) -> dict[NodeName, Role]:
    """Every process of a deployment by node name, in the order in which they should start."""
    nodes: dict[NodeName, Role] = {
        "control": "control",
        "origin-bytes": "origin-bytes",
        "origin-api": "origin-api",
        "origin-transcoder": "origin-transcoder",
    }
    nodes.update(dict.fromkeys(deployment.shields, "shield"))
    nodes.update({name: "edge" for name, _, _ in deployment.edges()})
    nodes["dns"] = "dns"
    return nodes


def admin_address(deployment: Deployment, node: NodeName) -> Address:
    """Where a node answers /healthz and /metrics."""
    role = nodes_of(deployment)[node]
    match role:
        case "control":
            return deployment.control.listen
        case "origin-api":
            return deployment.origin.api.admin
        case "origin-bytes":
            return deployment.origin.bytes.admin
        case "origin-transcoder":
            return deployment.origin.transcoder_admin
        case "dns":
            return deployment.dns.admin
        case "shield":
            return deployment.shields[node].admin
        case "edge":
            return deployment.edge(node).admin
