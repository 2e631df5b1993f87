"""Baselines: robust limits, and a beta-binomial for counts out of counts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import stats


def median(values: Sequence[float]) -> float:
    """Return the median of at least one value."""
    return quantile(values, 0.5)


def quantile(values: Sequence[float], share: float) -> float:
    """Return the quantile of at least one value, with linear interpolation (numpy's default)."""
    ordered = sorted(values)
    position = share * (len(ordered) - 1)
    low = math.floor(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def spread(values: Sequence[float]) -> float:
    """Return the median absolute deviation from the median (not scaled to a standard deviation)."""
    middle = median(values)
    return median([abs(value - middle) for value in values])


def low_limit(values: Sequence[float], mad_factor: float, share: float) -> float:
    """Return the limit below which a value is unusually low: min(median - factor x MAD, share x median)."""
    middle = median(values)
    return min(middle - mad_factor * spread(values), share * middle)


def high_rate(highest: float, floor: float, factor: float) -> float:
    """Return the limit above which a rate is unusually high: max(floor, factor x the highest seen).

    `factor` x highest is capped at 1 - (1 - highest) / factor, so that where the highest is near 1 a rate can
    still exceed the limit.
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
        """Return P(X <= k) and P(X >= k) of n >= 0 trials, 0 <= k <= n."""
        if n <= 0:
            return 1.0, 1.0
        support = np.arange(0, k + 1) if k <= n - k else np.arange(k, n + 1)
        mass = stats.betabinom.pmf(support, n, self.a, self.b)
        near, at_k = float(mass.sum()), float(mass[-1] if k <= n - k else mass[0])
        far = 1 - near + at_k
        lower, upper = (near, far) if k <= n - k else (far, near)
        return min(max(lower, 0.0), 1.0), min(max(upper, 0.0), 1.0)

    def is_near(self, k: int, n: int) -> bool:
        """Tell whether k lies within one standard deviation of the mean, so that no tail needs computing."""
        concentration = self.a + self.b
        mean = self.mean
        variance = n * mean * (1 - mean) * (concentration + n) / (concentration + 1)
        return (k - n * mean) ** 2 <= variance


@lru_cache(maxsize=4096)
def _lower_quartile(freedom: float) -> float:
    return float(stats.chi2.ppf(0.25, freedom))


def fit(successes: Sequence[int], trials: Sequence[int], independent: float) -> BetaBinomial | None:
    """Fit by moments, wide enough for the number of independent cycles.

    Windows overlap, so cycles next to each other share rows: the effective number of cycles is
    `independent`. Two things widen the fit: the variance between cycles is taken at the upper quartile of
    its estimate (chi-square with `independent` - 1 degrees of freedom), and a + b never exceeds the
    independent trials behind it (Jeffreys' prior, for rates of 0 and 1).

    Args:
        successes, trials: of each cycle, the same length; cycles without trials are left out.
        independent: the number of independent cycles, > 0.
    Returns:
        None where there are no trials.
    """
    pairs = [(k, n) for k, n in zip(successes, trials, strict=True) if n > 0]
    if not pairs:
        return None
    count, all_trials = len(pairs), sum(n for _, n in pairs)
    independent = max(2.0, min(independent, float(count)))
    effective_trials = all_trials * independent / count
    mean = (sum(k for k, _ in pairs) * independent / count + 0.5) / (effective_trials + 1)
    size = all_trials / count
    between = sum(n * (k / n - mean) ** 2 for k, n in pairs) / all_trials
    between *= independent / _lower_quartile(round(independent - 1, 2))
    sampling = mean * (1 - mean) / size
    concentration = effective_trials + 1
    if between > sampling and size > 1:
        correlation = min((between / sampling - 1) / (size - 1), 0.999)
        concentration = min(concentration, max(1 / correlation - 1, 1e-3))
    return BetaBinomial(mean * concentration, (1 - mean) * concentration)
