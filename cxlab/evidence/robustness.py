"""Does the answer hold when the same is said in other words? Behavioural tests of a model that reads texts.

    found = robustness(subject)
    found.frame()      # test, kind, n, share, low, high, limit, verdict
    robustness(subject, paraphrases=pd.DataFrame({"text": [...], "other": [...]}))

Ribeiro, Wu, Guestrin and Singh (2020), Beyond accuracy: behavioral testing of NLP models with CheckList: *invariance*,
the answer must stay; *direction*, a clause of another intent must make the model less sure, or say that there are
several. No outcome is needed, so that the texts of any customers will do.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple
from zlib import crc32

import numpy as np
import pandas as pd

from cxlab.data.schema import is_missing
from cxlab.display import GREY, Result, axes, interval_plot
from cxlab.errors import DataError, missing_column
from cxlab.evidence.texts import drawn
from cxlab.metrics.bootstrap import wilson
from cxlab.models.answer import Answers
from cxlab.models.subject import Subject

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROWS = 1000  # test rows that are changed at most
FORM, WORDING = 0.98, 0.90  # least share of answers that stay: where the form alone changes, and where words do
SHORTEST = 4  # letters of a word in which one is mistyped
FRAMES = ("Hello, could you please help me? {}", "{} Thank you very much in advance!")
CLAUSE = "{} and also {}"

Rng = np.random.Generator


class Check(NamedTuple):
    """One way to change a text: its name, how, and the least share of answers that stay."""

    name: str
    change: Callable[[str, Rng], str]
    limit: float


def _typo(change: Callable[[str, int], str]) -> Callable[[str, Rng], str]:
    """One word of the text, drawn among those long enough, with a slip behind its first letter."""

    def mistyped(text: str, rng: Rng) -> str:
        words = [word for word in re.finditer(r"[^\W\d_]+", text) if len(word[0]) >= SHORTEST]
        if not words:
            return text
        word = words[int(rng.integers(len(words)))]
        at = int(rng.integers(1, len(word[0]) - 1))
        return f"{text[: word.start()]}{change(word[0], at)}{text[word.end() :]}"

    return mistyped


def _spaced(text: str, _: Rng) -> str:
    return re.sub(r"\s+", "   ", f" {text} ")


CHECKS = (
    Check("upper case", lambda text, _: text.upper(), FORM),
    Check("lower case", lambda text, _: text.lower(), FORM),
    Check("more white space", _spaced, FORM),
    Check("no punctuation", lambda text, _: re.sub(r"[^\w\s]|_", "", text), WORDING),
    Check("stop at the end", lambda text, _: f"{text.rstrip(' .!?')}...", FORM),
    Check("two letters swapped", _typo(lambda w, i: f"{w[:i]}{w[i + 1]}{w[i]}{w[i + 2 :]}"), WORDING),
    Check("a letter left out", _typo(lambda w, i: w[:i] + w[i + 1 :]), WORDING),
    Check("polite at the start", lambda text, _: FRAMES[0].format(text), WORDING),
    Check("polite at the end", lambda text, _: FRAMES[1].format(text), WORDING),
)


@dataclass(frozen=True, repr=False)
class Robustness(Result):
    """What becomes of answers when texts are changed.

    Attributes:
        rows: One a test; see `frame`.
        changed: One a text and test whose answer did not hold: test, text, other, intent, became. Customers' words.
    """

    rows: pd.DataFrame
    changed: pd.DataFrame

    title: ClassVar[str] = "Does the answer hold when the same is said otherwise?"
    note: ClassVar[str] = (
        "Share: of the texts that a test changes, those whose likeliest intent stays; of two intents joined, those of "
        "which the model is less sure or says that there are several. 95 % Wilson intervals. A test passes where its "
        "whole interval reaches the limit, and fails where it lies below."
    )

    def frame(self) -> pd.DataFrame:
        """One row a test: test, kind (invariance or direction), n (texts it changes), held, share, low, high, limit,
        verdict."""
        return self.rows

    @property
    def failed(self) -> list[str]:
        """The tests that fail."""
        return self.rows.loc[self.rows["verdict"] == "fail", "test"].tolist()

    def plot(self) -> Axes:
        """Shares with their intervals; a line marks each limit."""
        ax = axes("Answers that hold", height=1.3 + 0.32 * len(self.rows))
        labels = [f"{row.test} (n={row.n:,}): {row.verdict}" for row in self.rows.itertuples()]
        interval_plot(ax, labels, self.rows["share"], self.rows["low"], self.rows["high"])
        ax.plot(self.rows["limit"], range(len(self.rows)), "|", color=GREY, markersize=14, markeredgewidth=2)
        ax.set_xlim(right=1.01)
        ax.set_xlabel("share, 95 % interval; grey: the limit")
        return ax


def robustness(
    subject: Subject, *, paraphrases: pd.DataFrame | None = None, rows: int = ROWS, seed: int = 0
) -> Robustness:
    """Changes test texts and asks again.

    Args:
        subject: The model under review, of many classes.
        paraphrases: Pairs that mean the same, with the columns `text` and `other`; adds the test `paraphrase`.
        rows: Test rows at most, drawn with `seed`, whatever their order.
        seed: Of the rows and of the changes; a text is changed the same way whatever the other texts are.
    Raises:
        DataError: The pairs lack a column, or none is there.
    """
    every = subject.texts_test
    place = drawn(subject, rows, seed)
    texts = [every[i] for i in place]
    before = _asked(subject, texts)
    lines = [_invariance(subject, check, texts, before, seed) for check in CHECKS]
    lines.append(_joined(subject, texts, before, subject.outcome_test[place]))
    if paraphrases is not None:
        lines.append(_paraphrases(subject, paraphrases))
    return Robustness(
        pd.DataFrame([row for row, _ in lines], columns=COLUMNS),
        pd.concat([told for _, told in lines], ignore_index=True),
    )


COLUMNS = ["test", "kind", "n", "held", "share", "low", "high", "limit", "verdict"]
CHANGED = ["test", "text", "other", "intent", "became"]
Line = tuple[tuple[object, ...], pd.DataFrame]


def _asked(subject: Subject, texts: Sequence[str]) -> Answers:
    return subject.model.answer(_rows(subject, texts))


def _likeliest(subject: Subject, texts: Sequence[str]) -> np.ndarray:
    return np.array(subject.labels, object)[subject.model.predict(_rows(subject, texts))]


def _rows(subject: Subject, texts: Sequence[str]) -> pd.DataFrame:
    (name,) = subject.model.schema.names
    return pd.DataFrame({name: np.array(texts, object)})


def _invariance(subject: Subject, check: Check, texts: list[str], before: Answers, seed: int) -> Line:
    others = [
        check.change(text, np.random.default_rng([seed, crc32(text.encode("utf-8", "surrogatepass"))]))
        for text in texts
    ]
    touched = np.array([text != other for text, other in zip(texts, others, strict=True)], bool)
    place = np.flatnonzero(touched)
    pairs = [(texts[i], others[i]) for i in place]
    return _same(subject, check.name, pairs, before.label[place, 0], check.limit)


def _same(subject: Subject, name: str, pairs: list[tuple[str, str]], intent: np.ndarray, limit: float) -> Line:
    became = _likeliest(subject, [other for _, other in pairs]) if pairs else intent
    held = np.asarray(became == intent, bool)
    return _line(name, "invariance", pairs, (intent, became), (held, limit))


def _joined(subject: Subject, texts: list[str], before: Answers, outcome: np.ndarray) -> Line:
    """Each answered text with a clause of another intent: the next one, in the order of the sample."""
    n = len(texts)
    following = [next((j % n for j in range(i + 1, i + n) if outcome[j % n] != outcome[i]), None) for i in range(n)]
    place = [i for i, j in enumerate(following) if j is not None and not before.abstained[i]]
    pairs = [(texts[i], CLAUSE.format(texts[i].rstrip(" .!?"), texts[following[i] or 0])) for i in place]
    intent = before.label[place, 0]
    if not pairs:
        return _line("another intent added", "direction", [], (intent, intent), (np.zeros(0, bool), WORDING))
    found = _asked(subject, [other for _, other in pairs])
    held = (found.confidence[:, 0] < before.confidence[place, 0]) | found.several | found.abstained
    return _line("another intent added", "direction", pairs, (intent, found.label[:, 0]), (held, WORDING))


def _paraphrases(subject: Subject, pairs: pd.DataFrame) -> Line:
    for name in ("text", "other"):
        if name not in pairs:
            raise missing_column(name, map(str, pairs.columns))
    rows = pairs[["text", "other"]].itertuples(index=False, name=None)
    told = [(one, other) for one, other in rows if not is_missing(one) and not is_missing(other)]
    if not told:
        raise DataError("The table of paraphrases has 0 pairs, must have at least 1.")
    return _same(subject, "paraphrase", told, _likeliest(subject, [one for one, _ in told]), WORDING)


def _line(
    name: str,
    kind: Literal["invariance", "direction"],
    pairs: list[tuple[str, str]],
    intents: tuple[np.ndarray, np.ndarray],
    judged: tuple[np.ndarray, float],
) -> Line:
    """A row of the frame, and the texts whose answer did not hold."""
    held, limit = judged
    low, high = (float(end) for end in wilson(held.sum(), len(held)))
    verdict = "cannot tell" if not len(held) or low < limit <= high else "pass" if low >= limit else "fail"
    share = float(held.mean()) if len(held) else np.nan
    told = [(name, *pairs[i], intents[0][i], intents[1][i]) for i in np.flatnonzero(~held)]
    row = (name, kind, len(held), int(held.sum()), share, low, high, limit, verdict)
    return row, pd.DataFrame(told, columns=CHANGED)
