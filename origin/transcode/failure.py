"""Every way in which making a video can fail, with the sentence its creator reads and what to do about it."""

from __future__ import annotations

from enum import StrEnum


class FailureKind(StrEnum):
    """Stable words: the API, the catalogue, logs and metrics use them."""

    EMPTY = "empty"
    NOT_A_VIDEO = "not-a-video"
    PLAYLIST = "playlist"
    TRUNCATED = "truncated"
    DAMAGED = "damaged"
    NO_VIDEO_STREAM = "no-video-stream"
    UNSUPPORTED_CODEC = "unsupported-codec"
    DIMENSIONS = "dimensions"
    TOO_LONG = "too-long"
    TOO_COSTLY = "too-costly"
    STALLED = "stalled"
    MASTER_MISSING = "master-missing"
    TOOL_FAILED = "tool-failed"
    WORKER_LOST = "worker-lost"
    OUTPUT_LOST = "output-lost"
    DISK_FULL = "disk-full"
    INCONSISTENT = "inconsistent"
    # What the check before publishing finds (verify.py):
    UNREADABLE = "unreadable-output"
    GAP_IN_TIME = "gap-in-time"
    NO_KEYFRAME = "no-keyframe"
    UNEVEN_SEGMENTS = "uneven-segments"
    OUT_OF_SYNC = "out-of-sync"
    MISDESCRIBED = "misdescribed"


# The file's own fault: the same file fails the same way, so it is not tried again.
OF_THE_FILE = frozenset(
    {
        FailureKind.EMPTY,
        FailureKind.NOT_A_VIDEO,
        FailureKind.PLAYLIST,
        FailureKind.TRUNCATED,
        FailureKind.NO_VIDEO_STREAM,
        FailureKind.UNSUPPORTED_CODEC,
        FailureKind.DIMENSIONS,
        FailureKind.TOO_LONG,
    }
)

OF_THE_CHECK = frozenset(
    {
        FailureKind.INCONSISTENT,
        FailureKind.UNREADABLE,
        FailureKind.GAP_IN_TIME,
        FailureKind.NO_KEYFRAME,
        FailureKind.UNEVEN_SEGMENTS,
        FailureKind.OUT_OF_SYNC,
        FailureKind.MISDESCRIBED,
    }
)

CURES: dict[FailureKind, str] = {
    FailureKind.EMPTY: "Export the video again and upload that file.",
    FailureKind.NOT_A_VIDEO: "Upload an MP4, MOV, MKV, WebM, AVI, FLV, MPEG, Ogg, ASF or MXF file.",
    FailureKind.PLAYLIST: "Upload the video file itself; a playlist's references are never followed.",
    FailureKind.TRUNCATED: "Copy or export the file again and upload the whole of it.",
    FailureKind.DAMAGED: "Play the file to the end on your computer, export it again and upload that.",
    FailureKind.NO_VIDEO_STREAM: "Upload a file with a moving picture.",
    FailureKind.UNSUPPORTED_CODEC: "Export the video as H.264, HEVC, VP9 or AV1 and upload that.",
    FailureKind.DIMENSIONS: "Export the video in a usual size and upload that.",
    FailureKind.TOO_LONG: "Cut the video into shorter files.",
    FailureKind.TOO_COSTLY: "Export the video as plain H.264 and upload that.",
    FailureKind.STALLED: "Ask the operator to requeue the video; its log names the task that made no progress.",
    FailureKind.MASTER_MISSING: "Upload the file again.",
    FailureKind.TOOL_FAILED: "Ask the operator to requeue the video; the transcoder's log has ffmpeg's last lines.",
    FailureKind.WORKER_LOST: "Ask the operator to requeue the video; a worker process died again and again.",
    FailureKind.OUTPUT_LOST: "Ask the operator to look at the disk of the transcoder's data folder, and then to retry the video.",
    FailureKind.DISK_FULL: "Ask the operator to free space where the transcoder works; it goes on by itself then.",
    **dict.fromkeys(OF_THE_CHECK, "Ask the operator to look at the transcoder's log; what was made did not pass its own check."),
}


class TaskFailed(Exception):
    """A task cannot give its result. `detail` is a sentence for the creator; `trace` is for the log only."""

    def __init__(self, kind: FailureKind, detail: str, trace: str = "") -> None:
        super().__init__(kind, detail, trace)  # the arguments make it cross process borders unchanged
        self.kind = kind
        self.detail = detail
        self.trace = trace

    def __str__(self) -> str:
        return f"{self.kind}: {self.detail}"

    @property
    def worth_retrying(self) -> bool:
        """At once, that is: what was lost is made anew first, and a disk that is full needs an operator."""
        return self.kind not in OF_THE_FILE and self.kind not in (FailureKind.OUTPUT_LOST, FailureKind.DISK_FULL)

    @property
    def sentence(self) -> str:
        """What happened and what to do."""
        return f"{self.detail} {CURES[self.kind]}"


def no_room(trace: str) -> TaskFailed:
    """The worker's disk is full, or its quota used up."""
    return TaskFailed(FailureKind.DISK_FULL, "There is no room left where the transcoder works.", trace)


def inconsistent(what: str, kind: FailureKind = FailureKind.INCONSISTENT) -> TaskFailed:
    """The failure of a stream whose pieces do not fit."""
    return TaskFailed(kind, f"The stream does not join: {what}.")
