"""What is answered where many answers are possible: the likeliest three, or "I do not know".

    answers = answer(texts, labels, doubt, speak)
    answers.frame()        # id, intent, confidence, abstained, intent_2, ..., out_of_scope, several

This module travels with every bundle of words, so it knows numpy, pandas and its own kind alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ..features.terms import clauses, words_of

TOP = 3
SURE = 0.5  # how likely a clause's intent must be to count as one of several
TINY = 1e-12


class Spoken(NamedTuple):
    """What a model says of n texts.

    Attributes:
        margins: Of k classes before softmax, shape (n, k).
        probability: Calibrated, shape (n, k).
        closeness: Cosine to the nearest landmark, shape (n,); None where the model has no sentence vectors.
    """

    margins: np.ndarray
    probability: np.ndarray
    closeness: np.ndarray | None


Speak = Callable[[Sequence[str]], Spoken]


@dataclass(frozen=True)
class Doubt:
    """When a model should not answer, learnt from validation rows, which are all in scope.

    Two signs of a known thing, each standardised by its mean and deviation over those rows: the log of the confidence;
    and the closeness to what was seen where there are sentence vectors (Sun et al. 2022, Out-of-distribution detection
    with deep nearest neighbors), else the largest margin, before calibration, which would blur it (Hendrycks et al.
    2022, Scaling out-of-distribution detection for real-world settings). Their mean is the familiarity. Of intents of
    banking77 that it never learnt both tell more than either.

    Attributes:
        mean: Of each sign.
        deviation: Of each sign, > 0.
        threshold: Below this familiarity the model does not answer.
        far: A text that is not answered is out of scope where the second sign, standardised, is below this.
        landmarks: Centres of what was seen, of length 1, shape (m, d); None without sentence vectors.
    """

    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    threshold: float
    far: float
    landmarks: np.ndarray | None = field(default=None, repr=False)

    @staticmethod
    def signs(spoken: Spoken) -> np.ndarray:
        """Both signs, shape (n, 2)."""
        confidence = np.log(np.maximum(spoken.probability.max(axis=1), TINY))
        known = spoken.margins.max(axis=1) if spoken.closeness is None else spoken.closeness
        return np.column_stack([confidence, known])

    def standard(self, spoken: Spoken) -> np.ndarray:
        """Signs in deviations from their means."""
        return (self.signs(spoken) - np.array(self.mean)) / np.array(self.deviation)

    def familiarity(self, spoken: Spoken) -> np.ndarray:
        """Higher is better known, shape (n,)."""
        return self.standard(spoken).mean(axis=1)

    def nearness(self, spoken: Spoken) -> np.ndarray:
        """The second sign: low where a text is like nothing that was seen, shape (n,)."""
        return self.standard(spoken)[:, 1]

    def closeness(self, vectors: np.ndarray | None) -> np.ndarray | None:
        """Cosine of vectors of length 1, shape (n, d), to the nearest landmark, shape (n,); None without either."""
        return None if vectors is None or self.landmarks is None else (vectors @ self.landmarks.T).max(axis=1)


@dataclass(frozen=True)
class Answers:
    """Answers to n texts.

    Attributes:
        code: Places of the likeliest three among the labels, the likeliest first, shape (n, 3); fewer where there are
            fewer classes.
        confidence: Their probabilities.
        label: Their names.
        familiarity: Shape (n,).
        abstained: Where the model does not answer, shape (n,).
        out_of_scope: Of those, where the text is like nothing that was seen.
        several: Where two clauses each surely want another thing.
    """

    code: np.ndarray
    confidence: np.ndarray
    label: np.ndarray
    familiarity: np.ndarray
    abstained: np.ndarray
    out_of_scope: np.ndarray
    several: np.ndarray

    def __len__(self) -> int:
        return len(self.code)

    def columns(self) -> dict[str, np.ndarray]:
        """By name, in the order of a file of scores."""
        found: dict[str, Any] = {
            "intent": self.label[:, 0],
            "confidence": self.confidence[:, 0],
            "abstained": self.abstained,
        }
        for place in range(1, TOP):
            there = place < self.code.shape[1]
            none = np.full(len(self), None, object)
            found[f"intent_{place + 1}"] = self.label[:, place] if there else none
            found[f"confidence_{place + 1}"] = self.confidence[:, place] if there else np.full(len(self), np.nan)
        return found | {"out_of_scope": self.out_of_scope, "several": self.several}

    def frame(self) -> pd.DataFrame:
        """One row a text."""
        return pd.DataFrame(self.columns())


def answer(texts: Sequence[str], labels: Sequence[str], doubt: Doubt, speak: Speak) -> Answers:
    """Answers to cast texts; one without a word is not answered, whatever the model makes of it.

    Args:
        texts: Without personal data, n of them.
        labels: Names of the k classes.
        doubt: When not to answer.
        speak: What the model says of texts.
    """
    spoken = speak(texts)
    code = np.argsort(-spoken.probability, axis=1, kind="stable")[:, :TOP]
    familiarity = doubt.familiarity(spoken)
    abstained = familiarity < doubt.threshold
    silent = np.array([not words_of(text) for text in texts], bool)
    return Answers(
        code=code,
        confidence=np.take_along_axis(spoken.probability, code, axis=1),
        label=np.array(labels, object)[code],
        familiarity=familiarity,
        abstained=abstained | silent,
        out_of_scope=(abstained & (doubt.nearness(spoken) < doubt.far)) | silent,
        several=_several(texts, doubt, speak),
    )


def _several(texts: Sequence[str], doubt: Doubt, speak: Speak) -> np.ndarray:
    """Texts in which two clauses, each of which the model would answer surely, want different things."""
    parts = [clauses(text) for text in texts]
    found = np.zeros(len(texts), bool)
    whose = np.repeat(np.arange(len(texts)), [len(each) for each in parts])
    if not len(whose):
        return found
    spoken = speak([part for each in parts for part in each])
    sure = (doubt.familiarity(spoken) >= doubt.threshold) & (spoken.probability.max(axis=1) >= SURE)
    wanted = pd.DataFrame({"text": whose[sure], "code": spoken.probability.argmax(axis=1)[sure]})
    count = wanted.groupby("text")["code"].nunique()
    found[count.index[count > 1]] = True
    return found
