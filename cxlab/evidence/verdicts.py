"""From rates and their bootstrap draws to rows with intervals and verdicts: pass, fail or cannot tell, and why."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from statistics import NormalDist

import numpy as np
import pandas as pd

from cxlab.evidence.groups import METRICS, RATES, Measured, Partition
from cxlab.metrics.rates import OTHER
from cxlab.metrics.sample import Array, ratio
from cxlab.params import FairnessParams

LEVEL = 0.95
COLUMNS = [
    *("segment", "group", "metric", "n", "positives", "value", "low", "high"),
    *("difference", "diff_low", "diff_high", "verdict", "of", "ratio", "reason"),
]
GAPS = ["segment", "metric", "groups", "lowest", "highest", "gap", "low", "high", "ratio"]
NOBODY = {
    **{"tpr": "no positives", "fpr": "no negatives", "precision": "nobody selected", "auc": "only one outcome"},
    "accuracy_answered": "nobody answered",
}
CHOICES = {metric: metric for metric in METRICS}  # of whom a model selects: each metric and its rate
ANSWERS = {  # of what a model of many classes answers, where the outcome is that it is right
    **{"accuracy": "outcome_rate", "answered": "selection_rate", "accuracy_answered": "precision"},
    "calibration_error": "calibration_error",
}


def judged(
    parts: list[Partition],
    here: Measured,
    drawn: Array,
    params: FairnessParams,
    *,
    metrics: Mapping[str, str] = CHOICES,
    asked: Collection[str] | None = None,
) -> tuple[pd.DataFrame, int]:
    """One row a segment, group and metric, and how many differences could be told.

    Args:
        parts: The segments, k groups in all.
        here: Their rates.
        drawn: The same in bootstrap draws, shape (B, k, 2, 7).
        params: What is judged.
        metrics: The m metrics of the rows, and the rate that each is.
        asked: Those that are judged; `params.metrics` if None.
    """
    places = [RATES.index(rate) for rate in metrics.values()]
    names, of = list(metrics), here.of[:, :, places]
    value, other = here.rates[:, 0, places], here.rates[:, 1, places]
    drawn = drawn[..., places]
    difference, apart = value - other, drawn[:, :, 0] - drawn[:, :, 1]
    judging = np.array([metric in (params.metrics if asked is None else asked) for metric in names])
    enough = here.of[:, :, 0].min(axis=1) >= params.min_group
    tellable = np.isfinite(difference) & enough[:, None] & judging
    groups = [(part, label) for part in parts for label in part.labels]
    twice = np.array([len(part.labels) == 2 for part, _ in groups])  # one difference, seen from both sides
    comparisons = int(tellable[~twice].sum() + tellable[twice].sum() // 2)
    limit, widen = params.max_difference, _widening(comparisons)
    low, high = _ends(value, drawn[:, :, 0])
    near, far = np.stack(_ends(difference, apart)), np.stack(_ends(difference, apart, widen))
    times = ratio(value, other)
    times[:, names.index("calibration_error")] = np.nan  # of signed errors a ratio says nothing
    rows = []
    for g, (part, label) in enumerate(groups):
        n, positives = (int(count) for count in here.of[g, 0, :2])
        note = f"{part.merged:,} rarer groups together" if label == OTHER and part.merged else ""
        for m, metric in enumerate(names):
            verdict = "cannot tell" if judging[m] else "shown"
            reason = _untold(here.of[g, :, 0], of[g, :, m], NOBODY.get(metric, "nobody"), params.min_group)
            if tellable[g, m]:
                verdict, reason = _verdict(near[:, g, m], far[:, g, m], limit, comparisons)
            ends = (value[g, m], low[g, m], high[g, m], difference[g, m], *near[:, g, m])
            told = "; ".join(filter(None, [reason, note]))
            tail = (verdict, int(of[g, 0, m]), times[g, m], told, part.single, bool(tellable[g, m]))
            rows.append((part.segment, label, metric, n, positives, *ends, *tail))
    return pd.DataFrame(rows, columns=[*COLUMNS, "single", "tellable"]), comparisons


def _verdict(near: Array, far: Array, limit: float, comparisons: int) -> tuple[str, str]:
    if near[0] >= -limit and near[1] <= limit:
        return "pass", ""
    if far[0] > limit or far[1] < -limit:
        return "fail", f"beyond the limit of {limit:g}"
    if near[0] > limit or near[1] < -limit:
        return (
            "cannot tell",
            f"beyond the limit of {limit:g}, but no further than luck goes among {comparisons} differences",
        )
    return "cannot tell", f"the interval crosses the limit of {limit:g}"


def _untold(rows: Array, of: Array, nobody: str, least: int) -> str:
    """Why a difference cannot be judged.

    Args:
        rows: Customers of the group and all others, shape (2,).
        of: The metric's own denominators, shape (2,).
        nobody: What is said where one is 0.
        least: Fewer customers tell nothing.
    """
    n, rest = rows.astype(int)
    if rest == 0:
        return "one group only: nothing to compare"
    if n < least:
        return f"{n} customers, fewer than {least}"
    if rest < least:
        return f"everybody else is {rest} customers, fewer than {least}"
    if of[0] == 0:
        return nobody
    return f"{nobody} among everybody else" if of[1] == 0 else ""


def gaps(
    parts: list[Partition], here: Measured, drawn: Array, least: int, metrics: Mapping[str, str] = CHOICES
) -> pd.DataFrame:
    """One row a segment and metric: the largest difference between two groups of at least `least` customers.

    The interval of the largest difference is that of all pairs at once: the highest of the widened lower ends, and
    the highest of the upper.

    Args:
        parts: The segments, k groups in all.
        here: Their rates.
        drawn: The groups' rates in bootstrap draws, shape (B, k, 7).
        least: Smaller groups are left out.
        metrics: Those of the rows, and the rate that each is.
    """
    rows: list[tuple[object, ...]] = []
    start = 0
    for part in parts:
        own = slice(start, start + len(part.labels))
        start = own.stop
        value, large = here.rates[own, 0], here.of[own, 0, 0] >= least
        for metric, m in ((metric, RATES.index(rate)) for metric, rate in metrics.items()):
            told = np.flatnonzero(large & np.isfinite(value[:, m]))
            if len(told) < 2:
                rows.append((part.segment, metric, len(told), None, None, *[np.nan] * 4))
                continue
            one, two = (told[index] for index in np.triu_indices(len(told), 1))
            replicates = drawn[:, own, m]
            apart = replicates[:, one] - replicates[:, two]
            low, high = _ends(value[one, m] - value[two, m], apart, _widening(len(one)))
            bottom, top = told[np.argmin(value[told, m])], told[np.argmax(value[told, m])]
            ends = (max(0.0, np.maximum(low, -high).max()), np.maximum(high, -low).max())
            times = np.nan if metric == "calibration_error" else float(ratio(value[bottom, m], value[top, m]))
            gap = value[top, m] - value[bottom, m]
            rows.append((part.segment, metric, len(told), part.labels[bottom], part.labels[top], gap, *ends, times))
    return pd.DataFrame(rows, columns=GAPS)


def _ends(value: Array, drawn: Array, widen: float = 1.0) -> tuple[Array, Array]:
    """Quantiles of the draws, stretched about their median; they hold the value, and are NaN where it is."""
    low, middle, high = np.quantile(drawn, [(1 - LEVEL) / 2, 0.5, (1 + LEVEL) / 2], axis=0)
    return np.minimum(middle - widen * (middle - low), value), np.maximum(middle + widen * (high - middle), value)


def _widening(comparisons: int) -> float:
    """How much longer intervals are that hold all at once: the ratio of normal quantiles (Dunn 1961)."""
    normal = NormalDist()
    return normal.inv_cdf(1 - (1 - LEVEL) / (2 * max(1, comparisons))) / normal.inv_cdf((1 + LEVEL) / 2)
