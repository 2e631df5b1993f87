"""What is usual: robust limits, and a beta-binomial for counts out of counts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import stats


def median(values: Sequence[float]) -> float:
    """The median of at least one value."""
    return quantile(values, 0.5)


def quantile(values: Sequence[float], share: float) -> float:
    """The quantile of at least one value, with linear interpolation (numpy's default)."""
    held = sorted(values)
    place = share * (len(held) - 1)
    low = math.floor(place)
    high = min(low + 1, len(held) - 1)
    return held[low] + (held[high] - held[low]) * (place - low)


def spread(values: Sequence[float]) -> float:
    """The median absolute deviation from the median (not scaled to a standard deviation)."""
    middle = median(values)
    return median([abs(value - middle) for value in values])


def low_limit(values: Sequence[float], mad_factor: float, share: float) -> float:
    """Below what a value is unusually low: min(median - factor x MAD, share x median)."""
    middle = median(values)
    return min(middle - mad_factor * spread(values), share * middle)


def high_rate(highest: float, floor: float, factor: float) -> float:
    """Above what a rate is unusually high: max(floor, factor x the highest seen).

    A rate that is high already would never get there: a `factor`-th of what is left below 1 also counts.
    """
    return max(floor, min(factor * highest, 1 - (1 - highest) / factor))


@dataclass(frozen=True, slots=True)
class BetaBinomial:
    """A count out of n whose rate is itself drawn from Beta(a, b); a, b > 0."""

    a: float
    b: float

    @property
    def mean(self) -> float:
        """The usual rate."""
        return self.a / (self.a + self.b)

    def tails(self, k: int, n: int) -> tuple[float, float]:
        """P(X <= k) and P(X >= k) of n >= 0 trials, 0 <= k <= n."""
        if n <= 0:
            return 1.0, 1.0
        here = np.arange(0, k + 1) if k <= n - k else np.arange(k, n + 1)
        mass = stats.betabinom.pmf(here, n, self.a, self.b)
        one, at_k = float(mass.sum()), float(mass[-1] if k <= n - k else mass[0])
        other = 1 - one + at_k
        lower, upper = (one, other) if k <= n - k else (other, one)
        return min(max(lower, 0.0), 1.0), min(max(upper, 0.0), 1.0)

    def is_near(self, k: int, n: int) -> bool:
        """Whether k lies within one standard deviation of what is usual, so that no tail needs computing."""
        total = self.a + self.b
        m = self.mean
        variance = n * m * (1 - m) * (total + n) / (total + 1)
        return (k - n * m) ** 2 <= variance


@lru_cache(maxsize=4096)
def _lower_quartile(freedom: float) -> float:
    return float(stats.chi2.ppf(0.25, freedom))


def fit(successes: Sequence[int], trials: Sequence[int], independent: float) -> BetaBinomial | None:
    """Fit by moments, wide enough for what so few independent cycles can tell.

    Windows overlap, so cycles next to each other repeat each other: `independent` of them are worth
    counting. Two things widen the fit: the variance between cycles is taken at the upper quartile of what
    it may be (chi-square with `independent` - 1 degrees of freedom), and a + b never exceeds the
    independent trials behind it (Jeffreys' prior, for rates of 0 and 1).

    Args:
        successes, trials: of each cycle, the same length; cycles without trials count for nothing.
        independent: how many independent cycles they are worth, > 0.
    Returns:
        None where there are no trials.
    """
    pairs = [(k, n) for k, n in zip(successes, trials, strict=True) if n > 0]
    if not pairs:
        return None
    count, all_n = len(pairs), sum(n for _, n in pairs)
    independent = max(2.0, min(independent, float(count)))
    worth = all_n * independent / count
    mean = (sum(k for k, _ in pairs) * independent / count + 0.5) / (worth + 1)
    size = all_n / count
    between = sum(n * (k / n - mean) ** 2 for k, n in pairs) / all_n
    between *= independent / _lower_quartile(round(independent - 1, 2))
    sampling = mean * (1 - mean) / size
    concentration = worth + 1
    if between > sampling and size > 1:
        correlation = min((between / sampling - 1) / (size - 1), 0.999)
        concentration = min(concentration, max(1 / correlation - 1, 1e-3))
    return BetaBinomial(mean * concentration, (1 - mean) * concentration)
