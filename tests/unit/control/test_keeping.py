"""What control keeps of its changes: versions, drains, audit lines, a rollout's state; torn and unreadable files among them."""

from __future__ import annotations

import json
from pathlib import Path

import structlog

from control.audit import Asker, AuditLog, What
from control.config.configfile import ConfigFile
from control.config.draining import Drains
from control.config.history import History, Outcome
from control.rollouts.gate import fails_too_often, not_taken, not_up, went_down
from control.rollouts.handoff import interleaved, parts_of
from control.rollouts.rolloutstate import LINES_KEPT, End, RolloutState, Status, keep_state, kept_state
from control.watching.health import NodeHealth
from control.watching.traffic import Counters
from headwater.rules.warmorder import Wanted
from headwater.settings.staging import Handoff
from tests.support.deployments import LAB

LOG = structlog.get_logger()
ADA = Asker("operator 1", "ada", "127.0.0.1")


def test_versions_survive_a_restart_and_an_unreadable_one_is_skipped_but_never_overwritten(tmp_path: Path) -> None:
    history = History(tmp_path, LOG)
    history.add(ADA, "start", "a: 1", "", Outcome.APPLIED)
    tried = history.add(ADA, "apply", "a: 2", "moves", Outcome.RUNNING)
    history.end(tried.number, Outcome.ROLLED_BACK, "fra-1 went down")
    (tmp_path / "versions" / "000007.json").write_text("{torn")
    again = History(tmp_path, LOG)
    again.start()
    assert again.versions == history.versions
    assert again.in_force is not None
    assert again.in_force.text == "a: 1"
    assert again.versions[2].reason == "fra-1 went down"
    assert again.add(ADA, "apply", "a: 3", "", Outcome.APPLIED).number == 8
    assert again.before(8) == again.versions[1]


def test_drains_survive_a_restart_and_keep_their_since(tmp_path: Path) -> None:
    now = [100.0]
    drains = Drains(tmp_path, LOG, clock=lambda: now[0])
    drains.put(frozenset({"fra"}), ADA)
    now[0] = 200.0
    drains.put(frozenset({"fra", "iad-1"}), Asker("operator 2"))
    again = Drains(tmp_path, LOG)
    again.start()
    assert {name: (drain.since, drain.asker.who) for name, drain in again.drains.items()} == {
        "fra": (100.0, "operator 1"),
        "iad-1": (200.0, "operator 2"),
    }
    (tmp_path / "drains.json").write_text("[]")
    again.start()
    assert Drains(tmp_path, LOG).names == frozenset()


def test_the_audit_log_only_grows_and_a_torn_line_costs_no_other(tmp_path: Path) -> None:
    audit = AuditLog(tmp_path, LOG, clock=lambda: 5.0)
    audit.note(ADA, What.DRAIN, "fra", "done")
    file = tmp_path / "audit.log"
    with file.open("ab") as appended:
        appended.write(b'{"at": 6, "wh')
    audit.note(ADA, What.UNDRAIN, "fra", "done")
    assert [line["what"] for line in audit.last(10)] == ["undrain", "drain"]
    told = {"what": "undrain", "detail": "fra", "outcome": "done"}
    assert audit.last(1)[0] == {"at": 5.0, "who": "operator 1", "login": "ada", "from": "127.0.0.1", **told}
    assert file.stat().st_mode & 0o777 == 0o600
    assert len(file.read_bytes().splitlines()) == 3


def test_a_rollout_survives_a_restart_whole(tmp_path: Path) -> None:
    state = RolloutState(
        "1", "apply", ADA, 1.0, End("a", ("fra",)), End("b"), 3, Status.BACK, 2, ("x", "y"), "why", ("fra-1",), {"fra-1": 0.1}
    ).said(2.0, "hello")
    keep_state(tmp_path / "rollout.json", state)
    assert kept_state(tmp_path / "rollout.json") == state
    assert kept_state(tmp_path / "none.json") is None
    for n in range(LINES_KEPT + 5):
        state = state.said(3.0, str(n))
    assert (len(state.lines), state.dropped) == (LINES_KEPT, 6)
    assert json.loads((tmp_path / "rollout.json").read_text())["status"] == "rolling back"


def test_an_edit_that_a_rollout_overwrites_is_put_aside(tmp_path: Path) -> None:
    file = tmp_path / "lab.yaml"
    file.write_text("mine: edited meanwhile")
    config = ConfigFile(file, tmp_path / "control", tmp_path)
    told = config.become("new: text", expected="old: text")
    assert told is not None
    (aside,) = (tmp_path / "control").glob("set-aside-*.yaml")
    assert (aside.read_text(), file.read_text()) == ("mine: edited meanwhile", "new: text")
    assert str(aside) in told
    assert config.become("new: text", expected="old: text") is None
    assert config.become("newer", expected="new: text") is None
    assert config.wanted(End(LAB.read_text(), ("fra",))).effective.pops["fra"].weight == 0


def test_a_step_ends_when_a_node_goes_down_or_fails_too_often() -> None:
    health = {"fra-1": NodeHealth("down", 1.0, 0, "connection refused"), "iad-1": NodeHealth("up", 1.0)}
    assert went_down(["fra-1", "iad-1"], ["fra-1", "iad-1"], health) == "fra-1 went down: connection refused"
    assert went_down(["iad-1"], ["fra-1", "iad-1"], health) is None  # it was down before
    assert went_down(["fra-1"], ["iad-1"], health) is None  # it is to go
    assert not_taken(["a", "b"], {"a": 7}, 7) == ["b"]
    assert not_up(["iad-1", "fra-1", "new"], health) == ["fra-1", "new"]

    def counted(requests: float, failed: float, start: float = 1.0) -> Counters:
        return Counters(0, start, None, requests, 0, 0, 0, failed)

    first = counted(100, 5)
    assert fails_too_often("fra-1", first, counted(200, 15), 0.0, 0.02) is not None
    assert fails_too_often("fra-1", first, counted(200, 15), 0.06, 0.02) is None  # it failed before
    assert fails_too_often("fra-1", first, counted(110, 9), 0.0, 0.02) is None  # too few to say
    assert fails_too_often("fra-1", first, counted(200, 200, 2.0), 0.0, 0.02) is None  # another life
    assert fails_too_often("fra-1", None, counted(200, 200), 0.0, 0.02) is None


def test_a_handoff_asks_for_the_hottest_of_each_loser_first_within_its_bytes() -> None:
    lists = [
        [(Wanted("v/a", ("x",)), 40), (Wanted("v/b", ("x",)), 40)],
        [(Wanted("v/c", ("y",)), 40), (Wanted("v/a", ("y",)), 40)],
    ]
    wanted = interleaved(lists)
    assert [one.key for one, _ in wanted] == ["v/a", "v/c", "v/b"]
    assert wanted[0][0].sources == ("x",)
    few = Handoff(size="80 B", bandwidth="1 kbit/s")
    assert [[one.key for one in part] for part in parts_of(wanted, few)] == [["v/a", "v/c"]]
    slow = Handoff(size="1 MB", bandwidth="32 bit/s")
    assert [len(part) for part in parts_of(wanted, slow)] == [1, 1, 1]
