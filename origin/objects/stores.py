"""The object stores of a deployment by name, and what they said of themselves when the origin started."""

from __future__ import annotations

from headwater.runtime.logs import Log
from headwater.settings.deployment import Deployment
from headwater.settings.origin import S3Store
from origin.objects.interface import ObjectStoreFailed


def stores_of(deployment: Deployment) -> list[tuple[str, S3Store | None]]:
    """(name, settings) of masters and tiers; None for local files."""
    origin = deployment.origin
    tiers = [("hot", origin.tiers.hot), ("warm", origin.tiers.warm), ("cold", origin.tiers.cold)]
    named = [("masters", origin.masters), *((name, tier.store) for name, tier in tiers if tier is not None)]
    return [(name, store if isinstance(store, S3Store) else None) for name, store in named]


async def report_capabilities(deployment: Deployment, log: Log) -> None:
    """Logs once what each S3 store can do. One that is away is said so, and does not keep the origin from starting."""
    for name, settings in stores_of(deployment):
        if settings is None:
            continue
        from origin.objects.s3probe import WITHOUT, probe  # boto3, which local files do not need

        try:
            found = await probe(settings)
        except ObjectStoreFailed as error:
            log.warning("store cannot be used", store=name, endpoint=settings.endpoint, error=str(error))
            continue
        able = sorted(capability.value for capability, yes in found.items() if yes)
        log.info("store probed", store=name, endpoint=settings.endpoint, bucket=settings.bucket, can=able)
        for capability, yes in found.items():
            if not yes:
                log.warning("store lacks a capability", store=name, capability=capability.value, hence=WITHOUT[capability])
