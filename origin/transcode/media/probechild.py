"""Reads what is in a media file with PyAV and prints it as JSON. Runs as a child of its own, under limits: input is hostile.

`python -m origin.transcode.media.probechild FILE` → {"facts": …} or {"unreadable": reason}; `FILE SECONDS`, of a file that is
not whole yet, gives the facts by its index alone, and "reach": before which byte the first seconds lie. Nothing is decoded
beyond what libavformat needs to name the streams; every packet's times are read, which also finds out where the data really
ends. Of a large file whose index names every packet, as an MP4's does, only the index and the two ends are read.
"""

from __future__ import annotations

import json
import math
import sys
from array import array
from collections.abc import Iterable
from dataclasses import asdict
from fractions import Fraction
from itertools import pairwise, takewhile
from typing import Any

import av
from av.container import InputContainer
from av.stream import Disposition

from origin.transcode.media.avc import Opening, configuration_of, opening
from origin.transcode.media.copying import Picture, coding_facts
from origin.transcode.media.isobmff import NotIsoBmff
from origin.transcode.media.source import DEMUXERS

OPTIONS = {
    "format_whitelist": ",".join(DEMUXERS),
    "protocol_whitelist": "file",
    "probesize": "20000000",
    "analyzeduration": "10000000",
}
WHOLE_UP_TO_BYTES = 32 * 2**20  # read in a tenth of a second
REORDER_AT_MOST = 32  # pictures; H.264 and HEVC hold back at most 16
HDR_TRANSFERS = {16: "smpte2084", 18: "arib-std-b67"}  # ISO/IEC 23091-2, table 3


def facts(path: str, whole_up_to_bytes: int = WHOLE_UP_TO_BYTES, *, whole: bool = True) -> dict[str, Any]:
    """Of a file that is not `whole` only by its index. Raises ValueError or av.FFmpegError."""
    with av.open(path, mode="r", options=OPTIONS, metadata_errors="replace") as container:
        chosen = _chosen_video(container)
        indexed = indexed_times(container, chosen) if container.size > whole_up_to_bytes else None
        if indexed is None and not whole:
            raise ValueError("it has no index that names every packet")
        times = indexed or _packet_times(container, chosen)
        rotation = 0 if chosen is None else _rotation(path, container.streams.video.index(chosen))
        start = container.start_time / av.time_base if container.start_time is not None else min(times.firsts, default=0.0)
        return {
            "demuxer": container.format.name.split(",")[0],
            "start": start,
            "stated_duration": container.duration / av.time_base if container.duration else None,
            "data_end": max(times.ends.values(), default=start),
            "damaged_packets": times.damaged,
            "streams": len(container.streams),
            "video": None if chosen is None else {**_video(chosen, times), "rotation": rotation},
            "audio": [_audio(stream, times) for stream in container.streams.audio],
        }


def _chosen_video(container: InputContainer) -> av.VideoStream | None:
    """The default stream, else the largest; cover pictures are none."""
    moving = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    return max(
        moving,
        key=lambda stream: (bool(stream.disposition & Disposition.default), stream.width * stream.height, -stream.index),
        default=None,
    )


class Times:
    def __init__(self) -> None:
        self.pictures = array("d")
        self.ends: dict[int, float] = {}
        self.firsts: list[float] = []
        self.damaged = 0
        self.coded: list[Picture] = []
        self.edited = False
        self.refreshed = False
        self.read = True


def _packet_times(container: InputContainer, chosen: av.VideoStream | None) -> Times:
    times = Times()
    wanted = wanted_streams(container, chosen)
    if not wanted:
        return times
    packets: Iterable[av.Packet[Any]] = container.demux(wanted)
    try:
        for packet in packets:
            note_packet(times, packet, chosen)
    except av.FFmpegError:
        times.damaged += 1
    return times


def wanted_streams(container: InputContainer, chosen: av.VideoStream | None) -> list[av.stream.Stream]:
    return [stream for stream in container.streams if stream.type == "audio" or stream is chosen]


