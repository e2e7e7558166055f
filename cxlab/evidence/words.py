"""Which words speak for an answer, of models that read a text.

    found = words_for(subject, ["My card was stolen on the train"])
    found.frame()      # row, text, intent, word, contribution
    found.sums()       # constant + words + remainder = margin, a row a text

A linear model of words, pieces and pairs of words has a margin that is a sum over terms, so that a word's contribution
is that of the terms it is part of, in equal shares where they are of several words: exact, and checked. Of all else
(sentence vectors beside the terms, other members) a word's contribution is what the margin loses when the word is left
out (Li, Monroe and Jurafsky 2016, Understanding neural networks through representation erasure); what these do not add
up to is stated as the remainder.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.special import softmax
from sklearn.base import BaseEstimator
from sklearn.dummy import DummyClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import FeatureUnion, Pipeline

from cxlab.display import GREY, PALETTE, Result, axes
from cxlab.errors import DataError, ParamsError, listed, unknown
from cxlab.features.holders import occurrences, without
from cxlab.features.terms import ANY, Terms, words_of
from cxlab.models.margins import SoftMargins
from cxlab.models.subject import Subject
from cxlab.models.task import Model, predictions

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TOLERANCE = 1e-4  # of additivity, relative to the margin: terms are weighed in single precision
SHOWN = 15  # words drawn
FEWEST = 5  # texts that hold a word which is named without them


@dataclass(frozen=True, repr=False, eq=False)
class Words(Result):
    """How much each word of each text adds to the margin of an intent.

    Attributes:
        texts: As the model reads them, n of them, personal data masked.
        intents: The intent that is explained, n of them.
        rows: One a text and distinct word: row (place of the text), word, contribution.
        constant: What no word adds: the intercept, and the term that every text has, shape (n,).
        margin: Of the intent, before softmax and calibration, shape (n,).
        exact: All members are sums over terms, so that nothing remains.
    """

    texts: tuple[str, ...]
    intents: tuple[str, ...]
    rows: pd.DataFrame
    constant: np.ndarray
    margin: np.ndarray
    exact: bool

    title: ClassVar[str] = "Which words speak for the answer?"

    @property
    def note(self) -> str:  # type: ignore[override]
        told = "In units of the margin, before softmax and calibration; above zero speaks for the intent."
        if self.exact:
            return f"{told} Words and constant add up to the margin."
        return (
            f"{told} Words were left out one at a time, so that they need not add up: the remainder is "
            f"{np.abs(self.remainder).mean():.2g} of {np.abs(self.margin).mean():.2g} on average."
        )

    @property
    def remainder(self) -> np.ndarray:
        """What words and constant do not explain of the margin, shape (n,); but for rounding 0 where exact."""
        return self.margin - self.constant - self._added

    @property
    def _added(self) -> np.ndarray:
        return np.bincount(self.rows["row"], self.rows["contribution"], minlength=len(self.texts))

    def frame(self) -> pd.DataFrame:
        """One row a text and distinct word, in their order: row, text, intent, word, contribution."""
        place = self.rows["row"].to_numpy(np.intp)
        columns = {"row": place, "text": _of(self.texts, place), "intent": _of(self.intents, place)}
        return pd.DataFrame(columns).assign(word=self.rows["word"], contribution=self.rows["contribution"])

    def sums(self) -> pd.DataFrame:
        """One row a text: row, text, intent, constant, words, remainder, margin."""
        columns = {"row": range(len(self.texts)), "text": self.texts, "intent": self.intents}
        parts = {"constant": self.constant, "words": self._added, "remainder": self.remainder, "margin": self.margin}
        return pd.DataFrame({**columns, **parts})

    def by_intent(self, *, most: int = 5, least: int = FEWEST) -> pd.DataFrame:
        """The words that speak loudest for each intent: intent, texts, word, n (of them that hold it), contribution.

        Args:
            most: Words of an intent.
            least: Texts of the intent that must hold a word.
        Returns:
            `contribution` is the mean over all texts answered with the intent; a text without the word counts 0.
        """
        place = self.rows["row"].to_numpy(np.intp)
        told = pd.DataFrame({"intent": _of(self.intents, place), "word": self.rows["word"].to_numpy(object)})
        told["contribution"] = self.rows["contribution"].to_numpy()
        texts = pd.Series(self.intents, dtype=object).value_counts()
        grouped = told.groupby(["intent", "word"], sort=True)["contribution"].agg(["size", "sum"]).reset_index()
        grouped["texts"] = grouped["intent"].map(texts).astype(int)
        grouped["contribution"] = grouped["sum"] / grouped["texts"]
        loud = grouped[(grouped["size"] >= least) & (grouped["contribution"] > 0)]
        loud = loud.sort_values(["intent", "contribution", "word"], ascending=[True, False, True], kind="stable")
        loud = loud.groupby("intent").head(most).rename(columns={"size": "n"})
        return loud[["intent", "texts", "word", "n", "contribution"]].reset_index(drop=True)

    def plot(self) -> Axes:
        """One text: its words in their order. More: the words with the largest mean contribution, either way."""
        one = len(self.texts) == 1
        shown = self.rows[["word", "contribution"]]
        if not one:
            total = self.rows.groupby("word")["contribution"].sum() / len(self.texts)
            top = total.loc[total.abs().sort_values(ascending=False, kind="stable").index[:SHOWN]]
            shown = top.rename_axis("word").reset_index()
        title = f"Which words speak for {self.intents[0]}" if one else f"Words of {len(self.texts):,} texts, on average"
        ax = axes(title, height=1.2 + 0.28 * max(2, len(shown)))
        places, length = range(len(shown)), shown["contribution"].to_numpy()
        ax.barh(places, length, color=[PALETTE[int(value < 0)] for value in length])
        ax.axvline(0, color=GREY, linewidth=1)
        ax.set_yticks(places, shown["word"].tolist())
        ax.invert_yaxis()
        ax.set_xlabel("contribution to the margin")
        return ax


def _of(values: Sequence[str], place: np.ndarray) -> np.ndarray:
    return np.array(values, object)[place] if len(values) else np.empty(0, object)


def words_for(model: Model | Subject, texts: Iterable[Any], *, intent: str | None = None) -> Words:
    """How much each word adds to the margin of the intent that is answered.

    Args:
        model: Of many classes, reading one text; or such a subject.
        texts: As customers wrote them, n >= 1; personal data are masked as the model masks them.
        intent: Explain this one instead of the likeliest of each text.
    Raises:
        DataError: There is no text, or `texts` is a single one.
        ParamsError: The model does not read one text, or knows no such intent.
        ArithmeticError: Contributions and constant do not add up to the margin of a linear member.
    """
    model = model.model if isinstance(model, Subject) else model
    encoded = _encoded(model, texts)
    said, labels = encoded.iloc[:, 0].tolist(), model.labels or ()
    margins = model.raw(encoded)
    code = model.calibrator.apply(softmax(margins, axis=1)).argmax(axis=1)
    if intent is not None:
        if intent not in labels:
            raise ParamsError(unknown("Intent", intent, labels))
        code = np.full(len(said), labels.index(intent))
    distinct = [list(dict.fromkeys(words_of(text))) for text in said]
    added = np.zeros(sum(map(len, distinct)))
    constant, exact = np.zeros(len(said)), True
    for weight, member in zip(model.weights, model.members, strict=True):
        found = _told(member, functools.partial(_asked, member, encoded.columns[0], len(labels)), said, distinct, code)
        exact = exact and found.exact
        constant, added = constant + weight * found.constant, added + weight * found.words
    row = np.repeat(np.arange(len(said)), [len(each) for each in distinct])
    words = np.array([word for each in distinct for word in each], object)
    rows = pd.DataFrame({"row": row, "word": words, "contribution": added})
    intents = tuple(labels[place] for place in code)
    return Words(tuple(said), intents, rows, constant, margins[np.arange(len(said)), code].astype(np.float64), exact)


def _encoded(model: Model, texts: Iterable[Any]) -> pd.DataFrame:
    names = model.schema.names
    if model.labels is None or model.schema.of_kind("text") != names or len(names) != 1:
        raise ParamsError(
            f"The model reads {listed(names)}; words are told of models of many classes reading one text."
        )
    if isinstance(texts, str | bytes):
        raise DataError(f"texts is one {type(texts).__name__}, must be a list or a column of texts: [text].")
    held = pd.Series(list(texts), dtype=object)
    if held.empty:
        raise DataError("There are 0 texts to explain, must be at least 1.")
    return model.schema.encode(held.to_frame(names[0]))


def _sums(parts: np.ndarray, distinct: list[list[str]]) -> np.ndarray:
    return np.bincount(np.repeat(np.arange(len(distinct)), list(map(len, distinct))), parts, minlength=len(distinct))


def _check(told: np.ndarray, margin: np.ndarray, said: list[str]) -> None:
    apart = np.abs(told - margin) - TOLERANCE * np.maximum(1, np.abs(margin))
    if (apart > 0).any():
        worst = int(np.argmax(apart))
        raise ArithmeticError(
            f"Words of text {worst} ({len(said[worst])} characters) add up to {told[worst]:.7g}, "
            f"must be the margin {margin[worst]:.7g}."
        )


Ask = Callable[[list[str]], np.ndarray]  # n texts to margins of shape (n, classes)


def _asked(member: BaseEstimator, name: str, classes: int, texts: list[str]) -> np.ndarray:
    return predictions(member, pd.DataFrame({name: np.array(texts, object)}), classes)


class _Told(NamedTuple):
    """What a member says of n texts: constants, shape (n,), contributions of all distinct words, in a row."""

    constant: np.ndarray
    words: np.ndarray
    exact: bool


class _Block(NamedTuple):
    """One step whose columns, from `start` to `end`, a linear model weighs."""

    step: Any
    start: int
    end: int

    @property
    def counts(self) -> bool:
        """It counts terms, whose weights are added up."""
        return isinstance(self.step, TfidfVectorizer) and isinstance(self.step.analyzer, Terms)


def _blocks(member: BaseEstimator, classes: int) -> list[_Block]:
    """The columns of a linear model of all classes; none where it is another model, or no terms are among them."""
    if not (isinstance(member, Pipeline) and len(member) == 3 and isinstance(member[-1], SoftMargins)):
        return []
    if len(member[-1].classes_) != classes:
        return []
    union = member[1]
    steps = [step for _, step in union.transformer_list] if isinstance(union, FeatureUnion) else [union]
    starts = np.cumsum([0, *(_width(step) for step in steps)]).tolist()
    blocks = [_Block(step, *ends) for step, ends in zip(steps, pairwise(starts), strict=True)]
    return blocks if any(block.counts for block in blocks) else []


def _width(step: Any) -> int:
    if isinstance(step, TfidfVectorizer):
        return len(step.vocabulary_)
    return int(step.transform(np.array([""], object)).shape[1])


def additive(member: BaseEstimator, classes: int) -> bool:
    """Whether a member's margin is a sum over the terms of a text."""
    if isinstance(member, Pipeline) and isinstance(member[-1], DummyClassifier):
        return True
    blocks = _blocks(member, classes)
    return bool(blocks) and all(block.counts for block in blocks)


