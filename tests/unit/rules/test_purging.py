"""Laws of purging: what a table says of an object is what its records say one by one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.rules.purging import KEPT, Coverage, Named, PurgeKind, PurgeRecord, PurgeTable, folded, names, tags_of

PATHS = st.lists(st.sampled_from(["a", "ab", "b"]), max_size=4).map(lambda parts: "/".join(["site", *parts]))
KEYS = st.builds(
    lambda path, slash, query: f"{path}{slash}{query}", PATHS, st.sampled_from(["", "/"]), st.sampled_from(["", "?a/b"])
)
TAGS = st.frozensets(st.sampled_from(["red", "green"]))
NAMED = st.builds(Named, KEYS, TAGS)
PARTS = st.one_of(
    st.tuples(st.just(PurgeKind.OBJECT), KEYS),
    st.tuples(st.just(PurgeKind.PREFIX), st.builds(str.__add__, PATHS, st.sampled_from(["", "/"]))),
    st.tuples(st.just(PurgeKind.TAG), st.sampled_from(["red", "green"])),
    st.tuples(st.just(PurgeKind.EVERYTHING), st.just("")),
)
RECORDS = st.lists(st.tuples(PARTS, st.booleans()), max_size=12).map(
    lambda parts: [PurgeRecord(n, kind, target, soft, 1000.0 + n) for n, ((kind, target), soft) in enumerate(parts, 1)]
)


def table_of(records: list[PurgeRecord]) -> PurgeTable:
    table = PurgeTable()
    for record in records:
        table.add(record)
    return table


@given(RECORDS, NAMED, st.integers(0, 12))
def test_a_table_says_what_its_records_say_one_by_one(records: list[PurgeRecord], named: Named, accounted: int) -> None:
    covering = [record for record in records if record.sequence > accounted and names(record, named)]
    verdict = table_of(records).verdict(named, accounted)
    if any(not record.soft for record in covering):
        assert verdict.coverage is Coverage.GONE
    elif covering:
        assert verdict.coverage is Coverage.STALE
        assert verdict.stale_since in {record.at for record in covering}
    else:
        assert verdict == KEPT


@given(RECORDS, NAMED, st.integers(0, 12), st.integers(1, 12))
def test_folding_purges_more_never_less(records: list[PurgeRecord], named: Named, accounted: int, at_most: int) -> None:
    order = [Coverage.KEPT, Coverage.STALE, Coverage.GONE]
    fewer = folded(records, at_most)
    assert len(fewer) <= max(at_most, 1)
    before, after = table_of(records).verdict(named, accounted), table_of(fewer).verdict(named, accounted)
    assert order.index(after.coverage) >= order.index(before.coverage)


@given(RECORDS, NAMED, st.integers(0, 12))
def test_a_table_made_from_what_a_table_holds_says_the_same(records: list[PurgeRecord], named: Named, accounted: int) -> None:
    table = table_of(records)
    assert table_of(table.records()).verdict(named, accounted) == table.verdict(named, accounted)


@given(RECORDS, NAMED)
def test_what_began_after_a_purge_is_not_covered_and_what_began_before_is(records: list[PurgeRecord], named: Named) -> None:
    table = table_of(records)
    assert table.verdict(named, table.sequence) == KEPT
    purge = PurgeRecord(table.sequence + 1, PurgeKind.OBJECT, named.key, False, 0.0)
    table.add(purge)
    assert table.verdict(named, purge.sequence - 1).coverage is Coverage.GONE
    assert table.verdict(named, purge.sequence) == KEPT


@given(RECORDS, NAMED, st.integers(0, 12))
def test_a_soft_purge_never_removes(records: list[PurgeRecord], named: Named, accounted: int) -> None:
    softly = [PurgeRecord(one.sequence, one.kind, one.target, True, one.at) for one in records]
    assert table_of(softly).verdict(named, accounted).coverage is not Coverage.GONE


@pytest.mark.parametrize(
    ("prefix", "key", "named"),
    [
        ("site/a/b", "site/a/b", True),
        ("site/a/b", "site/a/b?x=1", True),
        ("site/a/b", "site/a/b/c/d", True),
        ("site/a/b", "site/a/bc", False),
        ("site/a/b/", "site/a/b", False),
        ("site/a/b/", "site/a/b/", True),
        ("site/a/b/", "site/a/b/c", True),
        ("site/", "site/anything/at/all", True),
        ("site/", "site2/anything", False),
        ("site/a", "site/?/a/b", False),
    ],
)
def test_prefixes_end_at_slashes(prefix: str, key: str, named: bool) -> None:
    record = PurgeRecord(1, PurgeKind.PREFIX, prefix, False, 0.0)
    assert names(record, Named(key)) is named
    assert (table_of([record]).verdict(Named(key), 0).coverage is Coverage.GONE) is named


def test_tags_are_those_of_the_response_and_the_id_of_the_video() -> None:
    fields = (("Cache-Tag", "shop, shop:7 ,"), ("Surrogate-Key", "red  green"))
    assert tags_of("site/a", fields) == {"shop", "shop:7", "red", "green"}
    assert tags_of("video/videos/abcdefghijA/h264/360p/init.mp4", ()) == {"abcdefghijA"}
    assert tags_of("video/videos/abcdefghijA", ()) == frozenset()
