"""The steps of a rollout: who sees what when, for additions, removals, weights and settings."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from control.config.wanted import with_drains
from control.rollouts.stages import StepKind, Unstageable, Views, canary_of, default_canary, steps, views_at
from headwater.settings.deployment import Deployment
from headwater.settings.load import parse_deployment
from tests.support.deployments import LAB


def lab(**weights: float) -> Deployment:
    """The lab's config with the weights of these POPs."""
    content = yaml.safe_load(LAB.read_text())
    for pop, weight in weights.items():
        content["pops"][pop]["weight"] = weight
    return parse_deployment(yaml.safe_dump(content), Path("/srv/lab/lab.yaml"))


def with_lim() -> Deployment:
    """The lab's config with one POP more."""
    content = yaml.safe_load(LAB.read_text())
    content["pops"]["lim"] = {"region": "us", "edges": {"lim-1": {"listen": "127.0.4.1:8080", "admin": "127.0.4.1:8180"}}}
    return parse_deployment(yaml.safe_dump(content), Path("/srv/lab/lab.yaml"))


def shown(before: Deployment, after: Deployment, ramp_steps: int = 2) -> list[tuple[StepKind, str, Views]]:
    found = steps(before, after, canary_of(before, after, None), ramp_steps)
    return [(step.kind, step.name, views_at(step, before, after)) for step in found]


def test_a_change_of_weights_alone_is_a_handoff_and_a_ramp() -> None:
    found = shown(lab(), lab(fra=50), 4)
    assert [kind for kind, _, _ in found] == [StepKind.HANDOFF, *[StepKind.WEIGHTS] * 4]
    assert [views.everyone.pops["fra"].weight for _, _, views in found] == [100, 87.5, 75, 62.5, 50]
    assert all(not views.others for _, _, views in found[1:])


def test_new_settings_reach_a_canary_then_pop_by_pop_then_the_rest() -> None:
    before = lab()
    after = before.model_copy(update={"signing": before.signing.model_copy(update={"leeway": 9.0})})
    names = [name for _, name, _ in shown(before, after)]
    assert names == [
        "new settings: canary fra-1",
        "new settings: POP iad",
        "new settings: POP sin",
        "new settings: shield-1",
        "new settings: shield-2",
        "new settings: DNS, API, origin",
    ]
    nodes = ("fra-1", "iad-1", "sin-1", "shield-1", "dns")
    seen = [{node for node in nodes if views.of(node).signing.leeway == 9} for _, _, views in shown(before, after)]
    assert seen[0] == {"fra-1"}
    assert seen[1] == {"fra-1", "iad-1"}
    assert seen[-1] == {"fra-1", "iad-1", "sin-1", "shield-1", "dns"}


def test_caches_come_first_for_additions_and_steering_first_for_removals_as_trafficcontrol_6183_asks() -> None:
    """There, operators must order the roll-out by hand, or viewers are sent to caches that do not know them yet."""
    without, with_it = lab(), with_lim()
    added = shown(without, with_it)
    assert added[0][0] is StepKind.ADDITIONS
    assert steps(without, with_it, None, 2)[0].added == ("lim-1",)
    weights = [views.everyone.pops["lim"].weight if "lim" in views.everyone.pops else None for _, _, views in added]
    assert weights[0] == 0.0  # known to every node before any viewer is sent there
    assert weights[-1] == 100
    assert weights == [0, 0, 50, 100]
    removed = shown(with_it, without)
    weights = [views.everyone.pops["lim"].weight if "lim" in views.everyone.pops else None for _, _, views in removed]
    assert weights == [100, 50, 0, None]  # no viewer is sent there before it goes
    assert removed[-1][0] is StepKind.REMOVALS


def test_a_new_property_is_known_to_shields_before_an_edge_serves_it_and_goes_from_edges_first() -> None:
    before = lab()
    shop = before.properties["video"].model_copy(update={"paths": "/shop/"})
    after = before.model_copy(update={"properties": {**before.properties, "shop": shop}})
    views = [views for _, _, views in shown(before, after)]
    assert "shop" in views[0].of("shield-1").properties
    assert "shop" not in views[0].of("fra-1").properties
    assert "shop" in views[1].of("fra-1").properties
    assert "shop" not in views[1].of("iad-1").properties
    gone = [views for _, _, views in shown(after, before)]
    assert all("shop" in views.of("shield-1").properties for views in gone[:-1])
    assert "shop" not in gone[-1].of("shield-1").properties


def test_the_last_step_shows_exactly_what_was_wanted() -> None:
    for before, after in ((lab(), with_lim()), (with_lim(), lab()), (lab(), lab(fra=0))):
        last = shown(before, after)[-1][2]
        assert {last.of(node) == after for node in ("fra-1", "shield-1", "dns", "control")} == {True}


def test_nothing_to_do_has_no_steps() -> None:
    assert shown(lab(), lab()) == []


def test_a_drain_beside_the_config_is_a_change_of_weights() -> None:
    before = lab()
    found = shown(before, with_drains(before, {"fra"}))
    assert [views.everyone.pops["fra"].weight for _, _, views in found] == [100, 50, 0]
    assert with_drains(before, {"fra-1"}).pops["fra"].edges["fra-1"].weight == 0
    assert with_drains(before, {"unknown"}) == before


def test_a_new_edge_on_an_old_ones_address_is_refused_with_a_cure() -> None:
    content = yaml.safe_load(LAB.read_text())
    content["pops"]["fra"]["edges"] = {"fra-9": content["pops"]["fra"]["edges"]["fra-1"]}
    after = parse_deployment(yaml.safe_dump(content), Path("/srv/lab/lab.yaml"))
    with pytest.raises(Unstageable, match="apply the removals first"):
        steps(lab(), after, None, 2)


def test_the_canary_is_the_one_chosen_or_the_edge_with_least_weight_that_serves() -> None:
    before = lab(iad=10)
    assert default_canary(before, before) == "iad-1"
    assert canary_of(before, before, "sin-1") == "sin-1"
    assert canary_of(before, before, "nobody") == "iad-1"
    assert default_canary(lab(iad=0), lab()) == "fra-1"