def note_packet(times: Times, packet: av.Packet[Any], chosen: av.VideoStream | None) -> None:
    stamp = packet.pts if packet.pts is not None else packet.dts
    chosen_one = chosen is not None and packet.stream.index == chosen.index
    times.edited |= chosen_one and packet.is_discard
    if stamp is None or packet.time_base is None or packet.is_discard:
        return
    times.damaged += packet.is_corrupt
    at = _in_seconds(stamp, packet.time_base)
    index = packet.stream.index
    if index not in times.ends:
        times.firsts.append(at)
    end = _in_seconds(stamp + (packet.duration or 0), packet.time_base)
    times.ends[index] = max(times.ends.get(index, -math.inf), end)
    if chosen_one:
        times.pictures.append(at)
        begins_with = _opening(packet) if packet.is_keyframe else None
        times.refreshed |= begins_with is Opening.REFRESH
        times.coded.append(Picture(stamp, begins_with is Opening.IDR, packet.size))


def _in_seconds(ticks: int, time_base: Fraction) -> float:
    """The float nearest to the exact value, as that of a Fraction, of which an hour of packets would cost a second."""
    return ticks * time_base.numerator / time_base.denominator


def _opening(packet: av.Packet[Any]) -> Opening | None:
    """What a keyframe of H.264 in its own kind of samples is; None of everything else."""
    extradata = packet.stream.codec_context.extradata
    if packet.stream.codec_context.name != "h264" or not extradata or len(extradata) < 5 or extradata[0] != 1:
        return None
    try:
        return opening(bytes(packet), (extradata[4] & 3) + 1)
    except NotIsoBmff:
        return None


def indexed_times(container: InputContainer, chosen: av.VideoStream | None) -> Times | None:
    """The same from a file's index; None when it has none that names every packet, or when data that it names is missing.

    An index has decoding times. Pictures are shown in another order, later by the same delay: the steps between the sorted times
    are equal, and the delay is that of the first pictures, which are read, as are the last packets.
    """
    wanted = wanted_streams(container, chosen)
    if chosen is None or any(not stream.frames or len(stream.index_entries) != stream.frames for stream in wanted):
        return None
    ends = [entry for stream in wanted for entry in (stream.index_entries[0], stream.index_entries[-1])]
    time_base = chosen.time_base
    if any(entry.pos + entry.size > container.size for entry in ends) or time_base is None:
        return None
    first = _some_packets(container, chosen, wanted)
    first_at = min(first.pictures, default=None)
    coded, edited, earliest, latest = _named_by_index(chosen)
    container.seek(latest, stream=chosen, backward=True)
    last = _packet_times(container, chosen)
    container.seek(earliest, stream=chosen, backward=True)
    if first_at is None or not last.pictures or len(last.ends) != len(wanted) or last.damaged:
        return None
    times = Times()
    times.coded = coded
    decoded = [_in_seconds(at, time_base) for at in sorted(picture.at for picture in times.coded)]
    known_from = min(last.pictures)
    times.pictures.extend(at for at in (time + first_at - decoded[0] for time in decoded) if at < known_from - 1e-6)
    times.pictures.extend(last.pictures)
    times.firsts, times.ends = first.firsts, last.ends
    times.edited = edited
    times.refreshed = first.refreshed or last.refreshed  # the latter begins at the last keyframe
    times.read = False
    return times


def _named_by_index(chosen: av.VideoStream) -> tuple[list[Picture], bool, int, int]:
    """The pictures that are shown, whether others are not, and the first and last decoding time of all, in ticks.

    Each look at an entry makes an object, and an hour has 86,000: each is looked at once, and no second list is made of them.
    """
    coded: list[Picture] = []
    earliest = latest = chosen.index_entries[0].timestamp
    edited = False
    for entry in chosen.index_entries:
        at = entry.timestamp
        earliest, latest = min(earliest, at), max(latest, at)
        if entry.is_discard:
            edited = True
        else:
            coded.append(Picture(at, entry.is_keyframe, entry.size))
    return coded, edited, earliest, latest


