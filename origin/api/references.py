"""Making the references of an HLS playlist absolute. Pure.

Relative ones count from the playlist's own URL (RFC 8216 section 4.1).
"""

from __future__ import annotations

import re
from urllib.parse import urljoin

# One attribute of a list (RFC 8216 section 4.2). Attributes are taken whole, so `URI=` inside a quoted value is no name.
_ATTRIBUTE = re.compile(r'([A-Z0-9-]+)=("[^"]*"|[^,"]*)')


def absolute_references(playlist: str, playlist_url: str) -> str:
    """The same playlist with every URI line and every URI attribute absolute; everything else stays byte for byte."""
    return "".join(_absolute_line(line, playlist_url) for line in playlist.splitlines(keepends=True))


def _absolute_line(line: str, base: str) -> str:
    text = line.strip()
    if not text:
        return line
    if not text.startswith("#"):
        return line.replace(text, urljoin(base, text))
    tag, colon, attributes = line.partition(":")
    if not tag.startswith("#EXT") or 'URI="' not in attributes:
        return line
    return tag + colon + _ATTRIBUTE.sub(lambda match: _absolute_attribute(match, base), attributes)


def _absolute_attribute(match: re.Match[str], base: str) -> str:
    name, value = match[1], match[2]
    return f'{name}="{urljoin(base, value[1:-1])}"' if name in ("URI", "SERVER-URI") and value.startswith('"') else match[0]
