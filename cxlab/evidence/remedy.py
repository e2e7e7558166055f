"""What other thresholds would buy and cost, shown beside the untouched model and never applied.

    remedy(subject, threshold).frame()    # segment, way, metric, n, value, low, high, difference, ...

Two ways are learnt from validated training rows and tried on the test part. *A threshold a group* gives every group
the TPR that all have together: plain, but only the TPR is made equal. *Drawn by lot* is Fairlearn's
`ThresholdOptimizer`, which equalises TPR and FPR by deciding some customers at random. Treating groups by different
thresholds may be unlawful where the model is used: whether to do it is a person's decision.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxlab.display import Result, axes, interval_plot, row_height
from cxlab.evidence.fairness import equalised, segments_of
from cxlab.evidence.groups import Partition, draws, measure, partitions
from cxlab.evidence.verdicts import gaps
from cxlab.metrics.bootstrap import interval
from cxlab.metrics.sample import Array, ratio
from cxlab.models.subject import Subject
from cxlab.params import FairnessParams, ValueParams

if TYPE_CHECKING:
    from matplotlib.axes import Axes

UNTOUCHED, BY_GROUP, BY_LOT = "as it is", "a threshold a group", "drawn by lot (equalized odds)"
COLUMNS = ["segment", "way", "metric", "n", "value", "low", "high", "difference", "diff_low", "diff_high"]
TOTALS = ("selection_rate", "tpr", "fpr", "precision", "profit")


class Scored(NamedTuple):
    """Rows with outcomes in {0, 1}, probabilities and segments, n of each."""

    outcome: Array
    score: Array
    segments: pd.DataFrame


@dataclass(frozen=True, repr=False)
class Remedy(Result):
    """Gaps and totals of each way of deciding.

    Attributes:
        rows: One a segment, way and metric.
        thresholds: Of the groups: segment, group, threshold, n and positives it was learnt from.
    """

    rows: pd.DataFrame = field(repr=False)
    thresholds: pd.DataFrame = field(repr=False)

    title: ClassVar[str] = "What would other thresholds buy and cost?"
    note: ClassVar[str] = (
        "Learnt on validated training rows, tried on the test part, applied nowhere. A gap is the largest difference "
        "between two groups, profit is per customer; a difference is to the untouched model, on the same customers. "
        "Groups that are small or have one outcome keep the common threshold. Fairlearn's lots seek the best balanced "
        "accuracy whatever the capacity: read their selection rate. Intervals are 95 %."
    )

    def frame(self) -> pd.DataFrame:
        return self.rows

    def plot(self, metric: str = "tpr gap") -> Axes:
        """One metric by segment and way, with intervals."""
        part = self.rows[self.rows["metric"] == metric]
        ax = axes(f"{metric} on the test part, 95 % interval", height=row_height(part))
        labels = [f"{row.segment}:\n{row.way}" for row in part.itertuples()]
        return interval_plot(ax, labels, part["value"], part["low"], part["high"])


def remedy(subject: Subject, threshold: float, *, resamples: int = 1000, seed: int = 0) -> Remedy:
    """The ways of deciding for each of the subject's segments; see `compare_ways`.

    Raises:
        DataError: A segment is not there.
    """
    names = subject.params.data.segments
    valid = segments_of(subject.table.frame, names).iloc[subject.valid_rows]
    return compare_ways(
        Scored(subject.outcome_valid, subject.score_valid, valid),
        Scored(subject.outcome_test, subject.score_test, segments_of(subject.test, names)),
        threshold,
        subject.params.fairness,
        subject.params.value,
        resamples=resamples,
        seed=seed,
    )


def compare_ways(
    valid: Scored,
    test: Scored,
    threshold: float,
    fairness: FairnessParams,
    value: ValueParams,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> Remedy:
    """Decides the test rows in three ways and measures each.

    Args:
        valid: Rows to learn thresholds from, with cross-fitted scores.
        test: Rows to try them on; the same segments.
        threshold: Of the untouched model; selected are scores at it and above.
        fairness: How large a group must be.
        value: What a contact costs and earns; `Value` has the formula.
        resamples: Bootstrap draws.
        seed: Of the draws and of the lots.
    """
    both = pd.concat([valid.segments, test.segments], ignore_index=True)
    rows, learnt = [], []
    for part in (partitions(both[[name]])[0] for name in both):
        known, here = part.code[: len(valid.score)], part.code[len(valid.score) :]
        cuts = _thresholds(valid, known, len(part.labels), threshold, fairness.min_group)
        learnt += [(part.segment, label, *cut) for label, cut in zip(part.labels, cuts, strict=True)]
        own = np.array([cut.own for cut in cuts])
        ways = {UNTOUCHED: (test.score >= threshold).astype(np.float64)}
        if own.any():
            ways[BY_GROUP] = (test.score >= np.array([cut.threshold for cut in cuts])[here]).astype(np.float64)
            taught, decided = own[known], own[here]
            ways[BY_LOT] = ways[UNTOUCHED].copy()
            if decided.any():
                ways[BY_LOT][decided] = equalised(
                    valid.outcome[taught],
                    valid.score[taught],
                    known[taught],
                    "equalized_odds",
                    on=(test.score[decided], here[decided]),
                    seed=seed,
                )
        tried = _reindexed(part, here)
        rows += list(_measured(tried, test, ways, fairness.min_group, value, resamples=resamples, seed=seed))
        if not own.any():
            why = f"cannot tell: fewer than two groups of {fairness.min_group} with both outcomes to learn from"
            rows.append((part.segment, why, "", len(test.score), *[np.nan] * 6))
    columns = ["segment", "group", "threshold", "own", "n", "positives"]
    return Remedy(pd.DataFrame(rows, columns=COLUMNS), pd.DataFrame(learnt, columns=columns))


class _Cut(NamedTuple):
    threshold: float
    own: bool
    n: int
    positives: int


def _thresholds(valid: Scored, code: NDArray[np.intp], groups: int, threshold: float, least: int) -> list[_Cut]:
    """For each group the highest threshold at which its TPR reaches that of everybody; the common one for groups that
    are small or have one outcome, and for all where fewer than two are left."""
    positive = valid.outcome == 1
    aim = float((valid.score[positive] >= threshold).mean()) if positive.any() else 0.0
    n = np.bincount(code, minlength=groups)
    positives = np.bincount(code[positive], minlength=groups)
    own = (n >= least) & (positives > 0) & (positives < n)
    own &= own.sum() > 1
    cuts = []
    for group in range(groups):
        cut = threshold
        if own[group]:
            ranked = np.sort(valid.score[positive & (code == group)])[::-1]
            hits = int(np.ceil(aim * len(ranked) - 1e-9))
            cut = float(ranked[hits - 1]) if hits else float(np.nextafter(1, 2))  # nobody is reached in all either
        cuts.append(_Cut(cut, bool(own[group]), int(n[group]), int(positives[group])))
    return cuts


def _reindexed(part: Partition, code: NDArray[np.intp]) -> Partition:
    """The partition of these rows, without the groups they do not hold."""
    present, inverse = np.unique(code, return_inverse=True)
    return Partition(part.segment, tuple(part.labels[group] for group in present), inverse.astype(np.intp))


def _measured(
    part: Partition,
    test: Scored,
    ways: dict[str, Array],
    least: int,
    value: ValueParams,
    *,
    resamples: int,
    seed: int,
) -> Iterator[tuple[object, ...]]:
    y, n = test.outcome.astype(np.float64), len(test.outcome)
    each = value.save_rate * value.saved_value * y - value.contact_cost
    member = np.eye(len(part.labels))[part.code]
    rng = np.random.default_rng(seed)
    weights = rng.standard_exponential((1 + resamples, n))  # the Bayesian bootstrap, as in the audit
    weights[0] = 1  # the rows as they are
    large = member.sum(axis=0) >= least

    def figures(decision: Array) -> Array:
        """Gaps of TPR and FPR, then totals: of the rows, then of each draw, shape (1 + resamples, 7)."""
        apart = []
        for kind in (y, 1 - y):
            rate = ratio(weights @ (member * (kind * decision)[:, None]), weights @ (member * kind[:, None]))
            told = rate[:, large & np.isfinite(rate[0])]
            apart.append(np.ptp(told, axis=1) if told.shape[1] > 1 else np.full(len(rate), np.nan))
        top = weights @ np.stack([decision, y * decision, (1 - y) * decision, y * decision, each * decision], axis=1)
        of = weights @ np.stack([np.ones(n), y, 1 - y, decision, np.ones(n)], axis=1)
        return np.column_stack([*apart, ratio(top, of)])

    found: dict[str, Array] = {}
    for way, decision in ways.items():
        here = measure([part], y, decision, test.score, auc=False)
        drawn = draws([part], y, decision, test.score, resamples=resamples, seed=seed, auc=False)
        spans = gaps([part], here, drawn[:, :, 0], least).set_index("metric")
        found[way] = figures(decision)
        first = found[UNTOUCHED]
        for m, metric in enumerate(("tpr gap", "fpr gap", *TOTALS)):
            own = interval(found[way][0, m], found[way][1:, m])
            if m < 2:  # a largest difference is never below 0, so that its draws lean: the interval of all pairs
                name = metric.split()[0]
                own = own._replace(low=spans["low"][name], high=spans["high"][name])
            change = interval(found[way][0, m] - first[0, m], found[way][1:, m] - first[1:, m])
            if way == UNTOUCHED:
                change = change._replace(value=np.nan, low=np.nan, high=np.nan)
            yield (part.segment, way, metric, n, *own, *change)
