"""Store that keeps lists, and a bench that runs models given as functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_detection.domain.inputs import Inputs
from airflow_detection.domain.reports import RunReport
from airflow_detection.domain.specs import Cycle, ModelSpec, Outcome, Role, VersionSpec
from airflow_detection.engine.executor import CycleReport, DAGExecutor
from airflow_detection.engine.model import BaseDetectionModel, ModelContext, ModelResult
from airflow_detection.engine.plan import build_plan

Pair = tuple[Mapping[str, Any], Mapping[str, Any]]


class ListUpstream:
    def __init__(self, pairs: Sequence[Pair]) -> None:
        self.pairs = pairs

    def __len__(self) -> int:
        return len(self.pairs)

    def __iter__(self) -> Iterator[Pair]:
        return iter(self.pairs)

    def columns(self) -> tuple[list[str], list[float | None]]:
        return [str(ref["id"]) for ref, _ in self.pairs], [out.get("score") for _, out in self.pairs]


@dataclass
class ListStore:
    """Keeps what is stored, by `model@version`; saving one of the labels `failing` raises an OSError."""

    outputs: dict[str, list[Pair]] = field(default_factory=dict)
    metrics: dict[str, Mapping[str, float]] = field(default_factory=dict)
    manifests: dict[str, RunReport] = field(default_factory=dict)
    failing: set[str] = field(default_factory=set)

    def save(
        self,
        model: ModelSpec,
        version: VersionSpec,
        cycle: Cycle,
        outputs: Iterable[Pair],
        finish: Callable[[int], tuple[RunReport, Mapping[str, float]]],
    ) -> RunReport:
        rows = list(outputs)
        if version.label in self.failing:
            raise OSError("the disk is full")
        report, metrics = finish(len(rows))
        self.outputs[version.label], self.metrics[version.label] = rows, metrics
        self.manifests[version.label] = report
        return report

    def save_failure(self, model: ModelSpec, version: VersionSpec, cycle: Cycle, report: RunReport) -> None:
        self.manifests[version.label] = report

    def upstream(self, version: VersionSpec, cycle: Cycle) -> ListUpstream:
        return ListUpstream(self.outputs[version.label])


class Scripted(BaseDetectionModel):
    """A model whose run is a function of its context."""

    def __init__(self, version: VersionSpec, script: Callable[[ModelContext], Any]) -> None:
        super().__init__(version.model_id, version.version, version.params)
        self.script = script

    def run(self, ctx: ModelContext) -> ModelResult:
        return self.script(ctx)  # type: ignore[no-any-return]


def one_output(ctx: ModelContext) -> ModelResult:
    return ModelResult(outputs_per_input=[({"id": 1}, {"score": 0.5, "tags": ["a"]})])


def fails(ctx: ModelContext) -> ModelResult:
    raise ValueError("no luck")


def model(
    model_id: str,
    *,
    reads: Sequence[str] = (),
    champion: str | None = "1",
    shadows: Sequence[str] = (),
    **fields: Any,
) -> ModelSpec:
    versions = [VersionSpec(model_id=model_id, version=s, role=Role.SHADOW) for s in shadows]
    if champion is not None:
        versions.append(VersionSpec(model_id=model_id, version=champion, role=Role.PRIMARY))
    fields = {"entity_key": "id", "score_key": "score", **fields}
    return ModelSpec(model_id=model_id, depends_on=tuple(reads), versions=tuple(versions), **fields)


def with_params(spec: ModelSpec, params: Mapping[str, Any]) -> ModelSpec:
    return replace(spec, versions=tuple(replace(v, params=params) for v in spec.versions))


@dataclass
class Bench:
    """Runs models; `scripts` gives the function of a `model@version`, which else returns one output."""

    cycle: Cycle
    store: ListStore = field(default_factory=ListStore)
    ran: list[str] = field(default_factory=list)

    def run(
        self,
        *models: ModelSpec,
        scripts: Mapping[str, Callable[[ModelContext], Any]] | None = None,
        strict: bool = True,
        **options: Any,
    ) -> CycleReport:
        def instantiate(version: VersionSpec) -> BaseDetectionModel:
            self.ran.append(version.label)
            return Scripted(version, (scripts or {}).get(version.label, one_output))

        options = {"instantiate": instantiate, "store": self.store, "inputs": Inputs(), **options}
        return DAGExecutor(build_plan(models, strict=strict), **options).run(self.cycle)


def outcomes(report: CycleReport) -> dict[str, Outcome]:
    return {r.version.label: r.outcome for r in report.reports}


@pytest.fixture
def cycle() -> Cycle:
    return Cycle(cycle_id="c", started_at=datetime(2020, 1, 1, 12, tzinfo=UTC), lookback=timedelta(hours=1))


@pytest.fixture
def bench(cycle: Cycle) -> Bench:
    return Bench(cycle)
