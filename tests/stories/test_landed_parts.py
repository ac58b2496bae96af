"""What has landed of a file before its upload is completed: its ranges, and its bytes."""

from __future__ import annotations

import itertools
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.rules.names import VideoId
from origin.objects.parts import PartsMissing
from origin.uploads.landed import LandedFile, Landing, landed_ranges
from tests.support.deployments import lab_deployment
from tests.support.origin import RunningApi, running_api

PART = 256 * 1024
CLIP = random.Random(29).randbytes(3 * PART + 100)


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[RunningApi]:
    deployment = lab_deployment(tmp_path)
    limits = deployment.origin.uploads.model_copy(update={"part_size": PART, "min_part_size": PART})
    origin = deployment.origin.model_copy(update={"uploads": limits})
    async with running_api(deployment.model_copy(update={"origin": origin})) as running:
        yield running


async def read(landing: Landing, file: LandedFile, first: int, end: int) -> bytes:
    return b"".join([chunk async for chunk in landing.read(file, first, end)])


async def test_the_first_and_the_last_part_can_be_read_before_the_rest_has_come(api: RunningApi) -> None:
    landing = Landing(api.catalogue, api.stores.parts)
    begun = await api.creator.begin(len(CLIP))
    first, second, _, last = begun.body["upload"]["parts"]
    await api.creator.put(last, CLIP[3 * PART :])
    assert await landing.begun() == []  # nothing can begin without its beginning
    await api.creator.put(first, CLIP[:PART])
    (file,) = await landing.begun()
    assert (file.video_id, file.size_bytes) == (begun.body["video_id"], len(CLIP))
    assert file.ranges == ((0, PART), (3 * PART, len(CLIP)))
    assert await read(landing, file, 10, 1000) == CLIP[10:1000]
    assert await read(landing, file, len(CLIP) - 50, len(CLIP)) == CLIP[-50:]
    with pytest.raises(PartsMissing) as missing:
        await read(landing, file, PART - 5, PART + 5)
    assert missing.value.numbers == (2,)

    await api.creator.put(second, CLIP[PART : 2 * PART])
    again = await landing.find(VideoId(begun.body["video_id"]))
    assert again is not None
    assert again.holds(0, 2 * PART)
    assert await read(landing, again, PART - 5, PART + 5) == CLIP[PART - 5 : PART + 5]


async def test_a_stream_lands_from_its_beginning_on_and_a_completed_one_is_no_upload_in_work(api: RunningApi) -> None:
    landing = Landing(api.catalogue, api.stores.parts)
    tus = {"Tus-Resumable": "1.0.0", "Content-Type": "application/offset+octet-stream"}
    fields = {**tus, "Upload-Length": str(len(CLIP))}
    begun = await api.creator.ask("POST", "/upload/tus", data=CLIP[: PART + 7], headers=fields)
    (file,) = await landing.begun()
    assert file.ranges == ((0, PART + 7),)
    path = "/" + begun.headers["Location"].split("/", 3)[3]
    await api.creator.ask("PATCH", path, data=CLIP[PART + 7 :], headers={**tus, "Upload-Offset": str(PART + 7)})
    assert await landing.begun() == []
    assert await landing.find(file.video_id) is None


@given(st.sets(st.integers(1, 9)), st.integers(1, 9))
def test_ranges_hold_exactly_what_landed_and_none_touches_the_next(numbers: set[int], part_size: int) -> None:
    ranges = landed_ranges(part_size, [(number, part_size) for number in numbers])
    assert {byte for first, end in ranges for byte in range(first, end)} == {
        byte for number in numbers for byte in range((number - 1) * part_size, number * part_size)
    }
    assert all(end < first for (_, end), (first, _) in itertools.pairwise(ranges))
