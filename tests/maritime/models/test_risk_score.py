"""The risk_score model: the others' scores put together, nulls left out and named."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests.maritime.conftest import COLUMNS, SHIP, Row, cycle_at, fix

from airflow_detection.domain.inputs import Inputs
from airflow_detection.engine.canary import SharedOutputs
from airflow_detection.engine.model import ModelContext
from airflow_detection.errors import TerminalModelError
from airflow_detection.maritime.models.risk_score import WEIGHTS, RiskScore


class StoredScores:
    """A champion's outputs, as its dependents read them."""

    def __init__(self, *outputs: Row) -> None:
        self.outputs, self.is_read = outputs, False

    def __len__(self) -> int:
        return len(self.outputs)

    def __iter__(self) -> Iterator[tuple[Row, Row]]:
        self.is_read = True
        return iter([({}, output) for output in self.outputs])

    def columns(self) -> tuple[list[str | None], list[float | None]]:
        return [o["entity_id"] for o in self.outputs], [o["score"] for o in self.outputs]


def scored(score: float | None, entity: object = SHIP, **more: Any) -> Row:
    return {"entity_id": str(entity), "score": score, **more}


def outputs_of(
    shared: dict[str, StoredScores], params: dict[str, Any] | None = None, rows: list[Row] | None = None
) -> dict[str, Row]:
    model = RiskScore("risk_score", "1.0", params or {})
    inputs = Inputs.of_rows(rows or [], COLUMNS)
    ctx = ModelContext(cycle=cycle_at(), params=model.params, inputs=inputs, shared=shared)
    return {output["entity_id"]: dict(output) for _, output in model.run(ctx).outputs_per_input}


def test_scores_are_weighed_and_put_together() -> None:
    shared = {
        "identity_collision": StoredScores(scored(0.8)),
        "spoofing": StoredScores(scored(1.0)),
        "loitering": StoredScores(scored(0)),
    }
    output = outputs_of(shared, rows=[fix(0, 1, 2), fix(60, 1, 2), fix(60, 1, 2), fix(0, 1, 2, mmsi=5)])
    [(entity, output)] = output.items()
    assert entity == str(SHIP)
    assert output["score"] == pytest.approx(1 - (1 - 0.5 * 0.8) * (1 - 0.35))
    assert (output["severity"], output["n_pos"]) == ("HIGH", 2)
    assert output["evidence"] == {"parts": {"identity_collision": 0.4, "spoofing": 0.35}, "unknown": []}


def test_a_null_contributes_nothing_and_is_named() -> None:
    shared = {
        "spoofing": StoredScores(scored(None)),
        "ais_gap": StoredScores(scored(1.0)),
        "loitering": StoredScores(),
    }
    output = outputs_of(shared)[str(SHIP)]
    assert output["score"] == pytest.approx(0.35)
    assert output["evidence"] == {"parts": {"ais_gap": 0.35}, "unknown": ["spoofing"]}


def test_the_risk_is_null_where_all_scores_are() -> None:
    output = outputs_of({"spoofing": StoredScores(scored(None)), "ais_gap": StoredScores(scored(None))})[
        str(SHIP)
    ]
    assert (output["score"], output["severity"]) == (None, None)
    assert output["evidence"]["unknown"] == ["spoofing", "ais_gap"]


def test_a_vessel_that_was_judged_and_is_fine_has_no_risk() -> None:
    output = outputs_of({"spoofing": StoredScores(scored(0.0)), "ais_gap": StoredScores(scored(None))})[
        str(SHIP)
    ]
    assert (output["score"], output["severity"]) == (0.0, None)


def test_gear_and_pairs_are_joined_by_the_mmsi_that_they_name() -> None:
    gear = StoredScores(
        scored(0.6, "ZSY06159-32", evidence={"mmsis": (SHIP, SHIP + 1)}), scored(0.9, SHIP + 2)
    )
    pair = StoredScores(
        scored(1.0, f"{SHIP}+{SHIP + 3}", mmsis=(SHIP, SHIP + 3)), scored(0.5, "x", mmsi=SHIP + 4)
    )
    outputs = outputs_of({"gear_identity_collision": gear, "encounter": pair})
    assert {int(e) - SHIP: o["score"] for e, o in outputs.items()} == {
        0: pytest.approx(1 - 0.7 * 0.7),
        1: pytest.approx(0.3),
        2: pytest.approx(0.45),
        3: pytest.approx(0.3),
        4: pytest.approx(0.15),
    }


