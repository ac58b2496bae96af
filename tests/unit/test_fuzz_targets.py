"""The fuzz targets hold on their seeds and on what hypothesis thinks of; `make fuzz` looks further."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_holds_on_its_seeds(name: str) -> None:
    for seed in TARGETS[name].seeds:
        TARGETS[name].run(seed)


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_holds_on_seeds_with_bytes_changed(name: str) -> None:
    target = TARGETS[name]

    @settings(max_examples=50)
    @given(st.sampled_from(target.seeds), st.integers(0, 60), st.binary(max_size=8))
    def holds(seed: bytes, at: int, inserted: bytes) -> None:
        target.run(seed[:at] + inserted + seed[at:])
        target.run(seed[:at] + inserted + seed[at + len(inserted) :])

    holds()
