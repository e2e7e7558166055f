"""Columns that decide the outcome suspiciously well. A statistic can only suspect: a person says what is a leak.

Three signs are read on a seeded sample, half of it held out. One column alone ranks the outcome almost perfectly;
what only this column knows is worth far more than what only the next one knows; or a strong column has to do with the
others through the outcome alone. Ranking columns one by one is not enough: an honest column can rank as well alone as a
leak does.

The third sign: what was written down after the outcome, and because of it, goes along with every cause of the outcome,
but among customers of the same outcome with none of them. A cause does the reverse, and columns that describe one
customer mostly go along either way (effects and causes: Schoelkopf et al., On Causal and Anticausal Learning, 2012).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cxlab.data.schema import schema_of

if TYPE_CHECKING:
    from sklearn.ensemble import HistGradientBoostingClassifier

SAMPLE = 8_000  # rows: a second's work, and the AUC of 4,000 held-out rows is good to about 0.02
SEED = 0
MIN_CLASS = 40  # of each outcome in the sample; with fewer the AUC itself is noise
MOST_COLUMNS = 60  # the strongest alone go into the model; more would take longer than a check may
ALONE = 0.95  # AUC of one column; honest single columns of our public data sets reach 0.86
ONLY = 0.10  # AUC lost without a column; the known leak of our public data sets costs 0.15 to 0.17
AHEAD = 3.0  # times the next loss; honest columns of those data sets stay near 2, the known leak is above 20
EFFECT = 0.65  # AUC of one column from which it may be an effect; weaker ones do little harm
ALIKE = 0.001  # p below which columns go along among customers of the same outcome; adjusted for how many are looked at
STANDS = 2.0  # standard errors by which an effect must go along with the risk that the others tell
CELLS = 4  # quantiles into which columns are cut to be held against each other
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
    there, half = frame.notna().to_numpy(), len(y) // 2
    # a model learns on a half, and nothing from no value
    told = {name for i, name in enumerate(frame) if there[:half, i].any() and there[half:, i].any()}
    rest = [name for name in frame.columns if name in told and name in kept and name not in named]
    if not rest:
        return found
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):  # on a busy machine threads wait for each other for longer than they work
        found += _far_ahead(frame[rest], y, rng)
        named = {name for suspect in found for name in suspect.columns}
        return found + _effects(frame[[name for name in rest if name not in named]], y, alone)


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


def _fitted(x: np.ndarray, y: np.ndarray, leaves: int = 15) -> HistGradientBoostingClassifier:
    """A quick model."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    quick = HistGradientBoostingClassifier(
        max_iter=40, learning_rate=0.15, max_leaf_nodes=leaves, early_stopping=False, random_state=SEED
    )
    return quick.fit(x, y)


def _far_ahead(frame: pd.DataFrame, y: np.ndarray, rng: np.random.Generator) -> list[Suspect]:
    half = len(y) // 2
    x = frame.to_numpy(np.float32)
    groups = _copies(x)
    if len(groups) < 2:
        return []  # there is no next

    def held_out(columns: list[int]) -> tuple[float, Any]:
        if not columns:
            return 0.5, None
        model = _fitted(x[:half][:, columns], y[:half])
        return _auc(y[half:], model.predict_proba(x[half:][:, columns])[:, 1]), model

    everything = list(range(x.shape[1]))
    base, model = held_out(everything)

    def shuffled(group: list[int]) -> float:
        other = x[half:].copy()
        other[:, group] = other[rng.permutation(len(other))][:, group]
        return base - _auc(y[half:], model.predict_proba(other)[:, 1])

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


