"""Boosted trees on features of prefixes: which event comes next, and any other question of a prefix.

    model = PrefixBoost(schema.features, classes=9).fit(X, y)

How many trees is found on cases that are held out, the latest ones, and all cases then learn so many. Multi-class
trees on rare classes diverge, so those with few rows are learnt as one, which a Markov model spreads over them.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import pandas as pd
from lightgbm import LGBMClassifier, early_stopping
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from cxlab.data.schema import Schema
from cxlab.features.prefix_matrix import Matrix
from cxlab.models.markov import KneserNey, held_out

FEW_LEVELS = 20  # of a category with a column each
RATED = 10  # classes whose rates stand for a value of a category of many
SMOOTHING = 20.0  # rows of everybody's share that are added to a value's own
FOLDS = 5
FEWEST = 30  # rows of a class that trees learn by itself
MOST_TREES = 40  # classes that trees learn, at most: each costs a tree a round
PATIENCE = 25  # rounds without a gain
FIXED = 60  # rounds where nothing can be held out


class PrefixMatrix(TransformerMixin, BaseEstimator):
    """Features as numbers; see `cxlab.features.prefix_matrix`.

    Args:
        features: The columns.
        seed: Which cases' rates are computed together.
    """

    def __init__(self, features: Schema, seed: int = 0) -> None:
        self.features = features
        self.seed = seed

    def fit(self, X: pd.DataFrame, y: np.ndarray) -> Self:
        """Learns from rows and class codes, shape (n,)."""
        few: list[str] = []
        many: list[str] = []
        for column in self.features.columns:
            if column.kind == "category":
                (few if len(column.categories) <= FEW_LEVELS else many).append(column.name)
        levels = {name: tuple(sorted(X[name].astype(str).unique())) for name in few}
        self.hits_ = _hits(y)
        usual = self.hits_.mean(axis=0)
        rates = _rates(X, many, self.hits_, usual)
        self.matrix_ = Matrix(
            tuple(self.features.of_kind("number")), levels, rates, tuple(usual.tolist()) if many else ()
        )
        return self

    def transform(self, X: pd.DataFrame) -> np.ndarray:
        """Shape (n, width)."""
        check_is_fitted(self)
        return self.matrix_.apply(X)

    def fit_transform(self, X: pd.DataFrame, y: np.ndarray, **_: Any) -> np.ndarray:
        """The same, but rates of a row come from other cases alone."""
        made = self.fit(X, y).transform(X)
        names = list(self.matrix_.rates)
        if names:
            own = np.flatnonzero(np.isin(self.matrix_.origin, names))
            case = pd.factorize(X.index.get_level_values(0))[0]
            fold = np.random.default_rng((self.seed, FOLDS)).integers(0, FOLDS, case.max() + 1)[case]
            for each in np.unique(fold):
                there, others = np.flatnonzero(fold == each), np.flatnonzero(fold != each)
                if len(others):
                    rates = _rates(X.iloc[others], names, self.hits_[others], self.hits_.mean(axis=0))
                    part = Matrix((), {}, rates, self.matrix_.usual)
                    made[np.ix_(there, own)] = part.apply(X.iloc[there])
        return made


def _hits(y: np.ndarray) -> np.ndarray:
    """Whether each row is of each of the most frequent classes, of two of the second, shape (n, r)."""
    values, counts = np.unique(y, return_counts=True)
    if len(values) == 2:
        return (y == values[1])[:, None].astype(np.float64)
    ranked = values[np.lexsort((values, -counts))][:RATED]
    return (y[:, None] == ranked).astype(np.float64)


def _rates(
    X: pd.DataFrame, names: list[str], hits: np.ndarray, usual: np.ndarray
) -> dict[str, dict[str, tuple[float, ...]]]:
    """By category and value, the smoothed shares of the classes; `usual` is everybody's, of all rows, as those of the
    others would say by being lower that a row's own is higher."""
    found = {}
    for name in names:
        code, values = pd.factorize(X[name].to_numpy(object))
        sums = np.column_stack([np.bincount(code, weights=column, minlength=len(values)) for column in hits.T])
        n = np.bincount(code, minlength=len(values))
        shares = (sums + SMOOTHING * usual) / (n + SMOOTHING)[:, None]
        found[name] = {str(value): tuple(row) for value, row in zip(values, shares.tolist(), strict=True)}
    return found


