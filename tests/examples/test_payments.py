"""The payments example: its models find the frauds that its generator plants, on a real Postgres."""

from __future__ import annotations

import filecmp
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import yaml

from airflow_detection.cycle import closing, inline, planning
from airflow_detection.cycle.training import train as train_version
from airflow_detection.cycle.training_plan import TrainingRequest
from airflow_detection.domain.settings import Settings
from airflow_detection.domain.specs import Mode, Outcome, Role
from airflow_detection.engine.artifacts import sha256_of
from airflow_detection.registration.apply import apply_file
from airflow_detection.snapshot import collector
from airflow_detection.snapshot.comparison import compare_versions
from airflow_detection.snapshot.rendering.html import render_html
from airflow_detection.snapshot.sections.catalog import sections
from airflow_detection.snapshot.verdicts.run_faults import is_wrong
from airflow_detection.store import label_file, registry
from airflow_detection.store.connection import Connection, connect
from airflow_detection.store.database import Database
from airflow_detection.store.migrations import migrate
from airflow_detection.store.partitions.create import ensure_cycle_months
from payments import generate, train

EXAMPLE = Path(__file__).parents[2] / "examples" / "payments"
DAY = date(2026, 1, 11)
MIDNIGHT = datetime(2026, 1, 11, tzinfo=UTC)
SETTINGS = Settings(allowed_prefixes=("payments",))
NOON = MIDNIGHT + timedelta(hours=12)
CYCLES = sorted(
    {MIDNIGHT + timedelta(minutes=minute) for minute in range(8 * 60, 22 * 60 + 1, 40)}
    | {NOON + timedelta(minutes=minute) for minute in range(0, 60, 5)}
)
"""Cycles whose windows cover the time of the frauds, and every one of an hour."""


@pytest.fixture(scope="module")
def payments(server: str) -> Iterator[Connection]:
    """A registry without a pack's tables, in which these cycles have run."""
    with connect(server) as conn:
        conn.execute("drop database if exists detection_payments with (force)")
        conn.execute("create database detection_payments")
    dsn = f"{server.replace('/postgres?', '/detection_payments?')}"
    with connect(dsn) as conn:
        db = Database(conn)
        migrate(db)
        apply_file(db, EXAMPLE / "registry.yaml")
        generate.load(dsn, generate.week(DAY)[0])
        for at in CYCLES:
            ensure_cycle_months(db, at)
            opened = planning.open_cycle(db, "payments", at, mode=Mode.AS_OF)
            for report in inline.run_steps(db, SETTINGS, opened, opened.steps):
                assert report.outcome is Outcome.SUCCEEDED, report.error
            closing.close_cycle(db, "payments", at, mode=Mode.AS_OF, task_states={})
        yield conn


def flagged(conn: Connection, model_id: str, above: float = 0.5) -> set[tuple[datetime, str]]:
    """Return the cycles and cards to which the champion gave more than a score."""
    return {*conn.execute(
        "select cycle_started_at, entity_id from detection.detection_output_scores"
        " where model_id = %s and role = 'PRIMARY' and score > %s",
        (model_id, above),
    ).fetchall()}  # fmt: skip


def test_each_kind_of_fraud_is_found_by_the_model_that_is_made_for_it(payments: Connection) -> None:
    frauds = generate.planted(DAY, seed=1)
    for model_id, kind in (("velocity", "tested"), ("unusual_amount", "stolen"), ("two_countries", "cloned")):
        cards = {fraud.card for fraud in frauds if fraud.kind == kind}
        found = {card for _, card in flagged(payments, model_id)}
        assert len(cards) == generate.FRAUDS_OF_A_KIND
        assert len(found & cards) >= len(cards) - 1, "one may lie in no window as a whole"
        assert found <= cards


