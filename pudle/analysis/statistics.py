"""Intervals over seeds, computed by scipy.

Two kinds of interval are used, and each table, figure and verdict names its own. *Bands* in figures and tables are percentile
bootstrap intervals of the mean. *Verdicts* use Student's t on per-seed effects. With three to ten seeds a percentile bootstrap cannot
extend beyond the observed seeds, and would call three agreeing seeds conclusive.
"""

from typing import NamedTuple

import numpy as np
import scipy  # loads scipy.stats when first used: planning must not wait for it

LEVEL = 0.95
MIN_SEEDS = 3  # with fewer there is no conclusion
BAND = "95 % bootstrap interval of the mean over seeds"
RESAMPLES = 2000


class Interval(NamedTuple):
    """A mean with the two ends of its interval. The ends are NaN if there are fewer than two values."""

    mean: float
    low: float
    high: float


def bootstrap_band(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, lower and upper end over the first axis (seeds) of ``values`` (n_seeds, ...): percentile bootstrap, fixed resamples."""
    mean = values.mean(0)
    if len(values) < 2:
        return mean, np.full_like(mean, np.nan), np.full_like(mean, np.nan)
    result = scipy.stats.bootstrap(
        (values,),
        np.mean,
        axis=0,
        confidence_level=LEVEL,
        n_resamples=RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(0),
        batch=200,
    )
    return mean, result.confidence_interval.low, result.confidence_interval.high


def t_interval(values: np.ndarray) -> Interval:
    """Mean of independent ``values`` (n,) with its 95 % Student-t interval."""
    values = np.asarray(values, dtype=float)
    if len(values) < 2:
        return Interval(float(values.mean()) if len(values) else np.nan, np.nan, np.nan)
    mean = float(values.mean())
    if np.isfinite(mean) and not _vary(values):  # equal up to rounding: scipy would warn and return no interval
        return Interval(mean, mean, mean)
    interval = scipy.stats.ttest_1samp(values, mean).confidence_interval(LEVEL)
    return Interval(mean, float(interval.low), float(interval.high))


def t_test(values: np.ndarray, threshold: float) -> float:
    """Two-sided p of Student's t for the mean of ``values`` (n,) against ``threshold``; NaN with fewer than two, or if all are equal."""
    return float(scipy.stats.ttest_1samp(values, threshold).pvalue) if _vary(values) else np.nan


def effect_size(values: np.ndarray, threshold: float) -> float:
    """Cohen's d: the mean of ``values`` (n,) minus ``threshold``, in standard deviations; NaN where :func:`t_test` is NaN."""
    return float((np.mean(values) - threshold) / np.std(values, ddof=1)) if _vary(values) else np.nan


def holm(p: np.ndarray) -> np.ndarray:
    """p-values (n,) after Holm's step-down correction. NaN stays NaN and is not counted. Source: Holm (1979)."""
    p = np.asarray(p, dtype=float)
    corrected = np.full_like(p, np.nan)
    order = np.argsort(p)[: np.isfinite(p).sum()]
    corrected[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)))
    return corrected


def _vary(values: np.ndarray) -> bool:
    return len(values) > 1 and bool(np.isfinite(values).all()) and np.ptp(values) > 1e-12 * np.abs(values).max()


def slope(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Least-squares slope of ``y`` (n,) against ``x`` (n,), and the fraction of variance R² that the line explains."""
    fit = scipy.stats.linregress(x, y)
    return float(fit.slope), float(fit.rvalue**2)
