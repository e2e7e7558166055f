"""Textbook metrics of many classes, and which classes they come from.

    evaluation = evaluate(y, {"words": p0, "sentences": p1}, intent_metrics())
    evaluation.compare("words").frame()
    per_class(y, p1, names).plot()          # the classes that are found worst
    confusions(y, p1, names, texts).plot()  # what is taken for what

y holds class codes, 0 to k - 1; probabilities have shape (n, k), a column a class. The likeliest class is predicted, of
equally likely ones the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from cxlab.display import GREY, PALETTE, Result, axes, interval_plot, sentence
from cxlab.metrics import classification
from cxlab.metrics.bootstrap import check_level, wilson
from cxlab.metrics.sample import Array, Draws, Metric, Sample, Statistic, ratio

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

__all__ = [
    "Confusions",
    "PerClass",
    "accuracy",
    "brier",
    "confusions",
    "ece",
    "intent_metrics",
    "log_loss",
    "macro_f1",
    "per_class",
    "sequence_metrics",
    "top",
    "top3",
]

CELLS = 1 << 21  # probabilities compared at once
WORST = 25  # classes drawn
PAIRS = 20  # pairs of classes drawn
EXAMPLES = 3  # texts of a pair
BETWEEN = " | "  # those texts
NAME = 40  # letters of a name in a drawing


def _right(sample: Sample) -> NDArray[np.bool_]:
    return sample.right


def _accuracy(sample: Sample) -> Statistic:
    right = sample.right.astype(np.float64)
    return lambda draws: draws.mean(right)


def _macro_f1(sample: Sample) -> Statistic:
    n, k = len(sample.y), sample.classes
    each, ones = np.arange(n), np.ones(n)
    true = sparse.csr_array((ones, (sample.codes, each)), shape=(k, n))
    predicted = sparse.csr_array((ones, (sample.predicted, each)), shape=(k, n))
    hit = sparse.csr_array((2 * sample.right.astype(np.float64), (sample.codes, each)), shape=(k, n))
    hit.eliminate_zeros()
    either = true + predicted

    def statistic(draws: Draws) -> Array:
        weights = np.ascontiguousarray(draws.weights.T)
        counted = either @ weights
        seen = counted > 0
        f1 = np.divide(hit @ weights, counted, out=np.zeros_like(counted), where=seen)
        return ratio(f1.sum(axis=0), seen.sum(axis=0).astype(np.float64))

    return statistic


def _log_loss(sample: Sample) -> Statistic:
    tiny = np.finfo(np.float64).eps
    p = sample.score[np.arange(len(sample.y)), sample.codes].astype(np.float64)
    loss = -np.log(np.clip(p, tiny, 1 - tiny))
    return lambda draws: draws.mean(loss)


def _brier(sample: Sample) -> Statistic:
    p = sample.score.astype(np.float64)
    each = np.arange(len(sample.y))
    loss = (p * p).sum(axis=1) - 2 * p[each, sample.codes] + 1
    return lambda draws: draws.mean(loss)


def _sureness(sample: Sample) -> Sample:
    """The binary sample of whether the likeliest class is right, scored by its probability."""
    return Sample(sample.right.astype(np.float64), sample.confidence)


def _ece(sample: Sample) -> Statistic:
    return classification.ece.prepare(_sureness(sample))


def _ece_of_luck(sample: Sample, level: float) -> float:
    return classification.ece_of_luck(_sureness(sample), level)


def _among(sample: Sample, count: int) -> NDArray[np.bool_]:
    """Where fewer than `count` classes are likelier than the outcome, or as likely and before it."""
    n, k = sample.score.shape
    found = np.empty(n, dtype=bool)
    size = max(1, CELLS // k)
    for rows in (slice(start, start + size) for start in range(0, n, size)):
        p, codes = sample.score[rows], sample.codes[rows, None]
        own = np.take_along_axis(p, codes, axis=1)
        ahead = (p > own).sum(axis=1) + ((p == own) & (np.arange(k) < codes)).sum(axis=1)
        found[rows] = ahead < count
    return found


def top(count: int) -> Metric:
    """How often the outcome is among the `count` likeliest classes; with `count` classes or fewer it always is.

    Equally likely classes come in their order, as the prediction takes them; scikit-learn's `top_k_accuracy_score`
    takes the later first.

    Args:
        count: How many classes we may name, >= 1.
    Raises:
        ValueError: `count` is below 1.
    Examples:
        >>> top(2)([0, 1, 2], [[0.5, 0.3, 0.2], [0.5, 0.3, 0.2], [0.5, 0.3, 0.2]])
        0.6666666666666666
    """
    if count < 1:
        raise ValueError(f"count == {count}, must be >= 1.")

    def right(sample: Sample) -> NDArray[np.bool_]:
        return _among(sample, count)

    def prepare(sample: Sample) -> Statistic:
        found = right(sample).astype(np.float64)
        return lambda draws: draws.mean(found)

    return Metric(
        f"top{count}",
        f"Top-{count} accuracy",
        True,
        prepare,
        f"The share of rows whose class is among the {count} likeliest.",
        probability=True,
        bounds=(0.0, 1.0),
        many=True,
        right=right,
    )


accuracy = Metric(
    "accuracy",
    "Accuracy",
    True,
    _accuracy,
    "The share of rows whose likeliest class is right.",
    probability=True,
    bounds=(0.0, 1.0),
    many=True,
    right=_right,
)
# The mean over classes of 2 TP / (2 TP + FP + FN), the averaged F1 of Opitz and Burst (2019), Macro F1 and Macro F1.
# Averaged are the classes that occur in y or are predicted, scikit-learn's f1_score(average="macro"); in a draw those
# that occur or are predicted in the draw. Resamples lie below the sample, whose rare classes they thin out, by about as
# much as the sample below the truth, but not where some classes are very rare: in simulations of 5 worlds only `both`
# held the truth 95 times in 100 in each (the percentile interval 51 times at four rows a class, the basic one 89 times
# among 10 uneven classes).
macro_f1 = Metric(
    "macro_f1",
    "Macro F1",
    True,
    _macro_f1,
    "F1, the harmonic mean of precision and recall, averaged over classes: rare ones count as much as common ones.",
    probability=True,
    bounds=(0.0, 1.0),
    interval="both",
    many=True,
    right=_right,
)
# Good (1952), clipped at the machine epsilon of double precision as scikit-learn does, for single precision as well.
log_loss = Metric(
    "log_loss",
    "Log loss",
    False,
    _log_loss,
    "The mean surprise, in nats, at what happened; sure and wrong costs most.",
    probability=True,
    bounds=(0.0, np.inf),
    many=True,
)
# Brier (1950), eq. 2: over all classes, so that it is between 0 and 2, and with two classes twice the binary one.
brier = Metric(
    "brier",
    "Brier score",
    False,
    _brier,
    "The mean squared distance of the probabilities to what happened, summed over classes.",
    probability=True,
    bounds=(0.0, 2.0),
    many=True,
)
# Guo et al. (2017), eq. 3, over the probability of the likeliest class. With two classes it differs from the binary
# metric, which bins the probability of the positive outcome. Its interval is made as there.
ece = replace(
    classification.ece,
    prepare=_ece,
    meaning="How far, on average over 15 bins, the probability of the likeliest class is from how often it is right.",
    luck=_ece_of_luck,
    many=True,
)
top3 = top(3)


def intent_metrics() -> tuple[Metric, ...]:
    """The metrics of any outcome of many classes, in the order of reports.

    Examples:
        >>> [metric.name for metric in intent_metrics()]
        ['accuracy', 'macro_f1', 'log_loss', 'ece']
    """
    return (accuracy, macro_f1, log_loss, ece)


def sequence_metrics() -> tuple[Metric, ...]:
    """The metrics of what comes next, in the order of reports.

    Examples:
        >>> [metric.name for metric in sequence_metrics()]
        ['accuracy', 'top3', 'log_loss', 'brier', 'ece']
    """
    return (accuracy, top3, log_loss, brier, ece)


@dataclass(frozen=True, repr=False, eq=False)
class PerClass(Result):
    """How well each class is found, the worst first."""

    title: ClassVar[str] = "Which classes are found, and which are not?"

    table: pd.DataFrame
    level: float

    @property
    def note(self) -> str:  # type: ignore[override]
        return (
            "Precision: of the rows predicted as the class, how many are of it. Recall: of the rows of the class, how "
            f"many are found. {100 * self.level:g} % Wilson intervals; a class of few rows says little."
        )

    def frame(self) -> pd.DataFrame:
        """One row a class: class, n, predicted, right; precision, recall and f1, each with its ends.

        The lowest F1 is first, of equals the class with the most rows; classes that neither occur nor are predicted,
        whose F1 is undefined (NaN), are last.
        """
        return self.table.copy()

    def plot(self) -> Axes:
        """F1 with its interval, of the 25 worst classes."""
        seen = self.table[self.table["f1"].notna()]
        shown = seen.head(WORST)
        many = len(seen) > len(shown)
        title = "F1 by class (rows)" + (f": the {len(shown)} worst of {len(seen):,}" if many else "")
        ax = axes(title, height=_height(shown))
        labels = [f"{_short(str(name))} ({n:,})" for name, n in zip(shown["class"], shown["n"], strict=True)]
        interval_plot(ax, labels, shown["f1"], shown["f1_low"], shown["f1_high"])
        ax.set_ylim(len(shown) - 0.5, -0.5)
        ax.set_xlim(0, 1)
        ax.tick_params(axis="y", labelsize=8)
        ax.set_xlabel(f"F1, higher is better ({100 * self.level:g} % interval)")
        return ax


def per_class(y: ArrayLike, probability: ArrayLike, classes: Sequence[str], *, level: float = 0.95) -> PerClass:
    """Precision, recall and F1 of each class.

    Precision and recall are shares and have Wilson's interval. F1 is 2 J / (1 + J), where J is the share of hits among
    the rows that are of the class or predicted as it (Jaccard 1912): its interval is Wilson's for J, carried over.

    Args:
        y: Class codes, shape (n,).
        probability: Probabilities, shape (n, k).
        classes: Names of the k classes, in the order of the columns.
        level: Of the intervals, in (0, 1).
    Raises:
        ValueError: an argument has the wrong shape or values.
    Examples:
        >>> found = per_class([0, 0, 1], [[0.9, 0.1], [0.2, 0.8], [0.1, 0.9]], ["card", "loan"]).frame()
        >>> found[["class", "n", "predicted", "right", "precision", "recall"]].values.tolist()
        [['card', 2, 1, 1, 1.0, 0.5], ['loan', 1, 2, 1, 0.5, 1.0]]
    """
    import pandas as pd

    check_level(level)
    sample = _named(y, probability, classes)
    k = sample.classes
    n = np.bincount(sample.codes, minlength=k)
    predicted = np.bincount(sample.predicted, minlength=k)
    hits = np.bincount(sample.codes[sample.right], minlength=k)
    columns: dict[str, object] = {"class": list(classes), "n": n, "predicted": predicted, "right": hits}
    for name, trials in (("precision", predicted), ("recall", n), ("f1", n + predicted - hits)):
        value = ratio(hits.astype(np.float64), trials.astype(np.float64))
        ends = [value, *wilson(hits, trials, level=level)]
        if name == "f1":
            ends = [2 * end / (1 + end) for end in ends]
        columns |= dict(zip((name, f"{name}_low", f"{name}_high"), ends, strict=True))
    table = pd.DataFrame(columns)
    worst = np.lexsort((np.arange(k), -n, table["f1"].to_numpy()))  # NaN is last
    return PerClass(table.iloc[worst].reset_index(drop=True), level)


@dataclass(frozen=True, repr=False, eq=False)
class Confusions(Result):
    """Which class is taken for which, the most frequent pair first.

    Attributes:
        n: Rows.
        wrong: Those whose likeliest class is not theirs.
        table: See `frame`.
    """

    title: ClassVar[str] = "What is taken for what?"
    note: ClassVar[str] = (
        "Share is of the rows of the true class (95 % Wilson interval). "
        "Two classes that are taken for each other often are one class to the reader of the text, or badly labelled."
    )

    n: int
    wrong: int
    table: pd.DataFrame

    def frame(self) -> pd.DataFrame:
        """One row a pair that happened: true, predicted, n, of, share, low, high; examples where texts were given.

        `n` counts the rows of the class `true` predicted as `predicted`, `of` all of its rows. The examples are the
        texts that were wrong with the highest probability, up to three, joined by " | ".
        """
        return self.table.copy()

    def plot(self) -> Axes:
        """Counts of the 20 most frequent pairs."""
        from matplotlib.ticker import MaxNLocator

        shown = self.table.head(PAIRS)
        if shown.empty:
            return sentence(self.title, f"None of {self.n:,} rows is wrong.")
        all_of = len(self.table)
        pairs = f"The {len(shown)} most frequent of {all_of:,} pairs" if all_of > PAIRS else "All pairs"
        ax = axes(f"{pairs}: {shown['n'].sum():,} of {self.wrong:,} errors", width=10.0, height=_height(shown))
        places = range(len(shown))
        ax.barh(places, shown["n"], color=PALETTE[0])
        for place, count, of in zip(places, shown["n"], shown["of"], strict=True):
            ax.text(count, place, f" of {of:,}", va="center", fontsize=7, color=GREY)
        names = zip(shown["true"], shown["predicted"], strict=True)
        ax.set_yticks(places, [f"{_short(str(true))} → {_short(str(taken))}" for true, taken in names], fontsize=8)
        ax.set_ylim(len(shown) - 0.5, -0.5)
        ax.margins(x=0.1)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.set_xlabel("rows, and of how many of the true class")
        return ax


def confusions(
    y: ArrayLike, probability: ArrayLike, classes: Sequence[str], texts: Sequence[str] | None = None
) -> Confusions:
    """Pairs of the true and the predicted class that differ, the most frequent first.

    Args:
        y: Class codes, shape (n,).
        probability: Probabilities, shape (n, k).
        classes: Names of the k classes, in the order of the columns.
        texts: What the rows say, n of them, to show examples.
    Raises:
        ValueError: an argument has the wrong shape or values.
    Examples:
        >>> found = confusions([0, 0, 1], [[0.9, 0.1], [0.2, 0.8], [0.1, 0.9]], ["card", "loan"], ["a", "b", "c"])
        >>> found.frame()[["true", "predicted", "n", "of", "share", "examples"]].values.tolist()
        [['card', 'loan', 1, 2, 0.5, 'b']]
    """
    import pandas as pd

    sample = _named(y, probability, classes)
    if texts is not None and len(texts) != len(sample.y):
        raise ValueError(f"{len(texts)} texts given, must be {len(sample.y)}: one a row of y.")
    k = sample.classes
    wrong = np.flatnonzero(~sample.right)
    pair = sample.codes[wrong] * k + sample.predicted[wrong]
    distinct, which, counts = np.unique(pair, return_inverse=True, return_counts=True)
    frequent = np.argsort(-counts, kind="stable")
    true, taken = distinct[frequent] // k, distinct[frequent] % k
    n, of = counts[frequent], np.bincount(sample.codes, minlength=k)[true]
    low, high = wilson(n, of)
    names = np.array(list(classes), dtype=object)
    columns = {
        "true": names[true],
        "predicted": names[taken],
        "n": n,
        "of": of,
        "share": n / of,
        "low": low,
        "high": high,
    }
    if texts is not None:
        said = list(texts)
        sure = np.lexsort((-sample.confidence[wrong], which))  # by pair, the surest first
        starts = np.cumsum(counts) - counts
        parts = [wrong[sure[start : start + min(EXAMPLES, size)]] for start, size in zip(starts, counts, strict=True)]
        columns["examples"] = np.array([BETWEEN.join(str(said[row]) for row in parts[p]) for p in frequent], object)
    return Confusions(len(sample.y), len(wrong), pd.DataFrame(columns))


def _named(y: ArrayLike, probability: ArrayLike, classes: Sequence[str]) -> Sample:
    sample = Sample.of_classes(y, probability)
    if len(classes) != sample.classes:
        raise ValueError(f"{len(classes)} classes given, must be {sample.classes}: a name for each column.")
    return sample


def _height(shown: pd.DataFrame) -> float:
    """Inches for a drawing with a narrow row each."""
    return 1.2 + 0.24 * max(3, len(shown))


def _short(name: str) -> str:
    return name if len(name) <= NAME else f"{name[: NAME - 1]}…"
