"""The evidence of the demo: labels of the day, what they say of a challenger, and a promotion asked for.

What is true of a simulated day is in the file beside it. Of a real day nobody has told: what its positions
show clearly over six hours is taken as known (`known_cases` in `queries.sql`), and nothing else.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from airflow_detection.maritime.simulation.day import truth_path
from airflow_detection.promotion.judgement import Judgement, judge
from airflow_detection.store import promotions, registry
from airflow_detection.store.database import Database
from airflow_detection.store.labels import Label, add_labels
from airflow_detection.store.promotions import State
from demo.api import Airflow
from demo.detection import CYCLE_ID, INTERVAL, SCHEMA, connection, statement
from demo.errors import DemoError

MODEL = "spoofing"
CHALLENGER = "spoofing@2.0"
DAG_ID = "detection_promotion"
WATCH_HOURS = 1
REASON = "Speed limits by type of vessel: a tanker at 45 knots is no tanker."
POSITIVE = ("jumpers", "twins", "too_fast")
LEFT_OUT = ("impossible_identities",)
"""A wrong identity, whose track is right: no label says that it is spoofing, or that it is not."""
LOOKBACK = timedelta(hours=1)
KNOWN_AFTER = timedelta(hours=6)


def plant_labels(dsn: str, path: Path, cycles: Sequence[datetime]) -> str:
    """Add the labels of a loaded day; return a few words about them."""
    truth = truth_path(path)
    with connection(dsn) as conn:
        if truth.exists():
            planted = json.loads(truth.read_text())
            start = datetime.fromisoformat(planted["start"])
            end = start + timedelta(hours=planted["hours"])
            rows = conn.execute(statement("vessels"), {"start": start, "end": end})
            labels = list(simulated_labels(planted, [int(mmsi) for (mmsi,) in rows]))
        else:
            start, end = cycles[-1] - KNOWN_AFTER, cycles[-1]
            rows = conn.execute(statement("known_cases"), {"start": start, "end": end})
            labels = [
                _label(mmsi, start, end + INTERVAL, is_positive=is_positive, source="positions")
                for mmsi, is_positive in rows
            ]
        new = add_labels(Database(conn, SCHEMA), labels, actor="demo")
    positive = sum(bool(label.is_positive) for label in labels)
    return f"{len(labels)} of {MODEL}, {positive} positive, {new} new"


def simulated_labels(truth: dict[str, Any], vessels: Sequence[int]) -> Iterator[Label]:  # Any: JSON values
    """Yield a label for each vessel of a simulated day whose truth is known all the time, and each clone."""
    start = datetime.fromisoformat(truth["start"])
    end = start + timedelta(hours=truth["hours"]) + LOOKBACK
    positive = {mmsi for kind in POSITIVE for mmsi in truth.get(kind, ())}
    clones = [scene for scene in truth["scenes"] if scene["kind"] == "clone_once"]
    left_out = {mmsi for kind in LEFT_OUT for mmsi in truth[kind]} | {clone["mmsis"][0] for clone in clones}
    for mmsi in vessels:
        if mmsi not in left_out:
            yield _label(mmsi, start, end, is_positive=mmsi in positive, source="simulation")
    for clone in clones:
        first, last = (datetime.fromisoformat(clone[name]) for name in ("started_at", "ended_at"))
        yield _label(clone["mmsis"][0], first, last + LOOKBACK, is_positive=True, source="simulation")


def _label(mmsi: int, start: datetime, end: datetime, *, is_positive: bool, source: str) -> Label:
    return Label(
        cycle_id=CYCLE_ID,
        model_id=MODEL,
        entity_id=str(mmsi),
        valid_from=start,
        valid_to=end,
        is_positive=is_positive,
        source=source,
    )


def challenger(dsn: str) -> Judgement | None:
    """Return the challenger beside the champion, judged; None where an earlier demo has made it PRIMARY."""
    with connection(dsn) as conn:
        db = Database(conn, SCHEMA)
        version = registry.named_versions(db, [CHALLENGER])[0]
        if promotions.champion_id(db, MODEL) == version.version_id:
            return None
        return judge(db, CHALLENGER)


def summary(judgement: Judgement | None) -> str:
    """Say in a few words what was compared."""
    if judgement is None:
        return f"{CHALLENGER} is PRIMARY: `airflow detection rollback {MODEL}` takes that back"
    c = judgement.comparison
    return f"{c.second.label} beside {c.first.label}, {c.cycles} cycles"


def ask(dsn: str, airflow: Airflow) -> str:
    """Ask for the promotion of the challenger as the user of `airflow`; return the id of the Dag's run.

    A request that an earlier demo has left is withdrawn, and its run ended.
    """
    with connection(dsn) as conn:
        db = Database(conn, SCHEMA)
        for left in promotions.promotions(db, model_id=MODEL, is_under_way=True):
            promotions.record(db, left.promotion_id, State.WITHDRAWN, actor="demo", reason="asked for anew")
    airflow.unpause(DAG_ID)
    airflow.end_running(DAG_ID)
    run_id = f"demo-{uuid.uuid4().hex[:8]}"
    conf = {"version": CHALLENGER, "reason": REASON, "watch_hours": WATCH_HOURS}
    airflow.trigger(DAG_ID, run_id, conf)
    return run_id


def waits(airflow: Airflow, run_id: str) -> bool:
    """Tell whether the run waits for a person.

    Raises:
        DemoError: it has failed.
    """
    states = dict(airflow.task_states(DAG_ID, run_id))
    if states.get("approve") == "failed":
        raise DemoError(f"the promotion of {CHALLENGER} cannot be asked for: see the log of {run_id}")
    return states.get("approve") == "awaiting_input"


def page(address: str, run_id: str) -> str:
    """Return the address of the page on which a person answers."""
    return f"{address}/dags/{DAG_ID}/runs/{run_id}/tasks/approve/required_actions"
