"""Errors that an HTTP client sees are RFC 9457 problem documents with a stable `type`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from aiohttp import web

PROBLEM_JSON = "application/problem+json"
TYPE_PREFIX = "urn:headwater:problem:"


def problem_body(status: int, kind: str, title: str, detail: str, extra: Mapping[str, Any] | None = None) -> bytes:
    """`kind` is the stable word that clients may act on, such as `part-hash-mismatch`; or the URI of a registered type."""
    members = {
        "type": kind if kind.startswith("https://") else TYPE_PREFIX + kind,
        "title": title,
        "status": status,
        "detail": detail,
        **(extra or {}),
    }
    return json.dumps(members).encode()


class Problem(Exception):
    """An error to answer with. `detail` says what is wrong with this request and what would mend it."""

    def __init__(
        self,
        status: int,
        kind: str,
        title: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(f"{status} {kind}: {detail}")
        self.status = status
        self.kind = kind
        self.title = title
        self.detail = detail
        self.headers = dict(headers or {})
        self.extra = extra

    def response(self) -> web.Response:
        body = problem_body(self.status, self.kind, self.title, self.detail, self.extra)
        headers = {"Cache-Control": "no-store", **self.headers}
        return web.Response(status=self.status, body=body, content_type=PROBLEM_JSON, headers=headers)
