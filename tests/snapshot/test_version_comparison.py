"""Two versions compared over past cycles: replays, labels as known at an instant, one unit a label."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from sklearn.metrics import average_precision_score, f1_score, precision_score, recall_score
from tests.snapshot.manifests import FIRST, SCHEMA, STEP, ManifestHistory

from airflow_detection.domain.reports import CanaryResult, RunReport
from airflow_detection.domain.specs import Mode, Outcome
from airflow_detection.errors import PlanError
from airflow_detection.evidence.comparison import VersionComparison
from airflow_detection.evidence.gate import log_e
from airflow_detection.snapshot.comparison import compare_versions
from airflow_detection.snapshot.comparison_report import comparison_report
from airflow_detection.snapshot.rendering.html import render_html
from airflow_detection.snapshot.rendering.terminal import print_report
from airflow_detection.store.connection import Connection, connect
from airflow_detection.store.database import Database
from airflow_detection.store.grants import grant
from airflow_detection.store.labels import Label, add_labels, known_instant

Scores = Mapping[str, float | None] | Sequence[tuple[str, float | None]]
HOSTILE = "<script>alert('x')</script>\x1b[2J{{ 7*7 }}"


class Planted:
    """A cycle in which `tracks@1` is champion and `tracks@2` a shadow, with the scores that a test plants."""

    def __init__(self, conn: Connection) -> None:
        self.history = ManifestHistory(conn)
        self.db = Database(conn, SCHEMA)

    def run(
        self,
        number: int,
        label: str,
        scores: Scores,
        *,
        is_replay: bool = False,
        ms: float = 100.0,
        off: float = 0.0,
    ) -> None:
        """Store the outputs of one version in one cycle."""
        mode = {"mode": Mode.OVERRIDE, "replay": [label]} if is_replay else {}
        opened = self.history.open(number, **mode)
        version = next(v for v in opened.steps if v.label == label and v.is_replay == is_replay)
        pairs = scores.items() if isinstance(scores, Mapping) else scores
        outputs = [({"id": e}, {"id": e, "score": s}) for e, s in pairs]
        report = RunReport(
            version=version, outcome=Outcome.SUCCEEDED, started_at=datetime.now(UTC), duration_ms=ms,
            input_count=100, input_digest=f"{number:064}", output_count=len(outputs),
            newest_input_at=opened.cycle.started_at - timedelta(seconds=9),
            canaries=(CanaryResult(name="-1", expected=0.5, observed=0.5 + off),),
        )  # fmt: skip
        model = opened.plan.models[version.model_id]
        self.history.store.save(model, version, opened.cycle, outputs, lambda _: (report, {}))

    def fail(self, number: int, label: str) -> None:
        opened = self.history.open(number)
        version = next(v for v in opened.steps if v.label == label)
        report = RunReport(version=version, outcome=Outcome.FAILED, started_at=datetime.now(UTC), error="no")
        self.history.store.save_failure(opened.plan.models["tracks"], version, opened.cycle, report)

    def both(self, number: int, first: Scores, second: Scores) -> None:
        self.run(number, "tracks@1", first)
        self.run(number, "tracks@2", second)

    def label(
        self,
        entity_id: str,
        is_positive: bool | None,  # noqa: FBT001 - as in a file
        cycles: tuple[int, int] = (0, 1000),
        **fields: Any,
    ) -> None:
        start, end = (FIRST + n * STEP for n in cycles)
        label = Label(
            cycle_id="fleet", entity_id=entity_id, is_positive=is_positive, valid_from=start, valid_to=end,
            source="desk", **fields,
        )  # fmt: skip
        assert add_labels(self.db, [label]) == 1

    def compare(self, **options: Any) -> VersionComparison:
        return compare_versions(self.db, "tracks@1", "tracks@2", **options)


@pytest.fixture
def planted(database: Connection) -> Planted:
    return Planted(database)


@pytest.mark.parametrize("seed", range(2))
def test_figures_beside_labels_equal_those_of_scikit_learn(planted: Planted, seed: int) -> None:
    """A unit's score is the highest in its interval; the same is computed here in memory."""
    rng = np.random.default_rng(seed)
    entities = [f"e{n}" for n in range(60)]
    cycles: list[tuple[dict[str, float | None], dict[str, float | None]]] = []
    for number in range(6):
        scores = tuple(
            {
                e: None if rng.random() < 0.1 else round(float(rng.random()), 3)
                for e in entities
                if rng.random() < 0.8
            }
            for _ in range(2)
        )
        cycles.append((scores[0], scores[1]))
        planted.both(number, *scores)
    truths = {}
    for entity in entities:
        start = int(rng.integers(0, 5))
        span = (start, int(rng.integers(start + 1, 8)))
        truths[entity] = (bool(rng.random() < 0.4), span)
        planted.label(entity, truths[entity][0], span)
    planted.label("nowhere", True, (100, 200))
    planted.label("unseen", True, (0, 6))

    def best(side: int, entity: str, span: tuple[int, int]) -> float:
        seen = [cycles[n][side].get(entity) for n in range(span[0], min(span[1], 6))]
        return max((s for s in seen if s is not None), default=-1.0)

    truth = [is_positive for is_positive, _ in truths.values()] + [True]
    c = planted.compare()
    assert c.labelled is not None
    assert c.gate is not None
    sides = [[*(best(side, e, span) for e, (_, span) in truths.items()), -1.0] for side in (0, 1)]
    for record, scores in zip((c.labelled.first, c.labelled.second), sides, strict=True):
        flagged = [s > 0.5 for s in scores]
        assert record.precision.value == pytest.approx(precision_score(truth, flagged))
        assert record.recall.value == pytest.approx(recall_score(truth, flagged))
        assert record.f1.value == pytest.approx(f1_score(truth, flagged))
        assert record.average_precision.value == pytest.approx(average_precision_score(truth, scores))
        assert record.unscored == scores.count(-1.0)
    right = [np.array([(s > 0.5) == t for s, t in zip(scores, truth, strict=True)]) for scores in sides]
    wins, losses = int((right[1] & ~right[0]).sum()), int((right[0] & ~right[1]).sum())
    assert (c.labelled.only_second_right, c.labelled.only_first_right) == (wins, losses)
    assert (c.gate.wins, c.gate.losses, c.gate.units) == (wins, losses, 61)
    assert c.gate.log_e == pytest.approx(float(log_e(wins, losses)))
    assert c.labelled.units == 61


