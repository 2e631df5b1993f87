"""Agreement of two versions, entity by entity, without knowing what is true."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """An entity on which the two differ."""

    at: datetime
    entity_id: str
    primary_score: float
    shadow_score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """How two versions compare over `cycles` cycles; counts are of (cycle, entity).

    The first of the two is called the champion or primary here, the second the shadow. Of several outputs for
    one entity in a cycle the highest score counts; an output without an entity id is left out. An entity that
    only one of the two has an output for is `only_*`, and never agrees or differs.

    Coverage: `in_both` have an output of both; `null_in_*` a score of the other alone; `scored` a score of
    both. Flagged is a score above the threshold: `newly_flagged` by the shadow alone, `lost` by the champion
    alone, where both have a score; `flagged_unseen` and `lost_unseen` where the other has none.
    `kappa` (Cohen 1960) and `jaccard` (of the flagged) are of what both scored, None where they are not
    defined; `top_overlap` is the mean over cycles of the share of the top that both name, among scores above
    0; `p99_difference` is the 99th percentile of |difference|, interpolated.
    """

    cycles: int
    entities: int = 0
    in_both: int = 0
    only_primary: int = 0
    only_shadow: int = 0
    null_in_primary: int = 0
    null_in_shadow: int = 0
    scored: int = 0
    both_flagged: int = 0
    newly_flagged: int = 0
    lost: int = 0
    flagged_unseen: int = 0
    lost_unseen: int = 0
    top_overlap: float | None = None
    p99_difference: float | None = None
    newly_examples: tuple[Example, ...] = ()
    lost_examples: tuple[Example, ...] = ()

    @property
    def coverage(self) -> float | None:
        """Share of all entities that both scored."""
        return self.scored / self.entities if self.entities else None

    @property
    def kappa(self) -> float | None:
        """Cohen's kappa of flagged or not."""
        return kappa(self.scored, self.both_flagged, self.newly_flagged, self.lost)

    @property
    def jaccard(self) -> float | None:
        """Flagged by both, of flagged by either."""
        either = self.both_flagged + self.newly_flagged + self.lost
        return self.both_flagged / either if either else None

    @property
    def primary_alerts(self) -> int:
        """Entities that the champion flags, each once a cycle."""
        return self.both_flagged + self.lost + self.lost_unseen

    @property
    def shadow_alerts(self) -> int:
        """Entities that the shadow flags, each once a cycle."""
        return self.both_flagged + self.newly_flagged + self.flagged_unseen


def kappa(n: int, both: int, only_second: int, only_first: int) -> float | None:
    """Cohen's kappa of two raters who say yes or no of `n` things; None where chance alone would agree."""
    if not n:
        return None
    first, second = both + only_first, both + only_second
    by_chance = (first * second + (n - first) * (n - second)) / n**2
    if by_chance == 1:
        return None
    return ((n - only_first - only_second) / n - by_chance) / (1 - by_chance)
