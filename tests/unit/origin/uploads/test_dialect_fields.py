"""The header fields of the upload dialects: what is read, and what is refused with what was expected."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.rules.names import VideoId
from origin.catalogue.schema import Form
from origin.uploads.dialects import ietffields, tusfields
from origin.uploads.dialects.contentrange import Sent, parse_content_range, stored_range
from origin.uploads.dialects.naming import video_maker
from origin.uploads.planning import digest_of_parts, stream_progress

ID = VideoId("dQw4w9WgXcQ")
KEYS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, blacklist_characters=","), min_size=1, max_size=9)


@given(st.dictionaries(KEYS, st.text(max_size=20)))
def test_metadata_reads_back_as_it_was_written(said: dict[str, str]) -> None:
    written = ",".join(f"{key} {base64.b64encode(text.encode('utf-8', 'replace')).decode()}" for key, text in said.items())
    assert tusfields.metadata(written) == {key: text.encode("utf-8", "replace").decode() for key, text in said.items()}


def test_metadata_of_a_key_alone_is_empty_and_spaces_do_not_matter() -> None:
    assert tusfields.metadata(" is_private , filename aGk= ") == {"is_private": "", "filename": "hi"}
    assert tusfields.first_of({"name": "", "filename": "a"}, "name", "filename") == "a"


@pytest.mark.parametrize("text", ["filename ?", "file\tname aGk=", "filename aGk"])
def test_metadata_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="base64"):
        tusfields.metadata(text)


def test_a_checksum_names_its_algorithm() -> None:
    found = tusfields.checksum("sha1 qUqP5cyxm6YcTAhz05Hph5gvu9M=")
    assert found is not None
    assert (found.algorithm, len(found.digest)) == ("sha1", 20)
    assert tusfields.checksum(None) is None
    with pytest.raises(ValueError, match="sha256"):
        tusfields.checksum("crc32 AAAA")
    with pytest.raises(ValueError, match="base64"):
        tusfields.checksum("sha1 ?")


def test_concatenation_names_its_pieces_by_any_form_of_their_url() -> None:
    assert tusfields.concat(None).form is Form.WHOLE
    assert tusfields.concat("partial").form is Form.PIECE
    joined = tusfields.concat(f"final;/upload/tus/{ID} https://cdn.example/upload/tus/{ID}/")
    assert (joined.form, joined.pieces) == (Form.JOINED, (ID, ID))
    for wrong in ("final;", "final", "half", "final;/upload/tus/x"):
        with pytest.raises(ValueError, match=r"final|video id"):
            tusfields.concat(wrong)


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("bytes 0-9/10", Sent(0, 9, 10)),
        ("bytes 5-9/*", Sent(5, 9, None)),
        ("bytes */10", Sent(None, None, 10)),
        ("bytes */*", Sent(None, None, None)),
    ],
)
def test_a_content_range_says_what_is_sent_or_asks(text: str, sent: Sent) -> None:
    assert parse_content_range(text) == sent


@pytest.mark.parametrize("text", ["", "bytes", "bytes 9-0/10", "bytes 0-10/10", "items 0-9/10", "bytes -9/10", "bytes 0-9/-1"])
def test_a_content_range_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="first"):
        parse_content_range(text)


def test_what_is_stored_is_said_as_a_range_and_nothing_as_none() -> None:
    assert (stored_range(0), stored_range(43)) == ({}, {"Range": "bytes=0-42"})
    assert Sent(5, 9, 10).length == 5
    assert (Sent(5, 9, 10).ends_the_file, Sent(5, 9, None).ends_the_file) == (True, False)


@pytest.mark.parametrize(
    ("text", "value"), [("?1", True), ("?0", False), (" ?1;a=b", True), ("1", None), ("true", None), (None, None)]
)
def test_a_boolean_of_the_wrong_type_is_as_good_as_none(text: str | None, value: bool | None) -> None:
    assert ietffields.boolean(text) is value


@pytest.mark.parametrize(("text", "value"), [("0", 0), ("123;x", 123), ("-1", None), ("1.0", None), ('"1"', None), (None, None)])
def test_an_integer_of_the_wrong_type_is_as_good_as_none(text: str | None, value: int | None) -> None:
    assert ietffields.integer(text) == value


@pytest.mark.parametrize(
    ("field", "name"),
    [
        (None, None),
        ("inline", None),
        ('inline; filename="a \\"b\\".mp4"', 'a "b".mp4'),
        ("attachment; filename=clip.mp4", "clip.mp4"),
        ("inline; filename=\"x.mp4\"; filename*=UTF-8''Gr%C3%BC%C3%9Fe.mp4", "Grüße.mp4"),
    ],
)
def test_the_file_name_comes_from_content_disposition(field: str | None, name: str | None) -> None:
    assert ietffields.filename(field) == name


def test_a_file_without_a_title_is_called_after_itself_and_nothing_is_refused_for_its_name() -> None:
    assert video_maker(5, filename="Holiday clip.mp4")(ID).title == "Holiday clip"
    assert video_maker(5)(ID).title == "Untitled"
    odd = video_maker(5, title="a\x00b\n" * 200, filename="../../x\x07.mp4", content_type="a/b\r\nX: y", tags=["a", "a", "\x01"])
    made = odd(ID)
    assert (len(made.title) > 198, "\n" in made.title, made.filename, made.tags) == (True, False, "../../x.mp4", ("a",))
    assert made.content_type == "application/octet-stream"


@given(st.integers(1, 9), st.lists(st.integers(0, 9), max_size=6))
def test_progress_is_the_length_of_the_parts_without_a_gap(part_size: int, sizes: list[int]) -> None:
    arrived = {number: min(size, part_size) for number, size in enumerate(sizes, 1) if size}
    progress = stream_progress(part_size, arrived.items())
    full = next((number for number in range(1, 8) if arrived.get(number, 0) != part_size), 8)
    assert progress.next_number == full
    assert progress.offset == (full - 1) * part_size + arrived.get(full, 0)
    assert progress.tail_bytes == arrived.get(full, 0)


def test_equal_parts_have_one_digest_and_any_difference_another() -> None:
    same = digest_of_parts(5, [(5, "aa"), (1, "bb")])
    assert same == digest_of_parts(5, [(5, "aa"), (1, "bb")])
    assert digest_of_parts(5, [(5, "aa"), (1, "")]) is None
    others = [
        digest_of_parts(6, [(5, "aa"), (1, "bb")]),
        digest_of_parts(5, [(1, "bb"), (5, "aa")]),
        digest_of_parts(5, [(5, "aa")]),
    ]
    assert len({same, *others}) == 4
