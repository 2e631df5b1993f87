"""Registering one version that is made of an artefact, beside those that its model has."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psycopg

from airflow_detection.adapters.mlflow_model import SCHEME, fixed_uri
from airflow_detection.domain.specs import Artifact, Role
from airflow_detection.engine.artifact_files import Opener
from airflow_detection.engine.artifacts import sha256_of
from airflow_detection.errors import RegistrationError, hint
from airflow_detection.registration.apply import apply_registration, known_now
from airflow_detection.registration.entries import Registration
from airflow_detection.registration.export import model_entry, yaml_text
from airflow_detection.registration.file import parse
from airflow_detection.store import registry
from airflow_detection.store.database import Database

ADAPTERS = {".onnx": "onnx", ".skops": "sklearn"}
_HAS_SCHEME = re.compile(r"[a-z][a-z0-9+.-]+:/")


def artifact_of(source: str, opener: Opener) -> Artifact:
    """Return the artefact that a source means now: an alias of MLflow as a version, a path as absolute.

    Raises:
        RegistrationError: MLflow's registry knows no such model, or cannot be asked.
        ArtifactError, ArtifactUnavailable: it cannot be read.
    """
    if source.startswith(SCHEME):
        try:
            uri = fixed_uri(source)
        except Exception as error:  # the client library raises what it likes
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise RegistrationError(f"{source!r} cannot be resolved: {reason}") from error
    elif _HAS_SCHEME.match(source):
        uri = source
    else:
        path = Path(source).resolve()
        uri = f"{path}/" if path.is_dir() else str(path)
    return Artifact(uri=uri, sha256=sha256_of(uri, opener))


def adapter_of(uri: str) -> str | None:
    """Return the entry point of the adapter that reads an artefact, as far as its URI tells."""
    if uri.startswith(SCHEME):
        return "mlflow"
    names = (
        [path.name for path in Path(uri).glob("*")] if uri.startswith("/") and uri.endswith("/") else [uri]
    )
    known = {adapter for suffix, adapter in ADAPTERS.items() if any(n.endswith(suffix) for n in names)}
    return known.pop() if len(known) == 1 else None


def register_version(
    db: Database,
    label: str,
    artifact: Artifact,
    *,
    role: Role | None,
    params: Mapping[str, Any],  # Any: a JSON object
    entrypoint: str | None = None,
    notes: str = "",
    dry_run: bool = False,
) -> tuple[Registration, list[str]]:
    """Write a new version of a registered model, through the checks of a registration file.

    The file would have all that is registered of the model, and the version. Returns what it would say, and
    one line per change.

    Raises:
        RegistrationError: the model is not registered, the version is, or a value is refused.
    """
    model_id, _, version = label.partition("@")
    changes: list[str] = []
    with registry.with_exclusive_lock(db):
        known = known_now(db)
        models = known.models
        spec = next((spec for spec in models if spec.model_id == model_id), None)
        if spec is None:
            near = hint(model_id, (spec.model_id for spec in models))
            raise RegistrationError(f"model {model_id!r} is not registered{near}")
        entry = model_entry(spec, [v for v in known.versions if v.model_id == model_id])
        if version in entry["versions"]:
            raise RegistrationError(f"version {label!r} is registered already: give the artefact a new one")
        own = entrypoint or adapter_of(artifact.uri)
        facts = {
            "role": role and role.value,
            "artifact": asdict(artifact),
            "params": dict(params) or None,
            "entrypoint": None if own == spec.entrypoint else own,
            "notes": notes or None,
        }
        entry["versions"][version] = {name: value for name, value in facts.items() if value is not None}
        text = yaml_text({"models": {model_id: entry}})
        registration = parse(text, label, cycles={c.cycle_id for c in known.cycles}, models=models)
        with db.conn.transaction():
            changes += apply_registration(db, registration, known, label)
            if dry_run:
                raise psycopg.Rollback
    return registration, changes
