"""Where a command finds its API token: `--token`, HEADWATER_TOKEN, or a lab of this user that answers at the same address.

`headwater up` leaves a link in the user's state folder, named after the address that it serves, to its data folder:

    $XDG_STATE_HOME/headwater/labs/127.0.0.1:7080 -> …/var/lab        whose tokens/creator and tokens/operator are the owner's

So a lab's token reaches that lab and nothing else.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from headwater.cli.begunuploads import state_folder
from headwater.rules.apitokens import InvalidToken, parse_token

TokenOption = Annotated[
    str | None,
    typer.Option("--token", envvar="HEADWATER_TOKEN", help="API token; a lab started by this user needs none.", show_envvar=True),
]


def note_lab(address: str, data: Path) -> None:
    """Notes that the deployment in `data` answers at `address` (a base URL). Replaces what was noted for it before."""
    link = _link(address)
    link.parent.mkdir(parents=True, exist_ok=True)
    draft = link.with_name(f".{secrets.token_hex(4)}")
    draft.symlink_to(data.resolve(), target_is_directory=True)
    draft.replace(link)


def found_token(address: str, given: str | None, owner: str = "creator", data: Path | None = None) -> str | None:
    """The token's text for `address`; None when none is known. Raises typer.BadParameter for a text that is no token.

    `data` is the data folder of the deployment at that address, where the command knows its config file.
    """
    if given:
        try:
            return parse_token(given).text
        except InvalidToken as error:
            raise typer.BadParameter(str(error), param_hint="--token or HEADWATER_TOKEN") from error
    for folder in (_link(address), *([data] if data is not None else [])):
        try:
            return parse_token((folder / "tokens" / owner).read_text(encoding="ascii")).text
        except (OSError, InvalidToken, UnicodeDecodeError):
            continue
    return None


def _link(address: str) -> Path:
    return state_folder() / "labs" / urlsplit(address).netloc.replace(os.sep, "_")
