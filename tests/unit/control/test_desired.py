"""The desired config: what an edit does, and what a bad one does not."""

from __future__ import annotations

from pathlib import Path

from control.config.desired import Desired, Edit, after_look
from control.config.differences import (
    Difference,
    Written,
    differences,
    found_at_start,
    listens_elsewhere,
    read_at_start,
    waiting_for_restart,
)
from headwater.settings.deployment import Deployment
from headwater.settings.load import load_deployment
from tests.support.deployments import lab_config


def started(folder: Path) -> tuple[Path, Desired]:
    file = lab_config(folder)
    desired, edit = after_look(Desired(load_deployment(file)), file)
    assert edit is Edit.UNCHANGED
    return file, desired


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def test_a_good_edit_is_accepted_once_and_its_differences_are_named(tmp_path: Path) -> None:
    file, before = started(tmp_path)
    edit(file, "    region: eu\n", "    region: eu\n    weight: 0\n")
    after, what = after_look(before, file)
    assert what is Edit.ACCEPTED
    assert differences(before.deployment, after.deployment) == [Difference("pops.fra.weight", "100", "0")]
    assert after_look(after, file) == (after, Edit.UNCHANGED)


def test_a_bad_edit_is_refused_with_all_its_problems_and_the_old_config_stays(tmp_path: Path) -> None:
    file, before = started(tmp_path)
    edit(file, "region: us\n", "region: moon\n    wieght: 3\n")
    after, what = after_look(before, file)
    assert what is Edit.REFUSED
    assert after.deployment == before.deployment
    assert [problem.path for problem in after.problems] == ["pops.iad.wieght"]
    assert "did you mean 'weight'?" in after.problems[0].reason
    assert after_look(after, file)[1] is Edit.UNCHANGED, "a bad edit is told once"


def test_a_file_that_is_gone_changes_nothing_and_its_return_is_noticed(tmp_path: Path) -> None:
    file, before = started(tmp_path)
    text = file.read_text()
    file.unlink()
    gone, what = after_look(before, file)
    assert (what, gone.deployment) == (Edit.REFUSED, before.deployment)
    assert "stays in force" in gone.problems[0].reason
    assert after_look(gone, file)[1] is Edit.UNCHANGED
    file.write_text(text)
    assert after_look(gone, file) == (before, Edit.ACCEPTED)


def test_a_comment_changes_nothing(tmp_path: Path) -> None:
    file, before = started(tmp_path)
    file.write_text("# a comment\n" + file.read_text())
    after, what = after_look(before, file)
    assert (what, after.deployment) == (Edit.UNCHANGED, before.deployment)


def test_what_a_node_reads_at_its_start_waits_for_its_restart(tmp_path: Path) -> None:
    file, before = started(tmp_path)
    edit(file, "region: ap\n", "region: ap\n    weight: 5\n")
    edit(file, "shield-1:\n", "shield-1:\n    cache: {ram: 512 MiB}\n")
    after, _ = after_look(before, file)
    old, new = before.deployment, after.deployment
    assert waiting(old, new, "shield-1") == ["shields.shield-1.cache.ram: 256 MiB → 512 MiB"]
    for node in ("shield-2", "sin-1", "dns", "control", "origin-api"):
        assert waiting(old, new, node) == [], node
    assert "pops.sin.edges.sin-1.listen" in read_at_start(old)["sin-1"]


def test_a_new_node_that_was_started_before_its_file_was_applied_listens_where_the_file_says(tmp_path: Path) -> None:
    """Else no viewer would ever be sent to a POP that was added as the operators' guide says."""
    file, before = started(tmp_path)
    edit(
        file,
        "  iad:\n",
        "  ams:\n    region: eu\n    edges:\n      ams-1: {listen: 127.0.4.1:8080, admin: 127.0.4.1:8180}\n  iad:\n",
    )
    after, _ = after_look(before, file)
    assert [one.path for one in differences(before.deployment, after.deployment)] == [
        "pops.ams.region", "pops.ams.edges.ams-1.listen", "pops.ams.edges.ams-1.admin", "pops.ams.edges.ams-1.capacity",
    ], "defaults are no news"  # fmt: skip
    assert len(differences(after.deployment, before.deployment)) == 4
    written = [Written(100.0, read_at_start(before.deployment))]
    assert found_at_start(written, "ams-1", 150.0) == {}, "no file names it yet"
    written.append(Written(200.0, read_at_start(after.deployment)))
    wanted = written[-1].settings["ams-1"]
    assert waiting_for_restart(found_at_start(written, "ams-1", 150.0), wanted) == []
    # One that the old file did name found there what the old file said.
    written.append(Written(300.0, {"fra-1": {"pops.fra.edges.fra-1.listen": "127.0.9.9:80"}}))
    moved = waiting_for_restart(found_at_start(written, "fra-1", 250.0), written[-1].settings["fra-1"])
    assert listens_elsewhere(moved, "edge")
    assert not listens_elsewhere(
        waiting_for_restart(found_at_start(written, "fra-1", 300.0), written[-1].settings["fra-1"]), "edge"
    )


def waiting(old: Deployment, new: Deployment, node: str) -> list[str]:
    return [str(difference) for difference in waiting_for_restart(read_at_start(old)[node], read_at_start(new)[node])]
