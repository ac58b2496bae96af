"""The catalogue's tables. Times are Unix seconds (float); sizes are bytes. Migrations in `migrations/` make the same tables.

Who writes what: uploads write `videos` (until processing), `uploads`, `upload_parts` and the first row of `jobs`;
the transcode coordinator writes `jobs`, `renditions` and the state of `videos` from then on.
"""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class VideoState(StrEnum):
    UPLOADING = "uploading"
    PROCESSING = "processing"
    READY = "ready"
    FAILED = "failed"


class Form(StrEnum):
    """What an upload's bytes are to become."""

    WHOLE = "whole"  # a video
    PIECE = "piece"  # nothing by themselves: part of an upload that is joined (tus concatenation)
    JOINED = "joined"  # a video, of pieces that arrived before


class Dialect(StrEnum):
    """The protocol that an upload arrives by."""

    PARTS = "parts"
    TUS = "tus"
    YOUTUBE = "youtube"
    IETF = "ietf"


class JobState(StrEnum):
    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class JobWant(StrEnum):
    """What a job makes of a video that plays already; without one it makes the video."""

    AV1 = "av1"


class TaskState(StrEnum):
    WAITING = "waiting"  # to be tried again
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class RenditionState(StrEnum):
    PLANNED = "planned"
    ENCODING = "encoding"
    READY = "ready"


def _one_of(column: str, values: type[StrEnum]) -> CheckConstraint:
    allowed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({allowed})", name=column)


videos = Table(
    "videos",
    metadata,
    Column("id", String(11), primary_key=True),
    Column("title", Text, nullable=False),
    Column("description", Text, nullable=False, server_default=""),
    Column("tags", JSON, nullable=False),
    Column("filename", Text, nullable=False),
    Column("content_type", Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("state", String(16), nullable=False),
    Column("failure_kind", String(64)),
    Column("failure_detail", Text),
    Column("duration_s", Float),
    Column("width", Integer),
    Column("height", Integer),
    Column("frame_rate", String(16)),  # a fraction, "30000/1001"
    Column("has_poster", Integer, nullable=False, server_default="0"),
    Column("has_storyboard", Integer, nullable=False, server_default="0"),
    Column("created_at", Float, nullable=False),
    Column("ready_at", Float),
    Column("updated_at", Float, nullable=False),
    Column("hidden", Integer, nullable=False, server_default="0"),  # 1: a piece of a video to come, shown to nobody
    _one_of("state", VideoState),
    Index("ix_videos_newest", "created_at", "id"),
)

# A repeated POST with the same Idempotency-Key finds its first answer here.
idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("key", String(255), primary_key=True),
    Column("request_sha256", String(64), nullable=False),
    Column("video_id", String(11), ForeignKey("videos.id", ondelete="CASCADE"), nullable=False),
    Column("created_at", Float, nullable=False),
)

uploads = Table(
    "uploads",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("video_id", String(11), ForeignKey("videos.id", ondelete="CASCADE"), nullable=False, unique=True),
    Column("part_size_bytes", BigInteger, nullable=False),
    Column("parts", Integer, nullable=False),
    Column("sha256", String(64)),  # of the whole file, once completed
    Column("created_at", Float, nullable=False),
    Column("completed_at", Float),
    Column("creator", String(64)),  # name of the API token that began it; without one where no token is required
    Column("dialect", String(16), nullable=False, server_default="parts"),  # the protocol that it arrives by
    Column("form", String(16), nullable=False, server_default="whole"),  # or a piece, or made of pieces
    Column("said", Text),  # what the client wants to be told again, in its dialect's own form
    Column("parts_sha256", String(64)),  # of size, part size and the parts' digests: equal for equal files cut alike
    Index("ix_uploads_open", "creator", "completed_at"),
    Index("ix_uploads_same", "parts_sha256"),
)

