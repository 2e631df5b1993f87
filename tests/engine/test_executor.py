"""A whole plan in one process: which results are shared, which versions are skipped, and the counts."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.engine.conftest import Bench, ListStore, fails, model, one_output, outcomes

from airflow_detection.domain.inputs import Inputs
from airflow_detection.domain.reports import CycleSummary
from airflow_detection.domain.specs import Outcome, Role
from airflow_detection.engine.entrypoints import Registry
from airflow_detection.engine.executor import InProcess
from airflow_detection.engine.model import ModelContext, ModelResult
from airflow_detection.errors import EntryPointError, TransientModelError

RAN, FAILED, SKIPPED = Outcome.SUCCEEDED, Outcome.FAILED, Outcome.SKIPPED


def records_upstreams(seen: dict[str, Any]) -> Callable[[ModelContext], ModelResult]:
    def script(ctx: ModelContext) -> ModelResult:
        seen.update({m: [dict(out) for _, out in up] for m, up in ctx.shared.items()})
        return ModelResult()

    return script


def scores(value: float) -> Callable[[ModelContext], ModelResult]:
    return lambda ctx: ModelResult(outputs_per_input=[({"id": 1}, {"score": value})])


def test_a_champions_result_enters_shared(bench: Bench) -> None:
    seen: dict[str, Any] = {}
    bench.run(
        model("a"), model("b", reads=["a"]), scripts={"a@1": scores(0.25), "b@1": records_upstreams(seen)}
    )
    assert seen == {"a": [{"score": 0.25}]}


@pytest.mark.parametrize("role", [Role.SHADOW, Role.CHALLENGER])
def test_a_shadows_result_is_stored_and_never_shared(bench: Bench, role: Role) -> None:
    a = model("a", shadows=["2"])
    a = replace(a, versions=tuple(v if v.role is Role.PRIMARY else replace(v, role=role) for v in a.versions))
    seen: dict[str, Any] = {}
    scripts = {"a@1": scores(0.25), "a@2": scores(0.75), "b@1": records_upstreams(seen)}
    bench.run(a, model("b", reads=["a"]), scripts=scripts)
    assert bench.store.outputs["a@2"] == [({"id": 1}, {"score": 0.75})]
    assert seen == {"a": [{"score": 0.25}]}


def test_a_model_sees_only_the_upstreams_it_depends_on(bench: Bench) -> None:
    seen: dict[str, Any] = {}
    bench.run(model("a"), model("other"), model("z", reads=["a"]), scripts={"z@1": records_upstreams(seen)})
    assert set(seen) == {"a"}


def test_a_shadow_sees_the_same_upstream_champions_as_its_champion(bench: Bench) -> None:
    by_champion: dict[str, Any] = {}
    by_shadow: dict[str, Any] = {}
    scripts = {"b@1": records_upstreams(by_champion), "b@2": records_upstreams(by_shadow)}
    bench.run(model("a", shadows=["9"]), model("b", reads=["a"], shadows=["2"]), scripts=scripts)
    assert by_champion == by_shadow
    assert set(by_champion) == {"a"}


def test_a_failed_champion_takes_its_shadows_and_dependents_and_nothing_else(bench: Bench) -> None:
    report = bench.run(
        model("a", shadows=["2"]),
        model("b", reads=["a"], shadows=["2"]),
        model("c", reads=["b"]),
        model("d"),
        scripts={"a@1": fails},
    )
    assert outcomes(report) == {
        "a@1": FAILED, "a@2": SKIPPED, "b@1": SKIPPED, "b@2": SKIPPED, "c@1": SKIPPED, "d@1": RAN,
    }  # fmt: skip
    assert report.summary == CycleSummary(executed=1, failed=1, skipped_missing_deps=2, shadow_skipped=2)
    assert bench.ran == ["a@1", "d@1"]


def test_a_failed_shadow_stops_nothing(bench: Bench) -> None:
    report = bench.run(model("a", shadows=["2", "3"]), model("b", reads=["a"]), scripts={"a@2": fails})
    assert outcomes(report) == {"a@1": RAN, "a@2": FAILED, "a@3": RAN, "b@1": RAN}
    assert report.summary == CycleSummary(executed=2, shadow_ran=1, shadow_failed=1)


def test_a_champion_whose_outputs_cannot_be_stored_has_failed(bench: Bench) -> None:
    bench.store.failing = {"a@1"}
    report = bench.run(model("a", shadows=["2"]), model("b", reads=["a"]))
    assert outcomes(report) == {"a@1": FAILED, "a@2": SKIPPED, "b@1": SKIPPED}
    assert report.reports[0].error == "OSError: the disk is full"


def test_a_model_without_primary_does_not_run_and_shows_in_the_summary(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    report = bench.run(model("a", champion=None, shadows=["2"]), model("b", reads=["a"], shadows=["2"]))
    assert bench.ran == []
    assert report.summary == CycleSummary(skipped_missing_deps=1, shadow_skipped=1, without_primary=("a",))
    assert "model a has shadows but no PRIMARY" in caplog.text


def test_a_broken_model_fails_with_its_reason_and_takes_only_its_dependents(bench: Bench) -> None:
    report = bench.run(model("a", reads=["?"]), model("b", reads=["a"]), model("c"), strict=False)
    assert outcomes(report) == {"a@1": FAILED, "b@1": SKIPPED, "c@1": RAN}
    assert "not registered" in (bench.store.manifests["a@1"].error or "")
    assert report.summary == CycleSummary(executed=1, failed=1, skipped_missing_deps=1)


def test_a_version_that_cannot_be_instantiated_fails_alone(bench: Bench) -> None:
    def instantiate(version: Any) -> Any:
        raise EntryPointError("x:Y", "cannot be imported")

    report = bench.run(model("a"), instantiate=instantiate)
    assert report.reports[0].error == "EntryPointError: entry point 'x:Y' cannot be imported"
    assert bench.store.manifests["a@1"].outcome is FAILED


def test_a_model_that_is_switched_off_is_skipped_with_its_dependents(bench: Bench) -> None:
    report = bench.run(model("a", is_enabled=False), model("b", reads=["a"]))
    assert outcomes(report) == {"a@1": SKIPPED, "b@1": SKIPPED}
    assert report.summary == CycleSummary(skipped_missing_deps=1)


def mutates(ctx: ModelContext) -> ModelResult:
    """Try to change everything in the context; count the attempts that fail."""
    refused = 0
    pair = next(iter(ctx.shared["a"]))
    for attempt in (
        lambda: ctx.params.update(k=2),  # type: ignore[attr-defined]
        lambda: ctx.params["list"].append(1),
        lambda: ctx.shared.pop("a"),  # type: ignore[attr-defined]
        lambda: pair[1].update(score=9),  # type: ignore[attr-defined]
        lambda: pair[1]["tags"].append("b"),
        lambda: ctx.inputs.columns.clear(),  # type: ignore[attr-defined]
        lambda: ctx.inputs["id"].append(9),  # type: ignore[attr-defined]
        lambda: ctx.inputs["deep"][0]["list"].append(9),
        lambda: ctx.shared["a"].columns()[1].append(9),  # type: ignore[attr-defined]
    ):
        try:
            attempt()
        except AttributeError:
            refused += 1
    return ModelResult(metrics={"refused": refused})


def test_nothing_that_a_model_is_given_can_be_changed(bench: Bench) -> None:
    b = model("b", reads=["a"], shadows=["2"])
    b = replace(b, versions=tuple(replace(v, params={"k": 1, "list": []}) for v in b.versions))
    deep: dict[str, Any] = {"list": []}
    inputs = Inputs({"id": [1], "deep": [deep]})  # type: ignore[dict-item]
    bench.run(model("a"), b, scripts={"b@1": mutates, "b@2": mutates}, inputs=inputs)
    assert bench.store.metrics["b@2"]["refused"] == 9
    assert deep == {"list": []}
    assert bench.store.outputs["a@1"] == [({"id": 1}, {"score": 0.5, "tags": ["a"]})]


def no_result(ctx: ModelContext) -> Any:
    return {"outputs": 1}


def exits(ctx: ModelContext) -> ModelResult:
    raise SystemExit(3)


def half_way(ctx: ModelContext) -> ModelResult:
    def outputs() -> Any:
        yield {"id": 1}, {"score": 0.1}
        raise RuntimeError("half way")

    return ModelResult(outputs_per_input=outputs())


def no_pairs(ctx: ModelContext) -> ModelResult:
    return ModelResult(outputs_per_input=["ab"])  # type: ignore[list-item]


@pytest.mark.parametrize("shadow", [fails, no_result, exits, half_way, no_pairs])
def test_whatever_a_shadow_does_the_champions_rows_are_the_same(
    bench: Bench, shadow: Callable[[ModelContext], Any]
) -> None:
    report = bench.run(model("a", shadows=["2"]), model("b", reads=["a"]), scripts={"a@2": shadow})
    alone = Bench(bench.cycle)
    alone.run(model("a"), model("b", reads=["a"]))
    assert bench.store.outputs == alone.store.outputs
    assert report.summary.shadow_failed == 1
    assert report.summary.executed == 2


def test_what_concurrent_shadows_store_is_the_same(bench: Bench) -> None:
    versions = [str(n) for n in range(2, 10)]
    models = [model("a"), model("b", reads=["a"], shadows=versions)]
    report = bench.run(*models, concurrent_shadows=True)
    sequential = Bench(bench.cycle)
    in_turn = sequential.run(*models)
    assert outcomes(report) == outcomes(in_turn)
    assert bench.store.outputs == sequential.store.outputs
    assert report.summary == in_turn.summary == CycleSummary(executed=2, shadow_ran=8)


def test_shadows_alone_are_offered_at_once(bench: Bench) -> None:
    calls: list[tuple[list[str], int]] = []

    class RecordingRunner(InProcess):
        def run(self, jobs: Any, at_once: int) -> Any:
            calls.append(([job.version.label for job in jobs], at_once))
            return super().run(jobs, at_once)

    models = [model("a", shadows=["2", "3"]), model("b", reads=["a"])]
    bench.run(*models, concurrent_shadows=True, runner=RecordingRunner(bench.store))
    bench.run(*models, runner=RecordingRunner(bench.store))
    groups = [["a@1"], ["a@2", "a@3"], ["b@1"]]
    assert calls == [*zip(groups, [1, 4, 1], strict=True), *zip(groups, [1, 1, 1], strict=True)]


def test_a_failure_that_cannot_be_stored_is_still_reported(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    class Unavailable(ListStore):
        def save_failure(self, *args: Any) -> None:
            raise OSError("away")

    bench.store = Unavailable()
    report = bench.run(model("a"), model("b"), scripts={"a@1": fails})
    assert outcomes(report) == {"a@1": FAILED, "b@1": RAN}
    assert "the failure of a@1 could not be stored" in caplog.text


def test_a_transient_failure_says_so(bench: Bench) -> None:
    def busy(ctx: ModelContext) -> ModelResult:
        raise TransientModelError("busy")

    report = bench.run(model("a"), model("b"), scripts={"a@1": busy, "b@1": fails})
    assert [r.is_transient for r in report.reports] == [True, False]


def test_an_interrupt_ends_the_cycle(bench: Bench) -> None:
    def interrupted(ctx: ModelContext) -> ModelResult:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench.run(model("a"), scripts={"a@1": interrupted})


def test_a_model_may_read_its_upstream_while_it_is_being_stored(bench: Bench) -> None:
    def lazy(ctx: ModelContext) -> ModelResult:
        return ModelResult(outputs_per_input=((ref, out) for ref, out in ctx.shared["a"]))

    shadows = ["2", "3"]
    scripts = {f"b@{v}": lazy for v in ["1", *shadows]}
    bench.run(model("a"), model("b", reads=["a"], shadows=shadows), scripts=scripts, concurrent_shadows=True)
    assert len(bench.store.outputs["b@3"]) == 1


def test_a_failed_run_is_logged_with_its_traceback(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.run(model("a"), scripts={"a@1": fails})
    record = next(r for r in caplog.records if r.levelno == logging.ERROR)
    assert record.exc_info is not None
    assert record.getMessage() == "a@1 failed: ValueError: no luck"


def test_a_clear_error_is_logged_without_frames_but_the_models_own(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    absent = model("a", entrypoint="no_such_module:Model")
    bench.run(absent, instantiate=Registry([absent], allowed_prefixes=("no_such_module",)).instantiate)
    bench.run(model("a"), scripts={"a@1": lambda ctx: ctx.shared["b"]})
    missing, not_upstream = (r for r in caplog.records if r.levelno == logging.ERROR)
    assert missing.getMessage().startswith("a@1 failed: EntryPointError: entry point 'no_such_module:Model'")
    assert missing.exc_info is None
    assert not_upstream.exc_info
    frames = traceback.extract_tb(not_upstream.exc_info[2])
    assert {Path(frame.filename).name for frame in frames} == {"conftest.py", "test_executor.py"}


def test_the_default_model_gives_one_output(bench: Bench) -> None:
    report = bench.run(model("a"), scripts={"a@1": one_output})
    assert report.reports[0].output_count == 1
