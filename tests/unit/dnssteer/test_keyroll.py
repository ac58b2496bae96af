"""Key rollover never breaks a resolver, whatever it still has in its cache."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dnssteer.keyroll import (
    CannotRoll,
    KeyPlace,
    Keys,
    Role,
    State,
    Step,
    Timing,
    advanced,
    begun,
    ds_seen,
    due,
    refusal,
    signs_keys,
    signs_zone,
    wanted_at_parent,
)

ONE_KEY: Keys = (KeyPlace(1, Role.KSK, State.ACTIVE, 0.0),)
TWO_KEYS: Keys = (*ONE_KEY, KeyPlace(2, Role.ZSK, State.ACTIVE, 0.0))
HOUR = Timing(key_ttl_s=3600, max_ttl_s=7200, propagation_s=600)


@dataclass(frozen=True)
class Served:
    """What resolvers may take from the zone and its parent at one moment, by tags."""

    at: float
    dnskey: frozenset[int]
    dnskey_signers: frozenset[int]
    zone_signer: int
    ds: int


def served(keys: Keys, at: float, ds: int) -> Served:
    return Served(
        at, frozenset(key.tag for key in keys), frozenset(key.tag for key in signs_keys(keys)), signs_zone(keys).tag, ds
    )


def breaks(history: list[Served], timing: Timing, ds_ttl_s: float) -> str | None:
    """What a resolver could have that does not validate at the last moment of `history`."""
    now = history[-1].at
    for keys in (one for one in history if now - one.at <= timing.key_ttl_s):
        for zone in (one for one in history if now - one.at <= timing.max_ttl_s):
            if zone.zone_signer not in keys.dnskey:
                return f"at {now}: a signature of {zone.zone_signer} (from {zone.at}) and keys {keys.dnskey} (from {keys.at})"
        for parent in (one for one in history if now - one.at <= ds_ttl_s):
            if parent.ds not in keys.dnskey_signers:
                return f"at {now}: a DS of {parent.ds} (from {parent.at}) and keys {keys.dnskey} (from {keys.at})"
    return None


@settings(max_examples=100, deadline=None)
@given(
    start=st.sampled_from([ONE_KEY, TWO_KEYS]),
    timing=st.builds(
        Timing,
        key_ttl_s=st.integers(1, 6), max_ttl_s=st.integers(1, 6), propagation_s=st.integers(0, 2),
        zsk_every_s=st.none() | st.integers(1, 12), ksk_every_s=st.none() | st.integers(1, 12),
    ),
    ds_ttl_s=st.integers(1, 6),
    events=st.lists(
        st.sampled_from(["tick", "tick", "tick", "zsk", "ksk", "ksk", "parent", "parent", "blind"]), min_size=25, max_size=60
    ),
)  # fmt: skip
def test_no_mixture_of_what_resolvers_keep_fails_to_validate(
    start: Keys, timing: Timing, ds_ttl_s: float, events: list[str]
) -> None:
    """The parent takes CDS when it likes, and the server does not always look at its keys."""
    keys, ds, tag, looks = start, 1, 2, True
    history: list[Served] = []
    for now, event in enumerate(events):
        for role in due(keys, now, timing) if looks else []:
            keys = begun(keys, role, tag := tag + 1, now)
        if event in ("zsk", "ksk") and refusal(keys, Role(event)) is None:
            keys = begun(keys, Role(event), tag := tag + 1, now)
        elif event == "parent":
            ds = wanted_at_parent(keys).tag
        elif event == "blind":
            looks = not looks
        if ds == wanted_at_parent(keys).tag and wanted_at_parent(keys).state is State.SUBMITTED:
            keys = ds_seen(keys, now, ds_ttl_s)
        if looks:
            keys, _ = advanced(keys, now, timing)
        history.append(served(keys, now, ds))
        assert breaks(history, timing, ds_ttl_s) is None


def test_a_zsk_is_published_before_it_signs_and_kept_after() -> None:
    keys = begun(TWO_KEYS, Role.ZSK, 3, 0)
    said: list[tuple[float, int, str]] = []
    for now in range(0, 20_000, 60):
        keys, moved = advanced(keys, now, HOUR)
        said += [(now, one.tag, one.step) for one in moved]
    assert said == [(4200, 3, Step.ACTIVATED), (4200, 2, Step.RETIRED), (12_000, 2, Step.REMOVED)]
    assert [key.tag for key in keys] == [1, 3]


def test_a_ksk_waits_for_the_parent_and_then_for_the_old_ds_to_run_out() -> None:
    keys = begun(TWO_KEYS, Role.KSK, 3, 100_000)
    keys, moved = advanced(keys, 104_200, HOUR)
    assert [one.step for one in moved] == [Step.SUBMITTED]
    assert wanted_at_parent(keys).tag == 3
    assert advanced(keys, 10**9, HOUR) == (keys, []), "the parent may take its time"
    keys = ds_seen(keys, 200_000, 86_400)
    assert ds_seen(keys, 250_000, 86_400) == keys, "seen again is no news"
    assert advanced(keys, 200_000 + 86_400 + 599, HOUR) == (keys, [])
    keys, moved = advanced(keys, 200_000 + 86_400 + 600, HOUR)
    assert [(one.tag, one.step) for one in moved] == [(3, Step.ACTIVATED), (1, Step.REMOVED)]


@pytest.mark.parametrize(
    ("keys", "role", "why"),
    [
        (ONE_KEY, Role.KSK, "roll its zsk first"),
        (begun(TWO_KEYS, Role.ZSK, 3, 0), Role.ZSK, "under way"),
        (begun(TWO_KEYS, Role.KSK, 3, 0), Role.KSK, "under way"),
    ],
)
def test_a_rollover_that_does_not_fit_is_refused_with_its_cure(keys: Keys, role: Role, why: str) -> None:
    with pytest.raises(CannotRoll, match=why):
        begun(keys, role, 9, 1)
    with pytest.raises(CannotRoll, match="no key is submitted"):
        ds_seen(TWO_KEYS, 1, 1)


def test_the_key_of_a_zone_of_one_key_stays_until_its_last_signature_of_the_zone_has_run_out() -> None:
    timing = Timing(key_ttl_s=1, max_ttl_s=100, propagation_s=0)
    keys, _ = advanced(begun(ONE_KEY, Role.ZSK, 2, 0), 1, timing)
    keys, _ = advanced(begun(keys, Role.KSK, 3, 1), 2, timing)
    keys, moved = advanced(ds_seen(keys, 2, 1), 100, timing)
    assert moved == []
    assert [one.step for one in advanced(keys, 101, timing)[1]] == [Step.ACTIVATED, Step.REMOVED]


def test_keys_are_replaced_at_their_age_and_a_zone_of_one_key_gets_a_zsk() -> None:
    timing = Timing(3600, 3600, 600, zsk_every_s=86_400, ksk_every_s=864_000)
    assert due(ONE_KEY, 0, timing) == [Role.ZSK]
    assert due(TWO_KEYS, 86_399, timing) == []
    assert due(TWO_KEYS, 86_400, timing) == [Role.ZSK]
    assert due(TWO_KEYS, 10**9, HOUR) == []
