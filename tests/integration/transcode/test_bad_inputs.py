"""Files that are no usable video fail with a name and a sentence, and leave nothing behind."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from headwater.runtime.metrics import value
from headwater.settings.deployment import Deployment
from headwater.settings.load import load_deployment
from headwater.settings.origin import Transcode
from origin.catalogue.engine import reading
from origin.catalogue.tasklog import tasks_of
from origin.transcode.failure import CURES, FailureKind, TaskFailed
from tests.support.deployments import ROOT, lab_config
from tests.support.media import make_clip, make_with, shared_media
from tests.support.streams import transcode
from tests.support.transcoding import QUICK_LADDER, quick, studio, transcoder

SETTINGS = Transcode(ladder=QUICK_LADDER, first_height=240, preset="ultrafast")


def written(content: bytes) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        file = folder / "upload.mp4"
        file.write_bytes(content)
        return file

    return write


def cut(share: float, *arguments: str) -> Callable[[Path], Path]:
    """The first part of a clip whose index is at its start."""

    def make(folder: Path) -> Path:
        clip = make_clip(folder / "clip.mp4", seconds=6, width=320, height=240)
        content = make_with(folder / "whole.mp4", "-i", str(clip), "-c", "copy", *arguments).read_bytes()
        return written(content[: int(len(content) * share)])(folder)

    return make


def damaged(folder: Path) -> Path:
    """A clip whose data is overwritten in the middle; its index is whole."""
    content = bytearray(make_clip(folder / "clip.mp4", seconds=6, width=320, height=240).read_bytes())
    middle = len(content) // 2
    content[middle : middle + 60_000] = bytes(range(256)) * 234 + bytes(96)
    return written(bytes(content))(folder)


def sound_only(folder: Path) -> Path:
    return make_with(folder / "sound.mp4", "-f", "lavfi", "-i", "sine=duration=2")


def sound_with_cover(folder: Path) -> Path:
    cover = make_with(folder / "cover.jpg", "-f", "lavfi", "-i", "testsrc2=size=64x64", "-frames:v", "1")
    inputs = ("-f", "lavfi", "-i", "sine=duration=2", "-i", str(cover))
    return make_with(folder / "song.m4a", *inputs, "-map", "0", "-map", "1", "-c:v", "copy", "-disposition:v", "attached_pic")


def absurd_size(folder: Path) -> Path:
    return make_with(folder / "wide.mkv", "-f", "lavfi", "-i", "color=size=17000x32:rate=5:duration=1", "-c:v", "ffv1")


BAD = [
    ("empty", written(b""), FailureKind.EMPTY),
    ("text", written(b"This is not a video.\n" * 300), FailureKind.NOT_A_VIDEO),
    ("html", written(b"<html><script>alert(1)</script></html>"), FailureKind.NOT_A_VIDEO),
    ("noise", written(bytes((n * n * 31 + n * 7) % 251 for n in range(200_000))), FailureKind.NOT_A_VIDEO),
    ("hls", written(b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n"), FailureKind.PLAYLIST),
    ("hls_http", written(b"\xef\xbb\xbf#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:7000/\n"), FailureKind.PLAYLIST),
    ("concat", written(b"ffconcat version 1.0\nfile '/etc/hostname'\n"), FailureKind.PLAYLIST),
    ("dash", written(b'<?xml version="1.0"?>\n<MPD><BaseURL>http://127.0.0.1/</BaseURL></MPD>'), FailureKind.PLAYLIST),
    ("no_index", cut(0.9), FailureKind.TRUNCATED),
    ("faststart_cut", cut(0.6, "-movflags", "+faststart"), FailureKind.TRUNCATED),
    ("fragments_of_nothing", cut(0.02, "-movflags", "+faststart"), FailureKind.TRUNCATED),
    ("damaged", damaged, FailureKind.DAMAGED),
    ("sound_only", sound_only, FailureKind.NO_VIDEO_STREAM),
    ("sound_with_cover", sound_with_cover, FailureKind.NO_VIDEO_STREAM),
    ("absurd_size", absurd_size, FailureKind.DIMENSIONS),
]  # fmt: skip


@pytest.mark.parametrize(("make", "kind"), [item[1:] for item in BAD], ids=[item[0] for item in BAD])
def test_a_bad_file_is_refused_by_name(tmp_path: Path, make: Callable[[Path], Path], kind: FailureKind) -> None:
    with pytest.raises(TaskFailed) as refused:
        transcode(make(tmp_path), tmp_path, SETTINGS)
    assert refused.value.kind == kind


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("bad_empty.mp4", FailureKind.EMPTY),
        ("bad_hls_ssrf.mp4", FailureKind.PLAYLIST),
        ("bad_html.mp4", FailureKind.NOT_A_VIDEO),
        ("bad_not_video.mp4", FailureKind.NOT_A_VIDEO),
        ("bad_random.mp4", FailureKind.NOT_A_VIDEO),
        ("bad_truncated_480p.mp4", FailureKind.TRUNCATED),
        ("bad_truncated_faststart.mp4", FailureKind.TRUNCATED),
        ("gen_audio_only_8s.m4a", FailureKind.NO_VIDEO_STREAM),
    ],
)
def test_the_shared_bad_files_are_refused_by_name(tmp_path: Path, name: str, kind: FailureKind) -> None:
    files = shared_media(name)
    if not files:
        pytest.skip("the shared media stand beside the clone only in CI")
    with pytest.raises(TaskFailed) as refused:
        transcode(files[0], tmp_path, SETTINGS)
    assert refused.value.kind == kind


async def test_references_in_an_upload_reach_neither_network_nor_files(tmp_path: Path) -> None:
    """Playlists dressed as what the first look lets pass; a listener and a file's access prove that nobody follows them."""
    asked: list[bytes] = []

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.read(100))
        writer.close()

    server = await asyncio.start_server(note, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        for prefix in (b"# comment\n#EXTM3U\n", b"\n\n#EXTM3U\n", b"\x00#EXTM3U\n", b"#EXTM3U8\n"):
            upload = written(prefix + f"#EXTINF:1,\nhttp://127.0.0.1:{port}/x.ts\nhttp://127.0.0.1:{port}/y.ts\n".encode())(
                tmp_path
            )
            with pytest.raises(TaskFailed) as refused:
                await asyncio.to_thread(transcode, upload, tmp_path, SETTINGS)
            assert refused.value.kind in (FailureKind.PLAYLIST, FailureKind.NOT_A_VIDEO)
    assert asked == []


async def test_a_bad_upload_fails_with_its_reason_and_nothing_published(deployment: Deployment, tmp_path: Path) -> None:
    counted = value("headwater_transcode_videos_total", outcome="damaged")
    async with studio(quick(deployment, attempts=2)) as at, transcoder(at.deployment):
        # left by a run that was killed before it knew
        await at.published.put_bytes("videos/AAAAAAAAAAA/h264/240p/init.mp4", b"half-published", "video/mp4")
        broken = await at.upload("AAAAAAAAAAA", await asyncio.to_thread(damaged, tmp_path))
        nothing = await at.upload("AAAAAAAAAAE", written(b"")(tmp_path))
        good = await at.upload("AAAAAAAAAAI", await asyncio.to_thread(make_clip, tmp_path / "good.mp4", seconds=2))
        assert (await at.job_ended(broken)).state == "failed"
        assert (await at.job_ended(nothing)).state == "failed"
        assert (await at.job_ended(good)).state == "done"
        video = await at.video(broken)
        assert (video.state, video.failure_kind) == ("failed", "damaged")
        assert video.failure_detail.endswith(CURES[FailureKind.DAMAGED])
        assert (await at.video(nothing)).failure_kind == "empty"
        assert await at.published_names(broken) == []
        assert await at.renditions(broken) == {}
        async with reading(at.engine) as connection:
            tasks = {task.name: task for task in await tasks_of(connection, broken)}
        assert (tasks["probe"].state, tasks["probe"].attempts) == ("done", 1)
        (failed,) = [task for task in tasks.values() if task.state == "failed"]
        assert failed.attempts == 2
        assert failed.error is not None
        assert failed.error.startswith("damaged: ")
        assert len(failed.error.splitlines()) > 1, "with the tool's last lines"
        work = at.deployment.data / "nodes" / "origin-transcoder" / "work"
        async with asyncio.timeout(30):  # removed once the ledger has the result
            while any(work.iterdir()):  # noqa: ASYNC110  # the file system tells nobody
                await asyncio.sleep(0.01)
    assert value("headwater_transcode_videos_total", outcome="damaged") == counted + 1


async def test_a_failed_video_is_made_again_when_the_operator_says_so(tmp_path: Path) -> None:
    """The master is gone at first; the operator brings it back and requeues by command line."""
    config = lab_config(tmp_path)
    settings = quick(load_deployment(config))
    clip = await asyncio.to_thread(make_clip, tmp_path / "clip.mp4", seconds=2)
    async with studio(settings) as at:
        video_id = await at.upload("AAAAAAAAAAA", clip)
        await at.masters.delete("masters/AAAAAAAAAAA")
        async with transcoder(settings):
            await at.job_ended(video_id)
        assert (await at.video(video_id)).failure_kind == "master-missing"
        await at.masters.put_file("masters/AAAAAAAAAAA", clip, "video/mp4")
        again = await asyncio.to_thread(headwater, "video", "retry", "AAAAAAAAAAA", "--config", str(config))
        assert again.stdout == "AAAAAAAAAAA waits for the transcoder again.\n"
        refused = await asyncio.to_thread(headwater, "requeue", "AAAAAAAAAAA", "nonsense", "--config", str(config))
        assert refused.returncode == 1
        assert "has no failed transcode" in refused.stderr
        assert "is not a video id" in refused.stderr
        async with transcoder(settings):
            assert (await at.job_ended(video_id)).state == "done"
        video = await at.video(video_id)
        assert (video.state, video.failure_kind, video.failure_detail) == ("ready", None, None)


def headwater(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "headwater", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
