"""Datasets and facets of OpenLineage. This module alone needs its packages: import it where they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import attrs
from airflow.providers.openlineage.extractors import OperatorLineage
from openlineage.client.event_v2 import Dataset, InputDataset, OutputDataset
from openlineage.client.facet_v2 import RunFacet
from openlineage.client.facet_v2 import output_statistics_output_dataset as output_statistics
from openlineage.client.utils import RedactMixin

from airflow_detection.domain.settings import ASSET_SCHEME
from airflow_detection.domain.specs import Outcome, Role
from airflow_detection.store.connection import address_of
from airflow_detection.store.manifests import params_digest

if TYPE_CHECKING:
    from airflow_detection.cycle.planning import OpenedCycle
    from airflow_detection.domain.reports import RunReport
    from airflow_detection.store.database import Database

Lineage = OperatorLineage[Dataset, RunFacet]
FACET = "detection_versions"
OUTPUTS = "detection_model_run_outputs"


@attrs.define(kw_only=True)
class Version(RedactMixin):
    """One version that ran, and what became of it; digests are sha256 in hex."""

    model: str
    version: str
    role: str
    isReplay: bool  # noqa: N815 - names are those of OpenLineage's JSON
    outcome: str
    paramsSha256: str  # noqa: N815
    artifactUri: str | None  # noqa: N815
    artifactSha256: str | None  # noqa: N815
    inputCount: int  # noqa: N815
    inputDigest: str | None  # noqa: N815
    outputCount: int  # noqa: N815

    @classmethod
    def of(cls, report: RunReport) -> Version:
        """Return the version of a run's report."""
        version = report.version
        artifact = version.artifact
        return cls(
            model=version.model_id,
            version=version.version,
            role=version.role.value,
            isReplay=version.is_replay,
            outcome=report.outcome.value,
            paramsSha256=params_digest(version.params),
            artifactUri=artifact.uri if artifact else None,
            artifactSha256=artifact.sha256 if artifact else None,
            inputCount=report.input_count,
            inputDigest=report.input_digest,
            outputCount=report.output_count,
        )


@attrs.define(kw_only=True)
class DetectionVersionsRunFacet(RunFacet):
    """The versions that a task ran, and for which cycle (ISO 8601, UTC)."""

    cycle: str
    cycleStartedAt: str  # noqa: N815
    versions: list[Version]


def lineage(
    db: Database, opened: OpenedCycle, reports: Sequence[RunReport], tables: Iterable[str]
) -> Lineage:
    """Return what the versions that a task ran have read and written.

    Args:
        tables: those of the cycle's input query, as `schema.table`.
    """
    cycle_id, ran = opened.cycle.cycle_id, [report.version for report in reports]
    succeeded = [report for report in reports if report.outcome is Outcome.SUCCEEDED]
    champions = [report.version.model_id for report in succeeded if report.version.role is Role.PRIMARY]
    upstreams = {model_id for version in ran for model_id in opened.plan.upstreams(version.model_id)}
    history = {f"{db.schema}.{table}" for report in reports for table in report.history_tables}
    return Lineage(
        inputs=[
            *(InputDataset(_namespace(db), _name(db, table)) for table in sorted({*tables, *history})),
            *_champions(cycle_id, sorted(upstreams - {*champions})),
        ],
        outputs=[
            outputs_table(db, sum(report.output_count for report in succeeded)),
            *_champions(cycle_id, champions),
        ],
        run_facets={
            FACET: DetectionVersionsRunFacet(
                cycle=cycle_id,
                cycleStartedAt=opened.cycle.started_at.isoformat(),
                versions=[Version.of(report) for report in reports],
            )
        },
    )


def outputs_table(db: Database, count: int | None = None) -> OutputDataset:
    """Return the table of outputs, with how many a task has written to it."""
    statistics = output_statistics.OutputStatisticsOutputDatasetFacet(rowCount=count)
    return OutputDataset(
        namespace=_namespace(db),
        name=_name(db, f"{db.schema}.{OUTPUTS}"),
        outputFacets={} if count is None else {"outputStatistics": statistics},
    )


def _champions(cycle_id: str, model_ids: Iterable[str]) -> Iterator[Dataset]:
    """Iterate over the datasets that the assets of champions are (see `assets.to_openlineage`)."""
    for model_id in model_ids:
        yield Dataset(namespace=f"{ASSET_SCHEME}://{cycle_id}", name=model_id)


def _namespace(db: Database) -> str:
    host, port = address_of(db.conn)
    return f"postgres://{host}:{port}"


def _name(db: Database, table: str) -> str:
    return f"{db.conn.info.dbname}.{table}"
