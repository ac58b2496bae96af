"""Control as the commands ask it: with an operator's token, errors as one sentence each."""

from __future__ import annotations

import getpass
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import httpx
import typer
import yaml

from headwater.cli.credentials import found_token
from headwater.settings.units import parse_address

TIMEOUT_S = 30.0
LOGIN_HEADER = "Headwater-Login"
EXIT_REFUSED = 1
EXIT_NOT_DONE = 2


class Refusal(Exception):
    """Control said no. `members` are those of its problem document."""

    def __init__(self, status: int, members: Mapping[str, Any]) -> None:
        super().__init__(str(members.get("detail", members)))
        self.status = status
        self.members = members

    @property
    def kind(self) -> str:
        return str(self.members.get("type", "")).rpartition(":")[2]


class Control:
    """Where control listens, and the operator's token. The rest of the config file may be wrong."""

    def __init__(self, config: Path, token: str | None = None) -> None:
        self._config = config
        self._given = token
        try:
            content = yaml.safe_load(config.read_text(encoding="utf-8"))
            self.url = parse_address(content["control"]["listen"]).url
            self.data = (config.resolve().parent / content["data"]).resolve()
        except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
            fail(f"{config} does not say where control is (control.listen, data): {error}")

    def get(self, path: str, timeout_s: float = TIMEOUT_S, **query: str) -> dict[str, Any]:
        """Raises Refusal; exits with one sentence when control does not answer."""
        return self._ask("GET", path, None, timeout_s, query)

    def post(self, path: str, members: Mapping[str, Any], timeout_s: float = TIMEOUT_S) -> dict[str, Any]:
        return self._ask("POST", path, members, timeout_s, {})

    def _ask(
        self, method: str, path: str, members: Mapping[str, Any] | None, timeout_s: float, query: Mapping[str, str]
    ) -> dict[str, Any]:
        try:
            reply = httpx.request(
                method,
                f"{self.url}/api/v1/{path}",
                params=dict(query),
                json=members,
                headers=self._headers(),
                timeout=timeout_s,
                trust_env=False,
            )
            answer = reply.json()
        except (httpx.HTTPError, json.JSONDecodeError) as error:
            cure = f"start it with `headwater up {self._config}`"
            raise NoControl(f"Control does not answer at {self.url} ({error}): {cure}.") from error
        if reply.status_code >= 400:
            raise Refusal(reply.status_code, answer)
        return dict(answer)

    def lines(self, path: str, query: list[tuple[str, str]]) -> Iterator[str]:
        """The lines of an answer, as they come. Raises Refusal; NoControl when there is no answer or it breaks off."""
        url, timeout = f"{self.url}/api/v1/{path}", httpx.Timeout(TIMEOUT_S, connect=5.0)
        try:
            with httpx.stream(
                "GET", url, params=httpx.QueryParams([*query]), headers=self._headers(), timeout=timeout, trust_env=False
            ) as reply:
                if reply.status_code >= 400:
                    raise Refusal(reply.status_code, json.loads(reply.read()))
                yield from reply.iter_lines()
        except (httpx.HTTPError, json.JSONDecodeError) as error:
            raise NoControl(f"Control does not answer at {self.url} ({error}).") from error

    def _headers(self) -> dict[str, str]:
        """Without a token when none is found: control then says how to get one."""
        token = found_token(self.url, self._given, "operator", self.data)
        return {LOGIN_HEADER: login_name(), **({"Authorization": f"Bearer {token}"} if token else {})}


class NoControl(Exception):
    """Control does not answer. The message names the cure."""


def login_name() -> str:
    """What this machine calls the operator; "" when it does not know."""
    try:
        return getpass.getuser().encode("ascii", "replace").decode()
    except (KeyError, OSError):
        return ""


def fail(text: str, status: int = EXIT_NOT_DONE) -> NoReturn:
    print(text, file=sys.stderr)
    raise typer.Exit(status)


def ordered(
    control: Control, path: str, members: Mapping[str, Any] | None = None, timeout_s: float = TIMEOUT_S
) -> dict[str, Any]:
    """Control's answer to a GET (without members) or a POST; exits with a sentence when there is none, or it is no."""
    try:
        return control.get(path, timeout_s) if members is None else control.post(path, members, timeout_s)
    except NoControl as error:
        fail(str(error))
    except Refusal as refusal:
        fail(str(refusal), EXIT_REFUSED)
