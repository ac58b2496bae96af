"""Our DASH manifests against the XML schema of ISO/IEC 23009-1.

    python -m tests.drills mpdschema FOLDER

FOLDER holds DASH-MPD.xsd and what it imports, as MPEG publishes it (the repository MPEGGroup/DASHSchema). Its terms are those of
the ISO directives, which are no licence to hand copies on: so the schema is not part of this repository, and this is no part of
`make test`. Needs lxml. Manifests: whole, growing, without sound, with AV1.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

from headwater.rules.contentsteering import DASH_STEERING
from origin.transcode.publishing.dash import Growing, dash_manifest
from origin.transcode.publishing.rendition import Rendition, SegmentSize

# The attributes of W3C XLink 1.0 that the schema refers to; its own import names a site.
XLINK = b"""<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema" targetNamespace="http://www.w3.org/1999/xlink">
  <xs:attribute name="href" type="xs:anyURI"/><xs:attribute name="actuate" type="xs:string"/>
  <xs:attribute name="type" type="xs:string"/><xs:attribute name="show" type="xs:string"/>
</xs:schema>"""
STEERING = "{urn:mpeg:dash:schema:mpd:2011}ContentSteering"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="mpdschema")
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args(arguments).folder
    etree = importlib.import_module("lxml.etree")
    schema = load_schema(etree, folder)
    knows_steering = "ContentSteering" in (folder / "DASH-MPD.xsd").read_text(encoding="utf-8")
    wrong = 0
    for name, text in manifests():
        tree = etree.fromstring(text.encode())
        left_out = ""
        if not knows_steering:  # ETSI TS 103 998 and the sixth edition have it
            for element in tree.findall(STEERING):
                tree.remove(element)
            left_out = ", ContentSteering left out, which this edition does not know"
        valid = schema.validate(tree)
        wrong += not valid
        print(f"{name}: {'valid' if valid else schema.error_log}{left_out}")
    return 1 if wrong else 0


def load_schema(etree: Any, folder: Path) -> Any:
    class Local(etree.Resolver):  # type: ignore[misc]  # lxml has no types here
        """Imports that name a site are answered from here: nothing is fetched."""

        def resolve(self, url: str, public_id: str | None, context: Any) -> Any:
            if "xlink" in url:
                return self.resolve_string(XLINK, context)
            local = folder / url.rpartition("/")[2]
            return self.resolve_filename(str(local), context) if local.is_file() else None

    parser = etree.XMLParser(no_network=True)
    parser.resolvers.add(Local())
    return etree.XMLSchema(etree.parse(str(folder / "DASH-MPD.xsd"), parser))


def manifests() -> Iterator[tuple[str, str]]:
    segments = (SegmentSize(40000, 400_000, 9000), SegmentSize(40000, 300_000, 8000), SegmentSize(20000, 150_000, 7000))

    def picture(rung: str, width: int, height: int, codec: str = "h264", codecs: str = "avc1.64001e") -> Rendition:
        rate = Fraction(30000, 1001) if codec == "h264" else Fraction(25)
        return Rendition(codec, rung, "video", codecs, 10000, segments, 700, width, height, rate)

    video = [picture("360p", 640, 360), picture("720p", 1280, 720, codecs="avc1.64001f")]
    sound = Rendition("aac", "128k", "audio", "mp4a.40.2", 48000, (SegmentSize(480256, 160_000),), 600, channels=2, language="en")
    growing = Growing(Fraction(60), 1795212000.0, 1795212003.5)
    yield "whole", dash_manifest(video, sound)
    yield "growing", dash_manifest(video, sound, growing, f"https://steer.example{DASH_STEERING}")
    yield "without sound", dash_manifest(video, None)
    yield "with AV1", dash_manifest([*video, picture("720p", 1280, 720, "av1", "av01.0.05M.08")], sound)
