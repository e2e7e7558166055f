"""Who gets which arm: by a salted hash of the customer, so that it is the same today, tomorrow and on any machine.

    arm = assign(ids, salt="callback 2026-03", split={"none": 0.5, "callback": 0.5})
    kept_out = held_out(ids, salt="holdout 2026", share=0.05)

A customer's arm depends on the salt, the split and the customer alone: new customers move nobody. Another salt is
another, independent assignment (Kohavi, Tang and Xu 2020, Trustworthy online controlled experiments, chapter 4).
`balance` asks the other way round, of a table whose assignment somebody else made: are the arms alike in what was
known before? Where they are not, differences between them are no effects.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxlab.data.schema import MISSING, text_of
from cxlab.display import GREY, PALETTE, Result, axes, row_height, sentence
from cxlab.errors import DataError, ParamsError
from cxlab.metrics.rates import groups
from cxlab.metrics.sample import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SEPARATOR = b"\x1f"  # between salt and customer, so that no two pairs hash alike
ALARM = 0.001  # p below which an assignment is not what was planned: of the arms' sizes, and of their likeness
LEVELS = 10  # values of a covariate kept apart
FOLDS = 5
FEWEST = 50  # customers in an arm from which on it is compared


def shares_of(split: Mapping[str, float]) -> dict[str, float]:
    """Shares that add up to 1, of shares or weights.

    Raises:
        ParamsError: Fewer than two arms, or a share that is not a positive number.
    """
    if len(split) < 2:
        raise ParamsError(f"split == {dict(split)}, must name two arms at least, the control among them.")
    for name, share in split.items():
        if not (share > 0 and math.isfinite(share)):
            raise ParamsError(f"split.{name} == {share}, must be a share > 0. Leave an arm out that nobody gets.")
    total = math.fsum(split.values())
    return {name: share / total for name, share in split.items()}


def uniform(ids: Iterable[Any], salt: str) -> Array:
    """A number in [0, 1) a customer, from the first 53 bits of SHA-256 of salt and customer.

    Args:
        ids: Customers, n of them; compared by their text, so 7, 7.0 and "7" are one.
        salt: Of this experiment, not empty.
    Returns:
        Shape (n,).
    Raises:
        ParamsError: The salt is empty.
        DataError: A customer is missing.
    Examples:
        >>> uniform(["c1", "c2"], "welcome").round(4).tolist() == uniform(["c1", "c2"], "welcome").round(4).tolist()
        True
    """
    if not salt:
        raise ParamsError("salt == '', must be a text of its own for every experiment, such as its name and month.")
    start = hashlib.sha256(salt.encode() + SEPARATOR)
    found = []
    for place, value in enumerate(ids):
        text = text_of(value)
        if not text:
            raise DataError(f"Customer {place + 1:,} is missing, must be an id. Who has none cannot be assigned.")
        one = start.copy()
        one.update(text.encode())
        found.append(int.from_bytes(one.digest()[:8], "big") >> 11)
    return np.array(found, dtype=np.float64) / 2**53


def assign(ids: Iterable[Any], *, salt: str, split: Mapping[str, float]) -> NDArray[np.object_]:
    """The arm of each customer.

    Args:
        ids: Customers, n of them.
        salt: Of this experiment.
        split: Shares, or weights, by arm; in which order does not matter, the arms' names and shares do.
    Returns:
        Names of arms, shape (n,).
    Raises:
        ParamsError: The salt is empty or the split none.
        DataError: A customer is missing.
    Examples:
        >>> assign(["c1", "c2", "c3", "c4"], salt="callback", split={"none": 1, "mail": 1}).tolist()
        ['none', 'mail', 'mail', 'mail']
    """
    shares = dict(sorted(shares_of(split).items()))
    ends = np.cumsum(list(shares.values()))[:-1]
    names = np.array(list(shares), dtype=object)
    return names[np.searchsorted(ends, uniform(ids, salt), side="right")]


def held_out(ids: Iterable[Any], *, salt: str, share: float) -> NDArray[np.bool_]:
    """Whether each customer is kept out of every experiment, to see what all of them together bring.

    Args:
        ids: Customers, n of them.
        salt: Of the holdout, not that of an experiment.
        share: Kept out, in (0, 1).
    """
    if not 0 < share < 1:
        raise ParamsError(f"share == {share}, must be in (0, 1), such as 0.05.")
    return uniform(ids, salt) < share


@dataclass(frozen=True, repr=False, eq=False)
class Balance(Result):
    """Whether arms are alike in what was known before, and whether that tells the arm.

    Attributes:
        rows: See `frame`.
        told: Per arm: arm, auc with low and high (of a guess, arm or control), n.
        random: False where something tells the arm; None where nothing could be asked.
    """

    rows: pd.DataFrame = field(repr=False)
    told: pd.DataFrame = field(repr=False)
    random: bool | None

    title: ClassVar[str] = "Are the arms alike before?"

    @property
    def note(self) -> str:  # type: ignore[override]
        if self.random is None:
            return "Nothing was asked: no covariates, or too few customers. Name what was known before the assignment."
        if self.random:
            return (
                "What was known before does not tell the arm, as after a random assignment. What nobody measured "
                "may differ all the same where the assignment was not random."
            )
        worst = self.told.loc[self.told["auc"].idxmax()]
        return (
            f"What was known before tells the arm (AUC {worst['auc']:.3f} for {worst['arm']}; 0.5 is chance): the "
            "assignment was not random, so differences between arms are no effects of them."
        )

    def frame(self) -> pd.DataFrame:
        """One row a covariate and arm: covariate, arm, n, distance, p, p_adjusted, verdict.

        `distance` is the largest standardised difference between arm and control: of a number's means, in standard
        deviations; of a category's shares (Austin 2009, Using the standardized difference).
        """
        return self.rows.copy()

    def plot(self) -> Axes:
        """Standardised differences, those that are no luck in colour."""
        if self.rows.empty:
            return sentence(self.title, self.note)
        shown = self.rows.sort_values("distance", ascending=False, kind="stable").head(25)
        ax = axes(self.title, height=row_height(shown))
        colour = [PALETTE[1] if verdict == "differs" else PALETTE[0] for verdict in shown["verdict"]]
        place = range(len(shown))
        ax.scatter(shown["distance"], place, c=colour)
        ax.axvline(0.1, color=GREY, linewidth=1, linestyle="--")
        ax.set_yticks(place, [f"{row.covariate} ({row.arm})" for row in shown.itertuples()])
        ax.invert_yaxis()
        ax.set_xlabel("standardised difference to the control; below 0.1 is usually called small")
        return ax


def design(frame: pd.DataFrame, covariates: Sequence[str]) -> tuple[Array, list[tuple[str, bool]]]:
    """Covariates as numbers: numbers as they are (a missing one is the mean, and marked), a column a category's value.

    Returns:
        Columns with mean 0, shape (n, k), those without variation left out; and of each its covariate and whether
        it is a number.
    """
    columns, names = [], []
    for name in covariates:
        raw = frame[name]
        number = pd.api.types.is_numeric_dtype(raw) and not pd.api.types.is_bool_dtype(raw)
        if number:
            values = raw.astype("float64").replace([np.inf, -np.inf], np.nan).to_numpy()
            gone = np.isnan(values)
            parts = [(np.where(gone, np.nanmean(values) if not gone.all() else 0.0, values), True)]
            parts += [(gone.astype(float), False)] if gone.any() else []
        else:
            label = groups(raw, categories=LEVELS)
            kept = [level for level in label.cat.categories if level != MISSING or (label == MISSING).any()]
            parts = [((label == level).to_numpy(float), False) for level in kept]
        for values, is_number in parts:
            if np.ptp(values) > 0:
                columns.append(values - values.mean())
                names.append((name, is_number))
    return np.column_stack(columns) if columns else np.empty((len(frame), 0)), names


def balance(frame: pd.DataFrame, arm: Sequence[str] | NDArray, control: str, covariates: Sequence[str]) -> Balance:
    """Compares each arm with the control in every covariate, and lets all of them together guess the arm.

    A covariate differs where Welch's test or the chi-square test says so at 0.001, adjusted for all of them (Benjamini
    and Hochberg 1995). A linear discriminant (Fisher 1936) of covariates, cut into groups, guesses the arm of customers
    it has not seen; its AUC has the interval of Mann and Whitney's statistic where nothing tells the arm.

    Args:
        frame: One row a customer.
        arm: Names, shape (n,).
        control: The arm compared with.
        covariates: Columns known before the assignment.
    """
    from scipy import stats

    names, arms = np.asarray(arm, dtype=object), sorted({*arm} - {control})
    sizes = {name: int((names == name).sum()) for name in [control, *arms]}
    asked = [name for name in arms if min(sizes[name], sizes[control]) >= FEWEST] if covariates else []
    rows, told = [], []
    for name in asked:
        part = np.isin(names, [name, control])
        some = frame[part].reset_index(drop=True)
        treated = names[part] == name
        for column in covariates:
            distance, p = _apart(some[column], treated)
            rows.append((column, name, len(some), distance, p))
        told.append((name, *_guessed(some, treated, covariates), len(some)))
    out = pd.DataFrame(rows, columns=["covariate", "arm", "n", "distance", "p"])
    out["p_adjusted"] = stats.false_discovery_control(out["p"]) if len(out) else out["p"]
    out["verdict"] = np.where(out["p_adjusted"] < ALARM, "differs", "alike")
    seen = pd.DataFrame(told, columns=["arm", "auc", "low", "high", "n"])
    random = None if not asked else not ((out["verdict"] == "differs").any() or (seen["low"] > 0.5).any())
    return Balance(out, seen, random)


def _apart(raw: pd.Series, treated: NDArray[np.bool_]) -> tuple[float, float]:
    """The largest standardised difference, and p."""
    from scipy import stats

    columns, kinds = design(raw.to_frame(), [str(raw.name)])
    if not kinds:
        return 0.0, 1.0
    one, two = columns[treated], columns[~treated]
    spread = np.sqrt((one.var(axis=0) + two.var(axis=0)) / 2)
    gap = np.abs(one.mean(axis=0) - two.mean(axis=0))
    distance = float(np.max(np.divide(gap, spread, out=np.where(gap > 0, np.inf, 0.0), where=spread > 0)))
    if kinds[0][1] and spread[0] > 0:
        p = stats.ttest_ind(one[:, 0], two[:, 0], equal_var=False).pvalue
        if len(kinds) == 1:
            return distance, float(p)
        gone = columns[:, 1] > 0
        return distance, min(1.0, 2 * min(float(p), _chi(gone, treated)))
    codes = pd.factorize(groups(raw, categories=LEVELS).astype(str))[0]
    return distance, _chi(codes, treated)


def _chi(codes: NDArray, treated: NDArray[np.bool_]) -> float:
    from scipy import stats

    table = pd.crosstab(codes, treated).to_numpy()
    return float(stats.chi2_contingency(table, correction=False).pvalue) if min(table.shape) > 1 else 1.0


def _guessed(frame: pd.DataFrame, treated: NDArray[np.bool_], covariates: Sequence[str]) -> tuple[float, float, float]:
    """AUC of a linear discriminant for customers of other folds, and its interval at `1 - ALARM`."""
    from scipy import stats

    cut = frame[list(covariates)].apply(lambda column: groups(column, categories=LEVELS).astype(str))
    columns, kinds = design(cut, covariates)
    if not kinds:
        return 0.5, np.nan, np.nan
    order = np.random.default_rng(0).permutation(len(frame))
    fold = np.empty(len(frame), dtype=int)
    fold[order] = np.arange(len(frame)) % FOLDS
    guess = np.empty(len(frame))
    for k in range(FOLDS):
        own = fold == k
        x, y = columns[~own], treated[~own]
        weights = np.linalg.solve(x.T @ x + np.eye(x.shape[1]), x.T @ (y - y.mean()))
        guess[own] = columns[own] @ weights
    n1, n0 = int(treated.sum()), int((~treated).sum())
    auc = (stats.rankdata(guess)[treated].sum() - n1 * (n1 + 1) / 2) / (n1 * n0)
    half = stats.norm.isf(ALARM / 2) * math.sqrt((n1 + n0 + 1) / (12 * n1 * n0))
    return float(auc), float(auc - half), float(auc + half)
