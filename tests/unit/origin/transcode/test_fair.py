"""Who gets the next worker."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from headwater.rules.names import VideoId
from origin.transcode.graph.fair import FairGate, Lanes, Stage, Ticket, choose, is_urgent

ANY = Lanes(1, 1)
LONG, SHORT = VideoId("long"), VideoId("short")


def test_the_first_window_of_every_video_comes_before_the_second_of_any() -> None:
    waiting = [Ticket(LONG, Stage.PLAYABLE, 0), Ticket(SHORT, Stage.FIRST_WINDOW, 9)]
    for free in (Lanes(1, 1), Lanes(1, 0), Lanes(0, 1)):
        assert choose(waiting, {}, free) == waiting[1]


def test_what_is_nearest_to_being_playable_goes_first() -> None:
    waiting = [Ticket(LONG, Stage.PROBE, 0), Ticket(SHORT, Stage.FIRST_WINDOW, 9)]
    assert choose(waiting, {}, ANY) == waiting[1]


def test_express_places_are_for_urgent_tasks_alone() -> None:
    ordinary = [Ticket(LONG, Stage.PLAYABLE, 0), Ticket(SHORT, Stage.OTHER_RUNGS, 1)]
    assert choose(ordinary, {}, Lanes(0, 5)) is None
    assert choose([*ordinary, Ticket(SHORT, Stage.PROBE, 2)], {}, Lanes(0, 0)) is None


def test_a_clips_other_rungs_take_turns_with_the_first_rung_of_a_film() -> None:
    """A long video never blocks a short one: PeerTube #3659."""
    waiting = [Ticket(LONG, Stage.PLAYABLE, 0), Ticket(SHORT, Stage.OTHER_RUNGS, 100)]
    assert choose(waiting, {LONG: 7, SHORT: 6}, ANY) == waiting[1]
    assert choose(waiting, {LONG: 7, SHORT: 8}, ANY) == waiting[0]


def test_what_viewers_of_a_clip_see_next_does_not_wait_for_a_films_task() -> None:
    """A clip that begins while every ordinary place is a film's for minutes must not stop after four seconds."""
    soon = Ticket(SHORT, Stage.SOON, 9)
    waiting = [Ticket(LONG, Stage.PLAYABLE, 0), soon]
    assert choose(waiting, {SHORT: 8}, Lanes(0, 2)) == soon
    assert choose(waiting, {SHORT: 8}, Lanes(1, 0)) == soon
    assert choose(waiting, {}, Lanes(0, 1)) is None, "a place is kept for the window of the next video"


def test_what_is_begun_before_its_upload_is_complete_gets_what_nobody_else_wants() -> None:
    early = Ticket(SHORT, Stage.UNCOMPLETED, 0)
    assert choose([early, Ticket(LONG, Stage.OTHER_RUNGS, 9)], {LONG: 7}, ANY) == Ticket(LONG, Stage.OTHER_RUNGS, 9)
    assert choose([early], {}, ANY) == early
    assert choose([early], {}, Lanes(0, 1)) is None


stages = st.sampled_from(Stage)
tickets = st.lists(st.builds(Ticket, st.sampled_from([LONG, SHORT, VideoId("third")]), stages, st.integers(0, 99)), max_size=9)


@given(tickets, st.integers(0, 2), st.integers(0, 2))
def test_no_ordinary_task_is_let_in_before_an_urgent_one(waiting: list[Ticket], ordinary: int, express: int) -> None:
    chosen = choose(waiting, {}, Lanes(ordinary, express))
    urgent = any(is_urgent(ticket.stage) for ticket in waiting)
    soon = any(ticket.stage is Stage.SOON for ticket in waiting)
    assert (chosen is not None) == bool(waiting and (ordinary or (express and urgent) or (express > 1 and soon)))
    assert chosen is None or is_urgent(chosen.stage) == urgent


