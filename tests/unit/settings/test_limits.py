"""Limits that would keep everybody out are no limits."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from headwater.settings.limits import Limits


@pytest.mark.parametrize("name", ["request_line", "header_field", "header", "bytes_in_flight"])
def test_a_limit_that_refuses_every_request_is_refused_itself(name: str) -> None:
    with pytest.raises(ValidationError, match="greater than or equal to"):
        Limits.model_validate({name: "0 B"})
