"""What runs really read, on stored cycles of the real day: history that is gone, stale rows, other params."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml
from tests.conftest import clone
from tests.snapshot import noaa_day_stored
from tests.snapshot.noaa_day import DAY, STEP
from tests.snapshot.planted_faults import SWITCH, Pair

from airflow_detection.domain.inputs import Inputs
from airflow_detection.engine.model import BaseDetectionModel, ModelContext, ModelResult
from airflow_detection.maritime.models.risk_score import RiskScore
from airflow_detection.maritime.models.spoofing import Spoofing
from airflow_detection.snapshot.verdicts.kinds import Verdict, VerdictKind
from airflow_detection.snapshot.verdicts.period import verdicts
from airflow_detection.store.connection import Connection, connect
from airflow_detection.store.database import Database

FIRST, START, LIMIT = 13, 36, 3
"""Cycles of the day: the first that runs, where a fault sets in, and how many may pass."""

MODELS = ("track_quality", "spoofing", "loitering", "risk_score")


LOADED_AGAIN = """
    update detection.ais_positions set loaded_at = now() + interval '1 hour' where observed_at < %s
"""


class Zeros:
    """Scores of an upstream, read as zero."""

    def __init__(self, upstream: Any) -> None:
        self._upstream = upstream

    def __len__(self) -> int:
        return len(self._upstream)

    def __iter__(self) -> Iterator[Pair]:
        return iter(self._upstream)

    def columns(self) -> Any:
        entities, scores = self._upstream.columns()
        return entities, tuple(
            score if str(entity).startswith("-") else 0.0
            for entity, score in zip(entities, scores, strict=True)
        )


def _older(minutes: float) -> Callable[[ModelContext], ModelContext]:
    def changed(ctx: ModelContext) -> ModelContext:
        until = ctx.window.end.timestamp() - 60 * minutes
        rows = [row for row in ctx.inputs.rows() if row["mmsi"] < 0 or row["observed_s"] < until]
        return replace(ctx, inputs=Inputs.of_rows(rows, tuple(ctx.inputs.columns)))

    return changed


def _blind(ctx: ModelContext) -> ModelContext:
    return replace(ctx, shared={name: Zeros(upstream) for name, upstream in ctx.shared.items()})


FAULTS: Mapping[str, tuple[str, Callable[[ModelContext], ModelContext] | None]] = {
    "15 minutes old": ("spoofing", _older(15)),
    "the newest ten minutes left out": ("spoofing", _older(10)),
    "other params": ("spoofing", None),
    "upstreams read as zero": ("risk_score", _blind),
}


class _Switched(BaseDetectionModel):
    """The reference model of the same id, broken as the environment says."""

    inner: ClassVar[type[BaseDetectionModel]]

    def __init__(self, model_id: str, version: str = "0", params: Any = None) -> None:
        import os

        model, change = FAULTS.get(os.environ.get(SWITCH, ""), ("", None))
        self._change = change if model == model_id else None
        if model == model_id and change is None:
            params = {**params, "v_max_kn": 500}
        super().__init__(model_id, version, params)
        self._model = self.inner(model_id, version, self.params)

    def run(self, ctx: ModelContext) -> ModelResult:
        ctx = replace(ctx, params=self.params)
        return self._model.run(self._change(ctx) if self._change else ctx)

    def canaries(self, cycle: Any) -> Any:
        return self._model.canaries(cycle)

    def reads_since(self, cycle: Any) -> Any:
        return self._model.reads_since(cycle)


class SwitchedSpoofing(_Switched):
    inner, counts_need_past = Spoofing, False


class SwitchedRisk(_Switched):
    inner = RiskScore


def registry(folder: Path) -> Path:
    loaded = yaml.safe_load(noaa_day_stored.MARITIME.read_text())
    models = {name: loaded["models"][name] for name in MODELS}
    for name, model in models.items():
        model["versions"] = {"1.0": model["versions"]["1.0"]}
        model["depends_on"] = [u for u in model.get("depends_on", ()) if u in MODELS]
        model["task_options"] = {"environment": [SWITCH]}
        if name in ("spoofing", "risk_score"):
            switched = {"spoofing": SwitchedSpoofing, "risk_score": SwitchedRisk}[name]
            model["entrypoint"] = f"{__name__}:{switched.__name__}"
    models["loitering"]["versions"]["1.0"]["params"] = {"min_duration_h": 1, "history_h": 3}
    models["risk_score"]["versions"]["1.0"]["params"] = {"weights": {"spoofing": 0.35, "loitering": 0.15}}
    file = folder / "reads.yaml"
    file.write_text(yaml.safe_dump({**loaded, "models": models}))
    return file


@pytest.fixture(scope="module")
def healthy(server: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Name of a database in which the clean cycles before a fault ran."""
    with pytest.MonkeyPatch.context() as patch, clone(server, template) as dsn, connect(dsn) as conn:
        prefixes = (*noaa_day_stored.SETTINGS.allowed_prefixes, __name__)
        patch.setattr(
            noaa_day_stored, "SETTINGS", replace(noaa_day_stored.SETTINGS, allowed_prefixes=prefixes)
        )
        noaa_day_stored.load(conn, registry(tmp_path_factory.mktemp("reads")))
        noaa_day_stored.run(conn, range(FIRST, START))
        name = conn.info.dbname
        conn.close()
        yield name


