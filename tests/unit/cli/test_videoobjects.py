"""What an HLS manifest names: lines and URI attributes, resolved against where the manifest lies."""

from __future__ import annotations

from headwater.cli.videoobjects import references

MASTER = """#EXTM3U
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="aac",NAME="sound",URI="aac/128k/playlist.m3u8"
#EXT-X-STREAM-INF:BANDWIDTH=400000

h264/240p/playlist.m3u8
"""
MEDIA = """#EXTM3U
#EXT-X-MAP:URI="init.mp4"
#EXTINF:4,
segment_00000.m4s
#EXT-X-ENDLIST
"""


def test_a_master_manifest_names_its_playlists_under_the_same_grant() -> None:
    base = "http://127.0.1.1:8080/grant/videos/x/master.m3u8"
    assert list(references(MASTER, base)) == [
        "http://127.0.1.1:8080/grant/videos/x/aac/128k/playlist.m3u8",
        "http://127.0.1.1:8080/grant/videos/x/h264/240p/playlist.m3u8",
    ]


def test_a_playlist_names_its_init_section_and_segments() -> None:
    base = "http://127.0.1.1:8080/grant/videos/x/h264/240p/playlist.m3u8"
    assert [url.rpartition("/")[2] for url in references(MEDIA, base)] == ["init.mp4", "segment_00000.m4s"]
