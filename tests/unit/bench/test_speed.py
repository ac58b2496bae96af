"""The bench reads wrk's report exactly, compares without favour, and leaves the rest of its page alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.speed.coldpath import Added
from bench.speed.followers import Woken
from bench.speed.load import Case, Measured, parsed
from bench.speed.report import OURS, Besides, plot, put_into, ratio, section
from bench.speed.scaling import Scaling
from bench.speed.upstream import body_of

REPORT = """Running 1s test @ http://127.0.0.1:1/
  1 threads and 64 connections
  Latency Distribution
     50%    5.88ms
     75%    9.00ms
     90%   12.00ms
     99%    1.20s
  1000 requests in 1.00s, 10.00MB read
  Socket errors: connect 0, read 1, write 0, timeout 2
  Non-2xx or 3xx responses: 3
Requests/sec:    999.50
Transfer/sec:     10.00MB
"""


def test_a_report_of_wrk_is_read_with_its_units_and_its_errors() -> None:
    assert parsed(REPORT, cpu_s=0.5, load_busy=0.9) == Measured(999.5, 5.88, 1200.0, 0.5 / (10 * 2**20 / 1e9), 6, 0.9, 1000)
    with pytest.raises(ValueError, match="wrk said"):
        parsed("unable to connect", 0.0, 0.0)


def test_the_ratio_is_against_the_fastest_peer_that_made_no_errors_and_the_floor_is_no_peer() -> None:
    found = {
        "Headwater": Measured(300, 1, 1, 1, 0, 1, 1),
        "nginx": Measured(200, 1, 1, 1, 0, 1, 1),
        "Varnish": Measured(900, 1, 1, 1, 5, 1, 1),
        "Floor": Measured(990, 1, 1, 1, 0, 1, 1),
    }
    assert ratio(found, "Headwater") == (1.5, "nginx")


def test_the_page_says_of_each_goal_what_was_reached_and_what_bounds_it() -> None:
    found = {
        name: Measured(100 * n, 1, 1, 1 / n, 0, 0.5, 9)
        for n, name in enumerate((*OURS, "nginx", "Floor", "Floor, aiohttp", "Floor, C"), 1)
    }
    besides = Besides(Added((1, 1), (2, 3), (4, 6), 9), Scaling(10, 11, 0.5), Woken(1, 19.5, 9, 40, 30))
    page = section({Case("10k", 64, False): found}, [], ["H2O: not installed"], besides, 1.0, 0.3)
    asked, floors = "10 KiB, plaintext, 64 connections", "2.00, 2.00 | 0.50 |"
    assert f"| Headwater: {asked} | 1.3 | 0.33 **no** | 0.33 of nginx | 1.33, 1.33 | {floors}" in page
    assert f"| Headwater, aiohttp path alone: {asked} | 0.5 | 0.67 yes | 0.67 of nginx | 1.67, 1.67 | {floors}" in page
    assert "| **work of two to that of one** (goal at least 1.6) | 1.82 yes |" in page
    assert "- **the last** (goal at most 20): 19.5 ms" in page
    assert "- H2O: not installed" in page
    assert "<svg" in plot({Case("10k", 64, False): found})


def test_bodies_have_the_size_that_their_path_says() -> None:
    assert [len(body_of(f"/videos/x/{name}")) for name in ("10k", "1024k", "10k-7")] == [10240, 2**20, 10240]


def test_the_page_keeps_what_others_wrote(tmp_path: Path) -> None:
    page = tmp_path / "benchmarks.md"
    page.write_text("# Benchmarks\n\nbefore\n\n<!-- speed -->\nold\n<!-- /speed -->\n\n## After\n")
    put_into(page, "<!-- speed -->\nnew\n<!-- /speed -->\n")
    assert page.read_text() == "# Benchmarks\n\nbefore\n\n<!-- speed -->\nnew\n<!-- /speed -->\n\n## After\n"
