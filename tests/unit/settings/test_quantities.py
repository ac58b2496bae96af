"""Quantities with a unit in config files: what is none gets a reason, whatever it is."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from headwater.settings.units import parse_duration_s, parse_rate_bps, parse_size_bytes


@pytest.mark.parametrize(("parse", "unit"), [(parse_size_bytes, "GiB"), (parse_duration_s, "s"), (parse_rate_bps, "Gbit/s")])
def test_a_number_that_is_too_large_gets_a_reason(parse: Callable[[object], float], unit: str) -> None:
    with pytest.raises(ValueError, match="too large a number"):
        parse(f"{'9' * 400} {unit}")
