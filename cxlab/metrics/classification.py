"""Textbook metrics of a binary outcome.

    roc_auc(y, score)                # a number
    roc_auc(y, score, weights)       # one a bootstrap draw
    churn_metrics(0.1)

A new metric is a function from a sample to a statistic, a `Metric` that names it, and a line in `churn_metrics`.
"""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxlab.metrics.sample import Array, Draws, Metric, Sample, Statistic, ratio

__all__ = ["Metric", "bin_of", "brier", "churn_metrics", "ece", "lift", "lift_at", "log_loss", "pr_auc", "roc_auc"]

BINS = 15  # as in Guo et al. (2017)


def _roc_auc(sample: Sample) -> Statistic:
    def statistic(draws: Draws) -> Array:
        hits = draws.caught[:, sample.ends]
        misses = draws.reached[:, sample.ends] - hits
        before = np.zeros((len(hits), 1))
        # Trapezoids under the curve of hits over misses: a tie counts half.
        width = np.diff(misses, axis=1, prepend=before)
        area = np.einsum("bg,bg->b", width, hits) - 0.5 * np.einsum(
            "bg,bg->b", width, np.diff(hits, axis=1, prepend=before)
        )
        return ratio(area, hits[:, -1] * misses[:, -1])

    return statistic


def _pr_auc(sample: Sample) -> Statistic:
    def statistic(draws: Draws) -> Array:
        hits, reached = draws.caught[:, sample.ends], draws.reached[:, sample.ends]
        precision = hits / np.maximum(reached, np.finfo(np.float64).tiny)
        gained = np.diff(hits, axis=1, prepend=np.zeros((len(hits), 1)))
        return ratio(np.einsum("bg,bg->b", gained, precision), hits[:, -1])

    return statistic


def _log_loss(sample: Sample) -> Statistic:
    tiny = np.finfo(np.float64).eps
    p = np.clip(sample.score, tiny, 1 - tiny)
    loss = -np.where(sample.y == 1, np.log(p), np.log1p(-p))
    return lambda draws: draws.mean(loss)


def _brier(sample: Sample) -> Statistic:
    loss = (sample.y - sample.score) ** 2
    return lambda draws: draws.mean(loss)


def bin_of(score: Array, bins: int = BINS) -> NDArray[np.intp]:
    """Which of `bins` equal-width bins ((i / bins, (i + 1) / bins]; 0 goes with the first) each probability is in.

    Examples:
        >>> bin_of(np.array([0.0, 0.2, 0.21, 1.0]), bins=5).tolist()
        [0, 0, 1, 4]
    """
    edges = np.linspace(0.0, 1.0, bins + 1)
    return np.searchsorted(edges[1:-1], score, side="left")


def _ece(sample: Sample) -> Statistic:
    gap = np.zeros((len(sample.y), BINS))
    gap[np.arange(len(gap)), bin_of(sample.score)] = sample.y - sample.score
    return lambda draws: np.abs(draws.mean(gap)).sum(axis=1)


def ece_of_luck(sample: Sample, level: float) -> float:
    """Up to where the error of a perfectly calibrated score goes: outcomes drawn anew from the score itself.

    The consistency resampling of Bröcker and Smith (2007), with the normal limit of each bin in place of the draws.
    """
    spread = np.sqrt(np.bincount(bin_of(sample.score), weights=sample.score * (1 - sample.score))) / len(sample.y)
    mean = np.sqrt(2 / np.pi) * spread.sum()  # of the absolute value of a normal
    deviation = np.sqrt((1 - 2 / np.pi) * (spread**2).sum())
    return float(mean + NormalDist().inv_cdf((1 + level) / 2) * deviation)


