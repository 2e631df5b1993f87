"""Train a model on weeks before, and write it with its canaries: `python -m payments.train FOLDER`.

It stands for a training job of yours: what it leaves is a folder that a version of the registration names.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import skops.io
from sklearn.ensemble import RandomForestClassifier

from airflow_detection.engine.artifacts import sha256_of
from payments import generate

FEATURES = ("amount", "payments")
TRUSTED = ("sklearn.tree._tree.Tree",)
DAYS = 5
STEP = timedelta(minutes=20)
CANARIES = {
    "usual": {"amount": 20.0, "payments": 1.0},
    "large": {"amount": 2000.0, "payments": 1.0},
    "many": {"amount": 1.0, "payments": 15.0},
}
"""Payments of which it is plain what the model must say: their outputs go with it."""


def examples(last: date, seed: int = 1) -> tuple[list[list[float]], list[bool]]:
    """Return what cycles would have seen of the payments of some days, and which of them were frauds."""
    rows, labels = [], []
    for day in (last - timedelta(days=n) for n in range(DAYS)):
        payments, frauds = generate.week(day, seed)
        false = {
            payment.payment_id for fraud in frauds for payment in fraud.payments if fraud.kind != "cloned"
        }
        today = [payment for payment in payments if payment.paid_at.date() == day]
        for window in windows(today):
            counts = Counter(payment.card for payment in window)
            rows += [[payment.amount, float(counts[payment.card])] for payment in window]
            labels += [payment.payment_id in false for payment in window]
    return rows, labels


def windows(payments: Sequence[generate.Payment]) -> Iterator[list[generate.Payment]]:
    """Yield the payments of each window of an hour."""
    at = payments[0].paid_at
    while at < payments[-1].paid_at:
        yield [payment for payment in payments if at <= payment.paid_at < at + generate.LOOKBACK]
        at += STEP


def train(last: date, seed: int = 1) -> RandomForestClassifier:
    """Return a small forest: the probability that a payment is a fraud."""
    rows, labels = examples(last, seed)
    forest = RandomForestClassifier(n_estimators=20, max_depth=6, min_samples_leaf=5, random_state=seed)
    return forest.fit(np.array(rows), np.array(labels))


def write(folder: Path, model: RandomForestClassifier) -> dict[str, Any]:  # Any: what the registration says
    """Write the model and its canaries, and return the version that is made of them."""
    folder.mkdir(parents=True, exist_ok=True)
    skops.io.dump(model, folder / "model.skops")
    rows = np.array([[row[name] for name in FEATURES] for row in CANARIES.values()])
    outputs = model.predict_proba(rows)[:, 1].tolist()
    canaries = [
        {"name": name, "row": row, "output": output}
        for (name, row), output in zip(CANARIES.items(), outputs, strict=True)
    ]
    (folder / "canaries.json").write_text(json.dumps(canaries, indent=1) + "\n", encoding="utf-8")
    uri = f"{folder.resolve()}/"
    return {
        "role": "CHALLENGER",
        "entrypoint": "sklearn",
        "artifact": {"uri": uri, "sha256": sha256_of(uri)},
        "params": {"features": [*FEATURES], "entity_key": "card", "trusted": [*TRUSTED]},
    }


def main() -> None:
    """Train, write, and print what the registration needs."""
    parser = argparse.ArgumentParser(prog="python -m payments.train", description="A model of known frauds.")
    parser.add_argument("folder", type=Path, help="where the model and its canaries are written")
    parser.add_argument(
        "--day", type=date.fromisoformat, default=date(2026, 1, 10), help="the last day to learn from"
    )
    args = parser.parse_args()
    version = write(args.folder, train(args.day))
    print(json.dumps({"2.0": version}, indent=1))


if __name__ == "__main__":
    main()
