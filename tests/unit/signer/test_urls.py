"""Where a grant stands in a URL."""

from __future__ import annotations

import pytest

from signer.grant import GrantToken
from signer.urls import path_of, prefix_for, split_grant, with_grant
from tests.unit.signer.test_grant import VECTORS

TOKEN = GrantToken(VECTORS[0]["token"])
PLAIN = "http://v3fa.cdn.test:8080/videos/dQw4w9WgXcQ/master.m3u8"


@pytest.mark.parametrize("form", ["path", "query"])
@pytest.mark.parametrize("url", [PLAIN, "/videos/dQw4w9WgXcQ/master.m3u8", f"{PLAIN}?a=1&b=x%20y"])
def test_a_grant_put_into_a_url_is_found_again_and_leaves_the_url_as_it_was(url: str, form: str) -> None:
    signed = with_grant(url, TOKEN, form)  # type: ignore[arg-type]
    token, plain = split_grant(signed)
    assert token == TOKEN
    assert plain.replace("+", "%20") == url


def test_the_path_form_wins_over_the_query_form() -> None:
    assert split_grant(f"/{TOKEN}/videos/x/y?grant=other") == (TOKEN, "/videos/x/y")


def test_a_url_without_a_grant_has_none() -> None:
    assert split_grant(PLAIN) == (None, PLAIN)


@pytest.mark.parametrize(
    ("path", "prefix"),
    [
        ("/videos/dQw4w9WgXcQ/h264/720p/init.mp4", "/videos/dQw4w9WgXcQ/"),
        ("/videos/dQw4w9WgXcQ/", "/videos/dQw4w9WgXcQ/"),
        ("/videos/", "/videos/"),
        ("/other/file&more=1.bin", "/other/file%26more%3D1.bin"),
        ("/other/a%26b", "/other/a%26b"),
    ],
)
def test_a_grant_covers_the_whole_video_or_the_one_path(path: str, prefix: str) -> None:
    assert prefix_for(path) == prefix


def test_only_absolute_paths_have_a_grant() -> None:
    with pytest.raises(ValueError, match="begins with '/'"):
        path_of("videos/x")