def test_the_scores_put_together_find_nine_of_ten_frauds_and_raise_no_false_alarm(
    payments: Connection,
) -> None:
    spans = {fraud.card: fraud.span for fraud in generate.planted(DAY, seed=1)}
    found = flagged(payments, "fraud_score")
    right = {(at, card) for at, card in found if card in spans and spans[card][0] < at <= spans[card][1]}
    precision, recall = len(right) / len(found), len({card for _, card in right}) / len(spans)
    assert precision >= 0.95
    assert recall >= 0.9


def test_every_version_stands_well_in_the_report_which_knows_no_ship(payments: Connection) -> None:
    report = collector.take(Database(payments), sections(), start=NOON, end=NOON + timedelta(hours=1))
    assert [s.label for s in report.standings if s.is_bad] == []
    assert {s.label for s in report.standings} == {
        "fraud_score@1.0", "fraud_score@1.1", "two_countries@1.0", "unusual_amount@1.0", "velocity@1.0",
        "velocity@1.1",
    }  # fmt: skip
    assert not re.findall(r"\b(?:ships?|vessels?|AIS)\b", render_html(report.to_json()), re.IGNORECASE)


def test_the_labels_speak_for_the_champion(payments: Connection) -> None:
    db = Database(payments)
    loaded = label_file.load_labels(db, EXAMPLE / "labels.csv", cycle_id="payments", source="generator")
    assert str(loaded) == "38 rows read, 38 new, 0 known already"
    compared = compare_versions(
        db, "fraud_score@1.0", "fraud_score@1.1", start=MIDNIGHT, end=MIDNIGHT + timedelta(days=1)
    )
    assert compared.labelled is not None
    assert (compared.labelled.positives, compared.labelled.units) == (18, 38)
    champion = compared.labelled.first
    assert champion is not None
    assert (champion.false_positives, champion.true_negatives) == (0, 20)
    assert champion.true_positives >= 17


def test_a_model_that_the_script_has_trained_runs_beside_the_champion_and_a_wrong_export_is_told(
    dsn: str, tmp_path: Path
) -> None:
    rows, labels = train.examples(DAY - timedelta(days=1))
    forest = train.train(DAY - timedelta(days=1))
    right = train.write(tmp_path / "right", forest)
    train.write(tmp_path / "swapped", forest.fit(np.array(rows)[:, ::-1], labels))
    canaries = (
        tmp_path / "right" / "canaries.json"
    ).read_bytes()  # of what was trained, not of what was exported
    (tmp_path / "swapped" / "canaries.json").write_bytes(canaries)
    uri = f"{tmp_path}/swapped/"
    swapped = {**right, "role": "SHADOW", "artifact": {"uri": uri, "sha256": sha256_of(uri)}}
    content = yaml.safe_load((EXAMPLE / "registry.yaml").read_text())
    for name, version in (("2.0", right), ("2.1", swapped)):
        content["models"]["unusual_amount"]["versions"][name] = version | {"since": "2026-01-01T00:00:00Z"}
    (tmp_path / "registry.yaml").write_text(yaml.safe_dump(content))
    with connect(dsn) as conn:
        db = Database(conn)
        apply_file(db, tmp_path / "registry.yaml")
        week, frauds = generate.week(DAY)
        generate.load(dsn, week)
        stolen = next(f for f in frauds if f.kind == "stolen").payments[-1].paid_at
        at = stolen + timedelta(minutes=5) - timedelta(minutes=stolen.minute % 5, seconds=stolen.second)
        ensure_cycle_months(db, at)
        opened = planning.open_cycle(db, "payments", at, mode=Mode.AS_OF)
        settings = replace(SETTINGS, artifact_cache=tmp_path / "cache")
        reports = {r.version.label: r for r in inline.run_steps(db, settings, opened, opened.steps)}
        assert {r.error for r in reports.values()} == {None}
        challenger = reports["unusual_amount@2.0"]
        assert challenger.artifact_sha256 == right["artifact"]["sha256"]
        assert [c.name for c in challenger.canaries if is_wrong(c, 1e-4)] == []
        found = conn.execute(
            "select distinct entity_id from detection.detection_output_scores"
            " where version = '2.0' and score > 0.5 and entity_id = any (%s)",
            ([f.card for f in frauds if f.kind != "cloned" and f.span[0] < at <= f.span[1]],),
        ).fetchall()
        assert found
        closing.close_cycle(db, "payments", at, mode=Mode.AS_OF, task_states={})
        report = collector.take(db, sections(), start=at, end=at + timedelta(minutes=1))
        assert [s.label for s in report.standings if s.is_bad] == ["unusual_amount@2.1"]


