"""Two versions of a model, compared: one value for the command line, the hook, the page and the gate."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from datetime import datetime
from typing import Any

from airflow_detection.evidence.agreement import Comparison
from airflow_detection.evidence.gate import GateReading
from airflow_detection.evidence.labelled import LabelledComparison
from airflow_detection.evidence.policy import GateDecision

FORMAT_VERSION = 1
"""The version of the JSON of a comparison."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BadVerdict:
    """A verdict that a person should look at."""

    at: datetime
    kind: str
    reason: str
    is_replay: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionRecord:
    """Runs of one version: one a cycle, of a live run and a replay the better one.

    `role` is the one that it holds now. `replays` of its `cycles` are replays. `alerts`: entities that it
    flagged, each once a cycle. `median_ms` and `p95_ms` of its duration, like `alerts`, are of the compared
    cycles. Canaries: of the runs that succeeded; `wrong_canaries` were off by more than the tolerance.
    Verdicts: of the latest `judged` cycles, replays included; `cycles_since_bad` of them came after the last
    bad one, None where none was bad.
    """

    version_id: int
    label: str
    role: str | None
    cycles: int = 0
    replays: int = 0
    succeeded: int = 0
    failed: int = 0
    skipped: int = 0
    alerts: int = 0
    median_ms: float | None = None
    p95_ms: float | None = None
    canaries: int = 0
    wrong_canaries: int = 0
    last_wrong_canary: str = ""
    judged: int = 0
    verdicts: Mapping[str, int] = field(default_factory=dict)
    cycles_since_bad: int | None = None
    last_bad_verdict: BadVerdict | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionComparison:
    """Two versions of a model over the cycles in [start, end) that both completed, as known at an instant.

    Instants are UTC; `start` None is the first cycle there is, `first_cycle` and `last_cycle` those that were
    compared. `cycles` were compared; `only_*_cycles` the other one did not complete; of `replayed` cycles one
    of the two is a replay, or both. The agreement is of each `every`-th of them. `labelled` is None where no
    label is about a compared cycle; so is `gate`. `decision` is what the model's policy says of the second as
    the challenger of the first.
    """

    model_id: str
    cycle_id: str
    first: VersionRecord
    second: VersionRecord
    start: datetime | None
    end: datetime
    known_at: datetime
    above: float
    cycles: int
    only_first_cycles: int
    only_second_cycles: int
    replayed: int
    first_cycle: datetime | None
    last_cycle: datetime | None
    agreement: Comparison
    every: int = 1
    labelled: LabelledComparison | None = None
    gate: GateReading | None = None
    decision: GateDecision | None = None

    def to_json(self) -> dict[str, Any]:  # Any: JSON values
        """Return the comparison as JSON values: equal comparisons give equal JSON."""
        value: dict[str, Any] = to_json(self)
        agreement = self.agreement
        value["agreement"] |= {
            "coverage": agreement.coverage,
            "kappa": agreement.kappa,
            "jaccard": agreement.jaccard,
        }
        if self.gate is not None:
            value["gate"] |= {"e": self.gate.e, "has_passed": self.gate.has_passed}
        return {"format_version": FORMAT_VERSION, **value}


def to_json(value: Any) -> Any:  # Any: a value of the evidence, then a JSON value
    """Return a value of this room as JSON values."""
    if is_dataclass(value):
        return {f.name: to_json(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {name: to_json(item) for name, item in value.items()}
    if isinstance(value, tuple | list):
        return [to_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
