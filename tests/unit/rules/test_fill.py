"""The fill's law under arbitrary interleavings, and the named cases as a dialogue: events in, commands out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.rules.fill import (
    END_STATES,
    Announce,
    Ask,
    BodyEnded,
    BytesArrived,
    End,
    FillCommand,
    FillEvent,
    FillMachine,
    FillState,
    FillTrouble,
    FollowersGone,
    HeaderArrived,
    ParentFailed,
    Skip,
)
from headwater.rules.ranges import Single

OK = HeaderArrived(200, '"v1"', 100)


def part(first: int, etag: str = '"v1"', size: int = 100) -> HeaderArrived:
    return HeaderArrived(206, etag, size, part=Single(first, size - 1))


def machine(*parents: str, confirms: str | None = None) -> FillMachine:
    return FillMachine(parents or ("a", "b"), 0.5, confirms)


Dialogue = list[tuple[FillEvent, list[FillCommand]]]

DIALOGUES: dict[str, Dialogue] = {
    "everything goes well": [
        (OK, [Announce()]),
        (BytesArrived(60), []),
        (BytesArrived(40), []),
        (BodyEnded(True), [End(FillState.COMPLETE)]),
    ],
    "the first parent cannot be reached": [
        (ParentFailed(FillTrouble.CONNECT), [Ask("b", 0, None)]),
        (OK, [Announce()]),
    ],
    "every parent fails before a header": [
        (ParentFailed(FillTrouble.CONNECT), [Ask("b", 0, None)]),
        (HeaderArrived(503, None, 3), [End(FillState.REFUSED, FillTrouble.SERVER_ERROR)]),
    ],
    "the next parent goes on at the offset": [
        (OK, [Announce()]),
        (BytesArrived(60), []),
        (ParentFailed(FillTrouble.RESET), [Ask("b", 60, '"v1"')]),
        (part(60), []),
        (BytesArrived(40), []),
        (BodyEnded(True), [End(FillState.COMPLETE)]),
    ],
    "a parent without ranges is skipped up to the offset": [
        (OK, [Announce()]),
        (BytesArrived(60), []),
        (ParentFailed(FillTrouble.STALLED), [Ask("b", 60, '"v1"')]),
        (OK, [Skip(60)]),
        (BytesArrived(50), []),
        (BytesArrived(50), []),
        (BodyEnded(None), [End(FillState.COMPLETE)]),
    ],
    "another version midway cuts off": [
        (OK, [Announce()]),
        (BytesArrived(60), []),
        (ParentFailed(FillTrouble.RESET), [Ask("b", 60, '"v1"')]),
        (HeaderArrived(200, '"v2"', 100), [End(FillState.CUT_OFF, FillTrouble.CHANGED)]),
    ],
    "another length midway cuts off": [
        (OK, [Announce()]),
        (ParentFailed(FillTrouble.RESET), [Ask("b", 0, '"v1"')]),
        (part(0, size=101), [End(FillState.CUT_OFF, FillTrouble.CHANGED)]),
    ],
    "an end that comes too early is no end": [
        (OK, [Announce()]),
        (BytesArrived(99), []),
        (BodyEnded(None), [Ask("b", 99, '"v1"')]),
    ],
    "a weak validator cannot be resumed": [
        (HeaderArrived(200, 'W/"v1"', 100), [Announce()]),
        (BytesArrived(60), []),
        (ParentFailed(FillTrouble.RESET), [End(FillState.CUT_OFF, FillTrouble.RESET)]),
    ],
    "a body of unknown length goes on too, and the part tells its length": [
        (HeaderArrived(200, '"v1"', None), [Announce()]),
        (BytesArrived(60), []),
        (ParentFailed(FillTrouble.RESET), [Ask("b", 60, '"v1"')]),
        (part(60), []),
        (BytesArrived(40), []),
        (BodyEnded(None), [End(FillState.COMPLETE)]),
    ],
    "a body whose length a part told is held to it": [
        (HeaderArrived(200, '"v1"', None), [Announce()]),
        (BytesArrived(60), []),
        (ParentFailed(FillTrouble.RESET), [Ask("b", 60, '"v1"')]),
        (part(60), []),
        (BytesArrived(39), []),
        (BodyEnded(None), [End(FillState.CUT_OFF, FillTrouble.SHORT)]),
    ],
    "a body of unknown length is skipped up to the offset": [
        (HeaderArrived(200, '"v1"', None), [Announce()]),
        (BytesArrived(60), []),
        (ParentFailed(FillTrouble.RESET), [Ask("b", 60, '"v1"')]),
        (HeaderArrived(200, '"v1"', None), [Skip(60)]),
        (BytesArrived(100), []),
        (BodyEnded(None), [End(FillState.COMPLETE)]),
    ],
    "a part that is shorter than what was sent is another version": [
        (HeaderArrived(200, '"v1"', None), [Announce()]),
        (BytesArrived(60), []),
        (ParentFailed(FillTrouble.RESET), [Ask("b", 60, '"v1"')]),
        (part(59, size=59), [End(FillState.CUT_OFF, FillTrouble.CHANGED)]),
    ],
    "a part that does not tell the whole length is no resumption": [
        (HeaderArrived(200, '"v1"', None), [Announce()]),
        (BytesArrived(60), []),
        (ParentFailed(FillTrouble.RESET), [Ask("b", 60, '"v1"')]),
        (HeaderArrived(206, '"v1"', None, part=Single(60, 99)), [End(FillState.CUT_OFF, FillTrouble.BAD_RESPONSE)]),
    ],
    "an unknown length without a validator cannot be resumed": [
        (HeaderArrived(200, None, None), [Announce()]),
        (BytesArrived(60), []),
        (ParentFailed(FillTrouble.RESET), [End(FillState.CUT_OFF, FillTrouble.RESET)]),
    ],
    "more bytes than announced cut off": [
        (OK, [Announce()]),
        (BytesArrived(101), [End(FillState.CUT_OFF, FillTrouble.LONG)]),
    ],
    "a wrong digest cuts off": [
        (OK, [Announce()]),
        (BytesArrived(100), []),
        (BodyEnded(False), [End(FillState.CUT_OFF, FillTrouble.DIGEST)]),
    ],
    "all leave while little is in": [
        (OK, [Announce()]),
        (BytesArrived(49), []),
        (FollowersGone(), [End(FillState.CANCELLED)]),
    ],
    "all leave while most is in": [
        (OK, [Announce()]),
        (BytesArrived(50), []),
        (FollowersGone(), []),
        (BytesArrived(50), []),
        (BodyEnded(None), [End(FillState.COMPLETE)]),
    ],
    "all leave before a header": [(FollowersGone(), [End(FillState.CANCELLED)])],
    "a 304 that was not asked for is no answer": [(HeaderArrived(304, '"v1"', None), [Ask("b", 0, None)])],
    "a range that was not asked for is no answer": [(part(0), [Ask("b", 0, None)])],
}


@pytest.mark.parametrize("dialogue", DIALOGUES.values(), ids=DIALOGUES.keys())
def test_a_fill_answers_events(dialogue: Dialogue) -> None:
    fill = machine()
    assert fill.start() == [Ask("a", 0, None)]
    for event, expected in dialogue:
        assert fill.on(event) == expected, event


def test_a_304_confirms_the_stored_object() -> None:
    fill = machine(confirms='"v1"')
    fill.start()
    assert fill.on(HeaderArrived(304, '"v1"', None)) == [End(FillState.CONFIRMED)]


def test_without_parents_a_fill_is_refused_by_name() -> None:
    assert FillMachine((), 0.5).start() == [End(FillState.REFUSED, FillTrouble.NO_PARENT)]


EVENTS = st.one_of(
    st.builds(
        HeaderArrived,
        st.sampled_from([200, 206, 304, 404, 500, 503]),
        st.sampled_from([None, '"v1"', '"v2"', 'W/"v1"']),
        st.sampled_from([None, 0, 10, 11]),
        st.booleans(),
        st.none() | st.builds(Single, st.integers(0, 10), st.just(9)),
    ),
    st.builds(BytesArrived, st.integers(1, 6)),
    st.builds(BodyEnded, st.sampled_from([None, True, False])),
    st.builds(ParentFailed, st.sampled_from(FillTrouble)),
    st.just(FollowersGone()),
)


@given(st.lists(EVENTS, max_size=30), st.integers(0, 4), st.sampled_from([None, '"v1"']))
def test_the_law_holds_under_any_interleaving(events: list[FillEvent], parents: int, confirms: str | None) -> None:
    fill = FillMachine(tuple(f"p{n}" for n in range(parents)), 0.5, confirms)
    said = fill.start()
    for event in events:
        was_over, received = fill.ended, fill.received
        if isinstance(event, BytesArrived) and fill.state is not FillState.RECEIVING:
            continue  # bytes without a header do not exist on a connection
        if isinstance(event, HeaderArrived) and fill.state is not FillState.ASKING:
            continue
        commands = fill.on(event)
        assert not (was_over and commands), "an end state is final"
        for command in commands:
            if isinstance(command, Ask):
                assert command.offset == (fill.received if fill.header else 0)
                assert command.offset == 0 or (command.if_range or "").startswith('"')
        assert fill.received >= received
        said += commands
    asks = [command.parent for command in said if isinstance(command, Ask)]
    ends = [command for command in said if isinstance(command, End)]
    assert asks == [f"p{n}" for n in range(len(asks))], "each parent once, in order"
    assert len(ends) == (1 if fill.ended else 0), "everyone is told the end exactly once"
    assert said.count(Announce()) <= 1
    assert fill.ended == (fill.state in END_STATES)
    if fill.state is FillState.COMPLETE:
        assert fill.header is not None
        assert fill.size is None or fill.received == fill.size, "unfinished is never end-of-file"
