"""Where a grant stands in a URL. Pure.

    path form    http://v3fa.cdn.test/{grant}/videos/…     relative references inside manifests keep the grant
    query form   http://v3fa.cdn.test/videos/…?grant={grant}     for single files, and clients that cannot use the path form

Edges accept a third one, the cookie `headwater-grant`; a URL does not show it.
"""

from __future__ import annotations

from typing import Final, Literal
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

from headwater.rules.requesttarget import parse_target
from signer.grant import GrantToken, looks_like_token

GRANT_PARAMETER: Final = "grant"
GRANT_COOKIE: Final = "headwater-grant"
# What a URL path may hold unescaped (RFC 3986 section 3.3) and a grant's prefix too: '&' and '=' separate claims.
_PATH_SAFE: Final = "/~!$'()*+,;:@-._%"

GrantForm = Literal["path", "query"]


def split_grant(url: str) -> tuple[str | None, str]:
    """(token or None, the same URL or path without it). The path form wins over the query form, as at an edge."""
    parts = urlsplit(url)
    first, slash, rest = parts.path.removeprefix("/").partition("/")
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    in_query = next((value for name, value in pairs if name == GRANT_PARAMETER), None)
    query = (
        urlencode([(name, value) for name, value in pairs if name != GRANT_PARAMETER]) if in_query is not None else parts.query
    )
    if looks_like_token(first):
        return first, urlunsplit(parts._replace(path=slash + rest, query=query))
    return in_query, urlunsplit(parts._replace(query=query))


def with_grant(url: str, token: GrantToken, form: GrantForm) -> str:
    """`url` (or an absolute path) under the grant."""
    parts = urlsplit(url)
    if form == "path":
        return urlunsplit(parts._replace(path=f"/{token}{parts.path or '/'}"))
    query = f"{parts.query}&{GRANT_PARAMETER}={token}" if parts.query else f"{GRANT_PARAMETER}={token}"
    return urlunsplit(parts._replace(query=query))


def path_of(url: str) -> str:
    """The path that a grant's prefix is compared with: escaped in the one way that edges know, without query. Raises ValueError
    when it is not absolute, or none that an edge would take."""
    path = urlsplit(url).path
    if not path.startswith("/"):
        raise ValueError(f"{url!r}: a URL, or a path that begins with '/', was expected")
    return parse_target(path).path


def prefix_for(path: str) -> str:
    """The prefix that covers what belongs to `path`: a video's whole folder, or else the path itself.

    Characters that a claim cannot hold are percent-encoded.
    """
    segments = path.split("/")
    if len(segments) > 3 and segments[1] == "videos" and segments[2]:
        return f"/videos/{segments[2]}/"
    return quote(unquote(path), safe=_PATH_SAFE) if "%" not in path else path