class PrefixBoost(ClassifierMixin, BaseEstimator):
    """Regularised multi-class LightGBM on `PrefixMatrix`.

    Args:
        features: What `PrefixSchema.encode` makes.
        classes: How many classes there are, those that training lacks among them.
        learning_rate: Of each tree, > 0.
        num_leaves: Of each tree, >= 2.
        min_child_samples: Rows of a leaf, >= 1.
        reg_lambda: Strength of regularisation, >= 0.
        rounds: Trees a class, at most.
        seed: Of the columns that each tree sees, and of the matrix.

    Attributes:
        kept_: Codes of the classes that trees learn; all others are one more class, where there are any.
        rest_: Spreads that one over its classes; None where there are none.
    """

    def __init__(
        self,
        features: Schema,
        classes: int,
        *,
        learning_rate: float = 0.1,
        num_leaves: int = 15,
        min_child_samples: int = 30,
        reg_lambda: float = 10.0,
        rounds: int = 500,
        seed: int = 0,
    ) -> None:
        self.features = features
        self.classes = classes
        self.learning_rate = learning_rate
        self.num_leaves = num_leaves
        self.min_child_samples = min_child_samples
        self.reg_lambda = reg_lambda
        self.rounds = rounds
        self.seed = seed

    def fit(self, X: pd.DataFrame, y: np.ndarray) -> Self:
        """Learns from encoded prefixes, rows of a case together, and class codes, shape (n,)."""
        self.classes_ = np.arange(self.classes)
        counts = np.bincount(y, minlength=self.classes)
        ranked = np.lexsort((self.classes_, -counts))[:MOST_TREES]
        self.kept_ = np.sort(ranked[counts[ranked] >= FEWEST])
        lumped = ~np.isin(self.classes_, self.kept_)
        self.rest_ = KneserNey(self.classes, order=2, search=False).fit(X, y) if lumped.any() else None
        place = np.full(self.classes, len(self.kept_))
        place[self.kept_] = np.arange(len(self.kept_))
        target = place[y]
        self.shift_ = self._unseen(target)
        rounds = self._rounds(X, target)
        self.step_ = PrefixMatrix(self.features, self.seed)
        made = self.step_.fit_transform(X, target)
        self.model_ = self._booster(rounds).fit(made, target) if len(np.unique(target)) > 1 else None
        self.seen_ = np.unique(target)
        return self

    def _unseen(self, target: np.ndarray) -> float:
        """The share of rows of the rare classes, half a row at least."""
        return float(max((target == len(self.kept_)).sum(), 0.5) / (len(target) + 0.5))

    def _booster(self, rounds: int) -> LGBMClassifier:
        return LGBMClassifier(
            n_estimators=rounds,
            learning_rate=self.learning_rate,
            num_leaves=self.num_leaves,
            min_child_samples=self.min_child_samples,
            min_child_weight=2.0,
            reg_lambda=self.reg_lambda,
            colsample_bytree=0.5,
            random_state=self.seed,
            n_jobs=1,
            deterministic=True,
            force_row_wise=True,
            verbose=-1,
        )

    def _rounds(self, X: pd.DataFrame, target: np.ndarray) -> int:
        """How many trees a class lose least on the latest cases."""
        early, late = held_out(X.index)
        late = late[np.isin(target[late], np.unique(target[early]))]
        if not len(late) or len(np.unique(target[early])) < 2:
            return min(FIXED, self.rounds)
        step = PrefixMatrix(self.features, self.seed)
        made = step.fit_transform(X.iloc[early], target[early])
        held = (step.transform(X.iloc[late]), target[late])
        found = self._booster(self.rounds).fit(
            made, target[early], eval_X=held[0], eval_y=held[1], callbacks=[early_stopping(PATIENCE, verbose=False)]
        )
        return max(1, int(found.best_iteration_ or FIXED))

    def predict_proba(self, X: pd.DataFrame) -> np.ndarray:
        """Probabilities, shape (n, classes)."""
        check_is_fitted(self)
        k = len(self.kept_)
        found = np.zeros((len(X), k + 1))
        told = np.ones((len(X), 1)) if self.model_ is None else self.model_.predict_proba(self.step_.transform(X))
        found[:, self.seen_] = told
        return self._spread(X, found)

    def _spread(self, X: pd.DataFrame, found: np.ndarray) -> np.ndarray:
        """Probabilities of all classes from those of the kept ones and of the others as one."""
        k = len(self.kept_)
        every = np.zeros((len(X), self.classes))
        every[:, self.kept_] = found[:, :k]
        if self.rest_ is None:
            return every
        others = np.setdiff1d(self.classes_, self.kept_)
        share = self.rest_.predict_proba(X)[:, others]
        share /= share.sum(axis=1, keepdims=True)
        if k in self.seen_:
            every[:, others] = found[:, [k]] * share
        else:  # none of them occurred
            every *= 1 - self.shift_
            every[:, others] = self.shift_ * share
        return every
