"""The e-process of a promotion: evidence that a challenger is right more often than the champion.

Only discordant pairs count: labelled units in which one of the two is right and the other wrong. H0 says that
the challenger wins each with a probability of at most 1/2, whatever came before. Of b pairs that it won and c
that it lost,

    E = 2^(b+c) * integral of p^b (1-p)^c dPi(p) over p in (1/2, 1],  Pi = Beta(1,1) cut to that half,

is an e-process (Robbins 1970; Ramdas, Gruenwald, Vovk, Shafer 2023): under H0 the probability that E ever
reaches 1/alpha is at most alpha, however often anybody looks. Values are natural logarithms of E.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

ALPHA = 0.05
"""Probability of a promotion that H0 allows; E must reach 1/ALPHA."""
MAX_MORE = 10**9
"""Discordant pairs beyond which nobody waits for them."""
_TINY = 1e-250
_MAX_ROUNDS = 5_000


def log_e(wins: Any, losses: Any) -> Floats:  # Any: numbers or arrays of them, as numpy takes
    """Return ln E after `wins` discordant pairs of the challenger and `losses` of the champion, elementwise.

    They need not be whole. The integral is 2 * B(b+1, c+1) * I_1/2(c+1, b+1); where the regularised
    incomplete beta function is too small for a double, its continued fraction (DLMF 8.17.22) is used.
    """
    import numpy as np
    from scipy.special import betainc, betaln

    b, c = np.broadcast_arrays(np.asarray(wins, dtype=float), np.asarray(losses, dtype=float))
    tail = betainc(c + 1, b + 1, 0.5)
    is_tiny = tail < _TINY
    with np.errstate(divide="ignore"):
        logs = (b + c + 1) * math.log(2) + betaln(b + 1, c + 1) + np.log(tail)
    if is_tiny.any():
        # I_x(a, b) = x^a (1-x)^b / (a B(a, b)) * f, so that all powers of 2 cancel but one.
        logs = np.array(logs)
        logs[is_tiny] = -math.log(2) - np.log(c[is_tiny] + 1) + _log_fraction(c[is_tiny] + 1, b[is_tiny] + 1)
    return np.asarray(logs, dtype=float)


def _log_fraction(a: Floats, b: Floats) -> Floats:
    """Return ln of the continued fraction of I_1/2(a, b), by Lentz's method; a is far above b here."""
    import numpy as np

    value = upper = np.ones_like(a)
    lower = np.zeros_like(a)
    for number in range(1, _MAX_ROUNDS):
        m = number // 2
        if number % 2:
            term = -(a + m) * (a + b + m) * 0.5 / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            term = m * (b - m) * 0.5 / ((a + 2 * m - 1) * (a + 2 * m))
        lower = 1 / (1 + term * lower)
        upper = 1 + term / upper
        value = value * upper * lower
        if np.all(np.abs(upper * lower - 1) < 1e-14):
            break
    return np.asarray(-np.log(value), dtype=float)


def curve(is_win: Any) -> Floats:  # Any: truth values in the order in which labels became known
    """Return ln E after each discordant pair; `is_win` says for each whether the challenger was right."""
    import numpy as np

    won = np.cumsum(np.asarray(is_win, dtype=bool), dtype=float)
    return log_e(won, np.arange(1, len(won) + 1) - won)


def labels_to_go(wins: int, losses: int, units: int, *, alpha: float = ALPHA) -> int | None:
    """Return how many more labels it would take to pass at the rate seen so far; 0 if it passes now.

    `units` are the labelled units so far, discordant or not. None where the challenger did not win more than
    it lost, or where it would take more than a thousand million pairs.
    """
    bound = -math.log(alpha)
    if float(log_e(wins, losses)) >= bound:
        return 0
    pairs = wins + losses
    if wins <= losses or not pairs:
        return None
    share = wins / pairs

    def passes(more: int) -> bool:
        return float(log_e(wins + share * more, losses + (1 - share) * more)) >= bound

    enough = 1
    while not passes(enough):
        enough *= 2
        if enough > MAX_MORE:
            return None
    low, high = enough // 2, enough
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if passes(middle) else (middle, high)
    return math.ceil(high * max(units, pairs) / pairs)


@dataclass(frozen=True, slots=True, kw_only=True)
class GateReading:
    """Reading of the e-process over labels in the order in which they became known.

    `log_e` (now) and `highest_log_e` are natural logarithms. `curve` has (discordant pairs, ln E), thinned
    for a picture; it begins at no pair, where E is 1. `more_labels`: see `labels_to_go`.
    """

    units: int
    wins: int
    losses: int
    log_e: float
    highest_log_e: float
    alpha: float
    more_labels: int | None
    curve: tuple[tuple[int, float], ...]

    @property
    def e(self) -> float:
        """E, at most the largest double."""
        return math.exp(min(self.log_e, 709.0))

    @property
    def has_passed(self) -> bool:
        """Tell whether E is at least 1/alpha now."""
        return self.log_e >= -math.log(self.alpha)


def read_gate(is_win: Any, *, units: int, alpha: float = ALPHA, points: int = 400) -> GateReading:
    """Return the reading after these discordant pairs (as `curve` takes them), out of `units` labels.

    Args:
        points: how many points of the curve are kept at most, besides its ends and its highest.
    """
    import numpy as np

    won = np.asarray(is_win, dtype=bool)
    logs = np.concatenate([[0.0], curve(won)])
    wins = int(won.sum())
    losses = len(won) - wins
    kept = np.unique(np.linspace(0, len(won), min(points, len(logs))).round().astype(int))
    kept = np.union1d(kept, [int(logs.argmax())])
    return GateReading(
        units=units,
        wins=wins,
        losses=losses,
        log_e=float(logs[-1]),
        highest_log_e=float(logs.max()),
        alpha=alpha,
        more_labels=labels_to_go(wins, losses, units, alpha=alpha),
        curve=tuple((int(n), float(logs[n])) for n in kept),
    )
