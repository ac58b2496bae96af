"""`headwater dns` as an operator types it, over a real file of keys."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import typer
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from typer.testing import CliRunner

from dnssteer.keyroll import Role, State, Step, Timing
from dnssteer.zonekeys import ZoneKeys, key_folder
from headwater.cli import dns as dns_commands
from headwater.runtime.httpsite import CannotStart
from headwater.settings.load import load_deployment
from tests.support.deployments import lab_config

AT_ONCE = Timing(0, 0, 0)


class Operator:
    """Types commands at one deployment."""

    def __init__(self, folder: Path) -> None:
        self.config = lab_config(folder)
        deployment = load_deployment(self.config)
        self.folder, self.zone = key_folder(deployment), deployment.zone
        self._app = typer.Typer()
        dns_commands.register(self._app)

    def types(self, *words: str, status: int = 0) -> tuple[str, str]:
        """(stdout, stderr)."""
        result = CliRunner().invoke(self._app, ["dns", *words, "--config", str(self.config)])
        assert result.exit_code == status, result.output
        return result.stdout.strip(), result.stderr.strip()

    def listed(self) -> list[dict[str, Any]]:
        keys: list[dict[str, Any]] = json.loads(self.types("keys", "list", "--json")[0])["keys"]
        return keys

    def store(self) -> ZoneKeys:
        return ZoneKeys(self.folder, self.zone)


@pytest.fixture
def operator(tmp_path: Path) -> Operator:
    return Operator(tmp_path)


def test_a_rollover_is_begun_listed_and_not_begun_twice(operator: Operator) -> None:
    assert [(key["role"], key["state"], key["next"]) for key in operator.listed()] == [
        ("ksk", "active", "replaced when told to"), ("zsk", "active", "replaced when told to"),
    ]  # fmt: skip
    said, _ = operator.types("keys", "roll", "zsk")
    assert "is published from now on. Next: active: " in said
    assert [key["state"] for key in operator.listed()] == ["active", "active", "published"]
    assert "under way" in operator.types("keys", "roll", "zsk", status=2)[1]
    assert "published" in operator.types("keys", "list")[0]


def test_the_parents_ds_is_told_and_the_ds_printed_is_that_of_the_key_that_is_wanted(operator: Operator) -> None:
    before, _ = operator.types("ds")
    assert "no key is submitted" in operator.types("keys", "seen", status=2)[1]
    operator.types("keys", "roll", "ksk")
    assert operator.types("ds")[0] == before, "the parent is not asked for a key that resolvers may not know yet"
    operator.store().look(AT_ONCE)
    assert operator.types("ds")[0] != before
    assert "the parent takes its DS" in operator.listed()[1]["next"]
    said, _ = operator.types("keys", "seen", "--ttl", "60")
    assert "the parent has its DS. Next: active: " in said


def test_the_key_of_an_earlier_version_is_taken_over(operator: Operator) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    operator.folder.mkdir(parents=True)
    (operator.folder / f"{operator.zone}.pem").write_bytes(private.private_bytes(*form))
    (key,) = operator.listed()
    assert (key["role"], key["state"]) == ("ksk", "active")
    assert operator.store().current.of_zone[0].private.private_numbers() == private.private_numbers()
    assert "roll its zsk first" in operator.types("keys", "roll", "ksk", status=2)[1]
    operator.types("keys", "roll", "zsk")


def test_a_running_server_takes_what_another_process_changed_and_survives_a_damaged_file(operator: Operator) -> None:
    running = operator.store()
    assert running.look(AT_ONCE) is None
    operator.types("keys", "roll", "zsk")
    steps = [one.step for one in running.look(AT_ONCE) or []]
    assert steps == [Step.ACTIVATED, Step.RETIRED]
    assert [place.state for place in running.current.places if place.role is Role.ZSK] == [State.RETIRED, State.ACTIVE]
    before = running.current
    file = operator.folder / f"{operator.zone}.json"
    kept = file.read_bytes()
    draft = file.with_suffix(".new")
    draft.write_bytes(kept[:-20])
    draft.replace(file)
    for _ in range(2):
        with pytest.raises(CannotStart, match="from a backup"):
            running.look(AT_ONCE)
    assert running.current is before
    assert "from a backup" in operator.types("keys", "list", status=2)[1]
    file.write_bytes(kept)
    assert running.look(AT_ONCE)
    assert [place.state for place in running.current.places if place.role is Role.ZSK] == [State.ACTIVE]


def test_a_server_that_dies_while_it_writes_leaves_the_keys_of_before(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = operator.store()
    before = (operator.folder / f"{operator.zone}.json").read_bytes()

    def dies(*_: object) -> None:
        raise OSError("the power went")

    monkeypatch.setattr(os, "fsync", dies)
    with pytest.raises(OSError, match="the power went"):
        store.roll(Role.ZSK)
    monkeypatch.undo()
    assert (operator.folder / f"{operator.zone}.json").read_bytes() == before
    assert (operator.folder / f"{operator.zone}.json").stat().st_mode & 0o777 == 0o600
    store.roll(Role.ZSK)
    assert (operator.folder / f"{operator.zone}.json").stat().st_mode & 0o777 == 0o600
    assert sorted(file.suffix for file in operator.folder.iterdir()) == [".json", ".lock"]
