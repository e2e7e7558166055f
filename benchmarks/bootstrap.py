"""Six metrics with intervals from 1,000 resamples: `evaluate` beside scikit-learn's functions in a loop."""

from __future__ import annotations

import numpy as np
import pandas as pd
from common import Found, seconds
from sklearn import metrics as plain

from cxlab.metrics.classification import BINS, churn_metrics
from cxlab.metrics.intervals import evaluate

ROWS, RESAMPLES, LOOPED, CAPACITY = 5_000, 1_000, 20, 0.1


def measure() -> Found:
    """Both on the same simulated scores; the loop runs a few resamples, and its time is scaled up."""
    rng = np.random.default_rng(0)
    score = rng.beta(1, 3, ROWS)
    y = (rng.random(ROWS) < score).astype(int)
    asked = churn_metrics(CAPACITY)
    draws = [rng.integers(0, ROWS, ROWS) for _ in range(LOOPED)]
    ours = seconds(lambda: evaluate(y, {"score": score}, asked, resamples=RESAMPLES))
    loop = seconds(lambda: [_naive(y[rows], score[rows]) for rows in draws]) * RESAMPLES / LOOPED
    found = evaluate(y, {"score": score}, asked, resamples=1).values("score")
    naive = _naive(y, score)
    apart = max(abs(found[name].value - value) for name, value in naive.items())
    rows = [("evaluate", f"{ours:.2f}"), (f"loop ({LOOPED} resamples, scaled)", f"{loop:.2f}")]
    says = (f"evaluate is {loop / ours:.0f} times as fast.", f"The values differ by at most {apart:.0e}.")
    title = f"{len(asked)} metrics, {RESAMPLES:,} resamples of {ROWS:,} customers"
    return Found(title, pd.DataFrame(rows, columns=["way", "seconds"]), says)


def _naive(y: np.ndarray, score: np.ndarray) -> dict[str, float]:
    best = np.argsort(-score, kind="stable")[: int(CAPACITY * len(y))]
    bins = np.minimum((score * BINS).astype(int), BINS - 1)
    gaps = [abs((y - score)[bins == number].sum()) for number in range(BINS)]
    return {
        "roc_auc": plain.roc_auc_score(y, score),
        "pr_auc": plain.average_precision_score(y, score),
        "log_loss": plain.log_loss(y, score),
        "brier": plain.brier_score_loss(y, score),
        "ece": sum(gaps) / len(y),
        "lift": y[best].mean() / y.mean(),
    }