def lift(fraction: float) -> Metric:
    """Lift at a capacity, as a metric. See `lift_at`.

    Args:
        fraction: Share of customers contacted, in (0, 1].
    Raises:
        ValueError: `fraction` is outside (0, 1].
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction == {fraction}, must be in (0, 1].")

    def prepare(sample: Sample) -> Statistic:
        def statistic(draws: Draws) -> Array:
            room = np.maximum(1.0, np.floor(fraction * draws.total + 1e-9))  # 0.29 * 100 is 28.999...
            last = np.minimum((draws.reached < room[:, None]).sum(axis=1), len(sample.y) - 1)
            each = np.arange(len(room))
            # Down to the row that fills the room; what stands over there is taken back.
            over = np.maximum(draws.reached[each, last] - room, 0.0)
            hits = draws.caught[each, last] - over * sample.ranked_y[last]
            return ratio(ratio(hits, room), ratio(draws.positives, draws.total))

        return statistic

    return Metric(
        "lift",
        f"Lift, {100 * fraction:.3g} % contacted",
        True,
        prepare,
        "How much denser positives are among the top-scored customers than overall; 1 is random.",
        bounds=(0.0, np.inf),
    )


def lift_at(y_true: ArrayLike, y_score: ArrayLike, *, fraction: float) -> float:
    """How much denser churners are among the top-scored customers than overall.

    Contacted are `fraction * n` customers, rounded down (a capacity is not exceeded) but at least one.

    Args:
        y_true: Outcomes in {0, 1}, shape (n,), at least one 1.
        y_score: Scores, shape (n,), higher is riskier; ties keep row order.
        fraction: Share of customers contacted, in (0, 1].
    Returns:
        Lift, a ratio >= 0; 1.0 is what random targeting gives; NaN where no outcome is 1.
    Raises:
        ValueError: `fraction` is outside (0, 1], or outcomes and scores do not fit.
    Examples:
        >>> lift_at([1, 0, 1, 0, 0], [0.9, 0.8, 0.7, 0.2, 0.1], fraction=0.4)
        1.25
    """
    return float(lift(fraction)(y_true, y_score))


# Fawcett (2006), An introduction to ROC analysis, sections 5 and 7.
roc_auc = Metric(
    "roc_auc",
    "ROC AUC",
    True,
    _roc_auc,
    "How often a random positive scores above a random negative; 0.5 is guessing.",
    bounds=(0.0, 1.0),
)
# The step-wise sum of Davis and Goadrich (2006), scikit-learn's average_precision_score: no interpolation.
pr_auc = Metric(
    "pr_auc",
    "PR AUC (average precision)",
    True,
    _pr_auc,
    "Precision averaged over the positives as they are caught; guessing gives the share of positives.",
    bounds=(0.0, 1.0),
)
# Good (1952), Rational decisions; clipped at the machine epsilon as scikit-learn does.
log_loss = Metric(
    "log_loss",
    "Log loss",
    False,
    _log_loss,
    "The mean surprise, in nats, at what happened; sure and wrong costs most.",
    probability=True,
    bounds=(0.0, np.inf),
)
# Brier (1950), Verification of forecasts expressed in terms of probability, halved for two classes.
brier = Metric(
    "brier",
    "Brier score",
    False,
    _brier,
    "The mean squared gap between probability and outcome.",
    probability=True,
    bounds=(0.0, 1.0),
)
# Guo et al. (2017), On calibration of modern neural networks, eq. 3, with the probability of the positive outcome
# for the confidence. A resample adds noise to every bin and so sits above the sample's value as the sample's value
# sits above the truth: the basic interval takes that lean back (Davison and Hinkley 1997, section 5.2). It does not
# take back enough near zero (in simulations a calibrated score's interval held zero 4 times in 10), so that there
# `luck` decides whether zero is in.
ece = Metric(
    "ece",
    "Expected calibration error",
    False,
    _ece,
    "How far, on average over 15 bins, the probabilities are from the share that happened.",
    probability=True,
    bounds=(0.0, 1.0),
    interval="basic",
    luck=ece_of_luck,
)


def churn_metrics(capacity: float) -> tuple[Metric, ...]:
    """The metrics of any binary outcome, in the order of reports.

    Args:
        capacity: Share of customers we can contact, in (0, 1].
    Raises:
        ValueError: `capacity` is outside (0, 1].
    Examples:
        >>> [metric.name for metric in churn_metrics(0.1)]
        ['roc_auc', 'pr_auc', 'log_loss', 'brier', 'ece', 'lift']
    """
    return (roc_auc, pr_auc, log_loss, brier, ece, lift(capacity))