def test_one_label_is_one_unit_in_however_many_cycles_it_is_flagged(planted: Planted) -> None:
    for number in range(12):
        planted.both(number, {"a": 0.1}, {"a": 0.9})
    planted.label("a", True)
    c = planted.compare()
    assert c.agreement.newly_flagged == 12
    assert c.gate is not None
    assert (c.gate.units, c.gate.wins, c.gate.losses) == (1, 1, 0)


def test_of_overlapping_labels_of_an_entity_one_counts(planted: Planted) -> None:
    for number in range(4):
        planted.both(number, {"a": 0.1, "b": 0.1}, {"a": 0.9, "b": 0.9})
    planted.label("a", True, (0, 4), model_id="tracks")
    planted.label("a", False, (1, 9))
    planted.label("a", False, (2, 9), model_id="spoofing")
    planted.label("b", False, (0, 3))
    planted.label("b", True, (2, 4))
    planted.label("b", False, (4, 9))
    c = planted.compare()
    assert c.labelled is not None
    assert (c.labelled.units, c.labelled.positives, c.labelled.overlapped) == (2, 2, 2)
    assert c.labelled.only_second_right == 2


def test_labels_count_as_known_at_the_instant(planted: Planted) -> None:
    planted.both(0, {"a": 0.9, "b": 0.1}, {"a": 0.1, "b": 0.9})
    nothing = known_instant(planted.db)
    planted.label("a", True)
    one = known_instant(planted.db)
    planted.label("b", True)
    two = known_instant(planted.db)
    planted.label("a", False)
    planted.label("b", None)
    found = [planted.compare(known_at=at) for at in (nothing, one, two, None)]
    assert found[0].labelled is None
    assert found[0].gate is None
    assert [(c.gate.wins, c.gate.losses) for c in found[1:] if c.gate] == [(0, 1), (1, 1), (1, 0)]
    assert [c.known_at for c in found[:3]] == [nothing, one, two]
    assert planted.compare(known_at=one) == found[1]


def test_runs_count_as_known_at_the_instant(planted: Planted) -> None:
    planted.both(0, {"a": 0.9}, {"a": 0.9})
    planted.both(1, {"a": 0.9}, {"a": 0.1})
    before = known_instant(planted.db)
    planted.both(2, {"a": 0.9}, {"a": 0.9})
    planted.run(1, "tracks@2", {"a": 0.8})
    assert planted.compare().cycles == 3
    then = planted.compare(known_at=before)
    assert (then.cycles, then.only_first_cycles, then.end) == (1, 1, before)