def _told(member: BaseEstimator, ask: Ask, said: list[str], distinct: list[list[str]], code: np.ndarray) -> _Told:
    """A member's margins of the codes, word by word."""
    found, words = ask(said), np.zeros(sum(map(len, distinct)))
    own = found[np.arange(len(said)), code].astype(np.float64)
    if isinstance(member, Pipeline) and isinstance(member[-1], DummyClassifier):
        return _Told(own, words, exact=True)
    blocks = _blocks(member, found.shape[1])
    if not blocks:
        return _Told(np.zeros(len(said)), _left_out(ask, said, distinct, code), exact=False)
    counted, others = [block for block in blocks if block.counts], [block for block in blocks if not block.counts]
    constant, words = _added(member[-1], counted, said, distinct, code)
    rest = np.zeros(len(said))
    for block in others:
        rest += _weighed(block, member[-1].weights_, said)[np.arange(len(said)), code]
    _check(constant + _sums(words, distinct) + rest, own, said)
    for block in others:
        words = words + _left_out(functools.partial(_weighed, block, member[-1].weights_), said, distinct, code)
    return _Told(constant, words, exact=not others)


def _added(
    last: SoftMargins, blocks: list[_Block], said: list[str], distinct: list[list[str]], code: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Constants and contributions of the distinct words by the terms that they are part of."""
    constant = last.constant_[code].astype(np.float64)
    weighed = [sparse.csr_array(block.step.transform(np.array(said, object))) for block in blocks]
    out: list[float] = []
    for i, text in enumerate(said):
        words, each = words_of(text), dict.fromkeys(distinct[i], 0.0)
        for block, terms in zip(blocks, weighed, strict=True):
            ends = slice(terms.indptr[i], terms.indptr[i + 1])
            columns = terms.indices[ends]
            value = terms.data[ends].astype(np.float64) * last.weights_[block.start + columns, code[i]]
            worth = dict(zip(columns.tolist(), value.tolist(), strict=True))
            constant[i] += worth.get(block.step.vocabulary_.get(ANY, -1), 0.0)
            for share, holders in _shared(block.step, words, worth):
                for place in holders:
                    each[words[place]] += share
        out += each.values()
    return constant, np.array(out)


def _weighed(block: _Block, weights: np.ndarray, said: list[str]) -> np.ndarray:
    """What a block adds to the margins of texts, shape (n, classes)."""
    return np.asarray(block.step.transform(np.array(said, object)) @ weights[block.start : block.end])


def _shared(
    vectorizer: TfidfVectorizer, words: list[str], worth: dict[int, float]
) -> Iterator[tuple[float, tuple[int, ...]]]:
    """Each term's worth in equal shares among its occurrences and their words: a share and whose it is."""
    known = vectorizer.vocabulary_
    found: dict[int, list[tuple[int, ...]]] = {}
    for term, places in occurrences(vectorizer.analyzer, words):
        column = known.get(term)
        if column is not None:
            found.setdefault(column, []).append(places)
    for column, holders in found.items():
        each = worth.get(column, 0.0) / len(holders)
        for places in holders:
            yield each / len(places), places


def _left_out(ask: Ask, said: list[str], distinct: list[list[str]], code: np.ndarray) -> np.ndarray:
    """What the margin loses without each distinct word."""
    row = np.repeat(np.arange(len(distinct)), [len(each) for each in distinct])
    if not len(row):
        return np.zeros(0)
    less = ask([without(text, word) for text, words in zip(said, distinct, strict=True) for word in words])
    return np.asarray(ask(said)[row, code[row]] - less[np.arange(len(row)), code[row]], np.float64)
