"""Enrolment as control opens it at its start: the authority, control's own certificate, and who of the nodes counts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from control.enrolment.book import BookUnusable
from control.enrolment.ledger import Ledger
from control.enrolment.metrics import tell_expiries
from control.enrolment.office import EnrolmentOffice
from control.plane import ControlPlane
from headwater.runtime.enrolment.identity import FILE, Identity, new_key, write_identity
from headwater.runtime.httpsite import CannotStart
from headwater.runtime.logs import Log
from headwater.runtime.node import NodeContext
from headwater.runtime.tasks import Supervised

LOOK_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Enrolled:
    """`office` gives certificates, `identity` is control's own."""

    office: EnrolmentOffice
    identity: Identity


@asynccontextmanager
async def opened_enrolment(context: NodeContext, plane: ControlPlane) -> AsyncIterator[Enrolled | None]:
    """None when the config has no enrolment. Open it before the plane begins: it publishes whose certificates count."""
    if context.deployment.control.enrolment is None:
        yield None
        return
    office = await asyncio.to_thread(lambda: EnrolmentOffice(context.folder, lambda: plane.deployment, clock=plane.clock))
    try:
        ledger = await asyncio.to_thread(office.ledger)
    except BookUnusable as error:
        raise CannotStart(str(error)) from error
    if ledger.nodes and office.is_new:
        context.log.error(
            "control has made a new certificate authority: every node has to enrol anew", nodes=sorted(ledger.nodes)
        )
    tell_expiries(ledger)
    plane.nodes.ledger = _last_good(office, ledger, context.log)
    plane.nodes.identity = identity = await asyncio.to_thread(_own, context, office)
    async with Supervised(context.log) as tasks:
        tasks.start("renew-own-certificate", lambda: _renewing(context, office, identity))
        yield Enrolled(office, identity)


def _last_good(office: EnrolmentOffice, first: Ledger, log: Log) -> Callable[[], Ledger]:
    """The ledger as it could be read last: a disk that fails revokes nobody, and stops no loop of control's."""
    held = first

    def ledger() -> Ledger:
        nonlocal held
        try:
            held = office.ledger()
        except BookUnusable as error:
            log.error("the book of enrolments cannot be read; who counted before counts", error=str(error))
        return held

    return ledger


def _own(context: NodeContext, office: EnrolmentOffice) -> Identity:
    """Control's certificate, new at each start: its authority is at hand."""
    key, file = new_key(), context.folder / FILE
    try:
        write_identity(file, key, office.for_control(key.public_key()), office.authority.pem)
    except OSError as error:
        raise CannotStart(f"{file} cannot be written ({error.strerror}): see to the disk, or to the folder's owner.") from error
    return Identity(file, context.log)


async def _renewing(context: NodeContext, office: EnrolmentOffice, identity: Identity) -> None:
    while True:
        await asyncio.sleep(LOOK_S)
        if identity.held.renewal_due(time.time()):
            await asyncio.to_thread(_own, context, office)
            identity.look()
