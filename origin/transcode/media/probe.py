"""Finds out what an uploaded file is: a look at its first bytes, then a child process with limits that reads its packets."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from origin.transcode.failure import FailureKind, TaskFailed
from origin.transcode.media.isobmff import top_level
from origin.transcode.media.source import Bounds, Facts, ProbeReport, facts_from_json, judge
from origin.transcode.programs.child import Ending, Limits, run_child

LIMITS = Limits(cpu_s=300, file_bytes=0, stall_s=600, memory_bytes=8 * 2**30)
HEAD_BYTES = 4096
PACKAGE_ROOT = Path(__file__).resolve().parents[3]


def probe(master: Path, folder: Path, bounds: Bounds) -> ProbeReport:
    """The report of a usable file. `folder` is the child's own, for nothing. Raises TaskFailed."""
    refuse_by_first_bytes(master)
    return judge(_facts(master, folder), bounds)


def refuse_by_first_bytes(master: Path) -> None:
    """Names what no demuxer would tell apart: nothing at all, text that points elsewhere, an MP4 whose index is missing."""
    try:
        with master.open("rb") as file:
            head = file.read(HEAD_BYTES)
            kinds = [kind for kind, _, _ in top_level(file)] if head[4:8] == b"ftyp" else None
    except FileNotFoundError as error:
        raise TaskFailed(FailureKind.MASTER_MISSING, "The uploaded file is not in the store any more.") from error
    if not head:
        raise TaskFailed(FailureKind.EMPTY, "The file is empty: it has 0 bytes.")
    if names_other_files(head):
        raise TaskFailed(FailureKind.PLAYLIST, "The file is a playlist that names other files, not a video.")
    if kinds is not None and b"moov" not in kinds:
        raise TaskFailed(
            FailureKind.TRUNCATED,
            "The file begins like an MP4 but has no index (moov): its end was cut off, or it was never finished.",
        )


def names_other_files(head: bytes) -> bool:
    """HLS, DASH, ffmpeg's concatenation, SMIL, ASX, PLS and Ogg playlists."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"#extm3u", b"ffconcat", b"[playlist]", b"[reference]", b"rtsptext", b"smil")):
        return True
    return text.startswith(b"<") and any(mark in text for mark in (b"<mpd", b"<smil", b"<asx", b"<smoothstreamingmedia"))


def _facts(master: Path, folder: Path) -> Facts:
    answer = child_answer(master, folder)
    try:
        return facts_from_json(answer["facts"])
    except (ValueError, KeyError, TypeError) as error:
        raise TaskFailed(FailureKind.NOT_A_VIDEO, "The file's structure cannot be read.", repr(error)) from error


def child_answer(master: Path, folder: Path, *arguments: str) -> dict[str, Any]:
    """What the child says of the file, which then is a video. Raises TaskFailed."""
    command = [sys.executable, "-m", "origin.transcode.media.probechild", f"file:{master}", *arguments]
    paths = os.pathsep.join([str(PACKAGE_ROOT), *filter(None, sys.path)])
    result = run_child(command, folder, LIMITS, environment={"PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"})
    if result.ending is Ending.STALLED:
        raise TaskFailed(FailureKind.TOO_COSTLY, "Reading the file's structure took too long.", result.errors)
    if result.ending is Ending.ABANDONED:
        raise TaskFailed(FailureKind.OUTPUT_LOST, "The probe's folder was taken away.", result.errors)
    if result.ending is not Ending.DONE:
        raise TaskFailed(FailureKind.TOO_COSTLY, "Reading the file's structure used too much memory or time.", result.errors)
    try:
        answer: dict[str, Any] = json.loads(result.output)
    except ValueError as error:
        raise TaskFailed(
            FailureKind.NOT_A_VIDEO, "The file's structure cannot be read.", f"{error!r}\n{result.errors}"
        ) from error
    if "unreadable" in answer:
        raise TaskFailed(FailureKind.NOT_A_VIDEO, "The file is no video in a known format.", str(answer["unreadable"]))
    return answer
