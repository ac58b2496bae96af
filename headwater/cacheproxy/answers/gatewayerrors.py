"""The refusal of a request for want of a parent."""

from __future__ import annotations

from typing import Final

from headwater.cacheproxy.roles import Refused
from headwater.rules.fill import FillTrouble

GATEWAY_REASON: Final = "parent_"  # the reason of a refusal for want of a parent: this, then the trouble
# All others are 502.
_STATUS: Final = {FillTrouble.NO_HEADER: 504, FillTrouble.STALLED: 504, FillTrouble.NO_SOCKET: 503}


def gateway_error(trouble: FillTrouble | None) -> Refused:
    trouble = trouble or FillTrouble.NO_PARENT
    detail = "no parent could give the object; try again"
    if trouble is FillTrouble.NO_SOCKET:
        detail = "this node is short of files or ports, and could not ask for the object; try again"
    return Refused(_STATUS.get(trouble, 502), f"{GATEWAY_REASON}{trouble}", detail, headers={"Retry-After": "1"})
