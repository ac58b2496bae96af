"""What the transcoder counts."""

from __future__ import annotations

from headwater.runtime.metrics import counter, gauge, histogram

TASK_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0)
VIDEO_SECONDS = (1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14400.0)

TASKS = counter(
    "headwater_transcode_tasks_total", "Tasks by kind and outcome: done, or the kind of failure.", ["kind", "outcome"]
)
TASK_TIME = histogram(
    "headwater_transcode_task_seconds", "From a task's start on a worker to its end.", ["kind"], buckets=TASK_SECONDS
)
TASKS_WAITING = gauge("headwater_transcode_tasks_waiting", "Tasks that wait for a free worker.")
TASKS_RUNNING = gauge("headwater_transcode_tasks_running", "Tasks that are with a worker.")
JOBS_WAITING = gauge("headwater_transcode_jobs_waiting", "Uploaded videos that no coordinator has begun with.")
VIDEOS = counter(
    "headwater_transcode_videos_total",
    "Videos by outcome: done, the kind of failure, or set-aside until what they need is back.",
    ["outcome"],
)
POPULAR = counter("headwater_transcode_popular_total", "Videos queued for AV1 because they were watched much.")
AV1_POSSIBLE = gauge(
    "headwater_transcode_av1_possible", "1 when AV1 is asked for and ffmpeg can encode it; 0 when it cannot, or nobody asks."
)
VMAF = histogram(
    "headwater_transcode_vmaf",
    "Mean VMAF of rungs, sampled.",
    ["codec", "rung"],
    buckets=(50, 60, 70, 75, 80, 85, 90, 93, 95, 98),
)
BEGUN_ANEW = counter(
    "headwater_transcode_begun_anew_total",
    "Renditions that were begun with another encoder before a restart, and were made whole under another name.",
)
FIRST_PLAYABLE = histogram(
    "headwater_transcode_first_playable_seconds",
    "From taking a video to its first window being published: viewers can begin.",
    buckets=VIDEO_SECONDS,
)
EARLY = counter(
    "headwater_transcode_early_total",
    "First windows begun before their upload was complete: made, used, outdated (parts were sent again), abandoned with their "
    "upload, unsuited, failed.",
    ["outcome"],
)
NETWORK_CUT = gauge(
    "headwater_transcode_network_cut",
    "1 when ffmpeg and the probe run without a network; 0 where the kernel does not permit it and only their allow-lists hold.",
)
NOTES_LOST = counter("headwater_transcode_notes_lost_total", "Notes on tasks dropped because the catalogue was away for long.")
LEASES_LOST = counter("headwater_transcode_leases_lost_total", "Jobs given up because their lease went to someone else.")
