"""Training of a new version: its class learns from past windows, as they were known at an instant."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace
from io import BufferedRandom
from tempfile import TemporaryFile

from airflow_detection.cycle.training_plan import TrainingPlan, TrainingRequest, plan_training
from airflow_detection.cycle.training_step import TrainingStore, run_step
from airflow_detection.domain.settings import Settings
from airflow_detection.domain.specs import Artifact, Role
from airflow_detection.engine.artifact_files import Opener, Writer, open_local, write_local
from airflow_detection.engine.artifacts import reason_of, sha256_of
from airflow_detection.engine.run_log import LogContext
from airflow_detection.errors import ArtifactError, DetectionError, RegistrationError, TransientModelError
from airflow_detection.registration.register import register_version
from airflow_detection.store import registry
from airflow_detection.store.database import Database
from airflow_detection.store.trainings import Training, put_training, trainings

_REFUSED = (
    FileExistsError, FileNotFoundError, ImportError, IsADirectoryError, NotADirectoryError,
    NotImplementedError, PermissionError, ValueError,
)  # fmt: skip
"""Errors of a place that takes no file, however often it is asked."""


def train(
    db: Database,
    settings: Settings,
    request: TrainingRequest,
    *,
    actor: str | None = None,
    log_context: LogContext | None = None,
    reader_conninfo: Callable[[], str | None] = lambda: None,
    opener: Opener = open_local,
    writer: Writer = write_local,
) -> Training:
    """Train a version in a process of its own, write its artefact and register it as a CHALLENGER.

    Asked for again, it changes nothing: a training that ended between the artefact and the registration is
    done anew and gives the same artefact; one that is registered is returned.

    Args:
        actor: who asks for it; None means the database's user.
        log_context: makes another logging system's lines carry the facts of the training.
        reader_conninfo: gives the connection string that it reads with; that of `db` if it gives None.
        opener, writer: open the file of an artefact's URI, and write it.

    Raises:
        RegistrationError: the request cannot be met; the message says why.
        PlanError: the model, or its base, is not registered, or `as_of` is in the future.
        TerminalModelError: the training failed, or its artefact cannot be written.
        TransientModelError, RegistryUnavailable: trying again may help.
    """
    if (known := _known(db, request)) is not None:
        return known
    plan = plan_training(db, request)
    to_be = Artifact(uri=request.target, sha256="0" * 64)
    _register_version(db, plan, to_be, dry_run=True)  # what is refused is refused before it is trained
    with (
        TemporaryFile() as archive,
        closing(TrainingStore(db, settings, plan, reader_conninfo(), archive)) as store,
    ):
        facts = run_step(settings, plan, store, log_context)
        artifact = _published(archive, plan.request, opener, writer)
        training = Training(
            model_id=request.model_id, version=request.version, base_version=request.base,
            data_start=plan.request.start, data_end=plan.request.end, as_of=plan.as_of, seed=request.seed,
            label_count=len(plan.labels), artifact_sha256=artifact.sha256, **facts,
        )  # fmt: skip
        return store.with_reconnect(lambda db: _register(db, plan, artifact, training, actor))


def _known(db: Database, request: TrainingRequest) -> Training | None:
    """Return the training if it was done before.

    Raises:
        RegistrationError: the version is registered, and was not made by this training.
    """
    registry.cycle_of(db, request.model_id)
    known = trainings(db, request.model_id).get(request.label)
    if known is not None and request.is_of(known):
        return known
    if any(v.version == request.version for v in registry.versions(db, request.model_id)):
        origin = f"trained {known}" if known else "not trained"
        raise RegistrationError(
            f"version {request.label!r} is registered already, {origin}: give the trained one another name"
        )
    return None


def _published(archive: BufferedRandom, request: TrainingRequest, opener: Opener, writer: Writer) -> Artifact:
    """Write an archive into the target, under a name that tells its digest, unless it is there.

    Raises:
        ArtifactError, TransientModelError: it cannot be written, or is not read as it was written.
    """
    archive.seek(0)
    digest = hashlib.file_digest(archive, "sha256").hexdigest()
    name = f"{re.sub(r'[^A-Za-z0-9._-]', '_', request.label)}-{digest[:16]}.tar"
    artifact = Artifact(uri=f"{request.target.rstrip('/')}/{name}", sha256=digest)
    if not _is_there(artifact, opener):
        archive.seek(0)
        try:
            writer(artifact.uri, archive)
        except Exception as error:  # a client library raises what it likes
            reason = f"cannot be written: {reason_of(error)}"
            if isinstance(error, _REFUSED):
                raise ArtifactError(artifact.uri, reason) from error
            raise TransientModelError(f"artefact {artifact.uri!r} {reason}") from error
    if (found := sha256_of(artifact.uri, opener)) != digest:
        raise ArtifactError(artifact.uri, f"has sha256 {found} after it was written, not {digest}")
    return artifact


def _is_there(artifact: Artifact, opener: Opener) -> bool:
    with suppress(DetectionError):
        return sha256_of(artifact.uri, opener) == artifact.sha256
    return False


def _register(
    db: Database, plan: TrainingPlan, artifact: Artifact, training: Training, actor: str | None
) -> Training:
    """Register the version and its lineage, in one transaction; another that was first stays."""
    request = replace(plan.request, as_of=plan.as_of)
    with registry.with_exclusive_lock(db):
        if (known := _known(db, request)) is not None:
            return known
        _register_version(db, plan, artifact, notes=f"Trained {training}")
        put_training(db, training, actor=actor)
        return trainings(db, request.model_id)[request.label]


def _register_version(
    db: Database, plan: TrainingPlan, artifact: Artifact, *, notes: str = "", dry_run: bool = False
) -> None:
    register_version(
        db,
        plan.request.label,
        artifact,
        role=Role.CHALLENGER,
        params=plan.version.params,
        entrypoint=plan.version.entrypoint,
        notes=notes,
        dry_run=dry_run,
    )
