"""Cycles that would lose most of their models: held back until confirmed."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_detection.domain.text import visible
from airflow_detection.plan_cache.known import KnownCycle, KnownRegistry

if TYPE_CHECKING:
    from airflow_detection.store.confirmations import Confirmation

log = logging.getLogger(__name__)


def hold_back(
    last: KnownRegistry | None, fresh: KnownRegistry, confirmed: Mapping[str, Confirmation]
) -> KnownRegistry:
    """Return the registry as it is now, but cycles that lost all or most of their models as they were.

    A cycle that cannot be read keeps its last known models, to be compared with those that it has when it can
    be read again.

    Args:
        last: the registry that the Dags were last made of.
        confirmed: by cycle id; a confirmation newer than the one that the old state rests on lets a change
            through that leaves at least the confirmed models.
    """
    cycles = {
        c.spec.cycle_id: replace(c, confirmed_at=_instant_of(confirmed.get(c.spec.cycle_id)))
        for c in fresh.cycles
    }
    for old in last.cycles if last else ():
        cycle_id = old.spec.cycle_id
        if (unread := cycles.get(cycle_id)) and unread.refused_reason:
            cycles[cycle_id] = replace(old, held_back_reason=None, refused_reason=unread.refused_reason)
            continue
        now = _ids(cycles.get(cycle_id))
        confirmation = confirmed.get(cycle_id)
        is_confirmed = (
            confirmation is not None
            and _instant_of(confirmation) != old.confirmed_at
            and not _shrinks(confirmation.models, now)
        )
        if _shrinks(_ids(old), now) and not is_confirmed:
            reason = _reason(cycle_id, _ids(old), now)
            log.warning("%s", reason)
            cycles[cycle_id] = replace(old, held_back_reason=reason, refused_reason=None)
    return replace(fresh, cycles=tuple(cycles[key] for key in sorted(cycles)))


def _ids(cycle: KnownCycle | None) -> frozenset[str]:
    return frozenset(m.model_id for m in cycle.models if m.versions) if cycle else frozenset()


def _instant_of(confirmation: Confirmation | None) -> str | None:
    return confirmation.confirmed_at.isoformat() if confirmation else None


def _shrinks(before: frozenset[str], after: frozenset[str]) -> bool:
    """Tell whether a cycle becomes empty or loses more than half of its models."""
    return bool(before) and (not after or 2 * len(before - after) > len(before))


def _reason(cycle_id: str, before: frozenset[str], after: frozenset[str]) -> str:
    lost = [visible(model_id) for model_id in sorted(before - after)]
    names = ", ".join(lost[:5]) + (f" and {len(lost) - 5} more" if len(lost) > 5 else "")
    confirm = f"airflow detection confirm {visible(shlex.quote(cycle_id))}"
    return (
        f"the registry leaves cycle {cycle_id!r} with {len(before & after)} of its {len(before)} models, "
        f"without {names}: the Dag stays as it was until '{confirm}'"
    )
