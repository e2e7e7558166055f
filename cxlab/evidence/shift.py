"""The tests of drift, a column at a time: its values, its missing values, and what the reference never held.

The tests are fixed, whatever the number of rows. Every test of a report is adjusted together, and a column has moved
only where a test says so and the difference is large enough to matter. Sizes are shares of customers throughout.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd
from scipy import stats

from cxlab.data.schema import MISSING, Column
from cxlab.errors import listed
from cxlab.metrics.multiplicity import adjusted as by_false_discoveries

Verdict = Literal["moved", "stable", "cannot tell"]

SCORE = "(score)"
ALPHA = 0.05  # false alarms among the alarms; where nothing moved, the share of reports with any alarm
FEWEST = 100  # values in either sample below which distributions are not compared
RARE = 5.0  # expected rows below which categories are pooled: Cochran (1954), Some methods for strengthening chi-square
MIN_WEIGHT = 0.05  # of the most used column: below, a column that moved does not matter to this model
# The smallest size that counts. A shift of 0.2 standard deviations, small by Cohen (1988), has a size of 0.08.
SMALLEST = {
    **{"ks": 0.05, "chisquare": 0.05, "missing": 0.02, "unseen": 0.01, "range": 0.01},
    **{"vocabulary": 0.05, "new words": 0.01, "length": 0.05},  # of texts: the first two are shares of their words
}


@dataclass(frozen=True)
class Finding:
    """One test of one column.

    Attributes:
        column: Its name.
        test: A key of `SMALLEST`.
        statistic: `ks` and `length`: the largest gap between the two distributions; `chisquare`: chi-square; `missing`
            and `new words`: the difference of the shares; `unseen` and `range`: current rows concerned; `vocabulary`:
            the Jensen-Shannon distance. NaN where not tested.
        p: Before adjustment; NaN where not tested.
        size: How many customers it concerns, or of their words how many, a share in [0, 1].
        reason: In words; empty where there is nothing to say.
        p_adjusted: Among all tests of the report.
    """

    column: str
    test: str
    statistic: float
    p: float
    size: float
    reason: str
    p_adjusted: float = np.nan

    @property
    def verdict(self) -> Verdict:
        if np.isnan(self.p_adjusted):
            return "cannot tell"
        return "moved" if self.p_adjusted < ALPHA and self.size >= SMALLEST[self.test] else "stable"


def column_tests(column: Column, reference: np.ndarray, current: np.ndarray) -> list[Finding]:
    """All tests of one column: its values, its missing values, and what the reference never held.

    Args:
        column: Name and kind.
        reference: Values as `Schema.encode` gives them, shape (n_reference,).
        current: The same, shape (n_current,).
    """
    if column.kind == "text":
        from cxlab.evidence.vocabulary import text_tests

        return [replace(item, column=column.name) for item in text_tests(reference, current)]
    number = column.kind == "number"
    gone, lost = (absent(column, part) for part in (reference, current))
    before, now = reference[~gone], current[~lost]
    if number:
        found = [ks(before, now), shares_missing(gone, lost), _range(before, now)]
    else:
        names, counts = counted(before, now)
        found = [chisquare(names, counts), shares_missing(gone, lost), _unseen(names, counts)]
    return [replace(item, column=column.name) for item in found]


def absent(column: Column, values: np.ndarray) -> np.ndarray:
    """Where a cast column has no value, shape (n,)."""
    if column.kind == "number":
        return np.isnan(values)
    return values == ("" if column.kind == "text" else MISSING)


def ks(before: np.ndarray, now: np.ndarray) -> Finding:
    """Two-sample Kolmogorov-Smirnov, asymptotic at every n (Hodges 1958); ties make it cautious."""
    if min(len(before), len(now)) < FEWEST:
        return untested("ks", len(before), len(now))
    found = stats.ks_2samp(before, now, method="asymp")
    gap, middles = float(found.statistic), (np.median(before), np.median(now))
    reason = f"{gap:.0%} of customers lie elsewhere; the median went from {middles[0]:.4g} to {middles[1]:.4g}"
    return Finding("", "ks", gap, float(found.pvalue), gap, reason)


def chisquare(names: np.ndarray, counts: np.ndarray) -> Finding:
    """Chi-square of homogeneity (Pearson 1911), rare categories pooled, Yates's correction at two.

    Its size is the total variation distance, half the sum of the absolute differences of the shares.
    """
    n = counts.sum(axis=1)
    if min(n) < FEWEST:
        return untested("chisquare", *n)
    share = min(n) / sum(n)
    rare = counts.sum(axis=0) * share < RARE
    if rare.all():
        return Finding("", "chisquare", np.nan, np.nan, np.nan, "no category is frequent enough to compare")
    if rare.any() and counts[:, rare].sum() * share < RARE:  # still rare together: join the rarest of the others
        rare[np.argmin(np.where(rare, np.inf, counts.sum(axis=0)))] = True
    if rare.any():
        names = np.append(names[~rare], "(rare)")
        counts = np.column_stack([counts[:, ~rare], counts[:, rare].sum(axis=1)])
    if len(names) == 1:
        return Finding("", "chisquare", 0.0, 1.0, 0.0, "")
    found = stats.chi2_contingency(counts)
    shares = counts / counts.sum(axis=1, keepdims=True)
    most = int(np.argmax(np.abs(shares[1] - shares[0])))
    size = float(np.abs(shares[1] - shares[0]).sum() / 2)
    reason = f"{str(names[most])!r} went from {shares[0, most]:.1%} to {shares[1, most]:.1%}"
    return Finding("", "chisquare", float(found.statistic), float(found.pvalue), size, reason)


def shares_missing(gone: np.ndarray, lost: np.ndarray) -> Finding:
    """Fisher's exact test of two shares (Fisher 1935)."""
    apart = float(lost.mean() - gone.mean())
    table = [[int(gone.sum()), int((~gone).sum())], [int(lost.sum()), int((~lost).sum())]]
    p = float(stats.fisher_exact(table)[1]) if gone.any() or lost.any() else 1.0
    reason = f"missing went from {gone.mean():.1%} to {lost.mean():.1%}"
    return Finding("", "missing", apart, p, abs(apart), reason)