def test_replays_count_and_are_marked_and_the_live_run_comes_first(planted: Planted) -> None:
    """A challenger that was never live gets its history by a replay; a success comes before a failure."""
    for number in range(5):
        planted.run(number, "tracks@1", {"a": 0.9})
    planted.run(0, "tracks@2", {"a": 0.9})
    planted.run(0, "tracks@2", {"a": 0.1}, is_replay=True)
    planted.run(1, "tracks@2", {"a": 0.1}, is_replay=True)
    planted.fail(2, "tracks@2")
    planted.run(2, "tracks@2", {"a": 0.1}, is_replay=True)
    planted.fail(3, "tracks@2")
    c = planted.compare()
    assert (c.cycles, c.replayed, c.only_first_cycles, c.only_second_cycles) == (3, 2, 2, 0)
    assert (c.agreement.both_flagged, c.agreement.lost) == (1, 2)
    second = c.second
    assert (second.cycles, second.replays, second.succeeded, second.failed) == (4, 2, 3, 1)
    assert (c.first.cycles, c.first.replays) == (5, 0)
    planted.label("a", True)
    labelled = planted.compare(start=FIRST + STEP).labelled
    assert labelled is not None
    assert labelled.only_first_right == 1


def test_duplicates_nulls_and_disjoint_entities(planted: Planted) -> None:
    """The highest score of an entity counts; a null score and no output flag nothing."""
    planted.both(
        0,
        [("twice", 0.2), ("twice", 0.8), ("twice", None), ("null", None), ("mine", 0.9)],
        [("twice", 0.7), ("null", 0.9), ("yours", 0.1), ("yours", 0.9)],
    )
    c = planted.compare()
    a = c.agreement
    assert (a.entities, a.in_both, a.only_primary, a.only_shadow) == (4, 2, 1, 1)
    assert (a.both_flagged, a.null_in_primary, a.flagged_unseen, a.lost_unseen) == (1, 1, 2, 1)
    assert (c.first.alerts, c.second.alerts) == (2, 3)
    for entity in ("twice", "null", "mine", "yours"):
        planted.label(entity, True)
    labelled = planted.compare().labelled
    assert labelled is not None
    assert (labelled.both_right, labelled.only_first_right, labelled.only_second_right) == (1, 1, 2)
    assert (labelled.first.unscored, labelled.second.unscored) == (2, 1)
    assert {(e.entity_id, e.first_score, e.second_score) for e in labelled.won_examples} == {
        ("null", None, 0.9), ("yours", None, 0.9),
    }  # fmt: skip


def test_versions_that_share_no_entity_agree_on_nothing(planted: Planted) -> None:
    planted.both(0, {"a": 0.9}, {"b": 0.9})
    a = planted.compare().agreement
    assert (a.in_both, a.coverage, a.kappa, a.jaccard, a.p99_difference) == (0, 0.0, None, None, None)


def test_the_period_is_half_open_and_may_be_empty_of_cycles(planted: Planted) -> None:
    for number in range(4):
        planted.both(number, {"a": 0.9}, {"a": 0.9})
    c = planted.compare(start=FIRST + STEP, end=FIRST + 3 * STEP)
    assert (c.cycles, c.first_cycle, c.last_cycle) == (2, FIRST + STEP, FIRST + 2 * STEP)
    none = planted.compare(start=FIRST - STEP, end=FIRST)
    assert (none.cycles, none.first_cycle, none.labelled, none.first.median_ms) == (0, None, None, None)


def test_the_records_have_durations_canaries_and_verdicts(planted: Planted) -> None:
    for number in range(20):
        planted.run(number, "tracks@1", {"a": 0.9}, ms=100 + number)
        planted.run(number, "tracks@2", {"a": 0.9}, ms=300, off=0.2 if number == 15 else 0.0)
    planted.fail(20, "tracks@1")
    c = planted.compare()
    assert (c.first.median_ms, c.second.median_ms) == (109.5, 300)
    assert c.first.p95_ms == pytest.approx(np.quantile(np.arange(100, 120), 0.95))
    assert (c.first.canaries, c.first.wrong_canaries) == (20, 0)
    assert (c.second.canaries, c.second.wrong_canaries) == (20, 1)
    assert c.second.last_wrong_canary == f"-1 at {(FIRST + 15 * STEP).isoformat()}"
    assert c.second.verdicts["SILENT_FAULT"] == 1
    assert c.second.last_bad_verdict is not None
    assert (c.second.last_bad_verdict.kind, c.second.last_bad_verdict.is_replay) == ("SILENT_FAULT", False)
    assert c.first.verdicts["FAILED"] == 1
    assert c.first.cycles_since_bad == 0
    assert (c.first.role, c.second.role) == ("PRIMARY", "SHADOW")


def test_a_cycle_that_was_never_opened_says_nothing_of_either(planted: Planted) -> None:
    for number in (*range(3), *range(1000, 1003)):  # a day of the past, and today
        planted.run(number, "tracks@1", {"a": 0.9})
        if number != 1001:
            planted.run(number, "tracks@2", {"a": 0.9})
    planted.db.conn.execute("update detection.detection_cycle_runs set closed_at = now()")
    c = planted.compare()
    assert (c.first.judged, c.first.last_bad_verdict) == (6, None)
    assert c.second.last_bad_verdict is not None
    assert c.second.last_bad_verdict.at == FIRST + 1001 * STEP, "it was planned there, and did not run"
    assert (c.second.judged, c.second.verdicts["DID_NOT_RUN"]) == (6, 1)