def _effects(frame: pd.DataFrame, y: np.ndarray, alone: dict[str, float]) -> list[Suspect]:
    """Columns that go along with the others through the outcome alone, the strongest first.

    Each that is found is taken out before the next is looked for, since what goes along with an effect of the outcome
    does so through the outcome as well, though it be honest.
    """
    found: list[Suspect] = []
    columns = [str(name) for name in frame]
    while len(columns) > 1:
        x = frame[columns].to_numpy(np.float32)
        cells = [_cells(x[:, i]) for i in range(len(columns))]
        for group in sorted(_copies(x), key=lambda group: -max(alone[columns[i]] for i in group)):
            others = [i for i in range(len(columns)) if i not in group]
            first = max(group, key=lambda i: alone[columns[i]])
            if not others or alone[columns[first]] < EFFECT:
                return found
            if min(_alike(cells[first], cells[i], y) for i in others) * len(others) < ALIKE:
                continue
            overall, within, p = _through(x[:, first], x[:, others], y)
            if p < ALIKE or overall < STANDS or abs(within) >= overall:
                continue
            names = tuple(columns[i] for i in group)
            said = f"{', '.join(map(repr, names))} (AUC {alone[columns[first]]:.3f} alone) looks like an effect of the "
            said += f"outcome: it goes along with the others' risk (z {overall:.1f}), but not among customers of the "
            said += f"same outcome (z {within:.1f})"
            found.append(Suspect(names, said))
            columns = [columns[i] for i in others]
            break
        else:
            return found
    return found


def _cells(values: np.ndarray) -> np.ndarray:
    """A column in a few cells: quantiles, or the values themselves; what is missing is one of its own."""
    known = ~np.isnan(values)
    distinct, out = np.unique(values[known]), np.full(len(values), -1)
    if len(distinct) > CELLS:
        edges = np.unique(np.quantile(values[known], np.linspace(0, 1, CELLS + 1)[1:-1]))
        distinct = edges[edges > distinct[0]] if (edges > distinct[0]).any() else distinct[1:2]
        out[known] = np.searchsorted(distinct, values[known], side="right")
    else:
        out[known] = np.searchsorted(distinct, values[known])
    return np.unique(out, return_inverse=True)[1]


def _alike(one: np.ndarray, other: np.ndarray, y: np.ndarray) -> float:
    """p of Pearson's chi-square, summed over the two outcomes, that the columns do not go along within either."""
    from scipy.stats import chi2

    total, freedom = 0.0, 0
    for mine in (y == 0, y == 1):
        counts = np.zeros((one.max() + 1, other.max() + 1))
        np.add.at(counts, (one[mine], other[mine]), 1)
        counts = counts[counts.any(axis=1)][:, counts.any(axis=0)]
        expected = counts.sum(axis=1, keepdims=True) * counts.sum(axis=0) / counts.sum()
        total += float(((counts - expected) ** 2 / expected).sum())
        freedom += (counts.shape[0] - 1) * (counts.shape[1] - 1)
    return float(chi2.sf(total, freedom)) if freedom else 1.0


def _through(values: np.ndarray, others: np.ndarray, y: np.ndarray) -> tuple[float, float, float]:
    """How the risk by one column goes along with the risk by the others: rank correlations as z, over all customers and
    within outcomes, and the p of the latter; each half's risks are learnt on the other."""
    from scipy.stats import chi2

    half = np.arange(len(y)) < len(y) // 2
    one, rest = np.zeros(len(y)), np.zeros(len(y))
    for learnt in (half, ~half):
        if len(np.unique(y[learnt])) < 2:
            return 0.0, 0.0, 1.0
        for x, risk in ((values[:, None], one), (others, rest)):
            risk[~learnt] = _fitted(x[learnt], y[learnt], leaves=4).predict_proba(x[~learnt])[:, 1]

    def z(rows: np.ndarray) -> float:
        ranks = pd.DataFrame({"one": one[rows], "rest": rest[rows]}).rank()
        if (ranks.nunique() < 2).any():
            return 0.0
        return float(ranks["one"].corr(ranks["rest"]) * np.sqrt(rows.sum() - 1))

    apart = np.array([z(y == 0), z(y == 1)])
    weights = np.sqrt(np.array([(y == 0).mean(), (y == 1).mean()]))
    return z(np.ones(len(y), dtype=bool)), float(weights @ apart), float(chi2.sf((apart**2).sum(), 2))


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
