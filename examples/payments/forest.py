"""A model that learns: an isolation forest of scikit-learn over the payments of past cycles.

Its training step runs where a training is asked for, by `airflow detection train` or the Dag
`detection_training`; what it makes becomes a new version, a CHALLENGER.
"""

from __future__ import annotations

import numpy as np

from airflow_detection.adapters.sklearn_model import SklearnModel, skops_file
from airflow_detection.engine.training import TrainedModel, TrainingContext

CANARIES = {
    "usual": {"amount": 20.0, "payments": 1.0},
    "large": {"amount": 2000.0, "payments": 1.0},
    "many": {"amount": 1.0, "payments": 15.0},
}
"""Payments whose scores travel with each run."""


class PaymentForest(SklearnModel):
    """How soon random cuts set a payment apart from those that nobody has called a fraud."""

    @classmethod
    def train(cls, ctx: TrainingContext) -> TrainedModel:
        """Learn from all payments but the known frauds; those tell how well they are set apart."""
        from sklearn.ensemble import IsolationForest
        from sklearn.metrics import roc_auc_score

        names, parts, is_fraud = ctx.params["features"], [], []
        for window in ctx.windows:
            parts.append(np.column_stack([window.inputs.array(name) for name in names]))
            is_fraud += [window.labels.get(card, False) for card in window.inputs["card"]]
        matrix, frauds = np.concatenate(parts), np.array(is_fraud, dtype=bool)
        forest = IsolationForest(random_state=ctx.seed).fit(matrix[~frauds])
        rows = np.array([[row[name] for name in names] for row in CANARIES.values()])
        return TrainedModel(
            files={"model.skops": skops_file(forest)},
            canaries=[
                {"name": name, "row": row, "output": output}
                for (name, row), output in zip(
                    CANARIES.items(), forest.score_samples(rows).tolist(), strict=True
                )
            ],
            metrics={
                "payments": len(matrix),
                "known_frauds": int(frauds.sum()),
                "auc": roc_auc_score(frauds, -forest.score_samples(matrix)) if frauds.any() else None,
            },
        )
