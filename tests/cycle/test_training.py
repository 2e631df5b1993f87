"""Trainings of new versions, against a real Postgres and in processes of their own."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import IO, Any

import psycopg
import pytest
from tests import sample_registry
from tests.sample_registry import SCHEMA

from airflow_detection.cycle import inline, planning
from airflow_detection.cycle.training import train
from airflow_detection.cycle.training_plan import TrainingRequest
from airflow_detection.domain.settings import Settings
from airflow_detection.domain.specs import Mode, Outcome, Role
from airflow_detection.engine.artifact_files import read_member, write_local
from airflow_detection.engine.artifacts import sha256_of
from airflow_detection.engine.model import BaseDetectionModel, Canary, ModelContext, ModelResult
from airflow_detection.engine.training import TrainedModel, TrainingContext
from airflow_detection.errors import (
    ArtifactError,
    PlanError,
    RegistrationError,
    TerminalModelError,
    TransientModelError,
)
from airflow_detection.store import registry
from airflow_detection.store.connection import connect
from airflow_detection.store.database import Database
from airflow_detection.store.labels import Label, add_labels
from airflow_detection.store.trainings import Training, trainings

START = datetime(2026, 2, 1, tzinfo=UTC)
END = START + timedelta(hours=6)
QUERY = """
    select id, value, extract(epoch from at)::float8 as at_s from public.facts
     where at >= :window_start and at < :window_end and loaded_at <= :opened_at order by at
