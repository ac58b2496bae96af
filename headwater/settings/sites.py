"""From a URL, as a viewer or an operator writes it, to the cache key of its object."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from headwater.rules.hostfield import covers
from headwater.rules.mediapath import path_video
from headwater.rules.names import VideoId
from headwater.rules.prefetching import without_cmcd
from headwater.rules.requesttarget import BadTarget, parse_target
from headwater.settings.deployment import Deployment
from headwater.settings.topology import Property
from signer.grant import looks_like_token


class NotServed(ValueError):
    """The URL is of no property of the deployment, or none at all. The message names what would do."""


@dataclass(frozen=True, slots=True)
class ObjectUrl:
    """What a URL stands for: the property, and the object's path in it without the grant. `query` is empty where it is no
    part of the object."""

    site: str
    settings: Property
    path: str
    query: str

    @property
    def key(self) -> str:
        """As the caching proxy keys it."""
        return f"{self.site}{self.path}?{self.query}" if self.query else f"{self.site}{self.path}"

    @property
    def video_id(self) -> VideoId | None:
        return path_video(self.path[1:])


def object_of(url: str, deployment: Deployment) -> ObjectUrl:
    """The object that a URL names, signed or plain; a path alone is of the first property with such paths. Raises NotServed."""
    host, path, query = _parts(url)
    for name, settings in _sites(host, deployment):
        if path.startswith(settings.paths):
            return ObjectUrl(name, settings, path, "" if settings.signed else without_cmcd(query))
    raise NotServed(f"{url[:200]!r} is of no property of this deployment ({_known(deployment)})")


def prefixes_of(prefix: str, deployment: Deployment) -> list[str]:
    """The key prefixes that a URL prefix, or a path prefix for every property, stands for. Raises NotServed."""
    host, path, _ = _parts(prefix)
    found = [
        f"{name}{path}"
        for name, settings in _sites(host, deployment)
        if path.startswith(settings.paths) or settings.paths.startswith(path)
    ]
    if not found:
        raise NotServed(f"{prefix[:200]!r} begins no URL of this deployment ({_known(deployment)})")
    return found


def _parts(url: str) -> tuple[str | None, str, str]:
    """(host in lower case or None for a path alone, path without a grant, query)."""
    try:
        parts = urlsplit(url)
        host = parts.hostname if parts.scheme in ("http", "https") else None
    except ValueError as error:
        raise NotServed(f"{url[:200]!r} is no URL: {error}") from error
    if host is None and not url.startswith("/"):
        raise NotServed(f"{url[:200]!r} is neither a URL (http://host/path) nor a path (/path)")
    raw = f"{parts.path or '/'}?{parts.query}" if host else url
    try:
        target = parse_target(raw)
    except BadTarget as error:
        raise NotServed(f"{url[:200]!r} cannot be of any object: {error}") from error
    first, slash, rest = target.path[1:].partition("/")
    return host, f"/{rest}" if slash and looks_like_token(first) else target.path, target.query


def _sites(host: str | None, deployment: Deployment) -> Iterator[tuple[str, Property]]:
    own = host is None or any(host in (edge.listen.host, edge.host) for _, _, edge in deployment.edges())
    for name, settings in deployment.properties.items():
        if own or (host is not None and covers(settings.hosts, host)):
            yield name, settings


def _known(deployment: Deployment) -> str:
    return "; ".join(f"{name}: {', '.join(one.hosts)} {one.paths}" for name, one in deployment.properties.items())
