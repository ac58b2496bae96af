"""What `headwater up` checks before it starts anything, on real sockets, folders and programs."""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from headwater.runtime import preflight
from headwater.runtime.datalock import InUse, holding
from headwater.settings.deployment import Deployment

CONFIG = Path("lab.yaml")


def test_a_fresh_deployment_has_no_problems(deployment: Deployment) -> None:
    assert preflight.problems(deployment, CONFIG) == []


def test_every_port_in_use_is_named_with_its_setting_and_the_cure(deployment: Deployment) -> None:
    api, dns = deployment.origin.api.listen, deployment.dns.listen
    with socket.create_server((api.host, api.port)), socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        datagrams.bind((dns.host, dns.port))
        found = preflight.problems(deployment, CONFIG)
    assert found == [
        f"TCP {api} (origin.api.listen) is in use: stop the program that has it (`ss -ltnp 'sport = :{api.port}'` names it), "
        "or change origin.api.listen in lab.yaml.",
        f"UDP {dns} (dns.listen) is in use: stop the program that has it (`ss -lunp 'sport = :{dns.port}'` names it), "
        "or change dns.listen in lab.yaml.",
    ]


def test_a_deployment_that_runs_already_is_one_sentence(deployment: Deployment) -> None:
    with ExitStack() as taken:
        for _, address in deployment.listeners():
            taken.enter_context(socket.create_server((address.host, address.port)))
        [found] = preflight.problems(deployment, CONFIG)
    assert found.startswith("19 of the 20 addresses in lab.yaml are in use (")
    assert "stop the other `headwater up`" in found


def test_an_address_of_another_machine_is_named(deployment: Deployment) -> None:
    dns = deployment.dns.model_copy(update={"listen": deployment.dns.listen.__class__("192.0.2.7", 5300)})
    found = preflight.problems(deployment.model_copy(update={"dns": dns}), CONFIG)
    assert len(found) == 2
    assert "192.0.2.7 (dns.listen) is no address of this machine" in found[0]


def test_a_data_folder_below_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    [found] = preflight.data_folder(tmp_path / "file" / "data")
    assert "cannot be written (Not a directory): change `data` in the config" in found


def test_a_disk_that_is_nearly_full_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "FREE_DISK_BYTES", 2**62)
    [found] = preflight.data_folder(tmp_path)
    assert "free some, or name another `data` folder" in found


def test_a_second_holder_of_a_data_folder_is_told_who_has_it(tmp_path: Path) -> None:
    with holding(tmp_path) as was_killed:
        assert not was_killed
        with pytest.raises(InUse, match=f"process {os.getpid()}.*stop that one"), holding(tmp_path):
            pass
    with holding(tmp_path) as was_killed:
        assert not was_killed


def test_a_holder_that_was_killed_is_noticed(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:  # dies without a word while it holds the lock
        holding(tmp_path).__enter__()
        os._exit(9)
    os.waitpid(child, 0)
    with holding(tmp_path) as was_killed:
        assert was_killed
