"""HLS playlists (RFC 8216bis) of renditions, whole or growing. Text from values; all references are relative.

A growing one is an EVENT: segments are only added, until the end is written. Players would join an event near its end, so it
says where to start: at 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

from headwater.rules.contentsteering import BASE, HLS_STEERING
from headwater.rules.mediapath import IFRAME_PLAYLIST, INIT, MEDIA_PLAYLIST, segment_name
from origin.transcode.encoding.ladder import H264
from origin.transcode.publishing.rendition import Rendition

VERSION = 7  # EXT-X-MAP in a playlist of whole segments needs 6; 7 is what fMP4 players expect
AUDIO_GROUP = "audio"


def media_playlist(rendition: Rendition, base: str = "") -> str:
    """`base` is the way from the playlist to its files."""
    lines = [
        "#EXTM3U",
        f"#EXT-X-VERSION:{VERSION}",
        f"#EXT-X-TARGETDURATION:{rendition.target_duration_s}",
        "#EXT-X-MEDIA-SEQUENCE:0",
        f"#EXT-X-PLAYLIST-TYPE:{'VOD' if rendition.whole else 'EVENT'}",
        "#EXT-X-INDEPENDENT-SEGMENTS",
        *([] if rendition.whole else ["#EXT-X-START:TIME-OFFSET=0,PRECISE=YES"]),
        f'#EXT-X-MAP:URI="{base}{INIT}"',
    ]
    for number, segment in enumerate(rendition.segments):
        lines += [f"#EXTINF:{float(Fraction(segment.ticks, rendition.timescale)):.6f},", base + segment_name(number)]
    return "\n".join([*lines, *(["#EXT-X-ENDLIST"] if rendition.whole else []), ""])


def iframe_playlist(rendition: Rendition) -> str:
    """For fast winding: of each segment the bytes up to the end of its first picture (RFC 8216bis 4.4.3.6)."""
    lines = [
        "#EXTM3U",
        f"#EXT-X-VERSION:{VERSION}",
        f"#EXT-X-TARGETDURATION:{rendition.target_duration_s}",
        "#EXT-X-MEDIA-SEQUENCE:0",
        "#EXT-X-PLAYLIST-TYPE:VOD",
        "#EXT-X-I-FRAMES-ONLY",
        f'#EXT-X-MAP:URI="{INIT}"',
    ]
    for number, segment in enumerate(rendition.segments):
        lines += [
            f"#EXTINF:{float(Fraction(segment.ticks, rendition.timescale)):.6f},",
            f"#EXT-X-BYTERANGE:{segment.opening}@0",
            segment_name(number),
        ]
    return "\n".join([*lines, "#EXT-X-ENDLIST", ""])


def segments_listed(playlist: str) -> int:
    """How many segments a media playlist of ours names."""
    return sum(line.startswith("#EXTINF:") for line in playlist.splitlines())


def master_playlist(video: Sequence[Rendition], audio: Rendition | None) -> str:
    """Variants of H.264, which every player takes, by rising size, then those of AV1. Bandwidths include the sound."""
    lines = [
        "#EXTM3U",
        f"#EXT-X-VERSION:{VERSION}",
        "#EXT-X-INDEPENDENT-SEGMENTS",
        # Relative, so that it is asked of the edge, under the grant in the path; variants without a pathway are in BASE.
        f'#EXT-X-CONTENT-STEERING:SERVER-URI="{HLS_STEERING}",PATHWAY-ID="{BASE}"',
    ]
    if audio is not None:
        language = f'LANGUAGE="{audio.language}",' if audio.language else ""
        lines.append(
            f'#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="{AUDIO_GROUP}",NAME="Audio",{language}DEFAULT=YES,AUTOSELECT=YES,'
            f'CHANNELS="{audio.channels}",URI="{audio.path}/{MEDIA_PLAYLIST}"'
        )
    rungs = sorted(video, key=lambda item: (item.codec != H264, (item.width or 0) * (item.height or 0)))
    for rendition in rungs:
        lines += [_stream_inf(rendition, audio), f"{rendition.path}/{MEDIA_PLAYLIST}"]
    # Of the smaller half of the rungs: winding shows small pictures in quick succession.
    plain = [rendition for rendition in rungs if rendition.codec == H264]
    lines += [_iframe_inf(rendition) for rendition in plain[: -(-len(plain) // 2)] if rendition.whole]
    return "\n".join([*lines, ""])


def _iframe_inf(video: Rendition) -> str:
    rates = [8 * Fraction(segment.opening * video.timescale, segment.ticks) for segment in video.segments]
    average = 8 * sum(segment.opening for segment in video.segments) / video.duration
    attributes = [
        f"BANDWIDTH={math.ceil(max(rates))}",
        f"AVERAGE-BANDWIDTH={math.ceil(average)}",
        f'CODECS="{video.codecs}"',
        f"RESOLUTION={video.width}x{video.height}",
        f'URI="{video.path}/{IFRAME_PLAYLIST}"',
    ]
    return "#EXT-X-I-FRAME-STREAM-INF:" + ",".join(attributes)


def _stream_inf(video: Rendition, audio: Rendition | None) -> str:
    both = [video] if audio is None else [video, audio]
    attributes = [
        f"BANDWIDTH={sum(item.bandwidth_bps for item in both)}",
        *([f"AVERAGE-BANDWIDTH={sum(item.average_bandwidth_bps for item in both)}"] if all(item.whole for item in both) else []),
        f'CODECS="{",".join(item.codecs for item in both)}"',
        f"RESOLUTION={video.width}x{video.height}",
        f"FRAME-RATE={float(video.frame_rate or 0):.3f}",
    ]
    if audio is not None:
        attributes.append(f'AUDIO="{AUDIO_GROUP}"')
    return "#EXT-X-STREAM-INF:" + ",".join(attributes)
