"""A small registered cycle for the tests: `tracks` feeds `spoofing`; `tracks@2` is a shadow."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from airflow_detection.domain.settings import Settings
from airflow_detection.domain.specs import Artifact, Cycle, CycleSpec, ModelSpec, Role
from airflow_detection.engine.model import BaseDetectionModel, ModelContext, ModelResult
from airflow_detection.errors import TerminalModelError, TransientModelError
from airflow_detection.store import registry, roles
from airflow_detection.store.database import Database

SCHEMA = "detection"
SINCE = datetime(2026, 1, 1, tzinfo=UTC)
AT = datetime(2026, 3, 1, 12, 5, tzinfo=UTC)
SETTINGS = Settings(allowed_prefixes=("tests.sample_registry",))


class Echo(BaseDetectionModel):
    """One output for each of `params.ids`, scored with the number of outputs it sees upstream."""

    score_range = (0, 1000)

    def run(self, ctx: ModelContext) -> ModelResult:
        for kind, error in (("terminal", TerminalModelError), ("transient", TransientModelError)):
            if ctx.params.get("fail") == kind:
                raise error("told to fail")
        seen = float(sum(len(u) for u in ctx.shared.values()))
        rows = [({"id": i}, {"id": i, "score": seen}) for i in ctx.params.get("ids", ())]
        return ModelResult(outputs_per_input=rows, metrics={"inputs": len(ctx.inputs)})


class ReadsTracks(Echo):
    """Reads an upstream by its name."""

    def run(self, ctx: ModelContext) -> ModelResult:
        return ModelResult(outputs_per_input=list(ctx.shared["tracks"]))


def legacy(cycle: Cycle) -> None:
    """Write a line to the file that LEGACY_FILE names, as what ran before the registry."""
    with Path(os.environ["LEGACY_FILE"]).open("a") as file:
        file.write(f"{cycle.cycle_id} {cycle.started_at.isoformat()}\n")


def put_cycle(conn: Any, **fields: Any) -> None:
    """Register the cycle `fleet`, with the fields that a test changes."""
    defaults: dict[str, Any] = {
        "cycle_id": "fleet",
        "schedule": "*/5 * * * *",
        "lookback": timedelta(hours=1),
        "start_date": SINCE,
    }
    registry.put_cycle(Database(conn, SCHEMA), CycleSpec(**defaults | fields))


def put_model(conn: Any, model_id: str, depends_on: tuple[str, ...] = (), **fields: Any) -> None:
    """Register a model of the cycle."""
    spec = {
        "cycle_id": "fleet",
        "entrypoint": "tests.sample_registry:Echo",
        "score_key": "score",
        "entity_key": "id",
    } | fields
    registry.put_model(Database(conn, SCHEMA), ModelSpec(model_id=model_id, depends_on=depends_on, **spec))


def put_version(
    conn: Any,
    label: str,
    role: Role | None = None,
    *,
    since: datetime | None = SINCE,
    entrypoint: str | None = None,
    artifact: Artifact | None = None,
    **params: Any,
) -> int:
    """Register `model@version`, and give it a role from `since` on."""
    model_id, _, version = label.partition("@")
    version_id = registry.put_version(
        Database(conn, SCHEMA),
        model_id=model_id,
        version=version,
        params=params,
        artifact=artifact,
        entrypoint=entrypoint,
    )
    if role:
        roles.assign_role(Database(conn, SCHEMA), model_id=model_id, version=version, role=role, since=since)
    return version_id


def register(conn: Any, tracks: dict[str, Any] | None = None, shadow: dict[str, Any] | None = None) -> None:
    """Register the whole fleet; the arguments are params of `tracks@1` and `tracks@2`."""
    put_cycle(conn)
    put_model(conn, "tracks")
    put_model(conn, "spoofing", ("tracks",))
    put_version(conn, "tracks@1", Role.PRIMARY, **{"ids": ["a", "b"], **(tracks or {})})
    put_version(conn, "tracks@2", Role.SHADOW, **{"ids": ["a", "b", "c"], **(shadow or {})})
    put_version(conn, "spoofing@1", Role.PRIMARY, ids=["x"])


def antedate(conn: Any, at: datetime) -> None:
    """Let every cycle be registered at an instant of the past: none is due before it is."""
    conn.execute("alter table detection.detection_cycle_settings disable trigger append_only")
    conn.execute("update detection.detection_cycle_settings set recorded_at = %s", (at,))
    conn.execute("alter table detection.detection_cycle_settings enable trigger append_only")


def note_run(
    conn: Any, label: str, outcome: str = "SUCCEEDED", at: datetime = AT, *, is_replay: bool = False
) -> None:
    """Write the manifest of a version's run, as its store would."""
    model_id, _, version = label.partition("@")
    conn.execute(
        "insert into detection.detection_model_runs"
        " (cycle_id, cycle_started_at, version_id, model_id, role, outcome, attempt, started_at, is_replay)"
        " select m.cycle_id, %s, v.version_id, m.model_id, 'PRIMARY', %s, 1, %s, %s"
        " from detection.detection_model_versions v join detection.detection_models m using (model_id)"
        " where m.model_id = %s and v.version = %s",
        (at, outcome, at, is_replay, model_id, version),
    )


def outcomes(conn: Any, at: datetime = AT) -> dict[str, str]:
    """Outcome by `model@version` (a `!` behind a replay) of one cycle."""
    rows = conn.execute(
        "select r.model_id, v.version, r.is_replay, r.outcome from detection.detection_model_runs r"
        " join detection.detection_model_versions v using (version_id)"
        " where r.cycle_started_at = %s order by 1, 2, 3",
        (at,),
    ).fetchall()
    return {f"{m}@{v}{'!' if replay else ''}": str(outcome) for m, v, replay, outcome in rows}
