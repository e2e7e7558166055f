"""A Markov model of variable order: the next event by the longest history that was seen often enough.

    model = KneserNey(classes=9, order=5).fit(X, y)
    model.predict_proba(X)          # shape (n, 9)

Interpolated Kneser-Ney smoothing with three discounts an order (Chen and Goodman 1999, An empirical study of smoothing
techniques for language modeling, section 3, eq. 15 to 22; Kneser and Ney 1995): the counts of a history lose a little,
and what they lose is shared out by the history that is one event shorter. What a shorter history shares out is counted
by how many longer ones lead there, not by how often. Below the shortest, no event at all, every class is as likely.

How long histories may be is found on cases that are held out: with few kinds of events long ones are seen often, and
say little that is not chance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from cxlab.errors import ParamsError
from cxlab.features.prefixes import LAGS
from cxlab.models.calibration import log_loss_many

HELD_OUT = 0.15  # share of the cases, the latest, on which settings are chosen
FEWEST_CASES = 60  # below which none are held out
PLAIN = 0.75  # the discount where too few counts tell a better one


@dataclass(frozen=True)
class Level:
    """What histories of one length say.

    Attributes:
        histories: Their events, the latest first, joined by `BETWEEN`; sorted.
        kept: Discounted shares of the next class, shape (histories, classes).
        shared: What is left for the shorter history, shape (histories,).
    """

    histories: np.ndarray
    kept: sparse.csr_array
    shared: np.ndarray


BETWEEN = "\x1f"


class KneserNey(ClassifierMixin, BaseEstimator):
    """Reads the columns `event`, `event_1`, ... of encoded prefixes.

    Args:
        classes: How many classes there are, those that training lacks among them.
        order: Events of the longest history, from 1 to 6.
        search: Take the length up to `order` that held-out cases like best.

    Attributes:
        classes_: Shape (classes,).
        order_: Events of the longest history that is used.
        levels_: One a length of history, the empty one first.
    """

    def __init__(self, classes: int, order: int = LAGS + 1, *, search: bool = True) -> None:
        self.classes = classes
        self.order = order
        self.search = search

    def fit(self, X: pd.DataFrame, y: np.ndarray) -> Self:
        """Learns from prefixes and the codes of what came next, shape (n,)."""
        if not 1 <= self.order <= LAGS + 1:
            raise ParamsError(f"order == {self.order}, must be from 1 to {LAGS + 1}.")
        self.classes_ = np.arange(self.classes)
        early, late = held_out(X.index)
        self.order_ = self._longest(X, y, early, late) if self.search and len(late) else self.order
        self.levels_ = self._levels(X, y, self.order_)
        return self

    def _longest(self, X: pd.DataFrame, y: np.ndarray, early: np.ndarray, late: np.ndarray) -> int:
        """The length of history that held-out cases like best; the shorter levels of a longer model are not models."""
        orders = range(1, self.order + 1)
        models = (KneserNey(self.classes, order, search=False).fit(X.iloc[early], y[early]) for order in orders)
        losses = [log_loss_many(y[late], model.predict_proba(X.iloc[late])) for model in models]
        return int(np.argmin(losses)) + 1

    def _levels(self, X: pd.DataFrame, y: np.ndarray, order: int) -> list[Level]:
        counted = _counted(histories(X, order), y)
        levels = [_level(counted, self.classes)]
        for length in range(order - 1, -1, -1):
            shorter = [BETWEEN.join(text.split(BETWEEN)[:length]) for text in counted["history"]]
            counted = _counted(np.array(shorter, object), counted["next"].to_numpy())
            levels.append(_level(counted, self.classes))
        return levels[::-1]

    def predict_proba(self, X: pd.DataFrame) -> np.ndarray:
        """Probabilities, shape (n, classes)."""
        check_is_fitted(self)
        distinct, place = np.unique(histories(X, self.order_), return_inverse=True)
        events = [text.split(BETWEEN) for text in distinct]
        found = np.full((len(distinct), self.classes), 1 / self.classes)
        for length, level in enumerate(self.levels_):
            names = np.array([BETWEEN.join(each[:length]) for each in events], object)
            at = np.minimum(np.searchsorted(level.histories, names), len(level.histories) - 1)
            known = np.flatnonzero(level.histories[at] == names)
            rows = at[known]
            found[known] = level.kept[rows].toarray() + level.shared[rows, None] * found[known]
        return found[place]

    def table(self) -> pd.DataFrame:
        """The model as rows: history, length, next (its code), kept, shared."""
        check_is_fitted(self)
        parts = []
        for length, level in enumerate(self.levels_):
            entries = level.kept.tocoo()
            rows, columns = entries.coords
            told = {"history": level.histories[rows], "length": length, "next": columns, "kept": entries.data}
            parts.append(pd.DataFrame({**told, "shared": level.shared[rows]}))
        return pd.concat(parts, ignore_index=True)


def held_out(index: pd.Index) -> tuple[np.ndarray, np.ndarray]:
    """Positions of rows of the earlier cases, and of the latest, on which settings are chosen: none where cases are fe.

    Args:
        index: Of encoded prefixes: the case, in the order of time, and the event in it.
    """
    case = index.get_level_values(0).to_numpy()
    cases = np.unique(case)
    if len(cases) < FEWEST_CASES:
        return np.arange(len(case)), np.zeros(0, int)
    border = cases[int(len(cases) * (1 - HELD_OUT))]
    return np.flatnonzero(case < border), np.flatnonzero(case >= border)


def histories(X: pd.DataFrame, order: int) -> np.ndarray:
    """The last events of each prefix as one text, the latest first, shape (n,)."""
    names = ["event", *(f"event_{lag}" for lag in range(1, order))]
    joined = X[names[0]].astype(str)
    for name in names[1:]:
        joined = joined + BETWEEN + X[name].astype(str)
    return joined.to_numpy(object)


def _counted(history: np.ndarray, following: np.ndarray) -> pd.DataFrame:
    frame = pd.DataFrame({"history": history, "next": following})
    return frame.groupby(["history", "next"], sort=True).size().rename("n").reset_index()


def _level(counted: pd.DataFrame, classes: int) -> Level:
    """Discounted shares: eq. 17 to 20 of Chen and Goodman."""
    row, names = pd.factorize(counted["history"], sort=True)
    n = counted["n"].to_numpy(np.float64)
    once, twice, thrice, four = (float((n == count).sum()) for count in (1, 2, 3, 4))
    discounts = np.full(3, PLAIN)
    if once and twice:
        y = once / (once + 2 * twice)
        ratios = (twice / once, thrice / twice, four / thrice if thrice else np.nan)
        told = np.array([count - (count + 1) * y * ratio for count, ratio in zip((1, 2, 3), ratios, strict=True)])
        usable = np.isfinite(told) & (told > 0) & (told < np.array([1, 2, 3]))
        discounts = np.where(usable, told, y)
    lost = discounts[np.clip(n, 1, 3).astype(int) - 1]
    total = np.bincount(row, weights=n)
    kept = sparse.csr_array(((n - lost) / total[row], (row, counted["next"])), shape=(len(names), classes))
    return Level(np.asarray(names, object), kept, np.bincount(row, weights=lost) / total)
