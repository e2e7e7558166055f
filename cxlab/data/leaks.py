"""Columns that decide the outcome suspiciously well. A statistic can only suspect: a person says what is a leak.

Two signs are read on a seeded sample, half of it held out. One column alone ranks the outcome almost perfectly;
or what only this column knows is worth far more than what only the next one knows. Ranking columns one by one
is not enough: an honest column can rank as well alone as a leak does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cxlab.data.schema import schema_of

SAMPLE = 8_000  # rows: a second's work, and the AUC of 4,000 held-out rows is good to about 0.02
SEED = 0
MIN_CLASS = 40  # of each outcome in the sample; with fewer the AUC itself is noise
MOST_COLUMNS = 60  # the strongest alone go into the model; more would take longer than a check may
ALONE = 0.95  # AUC of one column; honest single columns of our public data sets reach 0.86
ONLY = 0.10  # AUC lost without a column; the known leak of our public data sets costs 0.15 to 0.17
AHEAD = 3.0  # times the next loss; honest columns of those data sets stay near 2, the known leak is above 20
COPY = 0.98  # rank correlation from which two columns are copies: they are taken out together
BINS = 20  # quantiles into which a number is cut to be read alone
_REFITS = 3  # how many of the strongest are taken out and the model refitted


@dataclass(frozen=True)
class Suspect:
    """Columns that may be leaks, and why. More than one where they are copies of each other."""

    columns: tuple[str, ...]
    reason: str


def suspects(frame: pd.DataFrame, features: Sequence[str], y: np.ndarray) -> list[Suspect] | None:
    """Features that decide the outcome far better than the others.

    Args:
        frame: Rows, shape (n, any).
        features: Columns to look at.
        y: Outcomes in {0, 1}, shape (n,).
    Returns:
        Suspects, the strongest first; None where one outcome has too few rows to tell.
    """
    rng = np.random.default_rng(SEED)
    rows = rng.permutation(len(frame))[:SAMPLE]
    y = np.asarray(y)[rows]
    if min(y.sum(), len(y) - y.sum()) < MIN_CLASS or not features:
        return None
    frame = _coded(frame.iloc[rows], list(features))
    alone = {name: _alone(frame[name].to_numpy(), y) for name in frame.columns}
    kept = sorted(alone, key=lambda name: -alone[name])[:MOST_COLUMNS]
    found = [
        Suspect((name,), f"{name!r} alone ranks the outcome with AUC {alone[name]:.3f}, suspect from {ALONE}")
        for name in kept
        if alone[name] >= ALONE
    ]
    named = {name for suspect in found for name in suspect.columns}
    rest = [name for name in frame.columns if name in kept and name not in named]
    if not rest:
        return found
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):  # on a busy machine threads wait for each other for longer than they work
        return found + _far_ahead(frame[rest], y, rng)


def _coded(frame: pd.DataFrame, features: list[str]) -> pd.DataFrame:
    """Numbers as they are, categories as numbers in their order."""
    schema = schema_of(frame, features)
    frame = schema.encode(frame).reset_index(drop=True)
    for name in schema.of_kind("category"):
        frame[name] = pd.factorize(frame[name], sort=True)[0].astype(np.float32)
    return frame


def _auc(y: np.ndarray, score: np.ndarray) -> float:
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(y, score))


def _alone(values: np.ndarray, y: np.ndarray) -> float:
    """Held-out AUC of the outcome's rate in each value, or in each quantile of many values."""
    half = len(y) // 2
    known = values[~np.isnan(values)]
    bins = values
    if len(np.unique(known)) > BINS:
        bins = np.searchsorted(np.unique(np.quantile(known, np.linspace(0, 1, BINS + 1)[1:-1])), values)
    level = pd.Series(np.where(np.isnan(values), -np.inf, bins))
    rates = pd.Series(y[:half]).groupby(level[:half]).mean()
    score = level[half:].map(rates).fillna(y[:half].mean())
    return _auc(y[half:], score.to_numpy()) if 0 < y[half:].sum() < len(y) - half else 0.5


def _far_ahead(frame: pd.DataFrame, y: np.ndarray, rng: np.random.Generator) -> list[Suspect]:
    half = len(y) // 2
    x = frame.to_numpy(np.float32)
    groups = _copies(x)
    if len(groups) < 2:
        return []  # there is no next

    def held_out(columns: list[int]) -> tuple[float, object]:
        from sklearn.ensemble import HistGradientBoostingClassifier

        if not columns:
            return 0.5, None
        model = HistGradientBoostingClassifier(
            max_iter=40, learning_rate=0.15, max_leaf_nodes=15, early_stopping=False, random_state=SEED
        )
        model.fit(x[:half][:, columns], y[:half])
        return _auc(y[half:], model.predict_proba(x[half:][:, columns])[:, 1]), model

    everything = list(range(x.shape[1]))
    base, model = held_out(everything)

    def shuffled(group: list[int]) -> float:
        other = x[half:].copy()
        other[:, group] = other[rng.permutation(len(other))][:, group]
        return base - _auc(y[half:], model.predict_proba(other)[:, 1])  # type: ignore[attr-defined]

    strongest = sorted(groups, key=shuffled, reverse=True)[:_REFITS]
    lost = [base - held_out([i for i in everything if i not in group])[0] for group in strongest]
    top = int(np.argmax(lost))
    following = max([0.0, *(value for i, value in enumerate(lost) if i != top)])
    if lost[top] < ONLY or lost[top] < AHEAD * following:
        return []
    names = tuple(str(frame.columns[i]) for i in strongest[top])
    reason = (
        f"{' with its copies '.join([repr(names[0]), ', '.join(map(repr, names[1:]))][: len(names)])} is far ahead: "
        f"without it a quick model's AUC falls from {base:.3f} by {lost[top]:.3f}, without the next by {following:.3f}"
    )
    return [Suspect(names, reason)]


def _copies(x: np.ndarray) -> list[list[int]]:
    """Column numbers in groups of copies, by rank correlation."""
    ranks = pd.DataFrame(x).rank(na_option="top").to_numpy()
    with np.errstate(invalid="ignore", divide="ignore"):
        alike = np.abs(np.atleast_2d(np.corrcoef(ranks, rowvar=False))) >= COPY
    left, groups = list(range(x.shape[1])), []
    while left:
        first = left[0]
        group = [i for i in left if i == first or alike[first, i]]
        groups.append(group)
        left = [i for i in left if i not in group]
    return groups
