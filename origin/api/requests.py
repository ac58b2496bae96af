"""What clients send, checked: every wrong field is named in one problem document."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Sequence
from typing import Annotated, Any, Final, TypeVar

from aiohttp import web
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from headwater.rules.names import InvalidName, VideoId, parse_video_id
from headwater.runtime.problems import Problem
from origin.catalogue.ledger import NewVideo
from origin.catalogue.videos import Position
from origin.objects.parts import PartDigests
from origin.uploads.beginning import IdempotencyKey
from origin.uploads.planning import MAX_PARTS

MAX_JSON_BYTES: Final = 64 * 1024  # a title, a description and tags; longer bodies are mistakes
MAX_DIGESTS_BYTES: Final = 2 * 1024 * 1024  # ten thousand parts at about 100 bytes each
PAGE_VIDEOS: Final = 20
MAX_PAGE_VIDEOS: Final = 100
MAX_SIZE_BYTES: Final = 2**63 - 1  # what the catalogue can hold; the deployment's own limit is far below
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_LINE_BREAK = re.compile(r"[\t\r\n]")
_KEY = re.compile(r"[\x21-\x7e]{1,255}\Z")
_CURSOR = re.compile(r"([0-9]{1,12}\.[0-9]{1,20}) ([A-Za-z0-9_-]{11})\Z")


def _text(value: str) -> str:
    if _CONTROL.search(value):
        raise ValueError("must not hold control characters")
    return value


def _line(value: str) -> str:
    if _LINE_BREAK.search(_text(value)):
        raise ValueError("must be one line")
    return value


Text = Annotated[str, StringConstraints(strip_whitespace=True), AfterValidator(_text)]
Line = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1), AfterValidator(_line)]
Tag = Annotated[Line, StringConstraints(max_length=64)]


class NewVideoRequest(BaseModel):
    """The body of `POST /api/v1/videos`; sizes are bytes."""

    model_config = ConfigDict(extra="forbid", strict=True)

    title: Annotated[Line, StringConstraints(max_length=200)]
    description: Annotated[Text, StringConstraints(max_length=5000)] = ""
    tags: list[Tag] = Field([], max_length=32)
    size: int = Field(ge=0, le=MAX_SIZE_BYTES)
    content_type: str = Field(
        "application/octet-stream", max_length=127, pattern=r"^[A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+$"
    )
    filename: Annotated[Line, StringConstraints(max_length=255)]
    part_size: int | None = Field(None, ge=1, le=MAX_SIZE_BYTES)

    def video(self, video_id: VideoId) -> NewVideo:
        tags = tuple(dict.fromkeys(self.tags))
        return NewVideo(video_id, self.title, self.description, tags, self.filename, self.content_type, self.size)

    def sha256(self) -> str:
        """Equal for two requests that say the same, whatever their spelling."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


class PartDigest(BaseModel):
    """The creator's SHA-256 of one part, hex."""

    model_config = ConfigDict(extra="forbid", strict=True)

    number: int = Field(ge=1, le=MAX_PARTS)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class CompleteRequest(BaseModel):
    """The optional body of `POST …/upload/complete`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    parts: list[PartDigest] = Field([], max_length=MAX_PARTS)


class SignedPart(PartDigest):
    """A part to be sent: the MD5 (hex) too, which stores that are not ours check."""

    md5: str = Field("", pattern=r"^([0-9a-f]{32})?$")


class SignRequest(BaseModel):
    """The body of `POST …/upload/parts`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    parts: list[SignedPart] = Field(min_length=1, max_length=MAX_PARTS)


Said = TypeVar("Said", bound=BaseModel)


async def read_new_video(request: web.Request) -> NewVideoRequest:
    """Raises Problem: 413, 415, 400 for what is no JSON, 422 with every wrong field."""
    return await _read(request, NewVideoRequest, MAX_JSON_BYTES)


async def read_digests(request: web.Request) -> dict[int, str]:
    """SHA-256 (hex) by part number; nothing when the request has no body. Raises Problem as above."""
    if not request.can_read_body:
        return {}
    said = await _read(request, CompleteRequest, MAX_DIGESTS_BYTES)
    return {part.number: part.sha256 for part in said.parts}


