"""The one immutable view of the config that a request sees: the deployment, the keys, who is healthy, who may ask whom."""

from __future__ import annotations

import base64
import hashlib
from functools import cached_property
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, PlainSerializer

from headwater.settings.deployment import Deployment
from headwater.settings.model import Settings
from headwater.settings.steeringstate import SteeringState
from headwater.settings.topology import NodeName

Health = Literal["up", "down", "unknown"]

Base64Bytes = Annotated[
    bytes,
    BeforeValidator(lambda value: base64.b64decode(value, validate=True) if isinstance(value, str) else value),
    PlainSerializer(lambda value: base64.b64encode(value).decode("ascii"), return_type=str),
]


class PublishedKey(Settings):
    """A key as nodes see it: the public half (Ed25519), or the secret (HMAC)."""

    key_id: str = Field(description="Key id.")
    algorithm: Literal["ed25519", "hmac-sha256"] = Field(description="Algorithm.")
    state: Literal["next", "active", "retired"] = Field(description="Place in the rotation.")
    material: Base64Bytes = Field(description="32 bytes.", repr=False)


class Snapshot(Settings):
    """`version` grows with every change; a node never takes an older one. 0 is a node's own view before control spoke."""

    version: int = Field(description="Grows with every change.", ge=0)
    deployment: Deployment = Field(description="Desired config.")
    keys: list[PublishedKey] = Field([], description="Keys that verify grants.")
    node_tokens: dict[NodeName, str] = Field({}, description="SHA-256 (hex) of each node's token.")
    enrolments: dict[NodeName, int] = Field(
        {},
        description="The first enrolment of each node whose certificates count; those of earlier ones were revoked or replaced.",
    )
    health: dict[NodeName, Health] = Field({}, description="What control's checks say; a node not named is unknown.")
    steering_state: SteeringState = Field(SteeringState(), description="Who is coming back, and who passes buckets on.")
    purge_sequence: int = Field(0, description="The latest purge that control has told every node that it reached.", ge=0)

    def healthy(self, node: NodeName) -> bool:
        """Unknown counts as healthy: no news must not empty an answer."""
        return self.health.get(node, "unknown") != "down"

    def node_of_token(self, token: str) -> NodeName | None:
        """The node whose token this is, or None."""
        return self._nodes_by_token.get(hashlib.sha256(token.encode()).hexdigest())

    @cached_property
    def _nodes_by_token(self) -> dict[str, NodeName]:
        return {digest: name for name, digest in self.node_tokens.items()}