def test_of_several_outputs_for_one_vessel_the_highest_counts() -> None:
    for scores in ((0.2, 0.9, None), (None, 0.9, 0.2), (0.9, None, 0.2)):
        output = outputs_of({"loitering": StoredScores(*(scored(score) for score in scores))})[str(SHIP)]
        assert output["score"] == pytest.approx(0.15 * 0.9)
        assert output["evidence"]["unknown"] == []


def test_outputs_are_read_in_bulk_where_entities_are_vessels() -> None:
    spoofing = StoredScores(scored(0.2), scored(None, SHIP + 1))
    outputs_of({"spoofing": spoofing})
    assert not spoofing.is_read


def test_other_weights_count_instead() -> None:
    shared = {"spoofing": StoredScores(scored(1.0)), "loitering": StoredScores(scored(1.0))}
    assert outputs_of(shared, {"weights": {"spoofing": 1.0}})[str(SHIP)]["score"] == 1.0
    assert outputs_of(shared, {"weights": {"spoofing": 0, "loitering": 0.25}})[str(SHIP)]["score"] == 0.25


def test_no_upstream_is_no_output() -> None:
    assert outputs_of({}) == {}
    assert outputs_of({"spoofing": StoredScores(), "track_quality": StoredScores(scored(1.0))}) == {}
    assert outputs_of({}, rows=[fix(0, 1, 2)]) == {}


@pytest.mark.parametrize(
    ("weights", "reason"),
    [
        ({}, "must map models"),
        (0.5, "must map models"),
        ({"spoofing": 1.5}, "weight of 'spoofing' is 1.5"),
        ({"spoofing": -0.1}, "from 0 to 1"),
        ({"spoofing": math.nan}, "from 0 to 1"),
        ({"spoofing": "1"}, "from 0 to 1"),
    ],
)
def test_weights_that_make_no_sense_are_terminal(weights: Any, reason: str) -> None:
    with pytest.raises(TerminalModelError, match=reason):
        outputs_of({}, {"weights": weights})


@pytest.mark.parametrize("weights", [None, {"identity_collision": 0.9, "spoofing": 0.1, "loitering": 0.0}])
def test_canaries_have_the_scores_that_they_expect(weights: dict[str, float] | None) -> None:
    params = {} if weights is None else {"weights": weights}
    model = RiskScore("risk_score", "1.0", params)
    canaries = list(model.canaries(cycle_at()))
    ids = WEIGHTS if weights is None else weights
    real: dict[str, Any] = {model_id: StoredScores(scored(0.5)) for model_id in ids}
    shared = {
        model_id: SharedOutputs(
            one, [(c.entity_id, pair) for c in canaries for pair in c.upstream.get(model_id, ())]
        )
        for model_id, one in real.items()
    }
    ctx = ModelContext(cycle=cycle_at(), params=model.params, shared=shared)
    result = model.run(ctx)
    outputs = {output["entity_id"]: output for _, output in result.outputs_per_input}
    for canary in canaries:
        assert outputs[canary.entity_id]["score"] == pytest.approx(canary.expected, abs=1e-9)
    assert len(outputs) == 1 + len(canaries) == 1 + 5
    assert result.metrics["vessel_count"] == 1


def test_740_vessels_of_six_models_are_weighed_in_milliseconds() -> None:
    shared = {m: StoredScores(*(scored(k % 10 / 10, SHIP + k) for k in range(740))) for m in WEIGHTS}
    rows = [fix(i, 10, 20, mmsi=SHIP + k) for k in range(740) for i in range(11)]
    model, inputs = RiskScore("risk_score"), Inputs.of_rows(rows, COLUMNS)
    best = math.inf
    for _ in range(5):
        started = time.process_time()
        ctx = ModelContext(cycle=cycle_at(), inputs=inputs, shared=dict(shared))
        assert len(list(model.run(ctx).outputs_per_input)) == 740
        best = min(best, time.process_time() - started)
    assert best < 0.1, "about 0.02 s on an idle machine"
