"""Settings of the write and process pipes: API, uploads, catalogue, object stores, tiers, transcode."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from headwater.settings.listening import FileBesideConfig, Tls
from headwater.settings.model import Settings, quantity
from headwater.settings.topology import Node
from headwater.settings.units import DurationS, ListenAddress, SizeBytes


class FileStore(Settings):
    """Objects as local files."""

    kind: Literal["files"] = Field("files", description="Objects as local files.")
    path: Path = Field(description="Folder; relative to the data folder.")


class S3Store(Settings):
    """Objects in any S3-compatible store. Credentials come from the environment or a profile, never from this file."""

    kind: Literal["s3"] = Field("s3", description="Objects in an S3-compatible store.")
    endpoint: str = Field(description="Base URL of the store.", pattern=r"^https?://")
    bucket: str = Field(description="Bucket name.")
    prefix: str = Field("", description="Key prefix inside the bucket.")
    region: str = Field("us-east-1", description="Region name used in signatures.")
    profile: str | None = Field(None, description="Credentials profile.")
    threads: int = Field(8, description="Requests to the store at once.", ge=1, le=256)


Store = Annotated[FileStore | S3Store, Field(discriminator="kind")]


class Tier(Settings):
    """One storage tier behind the origin."""

    store: Store = Field(description="Where the tier's objects are.")
    demote_after: DurationS | None = Field(
        None, description="Objects not read for this long move one tier down; without it they stay."
    )
    promote_at: float | None = Field(
        None, description="Reads an hour at which an object moves from this tier to the one above; without it they stay.", gt=0
    )


class Tiers(Settings):
    """Ordered stores. New objects are written to hot."""

    hot: Tier = Field(Tier(store=FileStore(path=Path("objects/hot"))), description="Read first, written first.")
    warm: Tier | None = Field(None, description="Second tier.")
    cold: Tier | None = Field(None, description="Third tier.")
    review: DurationS = quantity("5 min", description="How often every object's tier is looked at again.", gt=0)


class Uploads(Settings):
    require_tokens: bool = Field(
        True, description="Whether uploads need an API token; without it anybody who reaches the API may upload."
    )
    pages: list[Annotated[str, Field(pattern=r"^https?://[^/]+$")]] = Field(
        [],
        description="Other sites (`https://host`) whose pages may upload where no token is required; the origin's own may.",
    )
    part_size: SizeBytes = quantity("8 MiB", description="Part size unless the client chooses.", ge=256 * 1024)
    min_part_size: SizeBytes = quantity("5 MiB", description="Smallest part a client may choose (S3's own floor).")
    max_part_size: SizeBytes = quantity("64 MiB", description="Largest part a client may choose.")
    max_size: SizeBytes = quantity("50 GiB", description="Largest file accepted.")
    url_lifetime: DurationS = quantity("6 h", description="Lifetime of pre-signed part URLs; asking again re-signs them.", gt=0)
    max_open: int = Field(100, description="Open uploads of one creator at once.", ge=1)
    budget: SizeBytes | None = Field(None, description="Bytes of all uploaded files together; without it the disk is the limit.")
    keep_free: SizeBytes = quantity("512 MiB", description="Room on the masters' disk that uploads leave free.", ge=0)
    keep_unfinished: DurationS = quantity("7 d", description="Unfinished uploads are collected after this long.", gt=0)


class Rung(Settings):
    """One rendition: the size is that of the shorter side, the bit rate is a cap over constant quality."""

    height: int = Field(description="Pixels of the shorter side.", ge=144, le=4320, multiple_of=2)
    max_bitrate_kbps: int = Field(description="Cap of the video bit rate in kbit/s.", ge=50, le=100_000)
    crf: float = Field(23, description="Constant quality, x264 scale; lower is better and larger.", ge=0, le=51)


class SchedulerTls(Settings):
    """Who may hand tasks to whom: scheduler, workers and transcoders hold certificates of one authority."""

    authority: FileBesideConfig = Field(description="Certificate of the authority (PEM), beside the config file.")
    certificate: FileBesideConfig = Field(description="Our own certificate (PEM).")
    key: FileBesideConfig = Field(description="Its private key (PEM).")


class Av1(Settings):
    """AV1 for what is watched much: encoding it costs several times what H.264 costs, and every view then costs less."""

    after_views: int = Field(100, description="Views within `within` after which a video gets AV1 rungs too.", ge=1)
    within: DurationS = quantity("7 d", description="The time over which views are counted.", ge=3600, le=366 * 86400)
    heights: list[int] | None = Field(
        None, description="Which of a video's rungs are made as AV1 too, by their shorter side; all without it.", min_length=1
    )
    preset: int = Field(8, description="SVT-AV1 preset; lower is slower and smaller.", ge=0, le=13)
    crf: int = Field(35, description="Constant quality, SVT-AV1's scale; lower is better and larger.", ge=1, le=63)
    share: float = Field(0.7, description="The cap of the bit rate, as a share of the H.264 rung's.", gt=0, le=1)


class Transcode(Settings):
    ladder: list[Rung] = Field(
        [
            Rung(height=240, max_bitrate_kbps=400, crf=24),
            Rung(height=360, max_bitrate_kbps=900, crf=23),
            Rung(height=480, max_bitrate_kbps=1600, crf=23),
            Rung(height=720, max_bitrate_kbps=3500, crf=23),
            Rung(height=1080, max_bitrate_kbps=6500, crf=23),
        ],
        description="Rungs, any order; none larger than the source is made.",
        min_length=1,
    )
    first_height: int = Field(360, description="The lowest useful rung, published first.", ge=144)
    preset: str = Field("veryfast", description="x264 preset.")
    copy_through: bool = Field(
        True,
        description="Whether an H.264 source that already is what a rung would be is packaged as that rung without encoding.",
    )
    start_early: bool = Field(
        True,
        description="Whether the first window of an MP4 or MOV is made while its upload still goes on, where a worker has "
        "nothing else to do; not where masters are at S3.",
    )
    av1: Av1 | None = Field(None, description="AV1 rungs for what becomes popular; without it there are none.")
    vmaf_samples: int = Field(
        3,
        description="Samples (of one GOP each) over which the VMAF of every rung is measured once a video is wholly made, where "
        "ffmpeg has libvmaf; 0 for none.",
        ge=0,
        le=64,
    )
    segment: DurationS = quantity("4 s", description="Segment duration, counted in frames.", ge=1, le=12)
    gop: DurationS = quantity("2 s", description="Distance of keyframes; divides the segment.", ge=0.5, le=12)
    range_segments: int = Field(
        8,
        description="Most segments in one encode task of the first rung, whose ranges grow from one; those of the others have up "
        "to twice as many. Long ones cost less, since each is decoded from the keyframe before it; short ones let videos take "
        "turns sooner.",
        ge=1,
        le=64,
    )
    audio_kbps: int = Field(128, description="AAC bit rate.", ge=32, le=512)
    workers: int = Field(2, description="Worker processes of the embedded task cluster.", ge=1, le=256)
    scheduler: str | None = Field(
        None,
        description="Address of a remote Dask scheduler (tcp://host:port or tls://host:port), whose workers (`headwater worker`) "
        "must see the data folder under the same path; without it a cluster is embedded.",
    )
    scheduler_tls: SchedulerTls | None = Field(None, description="Mutual TLS with a scheduler at tls://; needed there.")
    ffmpeg: str = Field("auto", description="Path of ffmpeg; `auto` takes the one that comes with the package.")
    max_pixels: int = Field(8192 * 4352, description="Larger pictures are refused.", ge=1)
    max_duration: DurationS = quantity("12 h", description="Longer videos are refused.")
    task_timeout: DurationS = quantity("15 min", description="A task without progress for this long is killed and tried again.")
    attempts: int = Field(3, description="Tries of one task before its video fails.", ge=1, le=10)
    lease: DurationS = quantity(
        "15 s", description="A transcoder that does not say for this long that it lives loses its videos to others.", ge=1
    )
    poll: DurationS = quantity("100 ms", description="How often the coordinator looks for new uploads.", gt=0)


class Catalogue(Settings):
    url: str = Field(
        "sqlite:///catalogue.sqlite3",
        description="Database: sqlite:///file relative to the data folder, or postgresql://…",
        pattern=r"^(sqlite:///|postgresql://)",
    )


class Events(Settings):
    """Where events of the origin leave to. They are kept in the catalogue until NATS JetStream has acknowledged them."""

    nats: str = Field(description="URL of NATS, several separated by commas.", pattern=r"^(nats|tls)://")
    stream: str = Field("HEADWATER", description="JetStream's stream; made when it is not there.", pattern=r"^[A-Za-z0-9_-]+$")
    subject: str = Field(
        "headwater", description="Beginning of the subjects: `headwater.upload.complete`.", pattern=r"^[A-Za-z0-9_.-]+$"
    )


class ByteServer(Node):
    tls: Tls | None = Field(None, description="TLS beside `listen`, for shields; none by default.")


class Origin(Settings):
    """The origin's three processes: API and pages, byte server, transcoder."""

    api: Node = Field(description="API and pages.")
    public_url: str = Field(
        description="Base URL under which browsers reach the API. With https, playback URLs name the edges' TLS listeners.",
        pattern=r"^https?://[^/]+$",
    )
    bytes: ByteServer = Field(description="The byte server that shields ask.")
    transcoder_admin: ListenAddress = Field(description="Where the transcoder answers /metrics and /healthz.")
    catalogue: Catalogue = Field(Catalogue(), description="Metadata database.")
    masters: Store = Field(
        FileStore(path=Path("objects/masters")), description="Uploads and originals, at the highest durability."
    )
    tiers: Tiers = Field(Tiers(), description="Where published objects live, by popularity.")
    uploads: Uploads = Field(Uploads(), description="Limits of uploads.")
    transcode: Transcode = Field(Transcode(), description="The process pipe.")
    events: Events | None = Field(None, description="Where events leave to; without it they stay in the catalogue.")
    steer_by: Literal["address", "dns"] = Field(
        "dns",
        description="What playback URLs name: the logical host, or the edge's address for viewers who cannot use our DNS.",
    )
