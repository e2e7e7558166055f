"""Texts as points without labels: what says most is weighed most, and few directions are kept.

Words are weighed by how rare they are (inverse document frequency, Sparck Jones 1972) times how much they tell: the
Kullback-Leibler divergence of a word's company, the other words of the texts that hold it, from the company of all
words (Lo, He and Ounis 2005, Automatically building a stopword list for an information retrieval system). A greeting
and "please" are found beside anything, whatever the language, so they weigh next to nothing; no list of them is kept.
Then a singular value decomposition brings together words that are used together (latent semantic analysis: Deerwester
et al. 1990, Indexing by latent semantic analysis). Vectors from elsewhere are centred and reduced the same way.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from cxlab.data.privacy import mask
from cxlab.data.schema import text_of
from cxlab.errors import DataError
from cxlab.metrics.bootstrap import wilson

Array = np.ndarray

LONGEST = 10_000  # characters of a text that are read
WORDS = 5_000  # the commonest are kept
LEAST = 2  # texts that a word is in, to be kept
DIRECTIONS = 50  # at most
KEYWORDS = 6
MORE = 1.5  # times as frequent as elsewhere
EXAMPLES = 3
SHOWN = 160  # characters of an example
BETWEEN = " | "  # examples
HUGE = 1e100  # no embedding holds such a number, whose square is none
LITTLE = 0.01  # nats that a word tells at least: of a text that says nothing else it is all there is
NEAR = 0.02  # of a text's length that its directions keep at least, else they say nothing of it
_CHUNK = 256  # words whose company is counted at once
_WORD = re.compile(r"\b\d*[^\W\d_]\w*(?:['’]\w+)?")  # with a letter: amounts and dates are no topics
_MARK = re.compile(r"<[a-z]+>")  # of personal data


def read(texts: Iterable[Any], name: str = "texts") -> list[str]:
    """Texts without personal data, as far as they are read; "" for what is missing or blank.

    Raises:
        DataError: `texts` is a single text, or no list of values.
    """
    if isinstance(texts, str | bytes) or not isinstance(texts, Iterable):
        raise DataError(f"{name} is one {type(texts).__name__}, must be a list or a column of texts.")
    cut = [(text_of(value) or "")[:LONGEST].encode("utf-8", "replace").decode() for value in texts]
    return [unicodedata.normalize("NFC", text or "").strip() for text in mask(cut).texts]


def words_of(text: str) -> list[str]:
    """The words of a text in lower case, without the marks of personal data.

    Examples:
        >>> words_of("Don't charge 12.50 on my 2nd card, mail <email>!")
        ["don't", 'charge', 'on', 'my', '2nd', 'card', 'mail']
    """
    return [word.replace("’", "'") for word in _WORD.findall(_MARK.sub(" ", text).casefold())]


def short(text: str, most: int = 40) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


@dataclass(frozen=True, repr=False, eq=False)
class WordSpace:
    """A vocabulary of V words, how much each tells, and d directions.

    Attributes:
        vocabulary: Words, each with its column.
        tells: Divergence of each word's company from that of all, shape (V,), >= 0, in nats.
        weights: What a word counts, shape (V,).
        basis: Shape (V, d).
    """

    vocabulary: dict[str, int]
    tells: Array
    weights: Array
    basis: Array

    @classmethod
    def learn(cls, texts: list[str], seed: int) -> WordSpace:
        """From texts as `read` gives them; their order decides nothing."""
        said = [words_of(text) for text in sorted(filter(None, texts))]
        counts = Counter(word for words in said for word in set(words))
        common = sorted((-count, word) for word, count in counts.items() if count >= LEAST)[:WORDS]
        vocabulary = {word: place for place, word in enumerate(sorted(word for _, word in common))}
        held = _held(said, vocabulary)
        tells = _tells(held)
        weights = np.maximum(tells, LITTLE) * np.log1p(held.shape[0] / held.sum(axis=0))
        space = cls(vocabulary, tells, weights, np.empty((len(vocabulary), 0)))
        return cls(vocabulary, tells, weights, _directions(space._weighed(held), seed))

    def held(self, texts: list[str]) -> sparse.csr_array:
        """Which words each text has, shape (n, V)."""
        return _held([words_of(text) for text in texts], self.vocabulary)

    def points(self, texts: list[str]) -> Array:
        """Unit rows, shape (n, d); zeros where a text has no word, or none that the directions know."""
        return _unit(self._weighed(self.held(texts)) @ self.basis, NEAR)

    def _weighed(self, held: sparse.csr_array) -> sparse.csr_array:
        weighed = sparse.csr_array(held * self.weights)
        length = np.sqrt(weighed.multiply(weighed).sum(axis=1))
        return sparse.csr_array(sparse.diags_array(np.divide(1, length, out=length * 0, where=length > 0)) @ weighed)


@dataclass(frozen=True, repr=False, eq=False)
class VectorSpace:
    """Embeddings of D numbers, and d directions.

    Attributes:
        mean: What all have in common, shape (D,).
        basis: Shape (D, d).
    """

    mean: Array
    basis: Array

    @classmethod
    def learn(cls, vectors: Array, seed: int) -> VectorSpace:
        """From vectors as `check_vectors` gives them; their order must not depend on that of the rows."""
        mean = vectors.mean(axis=0)
        return cls(mean, _directions(vectors - mean, seed))

    def points(self, vectors: Array) -> Array:
        """Unit rows, shape (n, d); zeros where a vector is the mean."""
        return _unit((vectors - self.mean) @ self.basis, 1e-9)


def check_vectors(vectors: Any, n: int, name: str = "vectors", width: int | None = None) -> Array:
    """Vectors of n texts as 64-bit floats of shape (n, D).

    Raises:
        DataError: They are no numbers, not finite, or not of that shape.
    """
    try:
        held = np.asarray(vectors, np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{name} are not numbers ({error}), must be of shape ({n}, d).") from None
    if held.ndim != 2 or len(held) != n or not held.shape[1] or held.shape[1] != (width or held.shape[1]):
        raise DataError(f"{name} have shape {held.shape}, must be ({n}, {width or 'd'}): a row for each text.")
    bad = np.flatnonzero(~(np.abs(held) < HUGE).all(axis=1))
    if len(bad):
        where = f"{len(bad):,} rows of {name} (the first: {bad[0]})"
        raise DataError(f"{where} hold what is no number, or one of {HUGE:g} or more. Embed these texts again.")
    return held


def keywords(space: WordSpace, texts: list[str], group: Array, groups: int) -> list[list[str]]:
    """What each group says and others do not, the most telling first: up to six words that several of its texts have.

    Class-based TF-IDF (Grootendorst 2022, BERTopic, equation 2), of the texts that hold a word, times the root of how
    much the word tells; of words whose share of the group's texts is, by the low end of Wilson's interval, half as high
    again as in the others, so that no greeting is one. Several are three texts, or two where no word is in three.

    Args:
        space: Which words are known.
        texts: As `read` gives them, n of them.
        group: Numbers below `groups`, -1 for none, shape (n,).
        groups: How many there are.
    """
    names, placed = np.array(list(space.vocabulary), object), np.flatnonzero(group >= 0)
    if not len(names) or not groups:
        return [[] for _ in range(groups)]
    of = sparse.csr_array((np.ones(len(placed)), (group[placed], placed)), shape=(groups, len(texts)))
    found, size = (of @ space.held(texts)).toarray(), of.sum(axis=1)[:, None]
    total = found.sum(axis=0)
    elsewhere = (total - found) / np.maximum(len(placed) - size, 1)
    score = found / np.maximum(found.sum(axis=1, keepdims=True), 1)
    score *= np.log1p(total.sum() / groups / np.maximum(total, 1)) * np.sqrt(np.maximum(space.tells, LITTLE))
    score[wilson(found, np.broadcast_to(size, found.shape))[0] < MORE * elsewhere] = 0
    out = []
    for row, count in zip(score, found, strict=True):
        best = [place for place in np.argsort(-row, kind="stable")[:KEYWORDS] if row[place] > row.max() / 10]
        often = 3 if any(count[place] >= 3 for place in best) else 2
        out.append([short(str(names[place]), 30) for place in best if count[place] >= often])
    return out


def examples(texts: list[str], near: Array) -> str:
    """The three nearest texts that differ in words, joined by " | ".

    Args:
        texts: As `read` gives them, n of them.
        near: How near each is to the middle of its group, shape (n,).
    """
    order = sorted(range(len(texts)), key=lambda row: (-round(float(near[row]), 9), texts[row]))
    chosen: dict[tuple[str, ...], str] = {}
    for row in order:
        chosen.setdefault(tuple(words_of(texts[row])), short(" ".join(texts[row].split()), SHOWN))
        if len(chosen) == EXAMPLES:
            break
    return BETWEEN.join(chosen.values())


def _held(said: list[list[str]], vocabulary: dict[str, int]) -> sparse.csr_array:
    columns = [sorted({vocabulary[word] for word in words if word in vocabulary}) for words in said]
    ends = np.cumsum([0, *map(len, columns)])
    flat = np.array([place for row in columns for place in row], np.int64)
    return sparse.csr_array((np.ones(len(flat)), flat, ends), shape=(len(said), len(vocabulary)))


def _tells(held: sparse.csr_array) -> Array:
    """How far each word's company is from that of all, shrunk by what so few words show by luck (Miller 1955)."""
    n = held.sum(axis=0)
    share = n / max(n.sum(), 1)
    company = held.T @ (held.sum(axis=1) - 1)
    by_word, out = sparse.csr_array(held.T), np.ones(len(n))  # a word that is always alone: neither much nor little
    for start in range(0, len(n), _CHUNK):
        together = sparse.coo_array(by_word[start : start + _CHUNK] @ held)
        word, other = together.row + start, together.col
        real = word != other
        word, other, p = word[real], other[real], together.data[real] / company[word[real]]
        seen = company[start : start + _CHUNK]
        apart = np.bincount(word - start, p * np.log(p * (1 - share[word]) / share[other]), minlength=len(seen))
        luck = np.minimum(len(n), seen) / (2 * np.maximum(seen, 1))
        out[start : start + len(seen)] = np.where(seen > 0, apart**2 / np.maximum(apart + luck, 1e-12), 1.0)
    return out


def _directions(rows: Any, seed: int) -> Array:
    """The directions in which the rows differ most, shape (columns, d).

    Half the square root of the number of rows, at most 50: more directions than texts support split topics.
    """
    from sklearn.utils.extmath import randomized_svd

    most = min(rows.shape)
    d = min(most, max(5, min(DIRECTIONS, round(rows.shape[0] ** 0.5 / 2))))
    if not d:
        return np.zeros((rows.shape[1], 0))
    return randomized_svd(rows, d, n_iter=7, random_state=seed)[2].T


def _unit(rows: Array, least: float) -> Array:
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, length, out=np.zeros_like(rows), where=length > least)
