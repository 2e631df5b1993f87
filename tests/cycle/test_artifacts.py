"""Versions that are made of a file, against a real Postgres and in processes of their own."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import pytest
from tests import sample_registry
from tests.sample_registry import AT, SCHEMA

from airflow_detection.cycle import inline, planning
from airflow_detection.cycle.task import run_task
from airflow_detection.cycle.versions import VersionRequest
from airflow_detection.domain.reports import RunReport
from airflow_detection.domain.settings import Settings
from airflow_detection.domain.specs import Artifact, Mode, Outcome, Role
from airflow_detection.engine.artifact_files import open_local
from airflow_detection.engine.model import BaseDetectionModel, ModelContext, ModelResult
from airflow_detection.store import listings
from airflow_detection.store.database import Database

MODEL = "tests.cycle.test_artifacts:ReadsFile"


class ReadsFile(BaseDetectionModel):
    """One output with what its file says, and the processes that loaded it and that run."""

    @classmethod
    def load(cls, path: Path, params: Any) -> dict[str, Any]:
        text = path.read_text()
        with path.parent.with_name("loads").open("a") as file:
            file.write(f"{text} {os.getpid()}\n")
        return {"score": float(text), "pid": os.getpid()}

    def run(self, ctx: ModelContext) -> ModelResult:
        assert self.artifact is not None
        assert not os.access(self.artifact, os.W_OK) or os.geteuid() == 0
        pids = {"loaded_by": self.loaded["pid"], "own": os.getpid(), "parent": os.getppid()}
        return ModelResult(outputs_per_input=[({}, {"id": "x", "score": self.loaded["score"], **pids})])


def artifact_of(path: Path, content: bytes) -> Artifact:
    path.write_bytes(content)
    return Artifact(uri=str(path), sha256=hashlib.sha256(content).hexdigest())


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(allowed_prefixes=("tests",), inline_timeout_s=20, artifact_cache=tmp_path / "cache")


def register(conn: Any, artifact: Artifact, **others: Artifact) -> None:
    sample_registry.put_cycle(conn)
    sample_registry.put_model(conn, "m", entrypoint=MODEL)
    sample_registry.put_version(conn, "m@1", Role.PRIMARY, artifact=artifact)
    for version, other in others.items():
        sample_registry.put_version(conn, f"m@{version}", Role.SHADOW, artifact=other)
    planning.open_cycle(Database(conn, SCHEMA), "fleet", AT, mode=Mode.AS_OF)


def run_inline(conn: Any, settings: Settings, **options: Any) -> dict[str, RunReport]:
    report = inline.run_inline(Database(conn, SCHEMA), settings, "fleet", AT, mode=Mode.AS_OF, **options)
    return {r.version.version: r for r in report.reports}


def run_one(conn: Any, settings: Settings, version: str = "1", **options: Any) -> RunReport:
    request = VersionRequest(model_id="m", version=version, cycle_id="fleet", started_at=AT)
    return run_task(Database(conn, SCHEMA), settings, request, **options)


def stored(conn: Any) -> dict[str, tuple[Any, ...]]:
    rows = conn.execute(
        "select version, r.artifact_sha256, outputs from detection.detection_model_runs r"
        " join detection.detection_model_versions v using (version_id)"
        " left join detection.detection_model_run_outputs o using (version_id)"
    ).fetchall()
    return {version: (digest, outputs) for version, digest, outputs in rows}


def test_an_inline_cycle_loads_a_champions_artefact_once_before_it_forks(
    database: Any, settings: Settings, tmp_path: Path
) -> None:
    mine, other = artifact_of(tmp_path / "a", b"0.5"), artifact_of(tmp_path / "b", b"0.75")
    register(database, mine, same=mine, other=other)
    reports = run_inline(database, settings)
    assert {r.error for r in reports.values()} == {None}
    rows = stored(database)
    assert {version: row[0] for version, row in rows.items()} == {
        "1": mine.sha256, "same": mine.sha256, "other": other.sha256,
    }  # fmt: skip
    outputs = {version: row[1] for version, row in rows.items()}
    assert {version: output["score"] for version, output in outputs.items()} == {
        "1": 0.5, "same": 0.5, "other": 0.75,
    }  # fmt: skip
    assert outputs["1"]["loaded_by"] == outputs["same"]["loaded_by"] == os.getpid()
    assert outputs["other"]["loaded_by"] == outputs["other"]["own"], "a shadow's is loaded in its own process"
    assert len((tmp_path / "loads").read_text().splitlines()) == 2
    (champion, *_) = listings.runs(Database(database, SCHEMA), "fleet", AT)
    assert champion["artifact_sha256"] == mine.sha256
    recorded = database.execute("select plan from detection.detection_cycle_runs").fetchone()[0]
    assert mine.sha256 in str(recorded)


def test_a_version_without_an_artefact_has_none_in_its_plan_and_its_manifest(
    database: Any, settings: Settings
) -> None:
    sample_registry.register(database)
    planning.open_cycle(Database(database, SCHEMA), "fleet", AT, mode=Mode.AS_OF)
    run_inline(database, settings)
    plan, digests = database.execute(
        "select (select plan::text from detection.detection_cycle_runs),"
        " array(select distinct artifact_sha256 from detection.detection_model_runs)"
    ).fetchone()
    assert "artifact" not in plan
    assert digests == [None]
    assert not settings.artifact_cache.exists()


@contextmanager
def away(_: str) -> Iterator[IO[bytes]]:
    raise ConnectionError("the bucket does not answer")
    yield


def test_a_champion_whose_bucket_is_away_runs_from_the_cache(
    database: Any, settings: Settings, tmp_path: Path
) -> None:
    artifact = replace(artifact_of(tmp_path / "a", b"0.5"), uri="s3://models@bucket/a")
    register(database, artifact)
    failed = run_one(database, settings, opener=away)
    assert (failed.outcome, failed.is_transient) == (Outcome.FAILED, True)
    assert failed.error == (
        "ArtifactUnavailable: artefact 's3://models@bucket/a' cannot be read: the bucket does not answer"
    )
    assert stored(database)["1"][0] is None

    @contextmanager
    def bucket(_: str) -> Iterator[IO[bytes]]:
        with open_local(str(tmp_path / "a")) as file:
            yield file

    assert run_one(database, settings, opener=bucket).error is None
    assert run_one(database, settings, opener=away).error is None
    assert run_inline(database, settings, opener=away)["1"].error is None


@pytest.mark.parametrize("run", [run_one, lambda *args, **options: run_inline(*args, **options)["1"]])
def test_a_wrong_digest_fails_the_version_and_names_both(
    database: Any, settings: Settings, tmp_path: Path, run: Any
) -> None:
    artifact = artifact_of(tmp_path / "a", b"0.5")
    register(database, artifact)
    (tmp_path / "a").write_bytes(b"0.")
    report = run(database, settings)
    assert (report.outcome, report.is_transient) == (Outcome.FAILED, False)
    found = hashlib.sha256(b"0.").hexdigest()
    assert str(report.error) == (
        f"ArtifactError: artefact '{tmp_path}/a' has sha256 {found} (2 bytes),"
        f" registered is {artifact.sha256}"
    )


def test_a_shadow_whose_artefact_does_not_come_costs_the_champion_nothing(
    database: Any, settings: Settings, tmp_path: Path
) -> None:
    hung = Artifact(uri="s3://models@bucket/b", sha256="0" * 64)
    register(database, artifact_of(tmp_path / "a", b"0.5"), hung=hung)

    @contextmanager
    def hangs(uri: str) -> Iterator[IO[bytes]]:
        if uri != hung.uri:
            with open_local(uri) as file:
                yield file
        else:
            time.sleep(60)

    reports = run_inline(database, replace(settings, inline_timeout_s=1), opener=hangs)
    assert reports["1"].error is None
    assert reports["hung"].error == (
        "ArtifactUnavailable: artefact 's3://models@bucket/b' cannot be read: it was not here after 1 s"
    )


class NeedsFile(ReadsFile):
    """Loads what it was not given."""

    def run(self, ctx: ModelContext) -> ModelResult:
        return ModelResult(metrics={"score": self.loaded["score"]})


def test_a_model_that_needs_an_artefact_and_has_none_says_so(database: Any, settings: Settings) -> None:
    sample_registry.put_cycle(database)
    sample_registry.put_model(database, "m", entrypoint="tests.cycle.test_artifacts:NeedsFile")
    sample_registry.put_version(database, "m@1", Role.PRIMARY)
    planning.open_cycle(Database(database, SCHEMA), "fleet", AT, mode=Mode.AS_OF)
    assert run_one(database, settings).error == "TerminalModelError: m@1 has no artefact: its class needs one"
