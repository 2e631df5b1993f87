"""Cycles that would lose most of their models: held back until confirmed."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_detection.plan_cache.known import KnownCycle, KnownRegistry

if TYPE_CHECKING:
    from airflow_detection.store.confirmations import Confirmation

log = logging.getLogger(__name__)


def held_back(
    held: KnownRegistry | None, fresh: KnownRegistry, confirmed: Mapping[str, Confirmation]
) -> KnownRegistry:
    """What the registry says, but for cycles that lost all or most of their models: they stay as they were.

    One that is refused keeps what was known of it, to be compared with what it will say when it can be read.

    Args:
        confirmed: by cycle id; a confirmation newer than the one that the old state rests on lets a change
            through that leaves at least the confirmed models.
    """
    cycles = {
        c.spec.cycle_id: replace(c, confirmed_at=_instant_of(confirmed.get(c.spec.cycle_id)))
        for c in fresh.cycles
    }
    for old in held.cycles if held else ():
        cycle_id = old.spec.cycle_id
        if (unread := cycles.get(cycle_id)) and unread.refused:
            cycles[cycle_id] = replace(old, held_back=None, refused=unread.refused)
            continue
        now = _ids(cycles.get(cycle_id))
        word = confirmed.get(cycle_id)
        is_meant = word is not None and _instant_of(word) != old.confirmed_at
        if _shrinks(_ids(old), now) and not (
            is_meant and word is not None and not _shrinks(word.models, now)
        ):
            reason = _told(cycle_id, _ids(old), now)
            log.warning("%s", reason)
            cycles[cycle_id] = replace(old, held_back=reason, refused=None)
    return replace(fresh, cycles=tuple(cycles[key] for key in sorted(cycles)))


def _ids(cycle: KnownCycle | None) -> frozenset[str]:
    return frozenset(m.model_id for m in cycle.models if m.versions) if cycle else frozenset()


def _instant_of(confirmation: Confirmation | None) -> str | None:
    return confirmation.confirmed_at.isoformat() if confirmation else None


def _shrinks(before: frozenset[str], after: frozenset[str]) -> bool:
    """Whether a cycle becomes empty or loses more than half of its models."""
    return bool(before) and (not after or 2 * len(before - after) > len(before))


def _told(cycle_id: str, before: frozenset[str], after: frozenset[str]) -> str:
    gone = sorted(before - after)
    names = ", ".join(gone[:5]) + (f" and {len(gone) - 5} more" if len(gone) > 5 else "")
    return (
        f"the registry leaves cycle {cycle_id!r} with {len(before & after)} of its {len(before)} models, "
        f"without {names}: the Dag stays as it was until 'airflow detection confirm {cycle_id}'"
    )
