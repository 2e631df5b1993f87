"""Run of one version: its metrics, manifest, canaries and times."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any

import pytest
from tests.engine.conftest import ListStore, ListUpstream, Scripted, fails, model

from airflow_detection.domain.inputs import Inputs
from airflow_detection.domain.reports import CanaryResult, FeatureProfile, RunReport
from airflow_detection.domain.specs import Cycle, Outcome, Role, VersionSpec
from airflow_detection.engine.job import describe, run_stage, run_version
from airflow_detection.engine.model import Canary, ModelContext, ModelResult, Upstream
from airflow_detection.errors import StaleAttempt

INPUTS = Inputs.of_rows([{"id": 1, "speed": 3.0}, {"id": 2, "speed": None}])
Script = Callable[[ModelContext], Any]


class WithCanary(Scripted):
    features = ("speed",)

    def canaries(self, cycle: Cycle) -> Iterable[Canary]:
        ghost = ({"id": "canary:1"}, {"score": 0.5})
        yield Canary(entity_id="canary:1", rows=({"id": "canary:1", "speed": 99.0},), expected=0.9,
                     upstream={"up": (ghost,)})  # fmt: skip
        yield Canary(entity_id="2", rows=({"id": 2},), expected=0.1)


def run(
    cycle: Cycle, store: ListStore, script: Script, kind: type[Scripted] = Scripted,
    shared: Mapping[str, Upstream] | None = None, **fields: Any,
) -> RunReport:  # fmt: skip
    version = VersionSpec(model_id="m", version="1", role=Role.PRIMARY)
    detector = kind(version, script)
    return run_version(
        model("m", **fields),
        version,
        cycle,
        detector=detector,
        inputs=INPUTS,
        shared=shared or {},
        store=store,
    )


def metrics_of(cycle: Cycle, metrics: Any, **result: Any) -> Mapping[str, float]:
    store = ListStore()
    report = run(cycle, store, lambda ctx: ModelResult(metrics=metrics, **result))
    assert report.outcome is Outcome.SUCCEEDED
    return store.metrics["m@1"]


def test_duration_and_output_count_are_added(cycle: Cycle) -> None:
    metrics = metrics_of(cycle, {"x": 1}, outputs_per_input=[({"id": 1}, {})] * 3)
    assert metrics["x"] == 1.0
    assert metrics["output_count"] == 3.0
    assert metrics["cycle_duration_ms"] > 0


def test_duration_and_output_count_that_the_model_set_are_kept(cycle: Cycle) -> None:
    assert metrics_of(cycle, {"cycle_duration_ms": 7, "output_count": 8}) == {
        "cycle_duration_ms": 7.0,
        "output_count": 8.0,
    }


def test_a_metric_may_be_a_decimal_as_a_sum_of_numeric_is(cycle: Cycle) -> None:
    metrics = metrics_of(cycle, {"sum": Decimal("12.50"), "lost": Decimal("NaN")})
    assert metrics["sum"] == 12.5
    assert "lost" not in metrics


def test_a_metric_that_is_none_is_left_out_without_a_warning(
    cycle: Cycle, caplog: pytest.LogCaptureFixture
) -> None:
    assert set(metrics_of(cycle, {"x": None})) == {"cycle_duration_ms", "output_count"}
    assert caplog.text == ""


@pytest.mark.parametrize("value", ["3", True, float("nan"), float("inf"), [1], 10**400, 1j])
def test_a_value_that_is_no_finite_number_costs_that_metric_alone(
    cycle: Cycle, caplog: pytest.LogCaptureFixture, value: object
) -> None:
    metrics = metrics_of(cycle, {"bad": value, "good": 1})
    assert set(metrics) == {"good", "cycle_duration_ms", "output_count"}
    assert "metric 'bad' dropped" in caplog.text


@pytest.mark.parametrize("key", ["k" * 65, "", 5, "a\0b", "\ud800"])
def test_a_metric_key_that_does_not_fit_is_dropped_with_a_warning_and_the_others_stored(
    cycle: Cycle, caplog: pytest.LogCaptureFixture, key: Any
) -> None:
    metrics = metrics_of(cycle, {key: 1, "k" * 64: 2})
    assert set(metrics) == {"k" * 64, "cycle_duration_ms", "output_count"}
    assert "dropped: its key" in caplog.text


def test_metrics_that_are_no_mapping_cost_the_metrics_alone(cycle: Cycle) -> None:
    assert set(metrics_of(cycle, [1, 2])) == {"cycle_duration_ms", "output_count"}


def test_empty_outputs_leave_a_manifest(cycle: Cycle) -> None:
    store = ListStore()
    run(cycle, store, lambda ctx: ModelResult())
    manifest = store.manifests["m@1"]
    assert (manifest.outcome, manifest.input_count, manifest.output_count) == (Outcome.SUCCEEDED, 2, 0)


def test_a_failure_leaves_a_manifest_with_its_reason_and_times(cycle: Cycle) -> None:
    store = ListStore()
    report = run(cycle, store, fails)
    assert store.manifests["m@1"] == report
    assert (report.outcome, report.error, report.input_count) == (Outcome.FAILED, "ValueError: no luck", 2)
    assert report.stage_ms["run"] > 0


def test_the_duration_is_filled_in_when_the_model_left_it_empty(cycle: Cycle) -> None:
    empty = run(cycle, ListStore(), lambda ctx: ModelResult())
    given = run(cycle, ListStore(), lambda ctx: ModelResult(duration_ms=12.5))
    assert empty.duration_ms > 0
    assert given.duration_ms == 12.5


@pytest.mark.parametrize("duration", [-1, float("nan"), "fast"])
def test_a_duration_that_is_none_is_measured(cycle: Cycle, duration: Any) -> None:
    report = run(cycle, ListStore(), lambda ctx: ModelResult(duration_ms=duration))
    assert report.outcome is Outcome.SUCCEEDED
    assert report.duration_ms > 0


def test_stage_times_are_kept_and_the_outputs_a_generator_computes_count(cycle: Cycle) -> None:
    def outputs() -> Any:
        sum(range(20_000))
        yield {"id": 1}, {"score": 1.0}

    report = run(cycle, ListStore(), lambda ctx: ModelResult(outputs_per_input=outputs()))
    assert set(report.stage_ms) >= {"canaries", "run", "outputs", "store"}
    assert report.duration_ms == pytest.approx(report.stage_ms["run"] + report.stage_ms["outputs"])
    assert report.stage_ms["outputs"] > 0.05


def test_canaries_travel_with_the_run_and_are_never_stored(
    cycle: Cycle, caplog: pytest.LogCaptureFixture
) -> None:
    store = ListStore()

    def script(ctx: ModelContext) -> ModelResult:
        assert len(ctx.shared["up"]) == 2
        assert ctx.shared["up"].columns() == (("1", "canary:1"), (0.25, 0.5))
        return ModelResult(outputs_per_input=[({"id": i}, {"score": 0.8}) for i in ctx.inputs["id"]])

    up = {"up": ListUpstream([({"id": 1}, {"score": 0.25})])}
    report = run(cycle, store, script, WithCanary, up)
    assert [ref["id"] for ref, _ in store.outputs["m@1"]] == [1, 2]
    assert (report.input_count, report.output_count) == (2, 2)
    assert report.canaries == (CanaryResult(name="canary:1", expected=0.9, observed=0.8),)
    assert "canary '2' dropped, it is a real entity" in caplog.text


def test_a_canary_known_by_a_number_is_not_stored_either(cycle: Cycle) -> None:
    class Numbered(Scripted):
        def canaries(self, cycle: Cycle) -> Iterable[Canary]:
            yield Canary(entity_id=-1, rows=({"id": -1, "speed": 1.0},), expected=0.8)  # type: ignore[arg-type]

    store = ListStore()
    all_inputs: Script = lambda ctx: ModelResult(  # noqa: E731
        outputs_per_input=[({"id": i}, {"score": 0.8}) for i in ctx.inputs["id"]]
    )
    report = run(cycle, store, all_inputs, Numbered)
    assert [ref["id"] for ref, _ in store.outputs["m@1"]] == [1, 2]
    assert [canary.observed for canary in report.canaries] == [0.8]


def ids(ctx: ModelContext, change: Callable[[Any], Any]) -> ModelResult:
    """One output for each row, its identity changed."""
    pairs = [({"id": i}, {"id": change(i), "score": 0.8}) for i in ctx.inputs["id"]]
    return ModelResult(outputs_per_input=pairs)


@pytest.mark.parametrize("change", [float, lambda i: f"{i}.0", lambda i: i if i > 0 else "who knows"])
def test_a_canary_under_another_form_of_its_identity_is_not_found_and_not_stored(
    cycle: Cycle, change: Callable[[Any], Any]
) -> None:
    class Numbered(Scripted):
        def canaries(self, cycle: Cycle) -> Iterable[Canary]:
            yield Canary(entity_id="-1", rows=({"id": -1, "speed": 1.0},), expected=0.8)

    store = ListStore()
    report = run(cycle, store, lambda ctx: ids(ctx, change), Numbered, entity_key="id")
    assert [ref["id"] for ref, _ in store.outputs["m@1"]] == [1, 2]
    assert [(canary.observed, canary.is_present) for canary in report.canaries] == [(None, False)]


def test_a_canary_is_no_real_entity_whatever_column_holds_it(
    cycle: Cycle, caplog: pytest.LogCaptureFixture
) -> None:
    class Clashing(Scripted):
        def canaries(self, cycle: Cycle) -> Iterable[Canary]:
            yield Canary(entity_id="2", rows=({"id": 2, "speed": 2.0},), expected=0.1)

    store = ListStore()
    report = run(cycle, store, lambda ctx: ids(ctx, int), Clashing, entity_key="ship")
    assert (report.canaries, report.output_count) == ((), 2)
    assert "canary '2' dropped, it is a real entity" in caplog.text


def test_a_canary_that_needs_an_upstream_is_left_out_without_it(cycle: Cycle) -> None:
    class Needy(Scripted):
        def canaries(self, cycle: Cycle) -> Iterable[Canary]:
            ghost = ({"id": "canary:1"}, {"score": 0.5})
            yield Canary(entity_id="canary:1", rows=({"id": "canary:1"},), expected=0.5,
                         upstream={"up": (ghost,)}, needs_upstream=True)  # fmt: skip

    def script(ctx: ModelContext) -> ModelResult:
        return ModelResult()

    with_it = run(cycle, ListStore(), script, Needy, shared={"up": ListUpstream([])})
    assert run(cycle, ListStore(), script, Needy).canaries == ()
    assert len(with_it.canaries) == 1


def test_a_canary_without_an_output_is_not_present(cycle: Cycle) -> None:
    report = run(cycle, ListStore(), lambda ctx: ModelResult(), WithCanary)
    assert report.canaries == (CanaryResult(name="canary:1", expected=0.9, observed=None, is_present=False),)


def test_a_model_without_entity_key_has_no_canaries(cycle: Cycle) -> None:
    report = run(cycle, ListStore(), lambda ctx: ModelResult(), WithCanary, entity_key=None)
    assert report.canaries == ()


def test_canaries_that_raise_cost_the_canaries_alone(cycle: Cycle) -> None:
    class Broken(Scripted):
        def canaries(self, cycle: Cycle) -> Iterable[Canary]:
            raise RuntimeError("no canaries today")

    report = run(cycle, ListStore(), lambda ctx: ModelResult(), Broken)
    assert (report.outcome, report.canaries) == (Outcome.SUCCEEDED, ())


def test_features_are_profiled_without_the_canaries(cycle: Cycle) -> None:
    nan = float("nan")
    report = run(cycle, ListStore(), lambda ctx: ModelResult(features={"f": [1, 1, nan, None]}), WithCanary)
    assert report.features == (
        FeatureProfile(name="speed", count=2, null_count=1, distinct_count=1, mean=3.0, deviation=0.0),
        FeatureProfile(name="f", count=4, null_count=2, distinct_count=1, mean=1.0, deviation=0.0),
    )


def test_an_attempt_that_was_overtaken_is_skipped_and_writes_nothing(cycle: Cycle) -> None:
    class Newer(ListStore):
        def save(self, *args: Any) -> Any:
            raise StaleAttempt(1, 2)

    store = Newer()
    report = run(cycle, store, lambda ctx: ModelResult())
    assert report.outcome is Outcome.SKIPPED
    assert "older than attempt 2" in str(report.error)
    assert store.manifests == {}


def test_a_required_stage_raises_and_its_time_is_kept() -> None:
    timings: dict[str, float] = {}
    with pytest.raises(ZeroDivisionError):
        run_stage("s", lambda: 1 / 0, timings=timings)
    assert timings["s"] >= 0


def test_a_stage_that_is_not_required_gives_its_error_back() -> None:
    result = run_stage("s", lambda: 1 / 0, required=False)
    assert isinstance(result.error, ZeroDivisionError)
    assert result.value is None
    assert run_stage("s", lambda: 5).value == 5


def test_an_error_becomes_a_text_that_a_database_can_hold() -> None:
    class MuteError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert describe(ValueError("a\0b\ud800")) == "ValueError: a\\0b\\ud800"
    assert describe(MuteError()) == "MuteError (its message cannot be read)"
    assert len(describe(ValueError("x" * 9999))) == 2000


class FromMinusOne(Scripted):
    score_range = (-1.0, 12.5)


@pytest.mark.parametrize(
    ("score", "kind", "reason"),
    [
        (1.0, Scripted, None),
        (0, Scripted, None),
        (None, Scripted, None),
        (math.nan, Scripted, None),  # the store refuses it
        (math.inf, Scripted, None),
        ("high", Scripted, None),
        (
            1.0000001,
            Scripted,
            "the score 1.0000001: must be from 0 to 1, or the model's class declares another",
        ),
        (-0.5, Scripted, "the score -0.5: must be from 0 to 1"),
        (Decimal(2), Scripted, "the score 2: must be from 0 to 1"),
        (12.5, FromMinusOne, None),
        (13, FromMinusOne, "the score 13: must be from -1 to 12.5"),
    ],
)
@pytest.mark.parametrize("form", [list, iter])
def test_a_score_beyond_the_models_range_fails_the_run_with_entity_score_and_bounds(
    cycle: Cycle, score: Any, kind: type[Scripted], reason: str | None, form: Any
) -> None:
    pairs = [({"id": 1}, {"score": 0.5}), ({"id": 7}, {"score": score})]
    report = run(cycle, ListStore(), lambda ctx: ModelResult(outputs_per_input=form(pairs)), kind)
    assert report.outcome is (Outcome.FAILED if reason else Outcome.SUCCEEDED)
    if reason:
        assert f"output 1 of m@1, entity '7', has {reason}" in str(report.error)
        assert not report.is_transient


def test_a_model_without_a_score_key_may_give_any_number(cycle: Cycle) -> None:
    report = run(
        cycle, ListStore(), lambda ctx: ModelResult(outputs_per_input=[({}, {"score": 9})]), score_key=None
    )
    assert report.outcome is Outcome.SUCCEEDED