def test_a_version_that_the_training_step_has_made_runs_beside_the_champion(dsn: str, tmp_path: Path) -> None:
    """It learns from a week whose frauds of the last day are known; those of another day are then found."""
    before = DAY - timedelta(days=1)
    with connect(dsn) as conn:
        db = Database(conn)
        apply_file(db, EXAMPLE / "registry.yaml")
        week, known = generate.week(before)
        generate.load(dsn, week)
        generate.write_labels(tmp_path / "labels.csv", before, known)
        label_file.load_labels(db, tmp_path / "labels.csv", cycle_id="payments", source="generator")
        request = TrainingRequest(
            model_id="unusual_amount", version="2.0", base="forest", start=MIDNIGHT - timedelta(days=7),
            end=MIDNIGHT, target=f"{tmp_path}/models",
        )  # fmt: skip
        settings = replace(SETTINGS, artifact_cache=tmp_path / "cache")
        trained = train_version(db, settings, request)
        assert trained.window_count == 7 * 24
        assert trained.label_count == 38
        assert trained.row_count == trained.metrics["payments"]
        assert trained.metrics["known_frauds"] > 0
        assert trained.metrics["auc"] > 0.8

        today, frauds = generate.week(DAY)
        stolen = next(fraud for fraud in frauds if fraud.kind == "stolen")
        at = registry.clock(db)
        shift = at - timedelta(minutes=5) - stolen.payments[-1].paid_at
        generate.load(dsn, [replace(payment, paid_at=payment.paid_at + shift) for payment in today])
        ensure_cycle_months(db, at)
        opened = planning.open_cycle(db, "payments", at, mode=Mode.AS_OF)
        reports = {r.version.label: r for r in inline.run_steps(db, settings, opened, opened.steps)}
        assert {r.error for r in reports.values()} == {None}
        challenger = reports["unusual_amount@2.0"]
        assert (challenger.version.role, challenger.artifact_sha256) == (
            Role.CHALLENGER, trained.artifact_sha256,
        )  # fmt: skip
        assert [(c.name, is_wrong(c, 1e-4)) for c in challenger.canaries] == [
            (f"canary:{name}", False) for name in ("usual", "large", "many")
        ]
        found = {row[0] for row in conn.execute(
            "select entity_id from detection.detection_output_scores where version = '2.0' and score > 0.5"
        )}  # fmt: skip
        assert stolen.card in found


def test_the_labels_of_the_example_are_those_of_the_generator(tmp_path: Path) -> None:
    generate.write_labels(tmp_path / "labels.csv", DAY, generate.planted(DAY, seed=1))
    assert filecmp.cmp(tmp_path / "labels.csv", EXAMPLE / "labels.csv", shallow=False)


def test_a_day_is_the_same_as_the_last_one_and_as_the_history_of_another() -> None:
    payments, frauds = generate.week(DAY)
    assert (payments, frauds) == generate.week(DAY)
    assert generate.week(DAY, seed=2)[0] != payments
    planted = {payment for fraud in frauds for payment in fraud.payments}
    later = {p for p in generate.week(DAY + timedelta(days=1))[0] if p.paid_at.date() == DAY}
    assert later == {p for p in payments if p.paid_at.date() == DAY} - planted
    assert len({p.payment_id for p in payments}) == len(payments)
