"""Assets that stand for the outputs of champions: their events, and how Airflow translates them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from airflow.sdk import Asset

from airflow_detection.domain.names import asset_uri_of
from airflow_detection.domain.settings import ASSET_SCHEME

if TYPE_CHECKING:
    from airflow.providers.common.compat.openlineage.facet import Dataset
    from airflow.sdk import Context

    from airflow_detection.domain.settings import Settings


def create_asset(*, cycle_id: str, model_id: str) -> Asset:
    """Return the asset of the outputs of a model's champion."""
    return Asset(asset_uri_of(cycle_id, model_id))


def to_openlineage(asset: Asset, lineage_context: object) -> Dataset:
    """Return the dataset that an asset is in lineage: the cycle is its namespace, the model its name."""
    from airflow.providers.common.compat.openlineage.facet import Dataset

    del lineage_context
    cycle_id, model_id = names_of(asset.uri)
    return Dataset(namespace=f"{ASSET_SCHEME}://{cycle_id}", name=model_id)


def names_of(uri: str) -> tuple[str, str]:
    """Return the cycle and the model of an asset's URI.

    Raises:
        ValueError: it is no such URI.
    """
    parts = urlsplit(uri)
    cycle_id, model_id = unquote(parts.netloc), unquote(parts.path.removeprefix("/"))
    if asset_uri_of(cycle_id, model_id) != uri:
        raise ValueError(f"{uri!r} is no {ASSET_SCHEME}://cycle/model")
    return cycle_id, model_id


def add_partition_keys(
    context: Context, outlets: Sequence[Any], started_at: datetime, settings: Settings
) -> None:  # Any: whatever Airflow takes for an outlet
    """Make the cycle (ISO 8601, UTC) the partition key of the events of our assets, where that is set."""
    if settings.asset_partition_keys:
        for asset in outlets:
            if getattr(asset, "uri", "").startswith(f"{ASSET_SCHEME}://"):
                context["outlet_events"][asset].add_partitions(started_at.isoformat())
