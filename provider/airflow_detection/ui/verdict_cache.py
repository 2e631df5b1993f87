"""Verdicts for pages: judged once, and again when something was written that they rest on.

To judge one cycle, the runs of many before it are judged: that takes longer than a page may.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from airflow_detection.config import thresholds
from airflow_detection.engine.flags import use_model_registry
from airflow_detection.snapshot.verdicts.kinds import Verdict
from airflow_detection.snapshot.verdicts.period import history_since, replay_verdicts, verdicts
from airflow_detection.store import pages, registry
from airflow_detection.store.database import Database

MAX_KEPT = 64
"""Periods whose verdicts one process keeps."""
Judged = Sequence[tuple[Verdict, bool]]
"""Verdicts, each with whether it is of a replay."""

_LOCK = threading.Lock()
_KEPT: OrderedDict[tuple[Any, ...], tuple[str, Judged]] = OrderedDict()  # Any: what is asked for


def judged(
    db: Database,
    cycle_id: str,
    *,
    start: datetime,
    end: datetime,
    replayed: Sequence[int] = (),
    model_id: str | None = None,
) -> Judged:
    """Return the verdicts on the live runs of a cycle in [start, end), UTC, and on replays of some versions.

    Args:
        model_id: of this model alone.

    Raises:
        RegistryUnavailable: the database did not answer.
    """
    limits, flag = thresholds(), use_model_registry()
    since = history_since(registry.cycle_spec(db, cycle_id), start, limits)
    basis = pages.verdict_basis(db, cycle_id, since, end)
    where = (db.conn.info.host, db.conn.info.port, db.conn.info.dbname, db.schema)
    key = (*where, cycle_id, model_id, start, end, tuple(sorted(replayed)), limits, flag)
    with _LOCK:
        found = _KEPT.get(key)
        if found is not None and found[0] == basis:
            _KEPT.move_to_end(key)
            return found[1]
    live = verdicts(
        db, start=start, end=end, thresholds=limits, use_model_registry=flag, cycle_id=cycle_id,
        model_id=model_id,
    )  # fmt: skip
    replays = replay_verdicts(db, cycle_id, replayed, start=start, end=end, thresholds=limits)
    answer = [(verdict, False) for verdict in live] + [(verdict, True) for verdict in replays]
    with _LOCK:
        _KEPT[key] = (basis, answer)
        while len(_KEPT) > MAX_KEPT:
            _KEPT.popitem(last=False)
    return answer
