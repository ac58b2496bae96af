"""What a deployment accepts, said before the bytes are sent. Pure: counts, bytes."""

from __future__ import annotations

from dataclasses import dataclass

from headwater.settings.origin import Uploads
from headwater.settings.units import format_size
from origin.uploads.refusal import Refusal, UploadRefused


@dataclass(frozen=True, slots=True)
class Held:
    """What is there: the creator's open uploads; declared bytes of all open uploads; of all videos, open ones included."""

    open_of_creator: int
    open_bytes: int
    all_bytes: int


def check_room(size_bytes: int, held: Held, free_bytes: int | None, limits: Uploads) -> None:
    """Raises UploadRefused when a file of `size_bytes` (0: not known yet) may not begin; `free_bytes` is None where nobody knows.

    While a file is assembled its parts are on the disk beside it, so that it takes twice its size; open uploads are counted once,
    since their parts that arrived are on the disk already.
    """
    if held.open_of_creator >= limits.max_open:
        cure = "complete or delete one of them (DELETE …/upload), then begin again"
        detail = f"{held.open_of_creator} uploads of this creator are open, at most {limits.max_open} may be; {cure}"
        raise UploadRefused(Refusal.TOO_MANY_OPEN, detail, {"open": held.open_of_creator, "limit": limits.max_open})
    check_budget(size_bytes, held.all_bytes, limits)
    needed = 2 * size_bytes + held.open_bytes + limits.keep_free
    if free_bytes is not None and free_bytes < needed:
        room = f"{format_size(free_bytes)} are free, {format_size(needed)} would be needed with what others are sending"
        cure = "try again later, or free space on the disk of origin.masters"
        raise UploadRefused(Refusal.DISK_FULL, f"there is no room for this file: {room}; {cure}")


def check_budget(size_bytes: int, all_bytes: int, limits: Uploads) -> None:
    """Raises UploadRefused when a file of `size_bytes` and all others, `all_bytes`, are more than the budget."""
    if limits.budget is not None and all_bytes + size_bytes > limits.budget:
        used = f"{format_size(all_bytes)} of {format_size(limits.budget)} are taken"
        cure = "delete videos, or raise origin.uploads.budget"
        raise UploadRefused(Refusal.OVER_BUDGET, f"{used}, this file has {format_size(size_bytes)}; {cure}")