def test_replays_are_judged_too(planted: Planted) -> None:
    for number in range(6):
        planted.run(number, "tracks@1", {"a": 0.9})
        planted.run(number, "tracks@2", {"a": 0.9}, is_replay=True, off=0.2 if number == 3 else 0.0)
    second = planted.compare().second
    assert (second.judged, second.cycles_since_bad) == (6, 2)
    assert second.last_bad_verdict is not None
    assert second.last_bad_verdict.is_replay
    assert second.last_bad_verdict.reason.startswith("canary -1: expected 0.5, got 0.7")


@pytest.mark.parametrize(
    ("first", "second", "options", "reason"),
    [
        ("tracks@1", "tracks@1", {}, "tracks@1 cannot be compared with itself"),
        ("tracks@1", "spoofing@1", {}, "tracks@1 and spoofing@1 are versions of different models"),
        ("tracks@1", "tracks@9", {}, "version 'tracks@9' is not registered"),
        ("tracks", "tracks@2", {}, "'tracks' names no version: write model@version"),
        ("tracks@1", "tracks@2", {"start": FIRST, "end": FIRST}, "the period is empty"),
        ("tracks@1", "tracks@2", {"known_at": datetime(2999, 1, 1, tzinfo=UTC)}, "cannot be told yet"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    planted: Planted, first: str, second: str, options: dict[str, Any], reason: str
) -> None:
    with pytest.raises(PlanError, match=reason):
        compare_versions(planted.db, first, second, **options)


def test_a_role_that_may_only_read_compares(planted: Planted, dsn: str) -> None:
    planted.both(0, {"a": 0.1}, {"a": 0.9})
    planted.label("a", True)
    grant(planted.db)
    at = known_instant(planted.db)
    with connect(dsn) as conn:
        conn.execute("select set_config('role', 'detection_reader', false)")
        own = compare_versions(Database(conn, SCHEMA), "tracks@1", "tracks@2", known_at=at)
    assert own == planted.compare(known_at=at)


def test_the_page_and_the_terminal_escape_what_others_wrote(planted: Planted) -> None:
    planted.both(0, {HOSTILE: 0.1, "b": 0.9}, {HOSTILE: 0.9, "b": 0.2})
    planted.label(HOSTILE, True)
    planted.label("b", False)
    stored = comparison_report(planted.compare(), schema=SCHEMA).to_json()
    page = render_html(stored)
    assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;" in page
    assert "<script" not in page
    assert set(re.findall(r"https?://[\w.]+", page)) <= {"http://www.w3.org"}
    assert "prefers-color-scheme:dark" in page
    assert "<svg" in page
    assert "Wilson (1927)" in page
    console = Console(width=200, record=True, file=io.StringIO())
    print_report(stored, console)
    assert "\x1b[2J" not in console.export_text()
    assert "tracks@2 is right more often" in page
    assert "May tracks@2 take the place of tracks@1?" in page


def test_a_figure_of_the_gate_stands_with_its_unit(planted: Planted) -> None:
    planted.both(0, {"a": 0.1, "b": 0.9}, {"a": 0.9, "b": 0.2})
    report = comparison_report(planted.compare(), schema=SCHEMA)
    (table,) = report.section("gate").tables
    figures = {row[0]: row[2] for row in table.rows}
    assert figures["cycles"] == "1 cycles"
    assert figures["coverage"] == "1 of the entities"
    assert figures["alert volume"] == "1 times the champion's"
    assert (figures["canaries"], figures["evidence"]) == ("0 wrong", None)


def test_the_json_of_equal_comparisons_is_equal_and_has_the_figures(planted: Planted) -> None:
    planted.both(0, {"a": 0.1, "b": 0.9}, {"a": 0.9, "b": 0.2})
    planted.label("a", True)
    at = known_instant(planted.db)
    texts = {
        json.dumps(planted.compare(known_at=at).to_json(), allow_nan=False, sort_keys=True) for _ in "ab"
    }
    assert len(texts) == 1
    value = json.loads(texts.pop())
    assert value["known_at"] == at.isoformat()
    assert value["agreement"]["kappa"] == -1.0
    assert value["labelled"]["second"]["recall"] == {
        "value": 1.0,
        "low": pytest.approx(0.2065, abs=1e-4),
        "high": 1.0,
    }
    assert value["gate"]["e"] == pytest.approx(1.5)
    assert value["format_version"] == 1
    states = {condition["name"]: condition["state"] for condition in value["decision"]["conditions"]}
    assert (states["cycles"], states["evidence"], states["coverage"]) == ("failed", "failed", "passed")
    assert value["decision"]["has_passed"] is False
