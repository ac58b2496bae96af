"""From the outbox to NATS JetStream, at least once.

The law: an event is marked as left only after the stream has acknowledged that it keeps it. Killed in between, it is sent again
under the same `Nats-Msg-Id`, which the stream drops within its duplicate window; consumers that see one later than that know it
by the same id. While NATS is away, events wait in the catalogue, and uploads go on.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from headwater.runtime.httpsite import CannotStart
from headwater.runtime.logs import Log
from headwater.runtime.metrics import counter, gauge
from headwater.settings.origin import Events
from origin.catalogue.outbox import Event, count_waiting, forget_events, mark_published, waiting_events

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.js import JetStreamContext

AT_ONCE: Final = 100
LOOK_S: Final = 0.5
ANSWER_S: Final = 5.0
PAUSE_S: Final = 1.0
FIRST_TRIES: Final = 1
KEEP_S: Final = 7 * 86400.0  # what has left stays this long, for who asks what was sent
SWEEP_S: Final = 3600.0

PUBLISHED = counter("headwater_origin_events_published_total", "Events that NATS JetStream has acknowledged.", ["kind"])
FAILED = counter("headwater_origin_events_failed_total", "Tries to send events that failed: NATS was away or refused.")
WAITING = gauge("headwater_origin_events_waiting", "Events in the outbox that have not left yet.")


async def events_leaving(catalogue: AsyncEngine, events: Events | None, log: Log, clock: Callable[[], float] = time.time) -> None:
    """Sends what is in the outbox, for ever. Without NATS the catalogue is the only place of events, and old ones are removed."""
    if events is None:
        while True:
            await forget_events(catalogue, clock() - KEEP_S, unpublished=True)
            await asyncio.sleep(SWEEP_S)
    told = False
    while True:
        try:
            await _connected(catalogue, events, log, clock)
        except (OSError, SQLAlchemyError) as error:
            FAILED.inc()
            if not told:
                log.warning("events wait in the catalogue", nats=events.nats, error=str(error) or type(error).__name__)
            told = True
        with suppress(SQLAlchemyError):
            WAITING.set(await count_waiting(catalogue))
        await asyncio.sleep(PAUSE_S)


def check_client() -> None:
    """Raises CannotStart when the client is not installed: it is an extra, which most deployments do without."""
    if find_spec("nats") is None:
        raise CannotStart("origin.events needs the client of NATS: install headwater[nats].")


async def _connected(catalogue: AsyncEngine, events: Events, log: Log, clock: Callable[[], float]) -> None:
    """Sends until the connection fails. Raises OSError."""
    import nats
    from nats.errors import Error

    try:
        await _sending(nats, catalogue, events, log, clock)
    except Error as error:
        raise ConnectionError(str(error) or type(error).__name__) from error


async def _sending(nats: ModuleType, catalogue: AsyncEngine, events: Events, log: Log, clock: Callable[[], float]) -> None:
    async def quiet(error: Exception) -> None:
        """What goes wrong shows in the next request, which is logged once."""

    client: Client = await nats.connect(
        events.nats, connect_timeout=ANSWER_S, allow_reconnect=False, max_reconnect_attempts=FIRST_TRIES, error_cb=quiet
    )
    try:
        stream = client.jetstream(timeout=ANSWER_S)
        await _ensure_stream(stream, events)
        log.info("events leave to NATS", stream=events.stream, subject=events.subject)
        swept = clock()
        while True:
            while sent := await _send_some(catalogue, stream, events, clock):
                log.debug("events left", events=sent)
            WAITING.set(0)
            if clock() - swept > SWEEP_S:
                swept = clock()
                await forget_events(catalogue, clock() - KEEP_S, unpublished=False)
            await asyncio.sleep(LOOK_S)
    finally:
        with suppress(Exception):
            await client.close()


async def _ensure_stream(stream: JetStreamContext, events: Events) -> None:
    """One made by operators is taken as it is."""
    from nats.js.errors import NotFoundError

    try:
        await stream.stream_info(events.stream)
    except NotFoundError:
        await stream.add_stream(name=events.stream, subjects=[f"{events.subject}.>"])


async def _send_some(catalogue: AsyncEngine, stream: JetStreamContext, events: Events, clock: Callable[[], float]) -> int:
    waiting = await waiting_events(catalogue, AT_ONCE)
    for event in waiting:
        await stream.publish(
            f"{events.subject}.{event.kind}",
            json.dumps(message_of(event)).encode(),
            stream=events.stream,
            headers={"Nats-Msg-Id": event.id},
            timeout=ANSWER_S,
        )
        await mark_published(catalogue, [event.id], clock())
        PUBLISHED.labels(event.kind).inc()
    return len(waiting)


def message_of(event: Event) -> dict[str, Any]:
    """What consumers read; times are Unix seconds."""
    return {"id": event.id, "kind": event.kind, "created_at": event.created_at, **event.body}
