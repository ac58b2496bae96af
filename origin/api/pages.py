"""The pages for viewers: the list of videos and the watch page.

The pages are files: nothing of a video is ever written into them. They ask the API and put what it says into the document
as text, so that a title is never markup. Everything they load comes from this origin under one versioned folder,
`/assets/{version}/…`, where the version is the hash of all of it: modules import each other by relative names, every file may
be kept for ever, and a new release is a new folder.
"""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from aiohttp import web

from headwater.rules.names import InvalidName, parse_video_id
from headwater.runtime.problems import Problem

STATIC: Final = Path(__file__).parent / "pages_static"
PLAYER_LIBRARY: Final = "hls.min.mjs"
PLAYER_LIBRARY_FILE: Final = Path("node_modules/hls.js/dist") / PLAYER_LIBRARY

CONTENT_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
WORTH_COMPRESSING_BYTES: Final = 1024
ASSETS_PLACEHOLDER: Final = b"{{assets}}"

# Scripts and styles come from this origin alone. Pictures, media and requests may go to any edge: edges have addresses and
# names of their own, by http in a lab, and the player keeps going on one that this page did not know when it was loaded.
# `blob:` is how Media Source Extensions hand a stream to the video element.
CONTENT_SECURITY_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' http: https:",
        "media-src blob: http: https:",
        "connect-src 'self' http: https:",
        "form-action 'none'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
SECURITY_HEADERS: Final = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    # The path of a watch page names a video; other origins learn nothing of it.
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


@dataclass(frozen=True)
class Asset:
    """One file as it is sent."""

    body: bytes
    content_type: str

    @cached_property
    def compressed(self) -> bytes | None:
        """The body by gzip, or None where that does not pay."""
        if len(self.body) < WORTH_COMPRESSING_BYTES:
            return None
        return gzip.compress(self.body, 9, mtime=0)

    @cached_property
    def etag(self) -> str:
        return f'"{hashlib.sha256(self.body).hexdigest()[:32]}"'


@dataclass(frozen=True, slots=True)
class Pages:
    """All that is served, held in memory: HTML by name, and what it loads by name."""

    version: str
    documents: dict[str, Asset]
    assets: dict[str, Asset]


def load_pages(folder: Path = STATIC) -> Pages:
    """Reads the pages. The player library may be missing (it is installed by npm); the pages then say so."""
    files = {file.name: file for file in sorted(folder.iterdir()) if file.suffix in (".css", ".js", ".svg")}
    library = folder / PLAYER_LIBRARY_FILE
    if library.is_file():
        files[PLAYER_LIBRARY] = library
    assets = {name: Asset(file.read_bytes(), CONTENT_TYPES[file.suffix]) for name, file in files.items()}
    version = _version_of(assets)
    documents = {file.stem: _document(file, version) for file in sorted(folder.glob("*.html"))}
    return Pages(version, documents, assets)


def _version_of(assets: dict[str, Asset]) -> str:
    digest = hashlib.sha256()
    for name, asset in sorted(assets.items()):
        digest.update(f"{name} {len(asset.body)}\n".encode() + asset.body)
    return digest.hexdigest()[:16]


def _document(file: Path, version: str) -> Asset:
    body = file.read_bytes().replace(ASSETS_PLACEHOLDER, f"/assets/{version}".encode())
    return Asset(body, CONTENT_TYPES[".html"])


def page_routes() -> list[web.RouteDef]:
    """`/`, `/watch/{video_id}` and `/assets/{version}/{name}`, for the API's application."""
    pages = load_pages()

    async def videos_page(request: web.Request) -> web.Response:
        return _document_response(request, pages.documents["videos"])

    async def watch_page(request: web.Request) -> web.Response:
        try:
            parse_video_id(request.match_info["video_id"])
        except InvalidName:
            return _document_response(request, pages.documents["not-found"], status=404)
        return _document_response(request, pages.documents["watch"])

    async def asset(request: web.Request) -> web.Response:
        name = request.match_info["name"]
        found = pages.assets.get(name) if request.match_info["version"] == pages.version else None
        if found is None:
            raise _asset_missing(name, pages)
        return _response(request, found, {"Cache-Control": "public, max-age=31536000, immutable"})

    return [
        web.get("/", videos_page),
        web.get("/watch/{video_id}", watch_page),
        web.get("/assets/{version}/{name}", asset),
    ]


def _asset_missing(name: str, pages: Pages) -> Problem:
    if name == PLAYER_LIBRARY and name not in pages.assets:
        detail = f"the player library is not installed: run `npm ci` in {STATIC.name}/ (`make demo` does) and start again"
        return Problem(404, "player-library-missing", "Player library missing", detail)
    return Problem(404, "asset-unknown", "No such asset", f"{name!r} is no file of this release; reload the page")


def _document_response(request: web.Request, document: Asset, status: int = 200) -> web.Response:
    return _response(request, document, {"Cache-Control": "no-cache", **SECURITY_HEADERS}, status)


def _response(request: web.Request, asset: Asset, headers: dict[str, str], status: int = 200) -> web.Response:
    headers = {
        "Content-Type": asset.content_type,
        "ETag": asset.etag,
        "Vary": "Accept-Encoding",
        "X-Content-Type-Options": "nosniff",
        **headers,
    }
    if status == 200 and asset.etag in request.headers.get("If-None-Match", ""):
        return web.Response(status=304, headers=headers)
    if "gzip" in request.headers.get("Accept-Encoding", "") and asset.compressed is not None:
        # Two representations, two strong validators (RFC 9110 section 8.8.3.3).
        headers |= {"Content-Encoding": "gzip", "ETag": asset.etag[:-1] + '-gzip"'}
        if headers["ETag"] in request.headers.get("If-None-Match", "") and status == 200:
            return web.Response(status=304, headers={k: v for k, v in headers.items() if k != "Content-Encoding"})
        return web.Response(status=status, body=asset.compressed, headers=headers)
    return web.Response(status=status, body=asset.body, headers=headers)
