"""Which words a model of texts decides by: what taking one of them away costs.

found = words_of_test(subject)                # words of a sample of test rows, see `words`
word_importance(subject, found).plot()
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd

from cxlab.display import Result, axes, interval_plot
from cxlab.evidence.importance import PARTS, TOP, added_loss, holds
from cxlab.evidence.texts import drawn
from cxlab.evidence.words import FEWEST, Words, additive, words_for
from cxlab.features.holders import without
from cxlab.features.terms import words_of
from cxlab.models.subject import Subject

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROWS = 2000  # test rows explained at most
LEFT_OUT = 2000  # texts less a word that a model is asked at most where its margins are no sums of terms
WORDS = 20  # words that are taken away one at a time
TRIED = 1000  # test rows from which they are taken
TINY = 1e-12  # of a probability


def words_of_test(subject: Subject, *, rows: int = ROWS, seed: int = 0) -> Words:
    """Words of test rows, at most `rows` of them; fewer where every word has to be left out once.

    Args:
        subject: The model under review.
        rows: At most, drawn with `seed`, whatever their order.
        seed: Of the rows.
    """
    place = _explained(subject, rows, seed)
    texts = subject.texts_test
    return words_for(subject, [texts[i] for i in place])


def _explained(subject: Subject, rows: int, seed: int) -> np.ndarray:
    place = drawn(subject, rows, seed)
    if all(additive(member, len(subject.labels)) for member in subject.model.members):
        return place
    texts = subject.texts_test
    asked = np.cumsum([len(set(words_of(texts[i]))) for i in place])
    most = max(1, int(np.searchsorted(asked, LEFT_OUT, side="right")))
    return place if most >= len(place) else drawn(subject, most, seed)


@dataclass(frozen=True, repr=False, eq=False)
class WordImportance(Result):
    """Which words the model decides by, the strongest first.

    Attributes:
        rows: One row a word; see `frame`.
    """

    rows: pd.DataFrame

    title: ClassVar[str] = "Which words the model decides by"
    note: ClassVar[str] = (
        "Value: how much the log loss on test rows grows when the word is taken out of the texts that hold it, a mean "
        "over all texts, with its 95 % interval; an interval that holds zero cannot tell the word from noise. Looked "
        f"at are the {WORDS} words with the largest contributions, of those that {FEWEST} texts or more hold. "
        f"Share: of all the value of these. Folds: in how many of {PARTS} parts of the rows the word is among the "
        f"{TOP} strongest and above zero."
    )

    def frame(self) -> pd.DataFrame:
        """One row a word: feature, value, low, high, n (texts that hold it), direction (the intent it speaks for most),
        share, folds."""
        return self.rows

    def plot(self, most: int = 12) -> Axes:
        """The strongest words, with intervals."""
        top = self.rows.head(most)
        ax = axes("Which words the model decides by", height=1.2 + 0.28 * max(2, len(top)))
        interval_plot(ax, top["feature"].tolist(), top["value"], top["low"], top["high"], reference=0.0)
        ax.set_xlabel("log loss added by taking the word away (95 % interval)")
        return ax


def word_importance(subject: Subject, found: Words, *, seed: int = 0) -> WordImportance:
    """What taking a word away from test rows costs, with the intent it speaks for.

    Args:
        subject: The model under review.
        found: Its words of test rows, as `words_of_test` gives them with the same seed.
        seed: Of rows and resamples.
    """
    place = _explained(subject, min(TRIED, len(found.texts)), seed)
    every = subject.texts_test
    texts, y = [every[i] for i in place], subject.outcome_test[place]
    held = [set(words_of(text)) for text in texts]
    names = _strongest(found, pd.Series([word for words in held for word in words]).value_counts())
    pairs = [(i, j) for j, word in enumerate(names) for i, words in enumerate(held) if word in words]
    added = np.zeros((len(texts), len(names)))
    if pairs:
        row, column = np.array(pairs).T
        before = _losses(subject, texts, y)
        added[row, column] = _losses(subject, [without(texts[i], names[j]) for i, j in pairs], y[row]) - before[row]
    ends = added_loss(added, seed=seed)
    up = ends["value"].clip(lower=0.0)
    told = found.rows.assign(intent=np.array(found.intents, object)[found.rows["row"]])
    speaks = told.groupby(["word", "intent"])["contribution"].sum().reset_index()
    loudest = speaks.sort_values(["contribution", "intent"], ascending=[False, True]).groupby("word")["intent"].first()
    table = ends.assign(
        feature=names,
        n=[sum(word in words for words in held) for word in names],
        direction=[f"for {loudest[word]}" for word in names],
        share=up / up.sum() if up.sum() > 0 else 0.0,
        folds=holds(added[np.random.default_rng(seed).permutation(len(added))]),
    )
    table = table.sort_values(["value", "feature"], ascending=[False, True], kind="stable", ignore_index=True)
    return WordImportance(table[["feature", "value", "low", "high", "n", "direction", "share", "folds"]])


def _strongest(found: Words, texts: pd.Series) -> list[str]:
    """Words of enough texts with the largest contributions, whichever way."""
    strength = found.rows["contribution"].abs().groupby(found.rows["word"]).sum()
    strength = strength[strength.index.isin(texts.index[texts >= FEWEST])]
    return [str(word) for word in strength.sort_values(ascending=False, kind="stable").index[:WORDS]]


def _losses(subject: Subject, texts: list[str], y: np.ndarray) -> np.ndarray:
    (name,) = subject.model.schema.names
    p = subject.model.predict_proba(pd.DataFrame({name: np.array(texts, object)}))
    return -np.log(np.maximum(p[np.arange(len(y)), y], TINY))
