"""Content Steering manifests: which pathways a player is told of, in which order, and what BASE stands for."""

from __future__ import annotations

from headwater.rules.contentsteering import Pathway, is_steering_path, steering_manifest

FRA, IAD, SIN = Pathway("fra-1", "192.0.2.1:8080"), Pathway("iad-1", "192.0.2.2:8080"), Pathway("sin-1", "sin-1.cdn.test")


def test_the_edge_that_the_player_began_at_is_the_base_and_the_others_are_clones_by_host() -> None:
    assert steering_manifest([FRA, IAD], "fra-1", 20.0, None) == {
        "VERSION": 1,
        "TTL": 20,
        "PATHWAY-PRIORITY": [".", "iad-1"],
        "PATHWAY-CLONES": [{"BASE-ID": ".", "ID": "iad-1", "URI-REPLACEMENT": {"HOST": "192.0.2.2:8080"}}],
    }


def test_a_base_that_may_not_serve_comes_last() -> None:
    manifest = steering_manifest([IAD, SIN], "fra-1", 20, "https://steer.test/x")
    assert manifest["PATHWAY-PRIORITY"] == ["iad-1", "sin-1", "."]
    assert manifest["RELOAD-URI"] == "https://steer.test/x"


def test_without_a_known_base_every_edge_is_a_clone() -> None:
    manifest = steering_manifest([FRA, IAD], None, 0.2, None)
    assert manifest["PATHWAY-PRIORITY"] == ["fra-1", "iad-1", "."]
    assert manifest["TTL"] == 1, "a lifetime of 0 would be asked for without end"


def test_an_edge_that_viewers_cannot_reach_alone_is_no_clone_but_may_be_the_base() -> None:
    nameless = Pathway("fra-1", None)
    assert steering_manifest([nameless, SIN], "fra-1", 20, None)["PATHWAY-PRIORITY"] == [".", "sin-1"]
    assert steering_manifest([nameless, SIN], "iad-1", 20, None)["PATHWAY-PRIORITY"] == ["sin-1", "."]
    assert "PATHWAY-CLONES" not in steering_manifest([nameless], "fra-1", 20, None)


def test_a_player_is_told_of_few_edges() -> None:
    many = [Pathway(f"edge-{number}", f"192.0.2.{number}") for number in range(50)]
    assert len(steering_manifest(many, "edge-0", 20, None)["PATHWAY-CLONES"]) == 3


def test_only_a_videos_own_steering_manifest_has_its_path() -> None:
    assert is_steering_path("/videos/dQw4w9WgXcQ/steering.json")
    assert not is_steering_path("/videos/dQw4w9WgXcQ/h264/steering.json")
    assert not is_steering_path("/other/dQw4w9WgXcQ/steering.json")