def _some_packets(container: InputContainer, chosen: av.VideoStream, wanted: list[av.stream.Stream]) -> Times:
    """The first packets, until every stream has told when it begins and enough pictures are there to know their order."""
    times = Times()
    for packet in container.demux(wanted):
        note_packet(times, packet, chosen)
        if len(times.pictures) >= REORDER_AT_MOST and len(times.ends) == len(wanted):
            break
    return times


def _video(stream: av.VideoStream, times: Times) -> dict[str, Any]:
    pictures = sorted(times.pictures)
    steps = sorted(after - before for before, after in pairwise(pictures)) or [0.0]
    context = stream.codec_context
    rate = stream.average_rate or stream.guessed_rate or stream.base_rate
    base = stream.base_rate
    if base and steps[len(steps) // 2] and abs(steps[len(steps) // 2] * base - 1) < 0.02:
        rate = base  # the average of a short or edited stream is off by its ends
    return {
        "index": stream.index,
        "codec": context.codec.canonical_name,
        "width": context.width,
        "height": context.height,
        "pixel_format": context.pix_fmt or "",
        "sample_aspect": str(stream.sample_aspect_ratio or context.sample_aspect_ratio or Fraction(1)),
        "stated_rate": str(rate) if rate else None,
        "transfer": HDR_TRANSFERS.get(int(context.color_trc), ""),
        "first": pictures[0] if pictures else 0.0,
        "last": pictures[-1] if pictures else 0.0,
        "end": times.ends.get(stream.index, 0.0),
        "pictures": len(pictures),
        "step_10": steps[len(steps) // 10],
        "step_50": steps[len(steps) // 2],
        "step_90": steps[len(steps) * 9 // 10],
        "refreshed": times.refreshed,
        "coding": _coding(stream, times),
    }


def _coding(stream: av.VideoStream, times: Times) -> dict[str, Any] | None:
    """How H.264 with one parameter set is coded; None of everything else."""
    extradata = stream.codec_context.extradata
    if stream.codec_context.codec.canonical_name != "h264" or not extradata or stream.time_base is None:
        return None
    try:
        configuration = configuration_of(extradata)
    except NotIsoBmff:
        return None
    if len(configuration.sequences) != 1:
        return None
    found = coding_facts(times.coded, stream.time_base, configuration.sequences[0], edited=times.edited, read=times.read)
    return None if found is None else {**asdict(found), "step": str(found.step) if found.step else None}


def _rotation(path: str, index: int) -> int:
    """Degrees clockwise to show the picture upright. Only a decoded picture tells; one that cannot be decoded has none."""
    with av.open(path, mode="r", options=OPTIONS, metadata_errors="replace") as container:
        try:
            for frame in container.decode(container.streams.video[index]):
                return -frame.rotation % 360
        except av.FFmpegError:
            pass
    return 0


def _audio(stream: av.AudioStream, times: Times) -> dict[str, Any]:
    context = stream.codec_context
    return {
        "index": stream.index,
        "codec": context.name if context else "",
        "channels": context.channels if context else 0,
        "sample_rate": context.sample_rate if context else 0,
        "language": stream.language or "",
        "default": bool(stream.disposition & Disposition.default),
        "end": times.ends.get(stream.index, 0.0),
    }


def reach(path: str, seconds: float) -> int:
    """Before which byte the first `seconds` of the chosen picture and of all sound end, of a file with an index."""
    with av.open(path, mode="r", options=OPTIONS, metadata_errors="replace") as container:
        return max(_reach_of(stream, seconds) for stream in wanted_streams(container, _chosen_video(container)))


def _reach_of(stream: av.stream.Stream, seconds: float) -> int:
    entries = stream.index_entries
    assert stream.time_base is not None
    until = entries[0].timestamp + int(seconds / stream.time_base)
    return max(entry.pos + entry.size for entry in takewhile(lambda entry: entry.timestamp <= until, entries))


def main() -> None:
    try:
        if len(sys.argv) > 2:
            answer = {"facts": facts(sys.argv[1], 0, whole=False), "reach": reach(sys.argv[1], float(sys.argv[2]))}
        else:
            answer = {"facts": facts(sys.argv[1])}
    except (av.FFmpegError, ValueError) as error:
        answer = {"unreadable": getattr(error, "strerror", None) or str(error)}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
