"""From settings to tiers."""

from __future__ import annotations

from headwater.runtime.httpsite import CannotStart
from headwater.settings.deployment import Deployment
from headwater.settings.origin import Tier
from origin.objects.open import open_store
from origin.tiers.heat import TierRule
from origin.tiers.store import PlacedStore, TieredStore


def tiers_of(deployment: Deployment) -> list[tuple[str, Tier]]:
    """(name, settings) of the tiers there are, hottest first. Raises CannotStart when two of them are one store."""
    tiers = deployment.origin.tiers
    present = [
        (name, tier) for name, tier in (("hot", tiers.hot), ("warm", tiers.warm), ("cold", tiers.cold)) if tier is not None
    ]
    for place, (name, tier) in enumerate(present):
        for other_name, other in present[:place]:
            if tier.store == other.store:
                # A move would remove from the one what it copied to the other.
                raise CannotStart(f"origin.tiers.{other_name} and origin.tiers.{name} are one store: give each its own path")
    return present


def open_tiers(deployment: Deployment) -> TieredStore:
    """The published objects of a deployment, wherever their popularity has put them."""
    return TieredStore([PlacedStore(name, open_store(tier.store, deployment.data)) for name, tier in tiers_of(deployment)])


def tier_rules(deployment: Deployment) -> list[TierRule]:
    """When objects move, hottest tier first."""
    return [TierRule(name, tier.demote_after, tier.promote_at) for name, tier in tiers_of(deployment)]
