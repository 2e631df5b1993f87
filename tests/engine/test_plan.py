"""The order of a cycle's models, and what cannot be ordered."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import permutations

import pytest
from tests.engine.conftest import model, with_params

from airflow_detection.domain.specs import ModelSpec, Role, VersionSpec
from airflow_detection.engine.plan import ExecutionPlan, build_plan
from airflow_detection.errors import DependencyLoop, PlanError, RegistrationError, UnknownUpstream

DIAMOND = [
    model("quality", shadows=["2"]),
    model("speed", reads=["quality"]),
    model("course", reads=["quality"]),
    model("verdict", reads=["speed", "course"], shadows=["9", "8"]),
    model("alone"),
]


def test_the_order_is_topological_and_the_same_for_every_order_of_registration() -> None:
    plans = [build_plan(order) for order in permutations(DIAMOND)]
    assert {plan.topo_order for plan in plans} == {("alone", "quality", "course", "speed", "verdict")}
    assert len({plan.digest for plan in plans}) == 1


def test_steps_give_each_champion_and_then_its_shadows_by_version() -> None:
    labels = [step.label for step in build_plan(DIAMOND).steps()]
    assert labels == [
        "alone@1", "quality@1", "quality@2", "course@1", "speed@1", "verdict@1", "verdict@8", "verdict@9",
    ]  # fmt: skip


def test_upstreams_are_given_by_name() -> None:
    plan = build_plan(DIAMOND)
    assert plan.upstreams("verdict") == ("course", "speed")
    assert plan.upstreams("alone") == ()


def test_a_loop_is_refused_and_its_path_is_named() -> None:
    with pytest.raises(DependencyLoop) as caught:
        build_plan(
            [
                model("a", reads=["c"]),
                model("b", reads=["a"]),
                model("c", reads=["b"]),
                model("d", reads=["a"]),
            ]
        )
    assert caught.value.path == ("a", "c", "b", "a")
    assert str(caught.value) == "dependency loop: a -> c -> b -> a"


def test_a_model_that_reads_itself_is_a_loop() -> None:
    with pytest.raises(DependencyLoop) as caught:
        build_plan([model("a", reads=["a"])])
    assert caught.value.path == ("a", "a")


def test_an_unknown_upstream_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UnknownUpstream, match=r"'spoofing' depends on 'track_qality'.*'track_quality'"):
        build_plan([model("track_quality"), model("spoofing", reads=["track_qality"])])


def test_a_champion_cannot_name_a_challenger_as_its_upstream() -> None:
    with pytest.raises(UnknownUpstream) as caught:
        build_plan([model("a", shadows=["2"]), model("b", reads=["a@2"])])
    assert (caught.value.upstream, caught.value.nearest) == ("a@2", "a")


def test_two_champions_of_one_model_are_refused() -> None:
    twice = model("a")
    second = VersionSpec(model_id="a", version="2", role=Role.PRIMARY)
    with pytest.raises(RegistrationError, match="2 champions"):
        build_plan([replace(twice, versions=(*twice.versions, second))])


def test_a_model_registered_twice_is_refused() -> None:
    with pytest.raises(RegistrationError, match="registered twice"):
        build_plan([model("a"), model("a")])


def test_a_model_id_over_64_characters_is_refused() -> None:
    with pytest.raises(RegistrationError, match="1 to 64 characters"):
        build_plan([model("m" * 65)])


def test_not_strict_only_the_broken_models_are_broken() -> None:
    registered = [
        model("a", reads=["b"]),
        model("b", reads=["a"]),
        model("behind", reads=["a"]),
        model("lost", reads=["?"]),
        model("whole"),
    ]
    plan = build_plan(registered, strict=False)
    assert plan.broken == {
        "a": "dependency loop: a -> b -> a",
        "b": "dependency loop: b -> a -> b",
        "lost": "model 'lost' depends on '?', which is not registered",
    }
    assert set(plan.topo_order) == {"a", "b", "behind", "lost", "whole"}
    assert plan.edges == (("a", "behind"),)
    assert [step.model_id for step in plan.steps()] == ["behind", "whole"]


def test_a_model_with_shadows_only_is_without_primary_and_has_no_steps() -> None:
    plan = build_plan([model("a", champion=None, shadows=["2"]), model("b", champion=None)])
    assert plan.without_primary == ("a",)
    assert list(plan.steps()) == []


def test_a_plan_survives_json_and_keeps_its_digest() -> None:
    plan = build_plan(
        [*DIAMOND, with_params(model("p"), {"k": [1, {"x": None}]}), model("l", reads=["?"])], strict=False
    )
    restored = ExecutionPlan.from_json(json.loads(json.dumps(plan.to_json())))
    assert restored.digest == plan.digest
    assert replace(restored, models={}) == replace(plan, models={})
    assert restored.models["verdict"].depends_on == ("course", "speed")
    assert restored.primaries["p"].params == {"k": [1, {"x": None}]}


def test_params_change_the_digest_and_switches_of_today_do_not() -> None:
    plain = build_plan([model("a")]).digest
    assert build_plan([with_params(model("a"), {"k": 1})]).digest != plain
    assert build_plan([model("a", is_enabled=False, task_options={"pool": "p"})]).digest == plain


@pytest.mark.parametrize(
    "damage", [{"format": 99}, {"models": [{}]}, {"edges": [["a"]]}, {"topo_order": ["?"]}]
)
def test_a_damaged_recorded_plan_is_a_plan_error(damage: dict[str, object]) -> None:
    with pytest.raises(PlanError):
        ExecutionPlan.from_json({**build_plan(DIAMOND).to_json(), **damage})


def test_a_chain_of_two_thousand_models_is_ordered() -> None:
    chain = [model(f"m{n:04}", reads=[f"m{n - 1:04}"] if n else []) for n in range(2000)]
    assert build_plan(reversed(chain)).topo_order == tuple(f"m{n:04}" for n in range(2000))


def test_every_problem_of_a_model_is_reported_at_once() -> None:
    specs = [
        ModelSpec(model_id="tracks", depends_on=("jumps",)),
        ModelSpec(model_id="jumps", depends_on=("trakcs", "tracks", "jumsp")),
    ]
    assert build_plan(specs, strict=False).broken["jumps"] == (
        "model 'jumps' depends on 'jumsp', which is not registered; the nearest name is 'jumps'; "
        "model 'jumps' depends on 'trakcs', which is not registered; the nearest name is 'tracks'; "
        "dependency loop: jumps -> tracks -> jumps"
    )
