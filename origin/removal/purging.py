"""Telling every cache, by way of control, that a video is gone. Control knows the origin's API by its certificate or token."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import httpx

from headwater.rules.names import VideoId
from headwater.runtime.enrolment.identity import Identity
from headwater.runtime.enrolment.links import control_client
from headwater.settings.deployment import Deployment

ANSWER_S: Final = 10.0  # control waits three seconds for each tier of caches


class NotPurged(Exception):
    """Control is away or refuses; caches may still have the video. Trying again helps once control is back."""


class ControlPurge:
    """Orders purges at the control of the deployment that is current. Missing caches are control's to tell."""

    def __init__(self, deployment: Callable[[], Deployment], token: str, identity: Identity | None = None) -> None:
        self._deployment = deployment
        self._token = token
        self._identity = identity

    async def __call__(self, video_id: VideoId) -> None:
        """Returns when control's log has the purge and every cache that could be reached has acknowledged. Raises NotPurged."""
        try:
            async with control_client(self._identity, self._deployment(), self._token, httpx.Timeout(ANSWER_S)) as client:
                answer = await client.post("/api/v1/purge", json={"video": video_id})
        except httpx.HTTPError as error:
            raise NotPurged(f"control does not answer: {error!r}") from error
        if answer.status_code != 200:
            raise NotPurged(f"control answered {answer.status_code}: {answer.text[:200]}")
