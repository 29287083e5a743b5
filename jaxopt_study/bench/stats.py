"""What is computed from raw samples: medians, spreads, ratios with their intervals, distances between curves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

UNSTABLE = 0.10
"""A ratio is unstable where an equal run may give one that is more than this part away: see `ratio.FLAGS`."""

SLOWED = 0.15
"""A machine that is slower than at its best by more than this part is called slow: see `slowdown`."""

Samples = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Interval:
    """An estimate with the ends of its 95 % interval."""

    value: float
    low: float
    high: float


def spread(samples: Samples) -> float:
    """Return the interquartile range divided by the median."""
    quarter, median, three_quarters = np.percentile(samples, [25, 50, 75])
    return float((three_quarters - quarter) / median)


def slowdown(seconds: Samples, of_run: Samples) -> float:
    """Return by what part the median of `seconds` is above the machine's best in the run, the tenth percentile.

    The run's median will not do: a machine that is slow for most of one run and not of another gives other ratios. The
    tenth percentile was 0.99 to 1.05 ms in eight runs, whose medians were 1.04 to 1.69. On a steady machine it lies 5 %
    under the median, and a group's median drifts by 4 % more: up to 13 % in three runs. Slow ones were 90 to 100 %.
    """
    return float(np.median(seconds) / np.percentile(of_run, 10) - 1)


def ratio(numerator: Samples, denominator: Samples) -> Interval:
    """Return the median of the rounds' ratios, with a 95 % interval: the exact one of a median, by the sign test.

    That takes six rounds. For fewer, it is Student's interval of the mean of logarithms.

    What slows a whole round cancels in its ratio, and does not in the ratio of the two medians. Five minutes of a noisy
    machine, cut into runs of 13 rounds: torch's `notebook` over `fused` had a standard deviation of 1.8 % instead of
    4.1 %, and `notebook` over JAX's `scan` of 3.2 % instead of 5.7 %.

    Args:
        numerator: Seconds of each sample of one case.
        denominator: Seconds of the samples of the other case in the same rounds.

    Returns:
        For one round, the ratio without an interval: its ends are NaN.
    """
    from scipy.stats import quantile_test, t  # take most of a second to load

    ratios = np.asarray(numerator) / np.asarray(denominator)
    value = float(np.median(ratios))
    if len(ratios) < 2:
        return Interval(value, float("nan"), float("nan"))
    if len(ratios) < 6:
        mean, error = np.log(ratios).mean(), np.log(ratios).std(ddof=1) / len(ratios) ** 0.5
        low, high = np.exp(mean + np.array([-1, 1]) * t.ppf(0.975, len(ratios) - 1) * error)
    else:
        low, high = quantile_test(ratios, q=value, p=0.5).confidence_interval(0.95)
    return Interval(value, float(low), float(high))


def exponent(sizes: Samples, values: Samples) -> Interval:
    """Return the exponent b of values = a sizes^b, by least squares on logarithms, with Student's 95 % interval."""
    from scipy.stats import linregress, t  # takes most of a second to load

    fit = linregress(np.log(sizes), np.log(values))
    half = float(t.ppf(0.975, len(sizes) - 2) * fit.stderr)
    return Interval(float(fit.slope), float(fit.slope) - half, float(fit.slope) + half)


def relative_distance(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """Return the largest |a - b| / |b| over the entries of two curves; infinite where only one of a pair is finite."""
    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    both = np.isfinite(a) & np.isfinite(b)
    if np.any(np.isfinite(a) != np.isfinite(b)):
        return float("inf")
    scale = np.maximum(np.abs(b[both]), np.finfo(float).tiny)
    return float(np.max(np.abs(a[both] - b[both]) / scale, initial=0.0))


def absolute_distance(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """Return the largest |a - b| over the entries; infinite where only one of a pair is finite."""
    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    both = np.isfinite(a) & np.isfinite(b)
    if np.any(np.isfinite(a) != np.isfinite(b)):
        return float("inf")
    return float(np.max(np.abs(a[both] - b[both]), initial=0.0))


def scaled_distance(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """Return the largest |a - b|, relative to the largest |b| where that is more than 1."""
    sizes = np.abs(np.asarray(b, dtype=float))
    return absolute_distance(a, b) / max(1.0, float(np.max(sizes[np.isfinite(sizes)], initial=0.0)))


def residual(matrix: npt.ArrayLike, reference: npt.ArrayLike) -> float:
    """Return the largest difference of two matrices, relative to the reference's largest entry."""
    return absolute_distance(matrix, reference) / float(np.max(np.abs(np.asarray(reference))))


def percentile_of(value: float, samples: npt.ArrayLike) -> float:
    """Return the percentage of `samples` below `value`, those equal to it counting half."""
    samples = np.asarray(samples, dtype=float)
    return float(100 * (np.mean(samples < value) + np.mean(samples == value) / 2))


def overhead(work: Samples, seconds: Samples) -> tuple[Interval, Interval]:
    """Return a and b of seconds = a + b x work, with Student's 95 % intervals.

    Relative errors are minimized, (a + b w - s) / s: a step of microseconds counts as much as one of milliseconds.
    """
    from scipy.stats import t  # takes most of a second to load

    design = np.stack([np.ones_like(work), work], axis=1) / seconds[:, None]
    scale = np.linalg.norm(design, axis=0)
    solution, _, _, _ = np.linalg.lstsq(design / scale, np.ones(len(work)), rcond=None)
    residual = design / scale @ solution - 1
    freedom = len(work) - 2
    covariance = np.linalg.inv((design / scale).T @ (design / scale)) * float(residual @ residual) / freedom
    half = float(t.ppf(0.975, freedom)) * np.sqrt(np.diag(covariance)) / scale
    values = solution / scale
    fixed, slope = (Interval(float(v), float(v - h), float(v + h)) for v, h in zip(values, half, strict=True))
    return fixed, slope


def ratio_of_runs(after: Samples, before: Samples) -> Interval:
    """Return the ratio of medians of two runs made at different times, with a 95 % interval by the bootstrap.

    Their blocks are not paired, so that the interval holds the noise within each run, and not a machine's drift between
    them.
    """
    generator = np.random.default_rng(0)
    draws = [
        np.median(samples[generator.integers(0, len(samples), (4999, len(samples)))], axis=1)
        for samples in (after, before)
    ]
    value = float(np.median(after) / np.median(before))
    if min(len(after), len(before)) < 2:
        return Interval(value, float("nan"), float("nan"))
    low, high = np.percentile(draws[0] / draws[1], [2.5, 97.5])
    return Interval(value, float(low), float(high))