upload_parts = Table(
    "upload_parts",
    metadata,
    Column("upload_id", String(32), ForeignKey("uploads.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),  # from 1, as in S3
    Column("size_bytes", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("arrived_at", Float, nullable=False),
)

# What a creator said that a part will have: its URL is signed with it, and its bytes are checked by it when they are first read.
part_digests = Table(
    "part_digests",
    metadata,
    Column("upload_id", String(32), ForeignKey("uploads.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("sha256", String(64), nullable=False),
    Column("md5", String(32), nullable=False, server_default=""),
)

# Events that have to leave, written in the transaction that makes them true. `id` stays the same however often one is sent.
outbox = Table(
    "outbox",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("kind", String(32), nullable=False),
    Column("body", JSON, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("published_at", Float),
    Index("ix_outbox_waiting", "published_at", "created_at"),
)

# The job ledger owns what must not be lost: the task cluster may forget everything. `upload.complete` is the insert
# of this row, in the transaction that completes the upload.
jobs = Table(
    "jobs",
    metadata,
    Column("video_id", String(11), ForeignKey("videos.id", ondelete="CASCADE"), primary_key=True),
    Column("master_key", Text, nullable=False),  # object key of the source in the masters store
    Column("state", String(16), nullable=False),
    Column("owner", String(64)),
    Column("lease_until", Float),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("error", Text),
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    Column("wanted", String(16)),  # "av1": what the video gets besides, once it became popular
    _one_of("state", JobState),
    Index("ix_jobs_waiting", "state", "created_at"),
    Index("ix_jobs_master", "master_key"),
)

# What became of each task, for people: `headwater video show` and the watch page. Nothing is decided by it.
transcode_tasks = Table(
    "transcode_tasks",
    metadata,
    Column("video_id", String(11), ForeignKey("videos.id", ondelete="CASCADE"), primary_key=True),
    Column("name", String(128), primary_key=True),  # "encode/480p+720p/3"
    Column("kind", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("media_s", Float),  # how much of the video it makes
    Column("took_s", Float),  # of the last attempt that ended
    Column("error", Text),  # of the last attempt that failed, with the tool's last lines
    Column("started_at", Float),
    Column("updated_at", Float, nullable=False),
    _one_of("state", TaskState),
)

renditions = Table(
    "renditions",
    metadata,
    Column("video_id", String(11), ForeignKey("videos.id", ondelete="CASCADE"), primary_key=True),
    Column("codec", String(16), primary_key=True),  # "h264", "aac"
    Column("rung", String(16), primary_key=True),  # "720p", "128k"
    Column("kind", String(8), nullable=False),  # "video" or "audio"
    Column("state", String(16), nullable=False),
    Column("progress", Float, nullable=False, server_default="0"),  # 0 to 1
    Column("width", Integer),
    Column("height", Integer),
    Column("frame_rate", String(16)),
    Column("codecs", String(64)),  # RFC 6381
    Column("bandwidth_bps", Integer),  # peak segment
    Column("average_bandwidth_bps", Integer),
    Column("segments", Integer),
    Column("size_bytes", BigInteger),
    Column("updated_at", Float, nullable=False),
    Column("description", Text),  # JSON, what manifests say of it: they are written anew when rungs join later
    Column("vmaf_mean", Float),  # over the sampled pictures; 100 is the source
    Column("vmaf_low", Float),  # of the worst sampled second
    Column("vmaf_seconds", Float),  # how much was sampled
    _one_of("state", RenditionState),
)

# Answers of the playback API that said where a video plays, by hour (Unix time / 3600).
views = Table(
    "views",
    metadata,
    Column("video_id", String(11), ForeignKey("videos.id", ondelete="CASCADE"), primary_key=True),
    Column("hour", Integer, primary_key=True),
    Column("views", Integer, nullable=False),
    Index("ix_views_hour", "hour"),
)

# Videos that were deleted. Rows stay: who asks for the video later is told that it is gone.
deletions = Table(
    "deletions",
    metadata,
    Column("video_id", String(11), primary_key=True),
    Column("upload_id", String(32)),
    Column("master_key", Text),
    Column("creator", String(64)),  # who uploaded it, and may therefore delete it again
    Column("deleted_by", String(64)),
    Column("begun_at", Float, nullable=False),
    Column("held_by", String(64)),  # the transcoder that was making it, until it says that it stopped
    Column("held_until", Float, nullable=False),  # or until its lease has run out
    Column("ended_at", Float),  # when nothing of it was left
    Index("ix_deletions_open", "ended_at", "begun_at"),
    Index("ix_deletions_held", "held_by"),
)

# Tokens of creators; of a secret only its digest. Revoked ones stay, so that their owner is told so.
api_tokens = Table(
    "api_tokens",
    metadata,
    Column("id", String(12), primary_key=True),
    Column("name", String(64), nullable=False),  # whose it is; a creator may have several
    Column("secret_sha256", String(64), nullable=False),
    Column("scopes", JSON, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float),
    Column("revoked_at", Float),
)
