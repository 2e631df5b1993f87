"""The registry as a machine knows it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from airflow_detection.domain.names import dag_ids
from airflow_detection.domain.specs import CycleSpec, ModelSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownCycle:
    """A registered cycle and its models, with the versions that are ACTIVE now.

    `held_back_reason` tells which change of the registry waits to be confirmed; `confirmed_at` (ISO) is the
    newest confirmation that this state rests on. `refused_reason` tells why the cycle cannot be read now; the
    other values are then those that could be read last.
    """

    spec: CycleSpec
    models: tuple[ModelSpec, ...] = ()
    held_back_reason: str | None = None
    confirmed_at: str | None = None
    refused_reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownRegistry:
    """The registry as it was at `read_at` (seconds since the epoch).

    `is_last_known`: the registry was asked later and did not answer. `all_ids`: the ids of all registered
    cycles, where `cycles` has only that of one Dag.
    """

    read_at: float
    cycles: tuple[KnownCycle, ...] = ()
    is_last_known: bool = False
    all_ids: tuple[str, ...] = ()

    @property
    def dag_ids(self) -> dict[str, str]:
        """The Dag id of each registered cycle."""
        return dag_ids(self.all_ids or [cycle.spec.cycle_id for cycle in self.cycles])

    def age_s(self, now: float) -> float:
        """Seconds since it was read; infinite when it claims to come from the future."""
        return now - self.read_at if now >= self.read_at else float("inf")

    @property
    def instant(self) -> datetime:
        """`read_at`, UTC, whole seconds."""
        return datetime.fromtimestamp(int(self.read_at), UTC)