def _range(before: np.ndarray, now: np.ndarray) -> Finding:
    """Exceedances: how likely the k largest (or smallest) of all would all be current by chance.

    Gumbel and von Schelling (1950), The distribution of the number of exceedances; ties make it cautious.
    """
    if not len(before) or not len(now):
        return Finding("", "range", 0.0, 1.0, 0.0, "")
    low, high = before.min(), before.max()
    below, above = int((now < low).sum()), int((now > high).sum())
    p = min(1.0, 2 * _all_current(max(below, above), len(before), len(now)))
    share = (below + above) / len(now)
    reason = f"{below + above:,} rows ({share:.1%}) lie outside {low:.4g} to {high:.4g}" if below + above else ""
    return Finding("", "range", float(below + above), p, share, reason)


def _unseen(names: np.ndarray, counts: np.ndarray) -> Finding:
    """Is a category new, beyond the few that any sample adds?

    p: how likely all rows of the commonest new category would be current by chance, times the number of categories
    (Bonferroni). Size: the share of rows of new categories, less what rows seen once lead us to expect (Good 1953,
    The population frequencies of species, eq. 9).
    """
    (held, fresh), (before, now) = counts, counts.sum(axis=1)
    new = held == 0
    rows = int(fresh[new].sum())
    if not before or not rows:
        return Finding("", "unseen", 0.0, 1.0, 0.0, "")
    p = min(1.0, len(names) * _all_current(int(fresh[new].max()), before, now))
    size = max(0.0, rows / now - float((held == 1).sum()) / before)
    common = [repr(str(name)) for name in names[new & (fresh >= RARE)]]  # a rare text may name a person
    which = f", such as {listed(common[:3])}" if common else ""
    reason = f"{rows:,} rows ({rows / now:.1%}) hold {int(new.sum()):,} categories not seen before{which}"
    return Finding("", "unseen", float(rows), p, size, reason)


def _all_current(k: int, before: int, now: int) -> float:
    """The chance that k rows drawn without replacement from both samples are all current."""
    return float(np.prod((now - np.arange(k)) / (before + now - np.arange(k))))


def counted(before: np.ndarray, now: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Categories in order, and their counts in either sample, shape (2, categories)."""
    codes, names = pd.factorize(np.concatenate([before, now]), sort=True)
    parts = np.split(codes, [len(before)])
    return np.asarray(names), np.array([np.bincount(part, minlength=len(names)) for part in parts])


def untested(test: str, before: int, now: int) -> Finding:
    few = f"{before:,} values before and {now:,} now, must be at least {FEWEST} of both to compare"
    return Finding("", test, np.nan, np.nan, np.nan, few)


def adjusted(findings: Iterable[Finding]) -> list[Finding]:
    """With p adjusted over all tests that were made: Benjamini and Hochberg (1995), Controlling the false discovery
    rate. Where nothing moved, any alarm is false, so that the rate of reports with one is held to `ALPHA` as well.
    """
    every = list(findings)
    p = by_false_discoveries([item.p for item in every])
    return [replace(item, p_adjusted=float(value)) for item, value in zip(every, p, strict=True)]


def weights_of(names: Iterable[str], importance: Mapping[str, float] | None) -> dict[str, float]:
    """How much the model uses each column, as a share of the most used one's; the score always counts fully."""
    if importance is None:
        return dict.fromkeys(names, 1.0)
    most = max([*importance.values(), 0.0])
    return {name: max(importance.get(name, 0.0), 0.0) / most if most > 0 else 0.0 for name in names} | {SCORE: 1.0}
