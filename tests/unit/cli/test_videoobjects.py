"""What an HLS manifest names: lines and URI attributes, resolved against where the manifest lies."""

from __future__ import annotations

from headwater.cli.videoobjects import pictures, references

MASTER = """#EXTM3U
#EXT-X-CONTENT-STEERING:SERVER-URI="steering.json",PATHWAY-ID="."
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="aac",NAME="sound",URI="aac/128k/playlist.m3u8"
#EXT-X-I-FRAME-STREAM-INF:URI="h264/240p/iframes.m3u8",BANDWIDTH=100
#EXT-X-STREAM-INF:BANDWIDTH=400000

h264/240p/playlist.m3u8
"""
MEDIA = """#EXTM3U
#EXT-X-MAP:URI="init.mp4"
#EXTINF:4,
segment_00000.m4s
#EXT-X-ENDLIST
"""


def test_a_master_manifest_names_its_playlists_under_the_same_grant_and_not_what_steers_players() -> None:
    base = "http://127.0.1.1:8080/grant/videos/x/master.m3u8"
    assert list(references(MASTER, base)) == [
        "http://127.0.1.1:8080/grant/videos/x/aac/128k/playlist.m3u8",
        "http://127.0.1.1:8080/grant/videos/x/h264/240p/iframes.m3u8",
        "http://127.0.1.1:8080/grant/videos/x/h264/240p/playlist.m3u8",
    ]


def test_a_playlist_names_its_init_section_and_segments() -> None:
    base = "http://127.0.1.1:8080/grant/videos/x/h264/240p/playlist.m3u8"
    assert [url.rpartition("/")[2] for url in references(MEDIA, base)] == ["init.mp4", "segment_00000.m4s"]


def test_a_storyboard_names_each_of_its_pictures_once() -> None:
    cues = "WEBVTT\n" + "".join(
        f"\n00:0{at}.000 --> 00:0{at + 1}.000\nstoryboard_000.jpg#xywh={at * 160},0,160,90\n" for at in (0, 1)
    )
    assert pictures(cues, "http://127.0.1.1:8080/grant/videos/x/storyboard.vtt") == [
        "http://127.0.1.1:8080/grant/videos/x/storyboard_000.jpg"
    ]