@pytest.fixture
def clean_runs(server: str, healthy: str) -> Iterator[Connection]:
    """A copy of it."""
    with clone(server, healthy) as dsn, connect(dsn) as conn:
        yield conn


def judged(conn: Connection, first: int = START) -> list[Verdict]:
    start, end = DAY + first * STEP, DAY + (START + LIMIT) * STEP
    return verdicts(Database(conn, "detection"), start=start, end=end, use_model_registry=True)


def bad(conn: Connection) -> set[tuple[str, VerdictKind]]:
    return {(v.model_id, v.kind) for v in judged(conn) if v.kind.is_bad}


@pytest.mark.long
def test_clean_cycles_raise_no_alarm_on_a_fresh_database_either(clean_runs: Connection) -> None:
    noaa_day_stored.run(clean_runs, range(START, START + LIMIT))
    assert [v for v in judged(clean_runs, FIRST) if v.kind.is_bad] == []


@pytest.mark.parametrize("how", ["deleted", pytest.param("loaded again", marks=pytest.mark.long)])
def test_history_that_is_gone_is_found(clean_runs: Connection, how: str) -> None:
    before = DAY + (START - 12) * STEP
    if how == "deleted":
        clean_runs.execute("delete from detection.ais_positions where observed_at < %s", (before,))
    else:
        late = (
            "update detection.ais_positions set loaded_at = now() + interval '1 hour' where observed_at < %s"
        )
        clean_runs.execute(late, (before,))
    noaa_day_stored.run(clean_runs, range(START, START + LIMIT))
    found = bad(clean_runs)
    assert {("spoofing", VerdictKind.SILENT_FAULT), ("loitering", VerdictKind.SILENT_FAULT)} <= found
    reasons = [r for v in judged(clean_runs) for r in v.reasons]
    assert any("rows from before its window" in reason for reason in reasons)


@pytest.mark.long
@pytest.mark.parametrize("fault", FAULTS)
def test_a_run_that_does_not_read_what_is_there_is_found(
    clean_runs: Connection, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setenv(SWITCH, fault)
    noaa_day_stored.run(clean_runs, range(START, START + LIMIT))
    assert bad(clean_runs) == {(FAULTS[fault][0], VerdictKind.SILENT_FAULT)}


@pytest.mark.long
def test_speeds_in_another_unit_ship_by_ship_are_found(clean_runs: Connection) -> None:
    creeping = """
        update detection.ais_positions set sog_kn = sog_kn * 1.852
         where (mmsi * 0.6180339887) %% 1 < extract(epoch from observed_at - %(since)s::timestamptz) / 7200
    """
    clean_runs.execute(creeping, {"since": DAY + (START - 1) * STEP})
    noaa_day_stored.run(clean_runs, range(START, START + LIMIT))
    assert ("track_quality", VerdictKind.SILENT_FAULT) in bad(clean_runs)


@pytest.mark.long
def test_an_outage_is_no_loss_of_history(clean_runs: Connection) -> None:
    """Nothing for two hours, then all of it again: the rows of the outage are missing for good."""
    begin, end = DAY + (START - 22) * STEP, DAY + (START - 2) * STEP
    clean_runs.execute("delete from detection.ais_positions where observed_at >= %s and observed_at < %s",
                       (begin, end))  # fmt: skip
    clean_runs.execute("delete from detection.detection_model_runs where cycle_started_at >= %s", (begin,))
    noaa_day_stored.run(clean_runs, range(START, START + LIMIT))
    reasons = [r for v in judged(clean_runs) for r in v.reasons if "before its window" in r]
    assert reasons == []