async def read_part_digests(request: web.Request) -> dict[int, PartDigests]:
    """What the creator says that these parts will have. Raises Problem as above."""
    said = await _read(request, SignRequest, MAX_DIGESTS_BYTES)
    return {part.number: PartDigests(part.sha256, part.md5) for part in said.parts}


async def _read(request: web.Request, model: type[Said], most_bytes: int) -> Said:
    if request.content_type != "application/json":
        # Also what keeps forms of other sites out: a browser asks before it sends JSON across origins.
        detail = f"the body is {request.content_type}; send it as application/json"
        raise Problem(415, "not-json", "JSON expected", detail)
    body = await request.read()
    if len(body) > most_bytes:
        raise Problem(413, "body-too-large", "Body too large", f"at most {most_bytes} bytes are read here, {len(body)} came")
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise _invalid(error, model) from error


def _invalid(error: ValidationError, model: type[BaseModel]) -> Problem:
    found = error.errors(include_url=False, include_context=False, include_input=False)
    if found[0]["type"] == "json_invalid":
        return Problem(400, "not-json", "JSON expected", f"the body cannot be read: {found[0]['msg']}")
    return invalid_fields([(".".join(map(str, one["loc"])) or "body", _reason(one, model)) for one in found])


def invalid_fields(fields: Sequence[tuple[str, str]]) -> Problem:
    """422 for (field, reason) pairs."""
    detail = "; ".join(f"{field}: {reason}" for field, reason in fields)
    errors = [{"field": field, "reason": reason} for field, reason in fields]
    return Problem(422, "invalid-request", "Invalid request", detail, errors=errors)


def _reason(detail: Any, model: type[BaseModel]) -> str:
    match detail["type"]:
        case "missing":
            return "is missing"
        case "extra_forbidden":
            at_top = len(detail["loc"]) == 1
            return f"is not known; known are {', '.join(model.model_fields)}" if at_top else "is not known"
        case _:
            return str(detail["msg"]).removeprefix("Value error, ")


def idempotency_key(request: web.Request, said: NewVideoRequest) -> IdempotencyKey | None:
    """The header's key with the digest of what the request says. Raises Problem."""
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return None
    if not _KEY.match(key):
        detail = "an Idempotency-Key is 1 to 255 visible ASCII characters without spaces; a UUID, say"
        raise Problem(400, "idempotency-key-malformed", "Idempotency-Key malformed", detail)
    return IdempotencyKey(key, said.sha256())


def video_id_in(request: web.Request) -> VideoId:
    """The id in the path. Raises Problem 404: what is no id names no video."""
    try:
        return parse_video_id(request.match_info["video_id"])
    except InvalidName as error:
        raise no_such_video(str(error)) from error


def no_such_video(detail: str) -> Problem:
    return Problem(404, "video-not-found", "No such video", detail)


def page_limit(text: str | None) -> int:
    """How many videos one answer lists. Raises Problem."""
    if text is None:
        return PAGE_VIDEOS
    if text.isascii() and text.isdigit() and len(text) < 6 and 1 <= int(text) <= MAX_PAGE_VIDEOS:
        return int(text)
    raise invalid_fields([("limit", f"a number from 1 to {MAX_PAGE_VIDEOS} was expected")])


def encode_cursor(position: Position) -> str:
    """Opaque to clients: the place of the last video listed. Times lose nothing: `repr` of a float reads back the same."""
    text = f"{position.created_at!r} {position.video_id}"
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode("ascii")


def decode_cursor(cursor: str | None) -> Position | None:
    """Raises Problem when it is none of ours."""
    if cursor is None:
        return None
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode("ascii")
        match = _CURSOR.match(text)
        if match is None:
            raise ValueError(text)
        return Position(float(match[1]), parse_video_id(match[2]))
    except (ValueError, binascii.Error) as error:
        raise invalid_fields([("cursor", "use the next_cursor of an earlier answer, or leave it out")]) from error
