"""The description of this provider that Airflow asks for."""

from __future__ import annotations

from typing import Any

from airflow_detection.config import OPTIONS
from airflow_detection.domain.settings import SECTION


def get_provider_info() -> dict[str, Any]:  # Any: the shape of Airflow's provider schema
    """Return the facts of this provider; the registry uses a plain `postgres` connection."""
    return {
        "package-name": "airflow-provider-detection",
        "name": "Detection",
        "description": "Versioned detection models on Airflow and Postgres: champions, shadows, backfills.",
        "integrations": [
            {
                "integration-name": "Detection",
                "external-doc-url": "https://www.postgresql.org/docs/current/",
                "tags": ["software"],
            }
        ],
        "operators": [
            {
                "integration-name": "Detection",
                "python-modules": [
                    "airflow_detection.operators.model",
                    "airflow_detection.operators.cycle",
                    "airflow_detection.operators.maintenance",
                    "airflow_detection.operators.snapshot",
                    "airflow_detection.operators.promotion",
                ],
            }
        ],
        "extra-links": [
            "airflow_detection.operators.links.FindingsLink",
            "airflow_detection.operators.links.ComparisonLink",
        ],
        "triggers": [
            {
                "integration-name": "Detection",
                "python-modules": ["airflow_detection.triggers.next_result"],
            }
        ],
        "hooks": [{"integration-name": "Detection", "python-modules": ["airflow_detection.hooks.detection"]}],
        "cli": ["airflow_detection.cli.definition.get_commands"],
        "config": {
            SECTION: {
                "description": "Detection cycles that are generated from a registry in Postgres.",
                "options": {name: dict(option) for name, option in OPTIONS.items()},
            }
        },
    }
