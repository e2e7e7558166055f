"""Which classes are taken for which, where there are too many for one table: the most confused ones as a small map.

most_confused(y, probability, classes).plot()
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.cluster.hierarchy import leaves_list, linkage

from cxlab.display import PALETTE, Result, axes, sentence
from cxlab.metrics.sample import Sample

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST = 15  # classes of a map that can be read
LETTERS = 32  # of a name
REST = "(all others)"


@dataclass(frozen=True, repr=False, eq=False)
class ConfusedClasses(Result):
    """Rows of the most confused classes by true and predicted class, those that are taken for each other side by side.

    Attributes:
        names: The k classes of the map, in its order.
        counts: Rows by true and predicted class, the last column that of all other classes, shape (k, k + 1).
        wrong: Errors in all.
    """

    names: tuple[str, ...]
    counts: np.ndarray
    wrong: int

    title: ClassVar[str] = "The classes that are confused most"
    note: ClassVar[str] = "Rows are the true classes, columns what they are taken for; the diagonal is right."

    def frame(self) -> pd.DataFrame:
        """One row a pair that happened: true, predicted, n."""
        true, taken = np.nonzero(self.counts)
        columns = np.array([*self.names, REST], object)
        cells = {"true": np.array(self.names, object)[true], "predicted": columns[taken]}
        return pd.DataFrame({**cells, "n": self.counts[true, taken]})

    def plot(self) -> Axes:
        """Shares of each true class; the counts are written."""
        from matplotlib.colors import LinearSegmentedColormap

        if not self.names:
            return sentence(self.title, "No row is wrong.")
        k = len(self.names)
        title = f"The {k} classes with the most errors, of {self.wrong:,} errors in all"
        ax = axes(title, width=min(9.0, 4.2 + 0.36 * k), height=2.6 + 0.34 * k)
        shown = self.counts if self.counts[:, k].any() else self.counts[:, :k]
        shares = shown / np.maximum(shown.sum(axis=1, keepdims=True), 1)
        shade = LinearSegmentedColormap.from_list("white to blue", ["#FFFFFF", PALETTE[0]])
        ax.imshow(shares, cmap=shade, vmin=0, vmax=1, aspect="auto")
        for i, j in zip(*np.nonzero(shown), strict=True):
            colour = "white" if shares[i, j] > 0.6 else "black"
            ax.text(j, i, f"{shown[i, j]}", ha="center", va="center", fontsize=7, color=colour)
        ax.set_yticks(range(k), [_short(name) for name in self.names], fontsize=7.5)
        columns = [_short(name) for name in (*self.names, REST)][: shown.shape[1]]
        ax.set_xticks(range(len(columns)), columns, fontsize=7.5, rotation=60, ha="right", rotation_mode="anchor")
        ax.set_xlabel("taken for")
        ax.set_ylabel("true class")
        return ax


def _short(name: str) -> str:
    return name if len(name) <= LETTERS else f"{name[: LETTERS - 1]}…"


def most_confused(y: ArrayLike, probability: ArrayLike, classes: Sequence[str], *, most: int = MOST) -> ConfusedClasses:
    """The classes in most errors, ordered so that those taken for each other stand together (average linkage).

    Args:
        y: Class codes, shape (n,).
        probability: Probabilities, shape (n, k).
        classes: Names of the k classes.
        most: Of the map, >= 2.
    Raises:
        ValueError: an argument has the wrong shape or values.
    Examples:
        >>> found = most_confused([0, 0, 1], [[0.9, 0.1], [0.2, 0.8], [0.1, 0.9]], ["card", "loan"])
        >>> found.frame().values.tolist()
        [['card', 'card', 1], ['card', 'loan', 1], ['loan', 'loan', 1]]
    """
    sample = Sample.of_classes(y, probability)
    k = sample.classes
    table = np.zeros((k, k), np.int64)
    np.add.at(table, (sample.codes, sample.predicted), 1)
    errors = table * ~np.eye(k, dtype=bool)
    both = errors + errors.T
    worst = np.argsort(-both.sum(axis=1), kind="stable")[:most]
    worst = worst[both[worst].sum(axis=1) > 0]
    if len(worst) > 2:
        apart = 1 / (1 + both[np.ix_(worst, worst)])
        worst = worst[leaves_list(linkage(apart[np.triu_indices(len(worst), 1)], "average"))]
    counts = table[np.ix_(worst, worst)] if len(worst) else np.zeros((0, 0), np.int64)
    rest = table[worst].sum(axis=1) - counts.sum(axis=1)
    names = tuple(str(classes[i]) for i in worst)
    return ConfusedClasses(names, np.column_stack([counts, rest]), int(errors.sum()))