"""
Conn = psycopg.Connection[Any]


class Mean(BaseDetectionModel):
    """Learns the mean of the values that are no known hit, and what it has seen."""

    @classmethod
    def train(cls, ctx: TrainingContext) -> TrainedModel:
        values, seen = [], []
        for window in ctx.windows:
            ids, column = window.inputs["id"], window.inputs.array("value")
            values += [float(v) for name, v in zip(ids, column, strict=True) if not window.labels.get(name)]
            seen.append([window.cycle.started_at.isoformat(), len(ids), dict(sorted(window.labels.items()))])
        content = {
            "mean": sum(values) / len(values),
            "draw": Random(ctx.seed).random(),
            "seen": seen,
            "span": [ctx.interval.start.isoformat(), ctx.interval.end.isoformat()],
            "params": dict(ctx.params),
        }
        return TrainedModel(
            files={"mean.json": json.dumps(content).encode()},
            canaries=[{"name": "high", "value": 2 * content["mean"]}],
            metrics={"values": len(values), "nothing": None},
        )

    def run(self, ctx: ModelContext) -> ModelResult:
        mean = learned(self.loaded)["mean"]
        return ModelResult(
            outputs_per_input=[
                ({}, {"id": row["id"], "score": min(row["value"] / mean / 4, 1.0)})
                for row in ctx.inputs.rows()
            ]
        )

    def canaries(self, cycle: Any) -> Iterator[Canary]:
        found = read_member(self.loaded, ("canaries.json",))
        assert found is not None
        for canary in json.loads(found[1]):
            row = {"id": "canary:high", "value": canary["value"], "at_s": 0.0}
            yield Canary(entity_id="canary:high", rows=(row,), expected=0.5)


class NeedsLabels(Mean):
    """Cannot do without labels."""

    learns_from_labels = True


class Misbehaves(Mean):
    """Does what `params.how` says."""

    @classmethod
    def train(cls, ctx: TrainingContext) -> TrainedModel:
        how = ctx.params["how"]
        if how == "hangs":
            time.sleep(60)
        elif how == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        elif how == "fails":
            raise ValueError("no convergence")
        elif how == "waits":
            raise TransientModelError("the feature store is away")
        elif how == "takes memory":
            bytearray(2**30)
        elif how == "makes too much":
            return TrainedModel(files={"m.bin": bytes(2 * 2**20)})
        elif how == "climbs":
            return TrainedModel(files={"../m.bin": b"m"})
        elif how == "makes nothing":
            return TrainedModel(files={})
        elif how == "writes":
            next(iter(ctx.windows))
            ctx.windows._db.conn.execute("create table public.taken (n int)")  # type: ignore[attr-defined]
        return {"files": {}}  # type: ignore[return-value]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(allowed_prefixes=("tests",), training_timeout_s=20, artifact_cache=tmp_path / "cache")


@pytest.fixture
def db(database: Conn) -> Database:
    """Six hours of facts, a champion, and a version to train from."""
    database.execute(
        "create table public.facts (id text, value float8, at timestamptz,"
        " loaded_at timestamptz default clock_timestamp())"
    )
    put_facts(database, *((f"e{n % 5}", 10.0 + n % 3, START + timedelta(minutes=10 * n)) for n in range(36)))
    sample_registry.put_cycle(database, input_query=QUERY, time_key="at_s")
    sample_registry.put_model(database, "m", entrypoint="tests.cycle.test_training:Mean")
    sample_registry.put_version(database, "m@1", Role.PRIMARY, entrypoint="tests.sample_registry:Echo")
    sample_registry.put_version(database, "m@base", kind="plain")
    return Database(database, SCHEMA)


def put_facts(conn: Conn, *facts: tuple[str, float, datetime]) -> None:
    with conn.cursor() as cursor:
        cursor.executemany("insert into public.facts (id, value, at) values (%s, %s, %s)", facts)


def label(db: Database, entity_id: str, *, is_positive: bool | None, model_id: str | None = None) -> None:
    span = {"valid_from": START, "valid_to": START + timedelta(hours=3)}
    add_labels(
        db,
        [
            Label(
                cycle_id="fleet",
                entity_id=entity_id,
                is_positive=is_positive,
                source="test",
                model_id=model_id,
                **span,
            )
        ],
    )


def ask(tmp_path: Path, version: str = "2", **changes: Any) -> TrainingRequest:
    request = TrainingRequest(
        model_id="m", version=version, base="base", start=START, end=END, target=str(tmp_path / "models")
    )
    return replace(request, **changes)


def learned(artifact: Path | str) -> Any:
    found = read_member(Path(artifact), ("mean.json",))
    assert found is not None
    return json.loads(found[1])


def now(db: Database) -> datetime:
    return registry.clock(db)


def test_a_trained_version_is_a_challenger_that_tells_what_it_has_learned_from_and_runs(
    db: Database, settings: Settings, tmp_path: Path
) -> None:
    label(db, "e1", is_positive=True)
    as_of = now(db)
    trained = train(db, settings, ask(tmp_path, as_of=as_of), actor="ann")
    assert trained == trainings(db)["m@2"]
    assert (trained.base_version, trained.data_start, trained.data_end, trained.as_of, trained.seed) == (
        "base", START, END, as_of, 1,
    )  # fmt: skip
    assert (trained.window_count, trained.row_count, trained.label_count) == (6, 36, 1)
    assert (trained.actor, trained.metrics) == ("ann", {"values": 33.0})
    assert sha256_of(trained.artifact_uri) == trained.artifact_sha256
    content = learned(trained.artifact_uri)
    ends = [START + timedelta(hours=n + 1) for n in range(6)]
    assert [(at, rows) for at, rows, _ in content["seen"]] == [(end.isoformat(), 6) for end in ends]
    assert [labels for _, _, labels in content["seen"]] == [{"e1": True}] * 2 + [{}] * 4
    assert content["params"] == {"kind": "plain"}
    (version,) = [v for v in registry.versions(db, "m") if v.version == "2"]
    assert (version.role, version.params, version.entrypoint) == (Role.CHALLENGER, {"kind": "plain"}, None)
    assert version.artifact is not None
    assert version.artifact.sha256 == trained.artifact_sha256

    put_facts(db.conn, ("e7", 12.0, now(db) - timedelta(minutes=20)))
    at = now(db)
    opened = planning.open_cycle(db, "fleet", at, mode=Mode.AS_OF)
    reports = {r.version.version: r for r in inline.run_steps(db, settings, opened, opened.steps)}
    assert {r.outcome for r in reports.values()} == {Outcome.SUCCEEDED}
    challenger = reports["2"]
    assert (challenger.output_count, challenger.artifact_sha256) == (1, trained.artifact_sha256)
    assert [c.observed for c in challenger.canaries] == [0.5]


def test_what_was_loaded_or_labelled_later_changes_nothing_and_a_label_before_does(
    db: Database, settings: Settings, tmp_path: Path
) -> None:
    label(db, "e1", is_positive=True)
    label(db, "e2", is_positive=True, model_id="m")
    as_of = now(db)
    before = train(db, settings, ask(tmp_path, as_of=as_of))
    label(db, "e1", is_positive=None)
    label(db, "e2", is_positive=False, model_id="m")
    label(db, "e3", is_positive=True)
    put_facts(db.conn, ("e0", 1000.0, START + timedelta(minutes=90)))
    after = train(db, settings, ask(tmp_path, "3", as_of=as_of))
    assert (after.artifact_sha256, after.input_digest) == (before.artifact_sha256, before.input_digest)
    assert (after.row_count, after.label_count) == (36, 2)
    later = train(db, settings, ask(tmp_path, "4", as_of=now(db)))
    assert (later.row_count, later.label_count) == (37, 2)
    assert later.artifact_sha256 != before.artifact_sha256
    assert later.input_digest != before.input_digest


def test_a_label_of_the_model_counts_before_one_of_the_cycle_and_a_newer_one_before_an_older(
    db: Database, settings: Settings, tmp_path: Path
) -> None:
    label(db, "e1", is_positive=False, model_id="m")
    label(db, "e1", is_positive=True)
    whole = Label(cycle_id="fleet", entity_id="e2", valid_from=START, is_positive=True, source="test")
    add_labels(db, [whole])
    label(db, "e2", is_positive=False)
    labels = [row[2] for row in learned(train(db, settings, ask(tmp_path)).artifact_uri)["seen"]]
    assert labels == [{"e1": False, "e2": False}] * 2 + [{"e2": True}] * 4


def test_the_seed_decides_and_the_same_training_gives_the_same_bytes(
    db: Database, settings: Settings, tmp_path: Path
) -> None:
    as_of = now(db)
    digests = [
        train(db, settings, ask(tmp_path, str(n + 2), as_of=as_of, seed=seed)).artifact_sha256
        for n, seed in enumerate((1, 1, 7))
    ]
    assert digests[0] == digests[1] != digests[2]


def test_asked_for_again_it_changes_nothing_and_something_else_is_refused(
    db: Database, settings: Settings, tmp_path: Path
) -> None:
    first = train(db, settings, ask(tmp_path))
    written = Path(first.artifact_uri).stat().st_mtime_ns
    assert train(db, settings, ask(tmp_path)) == first
    assert train(db, settings, ask(tmp_path, as_of=first.as_of)) == first
    assert Path(first.artifact_uri).stat().st_mtime_ns == written
    for other in ({"seed": 2}, {"end": END - timedelta(hours=1)}, {"as_of": END}):
        with pytest.raises(RegistrationError, match="'m@2' is registered already, trained from m@base, data"):
            train(db, settings, ask(tmp_path, **other))
    with pytest.raises(RegistrationError, match="'m@1' is registered already, not trained: give"):
        train(db, settings, ask(tmp_path, "1"))


@pytest.mark.parametrize("moment", ["in the midst of writing", "between artefact and registration"])
def test_a_task_that_was_killed_is_done_anew_and_comes_to_the_same(
    db: Database, dsn: str, settings: Settings, tmp_path: Path, moment: str
) -> None:
    request = ask(tmp_path, as_of=now(db))
    reference = train(db, settings, replace(request, version="reference", target=str(tmp_path / "other")))

    def die(uri: str, content: IO[bytes]) -> None:
        if moment.startswith("in"):
            folder = Path(uri).parent
            folder.mkdir(parents=True)
            (folder / ".part-0").write_bytes(content.read(100))
        else:
            write_local(uri, content)
        os.kill(os.getpid(), signal.SIGKILL)

    pid = os.fork()
    if pid == 0:
        with connect(dsn) as conn:
            train(Database(conn, SCHEMA), settings, request, writer=die)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    assert "m@2" not in {v.label for v in registry.versions(db)}
    trained = train(db, settings, request)
    assert trained.artifact_sha256 == reference.artifact_sha256
    assert len(list((tmp_path / "models").glob("*.tar"))) == 1
    assert trainings(db)["m@2"] == trained


def test_what_cannot_be_trained_is_one_sentence(db: Database, settings: Settings, tmp_path: Path) -> None:
    sample_registry.put_version(db.conn, "m@labels", entrypoint="tests.cycle.test_training:NeedsLabels")
    (tmp_path / "file").write_text("")
    early = START - timedelta(days=30)
    cases: list[tuple[type[Exception], str, dict[str, Any]]] = [
        (RegistrationError, r"the data interval of m@2 is empty: \[2026-02-01T06.*, 2026", {"start": END}),
        (RegistrationError, "ends at 2026-02-01T06:00:00.*: must not end after 2026-01-02T0", {
            "as_of": sample_registry.SINCE + timedelta(days=1)}),
        (PlanError, "what is known at 2999-.* cannot be told yet", {
            "as_of": datetime(2999, 1, 1, tzinfo=UTC)}),
        (RegistrationError, "no cycle of 'fleet' has its window of 1:00:00 within", {
            "end": START + timedelta(minutes=50)}),
        (TerminalModelError, r"cycle 'fleet' has no input rows in \[2026-01-02.*, as of", {
            "start": early, "end": early + timedelta(hours=3)}),
        (TerminalModelError, "no label of cycle 'fleet' in .* was known at .*: NeedsLabels learns", {
            "base": "labels"}),
        (TerminalModelError, "m@2 was not trained: .*Echo has no training step", {"base": "1"}),
        (RegistrationError, "the version is .x.y..: must have no braces", {"version": "x{y}"}),
        (RegistrationError, "a version has 1 to 64 characters", {"version": ""}),
        (PlanError, "version 'm@nothing' is not registered", {"base": "nothing"}),
        (PlanError, "model 'n' is not registered", {"model_id": "n"}),
        (RegistrationError, "the target of m@2 is 'models': must be an absolute path, or begin", {
            "target": "models"}),
        (ArtifactError, "artefact '.*/file/m.*tar' cannot be written: File exists$", {
            "target": str(tmp_path / "file")}),
        (ArtifactError, "cannot be written: only files of this machine", {"target": "s3://bucket/models"}),
    ]  # fmt: skip
    for kind, sentence, changes in cases:
        with pytest.raises(kind, match=sentence) as caught:
            train(db, settings, ask(tmp_path, **changes))
        assert "\n" not in str(caught.value)
    assert [v.version for v in registry.versions(db, "m")] == ["1", "base", "labels"]
    registry.put_cycle(db, replace(registry.cycle_spec(db, "fleet"), input_query=None))
    with pytest.raises(RegistrationError, match="cycle 'fleet' has no input query: there is nothing"):
        train(db, settings, ask(tmp_path))


def test_of_two_trainings_at_once_the_first_to_be_registered_stays(
    db: Database, dsn: str, settings: Settings, tmp_path: Path
) -> None:
    request = ask(tmp_path, as_of=now(db))

    def write_later(uri: str, content: IO[bytes]) -> None:
        with connect(dsn) as conn:
            train(Database(conn, SCHEMA), settings, request, actor="first")
        write_local(uri, content)

    trained = train(db, settings, request, actor="second", writer=write_later)
    assert trained.actor == "first"
    assert trainings(db) == {"m@2": trained}


def test_a_connection_that_was_lost_while_it_trained_loses_nothing(
    db: Database, dsn: str, settings: Settings, tmp_path: Path
) -> None:
    def cut(uri: str, content: IO[bytes]) -> None:
        with connect(dsn) as conn:
            conn.execute("select pg_terminate_backend(%s)", (db.conn.info.backend_pid,))
        write_local(uri, content)

    trained = train(db, settings, ask(tmp_path), writer=cut)
    with connect(dsn) as conn:
        assert trainings(Database(conn, SCHEMA)) == {"m@2": trained}


@pytest.mark.parametrize(
    ("how", "kind", "sentence"),
    [
        ("hangs", TransientModelError, "had not ended after 2 s and was ended"),
        ("dies", TransientModelError, "its process was ended by SIGKILL"),
        ("waits", TransientModelError, "the feature store is away"),
        ("fails", TerminalModelError, "ValueError: no convergence"),
        ("takes memory", TerminalModelError, "MemoryError: it may allocate 256 MiB"),
        ("makes too much", TerminalModelError, "its artefact has 2.0 MiB: must have at most 1, ."),
        ("climbs", TerminalModelError, r"train returned '../m.bin': must be a plain name"),
        ("makes nothing", TerminalModelError, "train returned no files"),
        ("returns something else", TerminalModelError, "train returned dict, not TrainedModel"),
        ("writes", TerminalModelError, "read-only transaction"),
    ],
)
def test_a_training_step_is_confined_as_a_version_is(
    db: Database, settings: Settings, tmp_path: Path, how: str, kind: type[Exception], sentence: str
) -> None:
    entrypoint = "tests.cycle.test_training:Misbehaves"
    sample_registry.put_version(db.conn, "m@bad", entrypoint=entrypoint, how=how)
    bounds = replace(
        settings,
        training_timeout_s=2.0 if how == "hangs" else 20.0,
        inline_memory_mib=256,
        artifact_cache_mib=1,
    )
    with pytest.raises(kind, match=f"m@2 was not trained: .*{sentence}"):
        train(db, bounds, ask(tmp_path, base="bad"))
    assert "m@2" not in {v.label for v in registry.versions(db)}
    assert not (tmp_path / "models").exists()


def test_the_lineage_and_what_was_trained_stay_as_they_are(
    db: Database, settings: Settings, tmp_path: Path
) -> None:
    trained: Training = train(db, settings, ask(tmp_path))
    for statement in (
        "update detection.detection_trainings set seed = 2",
        "delete from detection.detection_trainings",
    ):
        with pytest.raises(
            psycopg.errors.RestrictViolation, match="lineage of a trained version cannot change"
        ):
            db.conn.execute(statement)
    with pytest.raises(RegistrationError, match="version 2 of model m was trained, its params"):
        registry.put_version(db, model_id="m", version="2", params={"kind": "plain"})
    assert trainings(db) == {"m@2": trained}


def test_a_query_that_sees_rows_that_came_later_is_named_in_a_warning(
    db: Database, settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train(db, settings, ask(tmp_path))
    assert "opened_at" not in caplog.text
    query = QUERY.replace("and loaded_at <= :opened_at", "")
    registry.put_cycle(db, replace(registry.cycle_spec(db, "fleet"), input_query=query))
    train(db, settings, ask(tmp_path, "3"))
    assert "the input query of fleet does not name :opened_at: rows that came after" in caplog.text
