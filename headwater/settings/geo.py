"""Regions of networks by a database in MaxMind's format: its countries and continents are mapped to regions by the config.

The file is read again when it was replaced (written aside and renamed, as its update tools do); while it is missing or damaged,
the one that was read last goes on being used.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import maxminddb
from maxminddb.reader import Reader
from pydantic import Field

from headwater.rules.regions import IpAddress, Located
from headwater.settings.listening import FileBesideConfig
from headwater.settings.model import Settings

LOOK_AGAIN_S: Final = 5.0


class Geo(Settings):
    """A database of networks, asked after the regions' own lists."""

    database: FileBesideConfig = Field(description="A file in MaxMind's format with countries or continents, on every node.")
    countries: dict[str, str] = Field(
        {}, description="Region by ISO 3166 country code, such as `{DE: eu}`; goes before continents."
    )
    continents: dict[str, str] = Field({}, description="Region by continent code (AF, AN, AS, EU, NA, OC, SA).")


class UnreadableDatabase(Exception):
    """The message names the file and the cure."""


class GeoRegions:
    """The database as steering asks it."""

    def __init__(self, reader: Reader, settings: Geo) -> None:
        self._reader = reader
        self._settings = settings

    @property
    def built_at(self) -> int:
        """When its maker made it, unix seconds."""
        return int(self._reader.metadata().build_epoch)

    def locate(self, client: IpAddress) -> Located:
        """The record's region and length. An address of a kind that the database does not have is in no record at all."""
        try:
            record, prefix_len = self._reader.get_with_prefix_len(client)
        except ValueError:  # an IPv6 address and a database of IPv4
            return Located(None, 0)
        return Located(self._region(record), prefix_len)

    def _region(self, record: Any) -> str | None:
        country = _code(record, "country", "iso_code")
        continent = _code(record, "continent", "code")
        return self._settings.countries.get(country, self._settings.continents.get(continent))


def _code(record: Any, part: str, name: str) -> str:
    found = record.get(part) if isinstance(record, dict) else None
    code = found.get(name) if isinstance(found, dict) else None
    return code if isinstance(code, str) else ""


@dataclass(slots=True)
class _Opened:
    """`stamp` tells one file from another at the same path; `looked_at` is on the monotonic clock."""

    regions: GeoRegions
    stamp: tuple[int, int]
    looked_at: float


_opened: dict[str, _Opened] = {}


def open_regions(settings: Geo) -> GeoRegions:
    """The database, read now. Raises UnreadableDatabase."""
    file = Path(settings.database)
    try:
        stamp = _stamp(file)
        reader = maxminddb.open_database(str(file))
    except (OSError, maxminddb.InvalidDatabaseError) as error:
        raise UnreadableDatabase(
            f"steering.geo.database: {file} cannot be read ({error}): put a database in MaxMind's format there, or leave geo out"
        ) from error
    regions = GeoRegions(reader, settings)
    _opened[_key(settings)] = _Opened(regions, stamp, time.monotonic())
    return regions


def current_regions(settings: Geo) -> GeoRegions | None:
    """The same object until the file was replaced. None when there has never been one to read."""
    known = _opened.get(_key(settings))
    if known is not None and time.monotonic() - known.looked_at < LOOK_AGAIN_S:
        return known.regions
    try:
        if known is not None and _stamp(Path(settings.database)) == known.stamp:
            known.looked_at = time.monotonic()
            return known.regions
        return open_regions(settings)
    except (OSError, UnreadableDatabase):
        if known is not None:
            known.looked_at = time.monotonic()
        return known.regions if known is not None else None


def _key(settings: Geo) -> str:
    return settings.model_dump_json()


def _stamp(file: Path) -> tuple[int, int]:
    found = file.stat()
    return found.st_mtime_ns, found.st_ino
