"""Manifests word for word."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import m3u8
import pytest
from mpegdash.parser import MPEGDASHParser

from origin.transcode.encoding.ladder import VideoRung
from origin.transcode.encoding.plan import timing_for
from origin.transcode.encoding.stills import storyboard_for, storyboard_vtt
from origin.transcode.failure import TaskFailed
from origin.transcode.publishing.dash import dash_manifest
from origin.transcode.publishing.hls import iframe_playlist, master_playlist, media_playlist
from origin.transcode.publishing.rendition import Rendition, SegmentSize, check_renditions, rendition_from_json


def video(name: str = "360p", width: int = 640, height: int = 360, scale: int = 1, **changed: Any) -> Rendition:
    segments = tuple(
        SegmentSize(ticks, size * scale, size * scale // 10)
        for ticks, size in ((40000, 400_000), (40000, 200_000), (20000, 150_000))
    )
    values = {
        "codec": "h264", "rung": name, "kind": "video", "codecs": "avc1.64001e", "timescale": 10000, "segments": segments,
        "init_bytes": 700, "width": width, "height": height, "frame_rate": Fraction(25),
    }  # fmt: skip
    return Rendition(**{**values, **changed})


AUDIO = Rendition(
    "aac", "128k", "audio", "mp4a.40.2", 48000,
    (SegmentSize(192512, 64000), SegmentSize(191488, 64000), SegmentSize(96256, 32000)), 600, channels=2, language="eng",
)  # fmt: skip
TALL = video("720p", 1280, 720, scale=3, codecs="avc1.64001f", frame_rate=Fraction(25))


def test_a_media_playlist() -> None:
    assert media_playlist(video()) == (
        "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:0\n#EXT-X-PLAYLIST-TYPE:VOD\n"
        '#EXT-X-INDEPENDENT-SEGMENTS\n#EXT-X-MAP:URI="init.mp4"\n'
        "#EXTINF:4.000000,\nsegment_00000.m4s\n#EXTINF:4.000000,\nsegment_00001.m4s\n#EXTINF:2.000000,\nsegment_00002.m4s\n"
        "#EXT-X-ENDLIST\n"
    )


def test_an_i_frame_playlist_names_the_first_picture_of_each_segment() -> None:
    assert iframe_playlist(video()) == (
        "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:0\n#EXT-X-PLAYLIST-TYPE:VOD\n"
        '#EXT-X-I-FRAMES-ONLY\n#EXT-X-MAP:URI="init.mp4"\n'
        "#EXTINF:4.000000,\n#EXT-X-BYTERANGE:40000@0\nsegment_00000.m4s\n"
        "#EXTINF:4.000000,\n#EXT-X-BYTERANGE:20000@0\nsegment_00001.m4s\n"
        "#EXTINF:2.000000,\n#EXT-X-BYTERANGE:15000@0\nsegment_00002.m4s\n#EXT-X-ENDLIST\n"
    )


def test_a_growing_rung_has_no_i_frame_playlist_yet() -> None:
    assert "I-FRAME" not in master_playlist([video(whole=False, ceiling_bps=1)], None)


def test_a_master_playlist() -> None:
    assert master_playlist([TALL, video()], AUDIO) == (
        "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-INDEPENDENT-SEGMENTS\n"
        '#EXT-X-CONTENT-STEERING:SERVER-URI="steering.json",PATHWAY-ID="."\n'
        '#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="audio",NAME="Audio",LANGUAGE="eng",DEFAULT=YES,AUTOSELECT=YES,CHANNELS="2",'
        'URI="aac/128k/playlist.m3u8"\n'
        '#EXT-X-STREAM-INF:BANDWIDTH=928343,AVERAGE-BANDWIDTH=727932,CODECS="avc1.64001e,mp4a.40.2",RESOLUTION=640x360,'
        'FRAME-RATE=25.000,AUDIO="audio"\nh264/360p/playlist.m3u8\n'
        '#EXT-X-STREAM-INF:BANDWIDTH=2528343,AVERAGE-BANDWIDTH=1927932,CODECS="avc1.64001f,mp4a.40.2",RESOLUTION=1280x720,'
        'FRAME-RATE=25.000,AUDIO="audio"\nh264/720p/playlist.m3u8\n'
        '#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=80000,AVERAGE-BANDWIDTH=60000,CODECS="avc1.64001e",RESOLUTION=640x360,'
        'URI="h264/360p/iframes.m3u8"\n'
    )


def test_a_master_playlist_without_sound_names_no_audio() -> None:
    text = master_playlist([video()], None)
    assert "AUDIO" not in text
    assert 'CODECS="avc1.64001e"' in text


def test_a_dash_manifest() -> None:
    assert dash_manifest([video()], AUDIO, steering_url="https://steer.test/s.json") == (
        '<?xml version="1.0" encoding="utf-8"?>\n'
        '<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" profiles="urn:mpeg:dash:profile:isoff-live:2011" type="static" '
        'mediaPresentationDuration="PT10.000000S" minBufferTime="PT4.000000S">\n'
        '  <BaseURL serviceLocation=".">./</BaseURL>\n'
        '  <ContentSteering defaultServiceLocation="." queryBeforeStart="false">https://steer.test/s.json</ContentSteering>\n'
        '  <Period id="0" start="PT0S">\n'
        '    <AdaptationSet id="0" contentType="video" mimeType="video/mp4" segmentAlignment="true" startWithSAP="1">\n'
        '      <SegmentTemplate timescale="10000" startNumber="0" initialization="$RepresentationID$/init.mp4" '
        'media="$RepresentationID$/segment_$Number%05d$.m4s">\n'
        "        <SegmentTimeline>\n"
        '          <S t="0" d="40000" r="1"/>\n          <S d="20000"/>\n'
        "        </SegmentTimeline>\n      </SegmentTemplate>\n"
        '      <Representation id="h264/360p" codecs="avc1.64001e" bandwidth="800000" width="640" height="360" frameRate="25" '
        'sar="1:1"/>\n'
        "    </AdaptationSet>\n"
        '    <AdaptationSet id="1" contentType="audio" mimeType="audio/mp4" segmentAlignment="true" startWithSAP="1" '
        'lang="eng">\n'
        '      <SegmentTemplate timescale="48000" startNumber="0" initialization="$RepresentationID$/init.mp4" '
        'media="$RepresentationID$/segment_$Number%05d$.m4s">\n'
        "        <SegmentTimeline>\n"
        '          <S t="0" d="192512"/>\n          <S d="191488"/>\n          <S d="96256"/>\n'
        "        </SegmentTimeline>\n      </SegmentTemplate>\n"
        '      <Representation id="aac/128k" codecs="mp4a.40.2" bandwidth="128343" audioSamplingRate="48000">\n'
        '        <AudioChannelConfiguration schemeIdUri="urn:mpeg:dash:23003:3:audio_channel_configuration:2011" value="2"/>\n'
        "      </Representation>\n    </AdaptationSet>\n  </Period>\n</MPD>\n"
    )


def test_other_peoples_parsers_read_the_manifests() -> None:
    master = m3u8.loads(master_playlist([video(), TALL], AUDIO))
    assert [playlist.stream_info.resolution for playlist in master.playlists] == [(640, 360), (1280, 720)]
    assert [item.iframe_stream_info.resolution for item in master.iframe_playlists] == [(640, 360)]
    assert m3u8.loads(media_playlist(video())).target_duration == 4
    frames = m3u8.loads(iframe_playlist(video()))
    assert frames.is_i_frames_only
    assert [segment.byterange for segment in frames.segments] == ["40000@0", "20000@0", "15000@0"]
    manifest = MPEGDASHParser.parse(dash_manifest([video(), TALL], AUDIO))
    assert [len(part.representations) for part in manifest.periods[0].adaptation_sets] == [2, 1]


def test_peak_bandwidth_is_not_that_of_a_short_last_segment() -> None:
    """RFC 8216 4.1: the peak is over spans of 0.5 to 1.5 target durations; one keyframe of 40 ms is none."""
    segments = (SegmentSize(40000, 400_000), SegmentSize(400, 100_000))
    assert video(segments=segments).bandwidth_bps == round(8 * 500_000 / 4.04 + 0.5)


def test_a_rendition_survives_being_written_down() -> None:
    for rendition in (video(), AUDIO):
        assert rendition_from_json(rendition.to_json()) == rendition


def test_rungs_with_other_boundaries_are_not_published() -> None:
    other = video("240p", segments=(SegmentSize(50000, 1), SegmentSize(50000, 1)))
    with pytest.raises(TaskFailed, match="different segment boundaries"):
        check_renditions([video(), other], Fraction(10), Fraction(1, 25))


def test_a_rung_that_is_two_frames_short_is_not_published() -> None:
    check_renditions([video(), AUDIO], Fraction(10) + Fraction(1, 25), Fraction(1, 25))
    with pytest.raises(TaskFailed, match=r"lasts 10\.000 s instead of 10\.080 s"):
        check_renditions([video()], Fraction(10) + Fraction(2, 25), Fraction(1, 25))


def test_storyboard_cues_name_the_tile_of_their_moment() -> None:
    timing = timing_for(Fraction(61), Fraction(25), 4.0, 2.0)
    board = storyboard_for(timing, VideoRung("360p", 640, 360, 900, 23))
    assert (board.tiles, board.sheets, board.width, board.height) == (31, 2, 160, 90)
    cues = storyboard_vtt(board, timing).strip().split("\n\n")
    assert cues[0] == "WEBVTT"
    assert cues[1] == "00:00:00.000 --> 00:00:02.000\nstoryboard_000.jpg#xywh=0,0,160,90"
    assert cues[7] == "00:00:12.000 --> 00:00:14.000\nstoryboard_000.jpg#xywh=160,90,160,90"
    assert cues[31] == "00:01:00.000 --> 00:01:01.000\nstoryboard_001.jpg#xywh=0,90,160,90"
    assert len([cue for cue in cues if "-->" in cue]) == 31


def test_a_long_video_has_no_more_tiles_than_two_hundred() -> None:
    timing = timing_for(Fraction(6 * 3600), Fraction(25), 4.0, 2.0)
    assert storyboard_for(timing, VideoRung("360p", 640, 360, 900, 23)).tiles <= 200