async def test_the_gate_never_lets_in_more_than_the_cluster_runs_at_once() -> None:
    gate = FairGate(2, 1)
    inside: list[int] = []
    most: list[tuple[int, int]] = []

    async def task(stage: int) -> None:
        async with gate.place(VideoId(f"video{stage}"), stage):
            inside.append(stage)
            most.append((len(inside), sum(not is_urgent(one) for one in inside)))
            await asyncio.sleep(0)
            inside.remove(stage)

    async with asyncio.TaskGroup() as group:
        for stage in [Stage.PLAYABLE, Stage.FIRST_WINDOW, Stage.STILLS, Stage.PROBE, Stage.OTHER_RUNGS] * 4:
            group.create_task(task(stage))
    assert max(most)[0] == 3
    assert max(ordinary for _, ordinary in most) == 2


async def test_a_first_window_starts_while_every_ordinary_place_is_held() -> None:
    """PeerTube #4896, #6006: nobody waits for somebody else's long task to see a first picture."""
    gate = FairGate(1, 1)
    async with gate.place(LONG, Stage.PLAYABLE), asyncio.timeout(1), gate.place(SHORT, Stage.FIRST_WINDOW):
        pass


def test_videos_take_turns_within_a_stage() -> None:
    waiting = [Ticket(LONG, Stage.PLAYABLE, order) for order in range(100)] + [Ticket(SHORT, Stage.PLAYABLE, 100)]
    assert choose(waiting, {LONG: 5, SHORT: 3}, ANY) == waiting[100]
    assert choose(waiting, {LONG: 5, SHORT: 6}, ANY) == waiting[0]


async def test_a_short_video_is_through_before_a_long_one_that_came_first() -> None:
    gate = FairGate(1)
    served: list[VideoId] = []

    async def task(video_id: VideoId) -> None:
        async with gate.place(video_id, Stage.PLAYABLE):
            served.append(video_id)
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        for video_id in [LONG] * 10 + [SHORT] * 2:
            group.create_task(task(video_id))
    assert served.index(SHORT) == 1
    assert served[:4].count(SHORT) == 2


async def test_a_cancelled_waiter_takes_no_place_with_it() -> None:
    gate = FairGate(1)

    async def hold() -> None:
        async with gate.place(LONG, Stage.PLAYABLE):
            pass

    async with gate.place(SHORT, Stage.PLAYABLE):
        waiter = asyncio.create_task(hold())
        await asyncio.sleep(0)
        assert gate.waiting == 1
        waiter.cancel()
        await asyncio.gather(waiter, return_exceptions=True)
        assert gate.waiting == 0
    await asyncio.wait_for(hold(), 1)


async def test_a_waiter_cancelled_in_the_moment_it_is_let_in_gives_its_place_back() -> None:
    gate = FairGate(1)

    async def hold() -> None:
        async with gate.place(LONG, Stage.PLAYABLE):
            await asyncio.Event().wait()

    async with gate.place(SHORT, Stage.PLAYABLE):
        waiter = asyncio.create_task(hold())
        await asyncio.sleep(0)
    waiter.cancel()  # let in by the line above, not yet run
    await asyncio.gather(waiter, return_exceptions=True)
    async with asyncio.timeout(1), gate.place(SHORT, Stage.PLAYABLE):
        pass


async def test_a_waiter_that_is_cancelled_while_a_place_becomes_free_is_passed_over() -> None:
    gate = FairGate(1)
    entered = asyncio.Event()

    async def hold() -> None:
        async with gate.place(LONG, Stage.PLAYABLE):
            entered.set()

    async with gate.place(SHORT, Stage.PLAYABLE):
        gone, next_one = asyncio.create_task(hold()), asyncio.create_task(hold())
        await asyncio.sleep(0)
        gone.cancel()
    await asyncio.wait_for(next_one, 1)
    await asyncio.gather(gone, return_exceptions=True)
    assert entered.is_set()


async def test_places_follow_the_workers_that_come_and_go() -> None:
    gate = FairGate(1, 1)
    async with gate.place(LONG, Stage.PLAYABLE):
        gate.resize(2, 1)
        async with gate.place(SHORT, Stage.PLAYABLE):
            gate.resize(1, 0)
    waiting = asyncio.create_task(gate.place(LONG, Stage.PLAYABLE).__aenter__())
    await asyncio.wait_for(waiting, 1)
    assert gate.waiting == 0
