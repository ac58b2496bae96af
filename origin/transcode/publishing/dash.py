"""The DASH manifest (ISO/IEC 23009-1) over the same segments. Text from values; all references are relative.

While a rendition grows, the manifest is that of a recording in progress: dynamic, with the duration that it will have. Its
availability begins so far back that every segment listed counts as available, and players are asked to stay a whole duration
behind the live edge, which is the beginning.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from itertools import groupby
from xml.sax.saxutils import escape, quoteattr

from headwater.rules.contentsteering import BASE, DASH_STEERING
from headwater.rules.mediapath import INIT
from origin.transcode.encoding.ladder import H264
from origin.transcode.publishing.rendition import Rendition

PROFILE = "urn:mpeg:dash:profile:isoff-live:2011"  # the profile of templates; static presentations use it too
UPDATE_PERIOD = "PT2S"
MEDIA = "$RepresentationID$/segment_$Number%05d$.m4s"


@dataclass(frozen=True, slots=True)
class Growing:
    """A presentation that is not complete: how long it will be, when it began to be published, and now (Unix seconds)."""

    duration: Fraction
    began_at: float
    now: float


def dash_manifest(
    video: Sequence[Rendition], audio: Rendition | None, growing: Growing | None = None, steering_url: str = DASH_STEERING
) -> str:
    """One period; an adaptation set for the picture, whose rungs share their timeline, one for the sound, one for AV1.

    `steering_url` is where players learn of other edges: dash.js takes a relative one for a part of its page, so an absolute one
    is better where there is a door.

    While something grows, no rung is listed further than all are there: they share one timeline.
    """
    rungs = sorted(video, key=lambda item: (item.codec != H264, (item.width or 0) * (item.height or 0)))
    duration = growing.duration if growing else max(item.duration for item in rungs)
    longest = max(Fraction(segment.ticks, item.timescale) for item in rungs for segment in item.segments)
    lines = [
        '<?xml version="1.0" encoding="utf-8"?>',
        f'<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" profiles="{PROFILE}" {_kind(growing)} '
        f'mediaPresentationDuration="{_seconds(duration)}" minBufferTime="{_seconds(longest)}">',
        f'  <BaseURL serviceLocation="{BASE}">./</BaseURL>',
        f'  <ContentSteering defaultServiceLocation="{BASE}" queryBeforeStart="false">{escape(steering_url)}</ContentSteering>',
        '  <Period id="0" start="PT0S">',
        *_pictures(0, [item for item in rungs if item.codec == H264]),
    ]
    if audio is not None:
        language = f" lang={quoteattr(audio.language)}" if audio.language else ""
        lines += [
            '    <AdaptationSet id="1" contentType="audio" mimeType="audio/mp4" segmentAlignment="true" startWithSAP="1"'
            f"{language}>",
            *_template(audio),
            *_audio(audio),
            "    </AdaptationSet>",
        ]
    lines += _pictures(2, [item for item in rungs if item.codec != H264])
    return "\n".join([*lines, "  </Period>", "</MPD>", ""])


def _pictures(place: int, rungs: Sequence[Rendition]) -> list[str]:
    """The set of the rungs of one codec: players choose a set, and then only change rungs within it."""
    if not rungs:
        return []
    return [
        f'    <AdaptationSet id="{place}" contentType="video" mimeType="video/mp4" segmentAlignment="true" startWithSAP="1">',
        *_template(min(rungs, key=lambda item: len(item.segments))),
        *(_video(item) for item in rungs),
        "    </AdaptationSet>",
    ]


def _kind(growing: Growing | None) -> str:
    if growing is None:
        return 'type="static"'
    available = growing.began_at - float(growing.duration)
    return (
        f'type="dynamic" availabilityStartTime="{_moment(available)}" publishTime="{_moment(growing.now)}" '
        f'minimumUpdatePeriod="{UPDATE_PERIOD}" suggestedPresentationDelay="{_seconds(growing.duration)}"'
    )


def _moment(at: float) -> str:
    """xs:dateTime."""
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=round(at, 3))).isoformat(timespec="milliseconds")


def _template(rendition: Rendition) -> Iterator[str]:
    yield (
        f'      <SegmentTemplate timescale="{rendition.timescale}" startNumber="0" '
        f'initialization="$RepresentationID$/{INIT}" media="{MEDIA}">'
    )
    yield "        <SegmentTimeline>"
    at = 0
    for ticks, group in groupby(segment.ticks for segment in rendition.segments):
        count = len(list(group))
        start = ' t="0"' if at == 0 else ""
        repeat = f' r="{count - 1}"' if count > 1 else ""
        yield f'          <S{start} d="{ticks}"{repeat}/>'
        at += ticks * count
    yield "        </SegmentTimeline>"
    yield "      </SegmentTemplate>"


def _video(item: Rendition) -> str:
    rate = item.frame_rate or Fraction(0)
    shown = f"{rate.numerator}/{rate.denominator}" if rate.denominator != 1 else str(rate.numerator)
    return (
        f'      <Representation id="{item.path}" codecs="{item.codecs}" bandwidth="{item.bandwidth_bps}" '
        f'width="{item.width}" height="{item.height}" frameRate="{shown}" sar="1:1"/>'
    )


def _audio(item: Rendition) -> Iterator[str]:
    yield (
        f'      <Representation id="{item.path}" codecs="{item.codecs}" bandwidth="{item.bandwidth_bps}" '
        f'audioSamplingRate="{item.timescale}">'
    )
    scheme = "urn:mpeg:dash:23003:3:audio_channel_configuration:2011"
    yield f'        <AudioChannelConfiguration schemeIdUri="{scheme}" value="{item.channels}"/>'
    yield "      </Representation>"


def _seconds(duration: Fraction) -> str:
    """xs:duration."""
    return f"PT{float(duration):.6f}S"
