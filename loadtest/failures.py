"""Every way in which a simulated viewer's request can fail. The words stand in the report."""

from __future__ import annotations

from enum import StrEnum


class Cause(StrEnum):
    NAME_TIMEOUT = "name_timeout"
    NAME_REFUSED = "name_refused"
    NAME_EMPTY = "name_without_address"
    CONNECT = "connect_failed"
    TIMEOUT = "timeout"
    CUT_OFF = "cut_off"
    DAMAGED = "digest_mismatch"
    TOO_LARGE = "body_too_large"
    FORBIDDEN = "status_403"
    NOT_FOUND = "status_404"
    CLIENT_ERROR = "status_4xx"
    SERVER_ERROR = "status_5xx"
    UNEXPECTED_STATUS = "status_other"
    NOT_A_PLAYLIST = "playlist_unreadable"
    NOT_PLAYABLE = "video_not_playable"
    BAD_ANSWER = "api_answer_unreadable"
    REMOTE = "address_not_loopback"
    OUT_OF_TIME = "out_of_time"


class RequestFailed(Exception):
    """One request failed. `detail` is for people; `again` says whether another address, or another try, may help."""

    def __init__(self, cause: Cause, detail: str, *, again: bool = True) -> None:
        super().__init__(f"{cause}: {detail}")
        self.cause = cause
        self.detail = detail
        self.again = again


def cause_of_status(status: int) -> Cause:
    if status in (403, 404):
        return Cause.FORBIDDEN if status == 403 else Cause.NOT_FOUND
    if 400 <= status < 500:
        return Cause.CLIENT_ERROR
    return Cause.SERVER_ERROR if status >= 500 else Cause.UNEXPECTED_STATUS
