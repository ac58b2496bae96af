"""The refusal of a request for want of a parent."""

from __future__ import annotations

from typing import Final

from headwater.cacheproxy.roles import Refused
from headwater.rules.fill import FillTrouble

GATEWAY_REASON: Final = "parent_"  # the reason of a refusal for want of a parent: this, then the trouble
_GATEWAY_TIMEOUTS: Final = frozenset((FillTrouble.NO_HEADER, FillTrouble.STALLED))


def gateway_error(trouble: FillTrouble | None) -> Refused:
    trouble = trouble or FillTrouble.NO_PARENT
    status = 504 if trouble in _GATEWAY_TIMEOUTS else 502
    detail = "no parent could give the object; try again"
    return Refused(status, f"{GATEWAY_REASON}{trouble}", detail, headers={"Retry-After": "1"})
