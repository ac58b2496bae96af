"""The key ring over real files: rotation, atomic changes, and what is refused."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from headwater.runtime.metrics import value
from signer.grant import Algorithm, Grant, GrantRefused, KeyState, Refusal, mint, verify
from signer.keyring import KeyRing, KeyRingError, last_signed_at

LIFETIME_S = 3600.0


class ManualClock:
    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def ring(tmp_path: Path, clock: ManualClock) -> KeyRing:
    return KeyRing(tmp_path / "keys", clock=clock)


def signed(ring: KeyRing) -> str:
    key = ring.signing_key()
    return mint(Grant(key.key_id, 2_000_000_000, "/videos/"), key)


def verdict(token: str, ring: KeyRing) -> str:
    try:
        verify(token, {key.key_id: key for key in ring.published()})
    except GrantRefused as refused:
        return refused.refusal
    return "good"


@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_an_empty_ring_gets_one_active_key_that_signs_and_verifies(ring: KeyRing, algorithm: Algorithm) -> None:
    ring.ensure(algorithm)
    ring.ensure(algorithm)
    (key,) = ring.keys()
    assert (key.algorithm, key.state) == (algorithm, KeyState.ACTIVE)
    assert verdict(signed(ring), ring) == "good"


def test_nothing_private_is_published_of_an_ed25519_key_and_the_secret_is_published_of_an_hmac_key(ring: KeyRing) -> None:
    ring.new("ed25519", "public")
    ring.new("hmac-sha256", "shared")
    stored = ring.keys()
    secrets = {key.key_id: key.secret for key in stored}
    material = {key.key_id: key.material for key in ring.published()}
    assert material["public"] != secrets["public"]
    assert material["shared"] == secrets["shared"]


def test_the_folder_and_its_files_are_private(ring: KeyRing) -> None:
    ring.ensure("ed25519")
    assert ring.folder.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in ring.folder.iterdir()} == {0o600}
    assert not list(ring.folder.glob("*.draft"))


def test_a_secret_is_in_no_representation(ring: KeyRing) -> None:
    key = ring.new("ed25519")
    assert key.secret is not None
    assert repr(key.secret) not in repr(key)
    assert "secret" not in repr(key)


def test_a_rotation_refuses_no_grant(ring: KeyRing, clock: ManualClock) -> None:
    ring.ensure("ed25519")
    old = signed(ring)
    new = ring.new("hmac-sha256")
    assert verdict(old, ring) == "good"
    clock.now += 10
    ring.activate(new.key_id)
    assert ring.signing_key().key_id == new.key_id
    assert verdict(old, ring) == verdict(signed(ring), ring) == "good"


def test_a_retired_keys_grants_are_refused_by_name_and_its_secret_is_gone(ring: KeyRing, clock: ManualClock) -> None:
    ring.ensure("hmac-sha256")
    old_key, old = ring.keys()[0], signed(ring)
    clock.now += 10
    ring.activate(ring.new("hmac-sha256").key_id, force=True)
    clock.now += LIFETIME_S
    retired = ring.retire(old_key.key_id, lifetime_s=LIFETIME_S)
    assert verdict(old, ring) == Refusal.RETIRED_KEY
    assert retired.secret is None
    assert old_key.secret not in {key.material for key in ring.published()}
    assert ring.retire(old_key.key_id, lifetime_s=LIFETIME_S) == retired


def test_a_key_is_not_activated_before_the_nodes_can_know_it(ring: KeyRing, clock: ManualClock) -> None:
    key = ring.new("ed25519")
    clock.now += 9.9
    with pytest.raises(KeyRingError, match="some node may not know it yet"):
        ring.activate(key.key_id)
    assert ring.keys()[0].state is KeyState.NEXT
    assert ring.activate(key.key_id, force=True).state is KeyState.ACTIVE


def test_only_a_next_key_is_activated(ring: KeyRing) -> None:
    ring.ensure("ed25519")
    with pytest.raises(KeyRingError, match="only a next key is activated"):
        ring.activate(ring.keys()[0].key_id)
    with pytest.raises(KeyRingError, match="there is no key 'nobody'"):
        ring.activate("nobody")


def test_the_only_signing_key_is_never_retired(ring: KeyRing) -> None:
    ring.ensure("ed25519")
    ring.new("ed25519")
    with pytest.raises(KeyRingError, match="the only one that signs"):
        ring.retire(ring.signing_key().key_id, lifetime_s=LIFETIME_S, force=True)


def test_retiring_says_until_when_grants_may_be_in_use(ring: KeyRing, clock: ManualClock) -> None:
    ring.ensure("ed25519")
    old = ring.keys()[0].key_id
    clock.now += 100
    ring.activate(ring.new("ed25519").key_id, force=True)
    clock.now += LIFETIME_S - 1
    with pytest.raises(KeyRingError, match="in use until 2027-01-15 09:01:40 UTC"):
        ring.retire(old, lifetime_s=LIFETIME_S)
    clock.now += 1
    assert ring.retire(old, lifetime_s=LIFETIME_S).state is KeyState.RETIRED


def test_a_next_key_retires_at_once(ring: KeyRing) -> None:
    ring.ensure("ed25519")
    assert ring.retire(ring.new("ed25519").key_id, lifetime_s=LIFETIME_S).state is KeyState.RETIRED


def test_when_the_newest_key_is_retired_the_one_before_signs_again(ring: KeyRing, clock: ManualClock) -> None:
    ring.ensure("ed25519")
    first = ring.keys()[0]
    clock.now += 100
    second = ring.activate(ring.new("ed25519").key_id, force=True)
    clock.now += 100
    assert last_signed_at(first, ring.keys(), clock.now) == first.created_at + 100
    ring.retire(second.key_id, lifetime_s=LIFETIME_S, force=True)
    assert ring.signing_key().key_id == first.key_id
    assert last_signed_at(first, ring.keys(), clock.now + 5) == clock.now + 5


def test_the_key_activated_last_signs_even_when_the_clock_went_back(ring: KeyRing, clock: ManualClock) -> None:
    ring.ensure("ed25519")
    clock.now -= 500
    second = ring.activate(ring.new("ed25519").key_id, force=True)
    assert ring.signing_key().key_id == second.key_id


def test_another_process_change_is_seen_at_the_next_call(ring: KeyRing, clock: ManualClock) -> None:
    ring.ensure("ed25519")
    elsewhere = KeyRing(ring.folder, clock=clock)
    first = elsewhere.signing_key()
    second = ring.activate(ring.new("ed25519").key_id, force=True)
    assert first.key_id != second.key_id
    assert elsewhere.signing_key().key_id == second.key_id


def test_a_second_change_within_one_tick_of_the_file_clock_is_seen(ring: KeyRing, clock: ManualClock) -> None:
    ring.ensure("ed25519")
    just_now = (time.time_ns() + 10**10,) * 2
    os.utime(ring.folder, ns=just_now)
    elsewhere = KeyRing(ring.folder, clock=clock)
    assert len(elsewhere.keys()) == 1
    ring.new("ed25519")
    os.utime(ring.folder, ns=just_now)
    assert len(elsewhere.keys()) == 2


def test_a_change_waits_for_the_one_under_way(ring: KeyRing) -> None:
    ring.ensure("ed25519")
    with (ring.folder / ".lock").open() as under_way:
        fcntl.flock(under_way, fcntl.LOCK_EX)
        other = threading.Thread(target=ring.new, args=("ed25519",))
        other.start()
        other.join(0.3)
        assert other.is_alive()
    other.join()
    assert len(ring.keys()) == 2


def test_an_unchanged_ring_is_not_read_again(ring: KeyRing, monkeypatch: pytest.MonkeyPatch) -> None:
    ring.ensure("ed25519")
    os.utime(ring.folder, (1, 1))
    before = ring.signing_key()
    (ring.folder / f"{before.key_id}.json").chmod(0o000)
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail(f"{path} was read"))
    assert ring.signing_key() == before


def test_a_damaged_file_stops_the_start_with_a_cure_but_not_a_running_ring(ring: KeyRing) -> None:
    ring.ensure("ed25519")
    before, counted = ring.signing_key(), value("headwater_keyring_unreadable_total")
    (ring.folder / "draft").write_text('{"secret": "do not show me"}')
    (ring.folder / "draft").rename(ring.folder / f"{before.key_id}.json")
    assert ring.signing_key() == before
    assert value("headwater_keyring_unreadable_total") == counted + 1
    with pytest.raises(KeyRingError, match="restore it from a backup") as error:
        KeyRing(ring.folder).signing_key()
    assert "do not show me" not in str(error.value)
    with pytest.raises(KeyRingError, match="restore it from a backup"):
        KeyRing(ring.folder).ensure("ed25519")


def test_a_file_under_another_keys_name_is_refused(ring: KeyRing) -> None:
    key = ring.new("ed25519")
    (ring.folder / f"{key.key_id}.json").rename(ring.folder / "other.json")
    with pytest.raises(KeyRingError, match="rename it"):
        KeyRing(ring.folder).keys()


def test_a_key_id_is_taken_once_and_has_a_plain_form(ring: KeyRing) -> None:
    ring.new("ed25519", "one")
    with pytest.raises(KeyRingError, match="already"):
        ring.new("ed25519", "one")
    for bad in ("", "../x", "UPPER", "a" * 33, "a\n"):
        with pytest.raises(KeyRingError, match="no key id"):
            ring.new("ed25519", bad)


def test_an_empty_ring_names_the_cure(ring: KeyRing) -> None:
    assert ring.keys() == ring.published() == []
    with pytest.raises(KeyRingError, match="headwater keys new"):
        ring.signing_key()


def test_two_starters_at_once_agree_on_one_key(tmp_path: Path) -> None:
    start = (
        "import sys; from pathlib import Path; from signer.keyring import KeyRing;"
        f"sys.stdin.read(); KeyRing(Path({str(tmp_path / 'keys')!r})).ensure('ed25519')"
    )
    starters = [subprocess.Popen([sys.executable, "-c", start], stdin=subprocess.PIPE) for _ in range(4)]
    for starter in starters:
        assert starter.stdin is not None
        starter.stdin.close()
    assert [starter.wait() for starter in starters] == [0, 0, 0, 0]
    assert len(KeyRing(tmp_path / "keys").keys()) == 1
