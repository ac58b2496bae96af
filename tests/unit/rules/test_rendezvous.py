from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from headwater.rules.rendezvous import ranked

NODES = st.dictionaries(st.text("abcdef0123", min_size=1, max_size=4), st.floats(0.5, 100), min_size=2, max_size=8)


@given(NODES, st.binary(min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_the_order_of_declaration_never_matters(nodes: dict[str, float], key: bytes, random: st.DataObject) -> None:
    shuffled = list(nodes.items())
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert ranked(key, shuffled) == ranked(key, nodes.items())


@given(NODES, st.binary(min_size=1, max_size=8))
def test_removing_a_node_moves_only_its_keys(nodes: dict[str, float], key: bytes) -> None:
    before = ranked(key, nodes.items())
    for gone in nodes:
        after = ranked(key, ((name, weight) for name, weight in nodes.items() if name != gone))
        assert after == [name for name in before if name != gone]


def test_a_node_without_weight_has_no_claim() -> None:
    assert ranked(b"k", [("a", 0), ("b", 1)]) == ["b"]


def test_shares_follow_weights() -> None:
    firsts = [ranked(str(n).encode(), [("a", 1), ("b", 3)])[0] for n in range(4096)]
    assert 0.22 < firsts.count("a") / 4096 < 0.28
