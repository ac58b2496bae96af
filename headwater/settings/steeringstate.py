"""What control adds to the desired config for steering: who is just coming back, and who has too much."""

from __future__ import annotations

from pydantic import Field

from headwater.settings.model import Settings
from headwater.settings.topology import NodeName


class SteeringState(Settings):
    """Nodes and POPs not named have all of their weight and pass nothing on."""

    edge_ramps: dict[NodeName, float] = Field({}, description="Part of the weight that counts now, of edges that came back.")
    pop_ramps: dict[str, float] = Field({}, description="The same of POPs.")
    edge_passes: dict[NodeName, list[int]] = Field({}, description="Buckets that an edge over its bound passes on.")
    pop_passes: dict[str, list[int]] = Field({}, description="The same of POPs.")
