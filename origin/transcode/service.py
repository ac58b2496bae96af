"""The transcoder's process: a coordinator over the catalogue, a task cluster, and the admin address."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from headwater.runtime.httpsite import CannotStart, admin_app, serve_app
from headwater.runtime.logs import Log
from headwater.runtime.node import NodeContext
from headwater.runtime.tasks import Supervised
from headwater.settings.pathways import steering_url
from origin.catalogue.engine import open_catalogue
from origin.catalogue.jobs import OWNER_LENGTH
from origin.objects.open import open_part_store, open_store
from origin.tiers.open import open_tiers
from origin.transcode.early.starting import EarlyStarts
from origin.transcode.graph.cluster import TaskCluster, task_cluster
from origin.transcode.graph.coordinator import Coordinator
from origin.transcode.graph.fair import FairGate
from origin.transcode.graph.journal import Journal
from origin.transcode.graph.making import Workshop
from origin.transcode.graph.popular import queue_for_ever
from origin.transcode.metrics import AV1_POSSIBLE, NETWORK_CUT
from origin.transcode.programs.child import network_is_cut
from origin.transcode.programs.tools import NoFfmpeg, find_ffmpeg
from origin.uploads.landed import Landing

COUNT_WORKERS_S = 2.0


@asynccontextmanager
async def transcoder_node(context: NodeContext) -> AsyncIterator[None]:
    """Makes videos until the context ends. What is unfinished then is taken up again by the next one."""
    deployment, settings = context.deployment, context.deployment.origin.transcode
    try:
        ffmpeg = await asyncio.to_thread(find_ffmpeg, settings.ffmpeg)
    except NoFfmpeg as error:
        raise CannotStart(str(error)) from error
    NETWORK_CUT.set(cut := await asyncio.to_thread(network_is_cut, context.folder))
    if not cut:
        cure = "let this user make network namespaces (sysctl user.max_net_namespaces, kernel.unprivileged_userns_clone)"
        context.log.warning("ffmpeg runs with a network: only its lists of protocols and formats keep it away", cure=cure)
    AV1_POSSIBLE.set(settings.av1 is not None and ffmpeg.makes_av1)
    if settings.av1 is not None and not ffmpeg.makes_av1:
        context.log.warning("no AV1 is made: this ffmpeg has no libsvtav1", cure="set transcode.ffmpeg to `auto`")
    async with (
        serve_app(admin_app(), deployment.origin.transcoder_admin),
        open_catalogue(deployment) as engine,
        task_cluster(settings, context.folder / "cluster") as cluster,
        Supervised(context.log) as tasks,
    ):
        await cluster.warm(settings.ffmpeg)
        journal = Journal(engine, time.time, context.log)
        gate = FairGate(cluster.places, cluster.express)
        shop = Workshop(engine, cluster, gate, settings, journal)
        work, parts = context.folder / "work", open_part_store(deployment.origin.masters, deployment)
        early = None
        if settings.start_early and parts.verifies:  # what creators send to S3 themselves cannot be read before it is complete
            early = EarlyStarts(shop, Landing(engine, parts), work, deployment.origin.uploads.keep_free, context.log)
        coordinator = Coordinator(
            shop,
            masters=open_store(deployment.origin.masters, deployment.data),
            published=open_tiers(deployment),
            folder=work,
            owner=owner_name(deployment.name, context.name),
            log=context.log,
            steering_url=partial(steering_url, deployment),
            early=early,
        )
        tasks.start("make-videos", coordinator.work)
        if settings.av1 is not None and ffmpeg.makes_av1:
            tasks.start("queue-popular", partial(queue_for_ever, shop, settings.av1, context.log))
        tasks.start("keep-leases", coordinator.keep_leases)
        tasks.start("keep-journal", journal.keep)
        if early is not None:
            tasks.start("start-early", lambda: early.watch(coordinator.swept))
        if settings.scheduler is not None:
            tasks.start("count-workers", lambda: count_workers(cluster, gate, COUNT_WORKERS_S, context.log))
        yield


async def count_workers(cluster: TaskCluster, gate: FairGate, every_s: float, log: Log) -> None:
    """Follows the workers of a remote scheduler, for ever."""
    while True:
        await asyncio.sleep(every_s)
        before = cluster.threads
        try:
            await cluster.count_threads()
        except (OSError, TimeoutError) as error:  # its tasks fail by themselves, and their videos are taken up again
            log.warning("the scheduler does not answer", error=str(error))
            continue
        if cluster.threads != before:
            log.info("workers came or went", threads=cluster.threads)
        gate.resize(cluster.places, cluster.express)


def owner_name(deployment: str, node: str) -> str:
    """Who holds a lease: the same after a restart on the same machine, so that its own jobs are taken up at once."""
    return f"{deployment}/{node}@{socket.gethostname()}"[-OWNER_LENGTH:]
