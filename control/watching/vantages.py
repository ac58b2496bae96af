"""What other nodes say of each other's health: read at their `/vantage`, and put beside control's own checks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

import aiohttp

from control.watching.probing import read_admin
from headwater.runtime.enrolment.identity import Identity
from headwater.runtime.enrolment.links import admin_site
from headwater.runtime.spread import spread_out
from headwater.settings.deployment import Deployment
from headwater.settings.topology import NodeName
from headwater.settings.vantages import vantages_of

INTERVALS_FRESH: Final = 3  # what a vantage saw longer ago counts no more: it may be stuck itself

Opinions = dict[str, str | None]  # by who says so, why the node is bad; None: it is good


async def read_opinions(
    session: aiohttp.ClientSession, deployment: Deployment, identity: Identity | None = None
) -> dict[str, Opinions]:
    """By node, what each vantage that answers says of it."""
    names, settings = vantages_of(deployment), deployment.control

    async def report(name: NodeName) -> str | None:
        return await read_admin(session, admin_site(identity, deployment, name), "/vantage", settings.probe_timeout)

    reports = await spread_out(report, names, within_s=settings.probe_interval / 2)
    fresh_s = INTERVALS_FRESH * settings.probe_interval + settings.probe_timeout
    opinions: dict[str, Opinions] = {}
    for vantage, text in zip(names, reports, strict=True):
        for node, error in _seen(text, fresh_s).items():
            opinions.setdefault(node, {})[vantage] = error
    return opinions


def _seen(text: str | None, fresh_s: float) -> Mapping[str, str | None]:
    """A report's fresh opinions; none of a report that cannot be read, such as that of a node of an older release."""
    try:
        seen = json.loads(text)["seen"] if text is not None else {}
        return {
            str(node): None if one["error"] is None else str(one["error"])
            for node, one in seen.items()
            if float(one["age_s"]) <= fresh_s
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}
