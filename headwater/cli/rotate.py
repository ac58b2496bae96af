"""`headwater keys rotate`: another key signs, and no viewer is refused. Interrupted anywhere, it is simply run again."""

from __future__ import annotations

import sys
import time
from typing import Annotated, Any, Final

import typer

from headwater.cli.controlapi import Control, NoControl, Refusal, fail
from headwater.cli.credentials import TokenOption
from headwater.cli.node import ConfigOption, deployment_or_exit
from headwater.cli.sign import keys_app, longest_grant_s, ring_of
from headwater.settings.deployment import Deployment
from headwater.settings.units import parse_duration_s
from signer.grant import Algorithm, KeyState
from signer.keyring import KeyRing, KeyRingError, StoredKey, clock_text

LOOK_S: Final = 0.25


def rotate(
    config: ConfigOption,
    algorithm: Annotated[Algorithm | None, typer.Option(help="Default: the config's signing.algorithm.")] = None,
    patience: Annotated[str, typer.Option(help="How long to wait for the nodes.")] = "60 s",
    retire: Annotated[bool, typer.Option("--retire", help="Retire older keys whose last grant has expired by now.")] = False,
    token: TokenOption = None,
) -> None:
    """Make a key, wait until every node that is up has it, then let it sign. A next key that is there already is taken.

    Exit status 0: the new key signs; 2: not all nodes have it yet: the old one signs on, run it again.
    """
    deployment, control = deployment_or_exit(config), Control(config, token)
    try:
        ring, patience_s = ring_of(deployment), parse_duration_s(patience)
        key = _next_key(ring, algorithm or Algorithm(deployment.signing.algorithm))
        print(f"{key.key_id} is next; waiting until the nodes have it.", flush=True)
        _wait_until_known(control, key.key_id, patience_s)
        ring.activate(key.key_id, distribution_s=0)  # every node said that it has it
    except (KeyRingError, ValueError) as error:
        fail(str(error))
    except PermissionError as error:
        fail(f"{error.filename} may not be read or written by this user: run as the owner of the data folder.")
    print(f"{key.key_id} signs from now on.")
    _others(ring, key.key_id, deployment, retire=retire)


def _next_key(ring: KeyRing, algorithm: Algorithm) -> StoredKey:
    """The latest next key, which an interrupted rotation or `keys new` left, or a new one."""
    keys = ring.keys()
    waiting = [key for key in keys if key.state is KeyState.NEXT]
    return waiting[-1] if waiting else ring.new(algorithm)


def _wait_until_known(control: Control, key_id: str, patience_s: float) -> None:
    """Returns when every node that is up lives by a snapshot with the key; exits after `patience_s`."""
    deadline = time.monotonic() + patience_s
    wanted, why = None, "control did not answer"
    while time.monotonic() < deadline:
        try:
            tree = control.get("status")
        except NoControl as error:
            why = str(error)
        except Refusal as refusal:
            fail(str(refusal))
        else:
            if wanted is None and any(key["key_id"] == key_id for key in tree["keys"]):
                wanted = tree["version"]
            late = lacking(tree, wanted)
            if not late:
                _say_who_is_down(tree)
                return
            why = f"without it: {', '.join(late)}"
        time.sleep(LOOK_S)
    fail(f"{key_id} is not known everywhere after {patience_s:g} s ({why}). The old key signs on; run this again.")


def lacking(tree: dict[str, Any], wanted: int | None) -> list[str]:
    """The nodes that are up and do not live by version `wanted` yet, by the status tree; control itself while it has none."""
    if wanted is None:
        return ["control"]
    following = [node for node in tree["nodes"] if node["health"] != "down" and not (node["version"] is None and node["current"])]
    return [node["name"] for node in following if (node["version"] or 0) < wanted]


def _say_who_is_down(tree: dict[str, Any]) -> None:
    down = [node["name"] for node in tree["nodes"] if node["health"] == "down"]
    if down:
        print(f"Down, and told when they start: {', '.join(down)}", file=sys.stderr)


def _others(ring: KeyRing, new: str, deployment: Deployment, *, retire: bool) -> None:
    """Says until when the grants of older keys may be in use; retires those that have none left, when asked to."""
    lifetime_s, keys = longest_grant_s(deployment), ring.keys()
    for key in keys:
        if key.state is not KeyState.ACTIVE or key.key_id == new:
            continue
        until = ring.in_use_until(key, lifetime_s)
        if until is not None and until > time.time():
            print(f"{key.key_id} still verifies: its grants may be in use until {clock_text(until)}.")
        elif retire:
            ring.retire(key.key_id, lifetime_s=lifetime_s)
            print(f"{key.key_id} is retired: its last grant has expired.")
        else:
            print(f"{key.key_id} has no grant in use: `headwater keys retire {key.key_id}` ends it.")


def register(app: typer.Typer) -> None:
    keys_app.command("rotate")(rotate)
