"""One simulated viewer: asks the API, resolves, fetches playlists and segments at playing pace, until done or beaten.

The decisions are the pure player's and the rung chooser's; this is the short loop that carries them out.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import Final

from loadtest import playlists
from loadtest.abr import Throughput, choose_rung
from loadtest.failures import RequestFailed
from loadtest.fetching import Fetcher
from loadtest.measures import Measures
from loadtest.originapi import OriginApi
from loadtest.player import Player, PlayerState
from loadtest.playlists import Rung, Segment
from loadtest.population import PlannedViewer
from loadtest.scenario import Scenario

# The API's own retries: it is asked once per watch, and a restart of it takes about a second.
API_TRIES: Final = 3
API_PAUSE_S: Final = 0.5
SHORTEST_WAIT_S: Final = 0.005
# Nobody jumps before having seen something.
FIRST_SEEK_AFTER_S: Final = 0.5


class Viewer:
    def __init__(self, plan: PlannedViewer, scenario: Scenario, api: OriginApi, fetcher: Fetcher, measures: Measures) -> None:
        self._plan = plan
        self._scenario = scenario
        self._api = api
        self._fetcher = fetcher
        self._measures = measures
        self._drawn = random.Random(plan.seed)
        self._throughput = Throughput(scenario.player.first_estimate)
        self._media: dict[str, tuple[Segment, ...]] = {}
        self._inits: set[str] = set()
        self._draws_at_s = FIRST_SEEK_AFTER_S
        self._segment_s = 0.0

    async def watch(self) -> None:
        """Watches as planned, and records how it went; a failure ends the watch and is recorded by its cause."""
        player = Player(time.monotonic(), self._plan.watch_s, self._scenario.player.start_buffer)
        try:
            await self._watch(player)
        except RequestFailed as failed:
            self._measures.gave_up(failed.cause, failed.detail)
        else:
            self._measures.finished += 1
        finally:
            self._record(player)

    async def _watch(self, player: Player) -> None:
        master_url = await self._playback_url()
        master = await self._fetcher.fetch(master_url)
        rungs = playlists.read_master(master.body.decode("utf-8", "replace"), master_url)
        bandwidths = [rung.bandwidth_bps for rung in rungs]
        current: int | None = None
        position = count = 0
        while player.state is not PlayerState.ENDED:
            if self._jumps(player):
                position = self._drawn.randrange(count)
            if not player.needs_more():
                await self._play(player, player.remaining_s())
                continue
            current = choose_rung(bandwidths, self._throughput.estimate_bps(), player.buffer_s, current)
            segments = await self._segments(rungs[current].url)
            count = len(segments)
            position = min(position, count - 1)
            segment = segments[position]
            if wait_s := player.wait_before_fetching_s(segment.duration_s, self._scenario.player.buffer):
                await self._play(player, wait_s)
                continue
            await self._fetch_segment(rungs[current], segment)
            player.segment_arrived(time.monotonic(), segment.duration_s, last=position == count - 1)
            self._measures.showed(rungs[current].name, segment.duration_s)
            self._segment_s = segment.duration_s
            position += 1

    async def _play(self, player: Player, wait_s: float) -> None:
        """Lets the player play, at most until the viewer may jump again."""
        if player.state is PlayerState.PLAYING:
            wait_s = min(wait_s, self._draws_at_s - player.played_s)
        await asyncio.sleep(max(wait_s, SHORTEST_WAIT_S))
        player.advance(time.monotonic())

    def _jumps(self, player: Player) -> bool:
        """Whether the viewer jumps now: once for each segment's time played, chance decides."""
        if player.state is not PlayerState.PLAYING or player.played_s < self._draws_at_s:
            return False
        self._draws_at_s = player.played_s + self._segment_s
        if self._drawn.random() >= self._scenario.watch.seek_probability:
            return False
        return player.seek(time.monotonic())

    async def _playback_url(self) -> str:
        for _ in range(API_TRIES - 1):
            try:
                return (await self._api.playback(self._plan.video_id)).hls_url
            except RequestFailed as failed:
                if not failed.again:
                    raise
                self._measures.retried(failed.cause)
                await asyncio.sleep(API_PAUSE_S)
        return (await self._api.playback(self._plan.video_id)).hls_url

    async def _segments(self, url: str) -> tuple[Segment, ...]:
        """The segments of the media playlist at `url`, fetched once: one that still grows is played to the end it has."""
        if url not in self._media:
            fetched = await self._fetcher.fetch(url)
            self._media[url] = playlists.read_media(fetched.body.decode("utf-8", "replace"), url)
        return self._media[url]

    async def _fetch_segment(self, rung: Rung, segment: Segment) -> None:
        """Video, and the audio that plays with it, side by side; what is measured of the line is the sum of both."""
        started = time.monotonic()
        wanted = [self._with_init(segment)]
        if rung.audio_url is not None:
            wanted.append(self._audio(rung.audio_url, segment))
        try:
            async with asyncio.TaskGroup() as both:
                tasks = [both.create_task(one) for one in wanted]
        except ExceptionGroup as group:
            raise group.exceptions[0] from group
        self._throughput = self._throughput.after(sum(task.result() for task in tasks), time.monotonic() - started)

    async def _audio(self, url: str, segment: Segment) -> int:
        segments = await self._segments(url)
        return await self._with_init(segments[playlists.segment_at(segments, segment.start_s + segment.duration_s / 2)])

    async def _with_init(self, segment: Segment) -> int:
        """Bytes of the segment, and of its header the first time."""
        size = 0
        if segment.init_url is not None and segment.init_url not in self._inits:
            size += len((await self._fetcher.fetch(segment.init_url)).body)
            self._inits.add(segment.init_url)
        return size + len((await self._fetcher.fetch(segment.url)).body)

    def _record(self, player: Player) -> None:
        player.advance(time.monotonic())
        if player.startup_s is not None:
            self._measures.startup.record(player.startup_s)
        self._measures.played_s += player.played_s
        self._measures.stalled_s += player.stalled_s
        self._measures.seeking_s += player.seeking_s
        self._measures.stalls += player.stalls
