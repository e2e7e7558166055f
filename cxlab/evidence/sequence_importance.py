"""What a model of sequences decides by: groups of features, by what shuffling them costs, and trees' contributions.

found = sequence_importance(prefixes)
found.plot()                # groups of features, with intervals over cases
found.contributions         # each feature of the trees, where the model has trees
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd

from cxlab.display import Result, axes, interval_plot
from cxlab.evidence.importance import PARTS, TOP, added_loss, holds
from cxlab.evidence.sequence_rows import Prefixes, probabilities, some_cases
from cxlab.features.prefixes import COUNTED, LAGS, PrefixSchema
from cxlab.metrics.intervals import ROUNDING
from cxlab.models.calibration import LEAST
from cxlab.models.prefix_boost import PrefixBoost
from cxlab.models.task import Model

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROWS = 1500  # test rows whose features are shuffled
EXPLAINED = 200  # of them, rows whose contributions trees tell
TOLERANCE = 1e-6  # of additivity, relative to the margin
LAST, BEFORE, COUNTS, LENGTH, SINCE, CLOCK = (
    "last event",
    "events before",
    "counts of events",
    "number of events",
    "times since",
    "hour and weekday",
)


def feature_groups(schema: PrefixSchema) -> dict[str, list[str]]:
    """Features of prefixes by what they tell: the events, the times, and each attribute with how it changed."""
    made = {
        LAST: ["event", "run"],
        BEFORE: [*(f"event_{lag}" for lag in range(1, LAGS + 1)), "changes"],
        COUNTS: [f"count of {name}" for name in schema.events[:COUNTED]],
        LENGTH: ["position"],
        SINCE: ["gap", "gap_1", "gap_2", "elapsed", "in_event"],
        CLOCK: ["hour", "weekday"],
    }
    for column in schema.attributes:
        own = [column.name, f"changes of {column.name}", f"rows since {column.name}"]
        made[column.name] = own + ([f"change of {column.name}"] if column.kind == "number" else [])
    return made


@dataclass(frozen=True, repr=False, eq=False)
class SequenceImportance(Result):
    """Which groups of features the model decides by, the strongest first.

    Attributes:
        rows: See `frame`.
        contributions: One row a feature of trees, the strongest first: group, feature, contribution (mean absolute, in
            log-odds, over events by how likely they are), share; without rows where the model has no trees.
        explained: Rows that they are of.
        weight: The share of trees in the model.
    """

    rows: pd.DataFrame = field(repr=False)
    contributions: pd.DataFrame = field(repr=False)
    explained: int
    weight: float

    title: ClassVar[str] = "What the model decides by"
    note: ClassVar[str] = (
        "Value: how much the log loss on test rows grows when all features of a group are shuffled together between "
        "rows, with its 95 % interval over cases; an interval that holds zero cannot tell the group from noise. Groups "
        f"that say the same share their value. Folds: in how many of {PARTS} parts of the cases the group is among the "
        f"{TOP} strongest and above zero."
    )

    def frame(self) -> pd.DataFrame:
        """One row a group: feature, value, low, high, n (rows), cases, folds, columns (features in it), share (of the
        contributions of trees; NaN without trees)."""
        return self.rows

    @property
    def weights(self) -> dict[str, float]:
        """What each group costs, at least 0."""
        return dict(zip(self.rows["feature"], self.rows["value"].clip(lower=0.0), strict=True))

    def plot(self, most: int = 12) -> Axes:
        """The strongest groups, with intervals."""
        top = self.rows.head(most)
        ax = axes(f"What the model decides by, {self.rows['n'].max():,} test rows", height=1.2 + 0.28 * len(top))
        interval_plot(ax, top["feature"].tolist(), top["value"], top["low"], top["high"], reference=0.0)
        ax.set_xlabel("log loss added by shuffling the group (95 % interval)")
        return ax


def sequence_importance(prefixes: Prefixes, *, rows: int = ROWS, seed: int = 0) -> SequenceImportance:
    """Permutation importance of groups of features (Breiman 2001; Fisher, Rudin and Dominici 2019) on test rows.

    Args:
        prefixes: The test part.
        rows: Test rows used at most, of whole cases drawn with `seed`.
        seed: Of cases, shuffles and resamples.
    """
    model, groups = prefixes.subject.model, feature_groups(prefixes.schema)
    there = some_cases(prefixes.case, rows, seed)
    counts = np.flatnonzero(np.isin(prefixes.judged, there))
    if not len(counts):  # the cases drawn are shorter than what counts
        there = np.arange(len(prefixes.case))
        counts = np.arange(len(prefixes.judged))
    X, y = prefixes.X.iloc[there], prefixes.y[counts]
    at = np.searchsorted(there, prefixes.judged[counts])
    case = np.unique(prefixes.case[prefixes.judged[counts]], return_inverse=True)[1]
    rng = np.random.default_rng(seed)
    before = _losses(model, X, at, y)
    added = np.zeros((len(y), len(groups)))
    for column, names in enumerate(groups.values()):
        shuffled = X.iloc[rng.permutation(len(X))]
        changed = X.assign(**{name: shuffled[name].to_numpy() for name in names if name in X})
        added[:, column] = _losses(model, changed, at, y) - before
    added[np.abs(added) < ROUNDING] = 0
    parts = _by_case(added, case)
    contributions, explained, weight = _of_trees(model, X.iloc[at[: min(len(at), EXPLAINED)]], groups)
    shares = contributions.groupby("group")["share"].sum() if weight else pd.Series(dtype=float)
    table = added_loss(parts, seed=seed).assign(
        feature=list(groups),
        n=len(y),
        cases=len(parts),
        folds=holds(parts[rng.permutation(len(parts))]),
        columns=[len(names) for names in groups.values()],
        share=[float(shares.get(name, 0.0 if weight else np.nan)) for name in groups],
    )
    table = table.sort_values("value", ascending=False, kind="stable", ignore_index=True)
    names = ["feature", "value", "low", "high", "n", "cases", "folds", "columns", "share"]
    return SequenceImportance(table[names], contributions, explained, weight)


def _by_case(added: np.ndarray, case: np.ndarray) -> np.ndarray:
    """What each case adds to the mean over rows, shape (cases, groups), linearised: their mean is that of the rows."""
    cases = int(case.max()) + 1
    n = np.bincount(case)[:, None]
    sums = np.column_stack([np.bincount(case, weights=column, minlength=cases) for column in added.T])
    mean = added.mean(axis=0)
    return mean + (sums - mean * n) * cases / len(added)


def _losses(model: Model, X: pd.DataFrame, at: np.ndarray, y: np.ndarray) -> np.ndarray:
    p = probabilities(model, X, at)
    return -np.log(np.maximum(p[np.arange(len(y)), y], LEAST))


def _of_trees(model: Model, X: pd.DataFrame, groups: dict[str, list[str]]) -> tuple[pd.DataFrame, int, float]:
    """Mean absolute contributions of each feature to the margins of boosted trees, rows explained, their weight."""
    of = {name: group for group, names in groups.items() for name in names}
    pairs = zip(model.members, model.weights, strict=True)
    trees = [(m, float(w)) for m, w in pairs if isinstance(m, PrefixBoost) and m.model_ is not None and w > 0]
    empty = pd.DataFrame(columns=["group", "feature", "contribution", "share"])
    if not trees:
        return empty, 0, 0.0
    total: dict[str, float] = {}
    for member, weight in trees:
        values, likely = contributions_of(member, X)
        strength = np.einsum("nfk,nk->f", np.abs(values), likely) / len(X)
        for name, value in zip(X.columns, strength, strict=True):
            total[name] = total.get(name, 0.0) + weight * float(value)
    found = pd.DataFrame({"feature": list(total), "contribution": list(total.values())})
    found.insert(0, "group", found["feature"].map(of))
    whole = found["contribution"].sum()
    found["share"] = found["contribution"] / whole if whole > 0 else 0.0
    found = found.sort_values("contribution", ascending=False, kind="stable", ignore_index=True)
    return found, len(X), sum(weight for _, weight in trees)


def contributions_of(member: PrefixBoost, X: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Path-dependent SHAP values of boosted trees (Lundberg and others 2020, algorithm 2) as LightGBM computes them,
    the columns of a feature added up.

    Args:
        member: Fitted, with trees.
        X: Encoded prefixes, shape (n, f).
    Returns:
        Contributions to the margin of each class that trees learn, shape (n, f, k), and the probabilities of these
        classes, shape (n, k); of two classes the second alone is told, k is 1 and its probability 1.
    Raises:
        ArithmeticError: They do not add up to the margins.
    """
    assert member.model_ is not None
    inputs = member.step_.transform(X)
    booster = member.model_.booster_
    told = np.asarray(booster.predict(inputs, pred_contrib=True)).reshape(len(X), -1, inputs.shape[1] + 1)
    margin = np.asarray(booster.predict(inputs, raw_score=True)).reshape(len(X), -1)
    off = np.abs(told.sum(axis=2) - margin) - TOLERANCE * np.maximum(1, np.abs(margin))
    if not (off <= 0).all():
        raise ArithmeticError(f"Contributions miss the margin by {off.max():.3g}, must add up to it.")
    place = {name: number for number, name in enumerate(X.columns)}
    origin = np.array([place[name] for name in member.step_.matrix_.origin])
    to_features = (origin[:, None] == np.arange(X.shape[1])).astype(np.float64)
    values = np.einsum("nkc,cf->nfk", told[:, :, :-1], to_features, optimize=True)
    likely = np.ones_like(margin)
    if margin.shape[1] > 1:
        likely = np.exp(margin - margin.max(axis=1, keepdims=True))
        likely /= likely.sum(axis=1, keepdims=True)
    return values, likely
