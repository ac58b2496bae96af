"""Cutting files into parts: laws and limits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.settings.origin import Uploads
from origin.uploads.planning import MAX_PARTS, Plan, is_abandoned, plan_upload, shortfall
from origin.uploads.refusal import Refusal, UploadRefused

LIMITS = Uploads()
MIB = 1024 * 1024
plans = st.builds(Plan, st.integers(1, 10**6), st.integers(1, 10**5)).filter(lambda plan: plan.parts <= 1000)


@given(plans)
def test_parts_cover_the_file_once_without_gap_or_overlap(plan: Plan) -> None:
    end = 0
    for number, size in plan.sizes():
        assert plan.offset_of(number) == end
        assert 1 <= size <= plan.part_size_bytes
        end += size
    assert end == plan.size_bytes


@given(st.integers(1, LIMITS.max_size), st.none() | st.integers(LIMITS.min_part_size, LIMITS.max_part_size))
def test_every_file_within_the_limits_gets_a_plan_of_at_most_ten_thousand_parts(size: int, wished: int | None) -> None:
    if wished is not None and -(-size // wished) > MAX_PARTS:
        with pytest.raises(UploadRefused) as told:
            plan_upload(size, wished, LIMITS)
        assert told.value.refusal is Refusal.TOO_MANY_PARTS
    else:
        plan = plan_upload(size, wished, LIMITS)
        assert plan.parts <= MAX_PARTS
        assert plan.part_size_bytes == (wished or LIMITS.part_size)


def test_without_a_wish_very_large_files_get_larger_parts() -> None:
    limits = LIMITS.model_copy(update={"max_size": 2**50})
    plan = plan_upload(2**40, None, limits)
    assert plan.parts <= MAX_PARTS
    assert plan.part_size_bytes % MIB == 0


@pytest.mark.parametrize(
    ("size", "part_size", "refusal"),
    [
        (0, None, Refusal.EMPTY),
        (-1, None, Refusal.EMPTY),
        (LIMITS.max_size + 1, None, Refusal.TOO_LARGE),
        (1, LIMITS.min_part_size - 1, Refusal.PART_SIZE),
        (1, LIMITS.max_part_size + 1, Refusal.PART_SIZE),
        (LIMITS.max_size, LIMITS.min_part_size, Refusal.TOO_MANY_PARTS),
    ],
)
def test_what_cannot_be_planned_is_refused_by_name(size: int, part_size: int | None, refusal: Refusal) -> None:
    with pytest.raises(UploadRefused) as told:
        plan_upload(size, part_size, LIMITS)
    assert told.value.refusal is refusal


@given(plans, st.data())
def test_nothing_is_short_exactly_when_every_part_is_there_with_its_size(plan: Plan, data: st.DataObject) -> None:
    there = data.draw(st.sets(st.sampled_from(list(plan.numbers()))))
    wrong = data.draw(st.sets(st.sampled_from(sorted(there)))) if there else set()
    arrived = [(number, plan.size_of(number) + (number in wrong)) for number in there]
    short = shortfall(plan, [*arrived, (plan.parts + 1, 7)])
    assert set(short.missing) == set(plan.numbers()) - there
    assert set(short.wrong_size) == wrong
    assert bool(short) == (there != set(plan.numbers()) or bool(wrong))


@pytest.mark.parametrize("number", [0, -1, 4])
def test_a_part_outside_the_plan_has_no_size(number: int) -> None:
    with pytest.raises(ValueError, match="of 3"):
        Plan(25, 10).size_of(number)


def test_an_upload_is_abandoned_by_its_last_part_not_by_its_beginning() -> None:
    assert is_abandoned(created_at=0, last_arrived_at=None, now=101, keep_s=100)
    assert not is_abandoned(created_at=0, last_arrived_at=50, now=101, keep_s=100)
    assert not is_abandoned(created_at=0, last_arrived_at=None, now=100, keep_s=100)
