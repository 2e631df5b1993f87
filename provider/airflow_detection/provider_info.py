"""The description of this provider that Airflow asks for."""

from __future__ import annotations

from typing import Any

from airflow_detection.config import OPTIONS
from airflow_detection.domain.settings import ASSET_SCHEME, SECTION

_CONN_FIELDS = {
    "sslmode": {
        "label": "TLS",
        "description": "sslmode of libpq; verify-full checks the server's certificate and its name",
        "schema": {
            "type": ["string", "null"],
            "enum": ["disable", "allow", "prefer", "require", "verify-ca", "verify-full", None],
        },
    },
    "sslrootcert": {
        "label": "Certificate authority",
        "description": "File, on each worker, of the authority that the server's certificate is checked with",
        "schema": {"type": ["string", "null"]},
    },
    "application_name": {
        "label": "Application name",
        "description": "What the server shows of the sessions; tasks set their own while they write",
        "schema": {"type": ["string", "null"]},
    },
    "connect_timeout": {
        "label": "Connect timeout",
        "description": "Seconds until a server that does not answer is given up",
        "schema": {"type": ["integer", "null"], "minimum": 2},
    },
}
"""Fields of the form beside Airflow's own, kept in the connection's extra: options of libpq."""


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
                    "airflow_detection.operators.replay",
                ],
            }
        ],
        "sensors": [
            {"integration-name": "Detection", "python-modules": ["airflow_detection.sensors.output"]}
        ],
        "asset-uris": [
            {
                "schemes": [ASSET_SCHEME],
                "handler": None,
                "factory": "airflow_detection.operators.assets.create_asset",
                "to_openlineage_converter": "airflow_detection.operators.assets.to_openlineage",
            }
        ],
        "connection-types": [
            {
                "connection-type": "detection",
                "hook-class-name": "airflow_detection.hooks.detection.DetectionHook",
                "hook-name": "Detection registry",
                "ui-field-behaviour": {
                    "relabeling": {"schema": "Database", "login": "User"},
                    "placeholders": {"host": "db.example.org", "port": "5432", "login": "detection"},
                },
                "conn-fields": _CONN_FIELDS,
            }
        ],
        "extra-links": [
            "airflow_detection.operators.links.ComparisonLink",
        ],
        "triggers": [
            {
                "integration-name": "Detection",
                "python-modules": [
                    "airflow_detection.triggers.next_result",
                    "airflow_detection.triggers.output",
                ],
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
