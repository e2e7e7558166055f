"""Texts that are there twice, or almost: within one list, or in the training and the test part.

    twins = near_duplicates(train["text"], test["text"], labels=train["category"], test_labels=test["category"])
    twins.rows            # test texts with a twin in the training part: what a test says of them is no news
    twins.conflicts       # pairs with two labels: an error of one label, or two classes that are one

Texts are compared by the Jaccard similarity of their sets of three-character shingles (the resemblance of Broder 1997,
On the resemblance and containment of documents), after case, punctuation and white space are folded. Characters, since
a customer's question has some ten words, of which one misspelt would cost a fifth of its word shingles; three of them,
since they fit into one 64-bit number as they are, without a hash that could collide.

No pair above the threshold is missed, and none is guessed: two sets that are alike enough must share some of their
rarest shingles (prefix filter: Chaudhuri, Ganti and Kaushik 2006, A primitive operator for similarity joins in data
cleaning; Bayardo, Ma and Srikant 2007, Scaling up all pairs similarity search), and those that do are compared in full.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from cxlab.data.schema import is_missing, text_of
from cxlab.display import PALETTE, Result, axes, sentence
from cxlab.errors import DataError, ParamsError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from scipy.sparse import csr_matrix

SHINGLE = 3  # characters
SHARED = 4  # rare shingles that two texts must share to be compared in full
MOST = 5_000_000  # pairs held in memory; more are refused
SHOWN = 20  # pairs in a notebook
_STEP = 5_000_000  # products in one go: some 100 MB
_CHARACTER = 21  # bits that any character fits into
_ROUNDING = 1e-9


@dataclass(frozen=True, repr=False, eq=False)
class NearDuplicates(Result):
    """Pairs of texts that are alike, the most similar first.

    Attributes:
        n: Texts that are not empty, in the list or in each part.
        threshold: Least similarity of a pair.
        table: See `frame`.
    """

    n: tuple[int, ...]
    threshold: float
    table: pd.DataFrame
    title: ClassVar[str] = "Texts that are there twice, or almost"
    note: ClassVar[str] = "What is in both parts tests memory; a pair with two labels has one too many."

    @property
    def exact(self) -> int:
        """Pairs that differ in case, punctuation and white space at most."""
        return int(self.table["exact"].sum())

    @property
    def rows(self) -> np.ndarray:
        """Rows with a twin: of the test part where there are two, sorted."""
        sides = ["right"] if len(self.n) == 2 else ["left", "right"]
        return np.unique(self.table[sides].to_numpy(np.int64))

    @property
    def conflicts(self) -> pd.DataFrame:
        """The pairs whose labels differ; none where no labels were given."""
        if "conflict" not in self.table:
            return self.table.head(0)
        return self.table[self.table["conflict"].fillna(False).astype(bool)].reset_index(drop=True)

    def frame(self) -> pd.DataFrame:
        """One row a pair: left, right (row numbers from 0), similarity in [threshold, 1], exact, left_text, right_text.

        Of two parts, left is in the training and right in the test part. With labels: left_label, right_label and
        conflict, which is missing where a label is.
        """
        return self.table.copy()

    def plot(self) -> Axes:
        """How many pairs there are by similarity, those with two labels apart."""
        if self.table.empty:
            return sentence(self.title, f"No pair has a similarity of {self.threshold:g} or more.")
        ax = axes(f"{len(self.table):,} pairs, {len(self.rows):,} of {self.n[-1]:,} texts concerned")
        differ = np.zeros(len(self.table), bool)
        if "conflict" in self.table:
            differ = self.table["conflict"].fillna(False).to_numpy(bool)
        parts = [self.table["similarity"][~differ], self.table["similarity"][differ]]
        bins = np.linspace(min(self.threshold, 0.95), 1, 21)
        names = ["same label" if "conflict" in self.table else "pairs", "two labels"]
        ax.hist(parts, bins=list(bins), stacked=True, color=list(PALETTE[:2]), label=names)
        if differ.any():
            ax.legend(frameon=False)
        ax.set_xlabel("Jaccard similarity")
        ax.set_ylabel("pairs")
        return ax

    def _repr_html_(self) -> str:
        from cxlab.display import as_html

        return as_html(f"{self.title}: {len(self.table):,} pairs", self.table.head(SHOWN), self.note)

    def __repr__(self) -> str:
        return f"{self.title}: {len(self.table):,} pairs\n{self.table.head(SHOWN).to_string(index=False)}"


def near_duplicates(
    train_texts: Iterable[Any],
    test_texts: Iterable[Any] | None = None,
    *,
    threshold: float = 0.8,
    labels: Iterable[Any] | None = None,
    test_labels: Iterable[Any] | None = None,
) -> NearDuplicates:
    """All pairs of texts whose shingles are alike.

    Args:
        train_texts: Texts, n of them; what is missing or has no letter, digit or symbol has no twin.
        test_texts: Other texts, m of them; with them, pairs are of one text of each list.
        threshold: Least Jaccard similarity of a pair, in (0, 1]. A low one takes longer, as more shingles are shared.
        labels: The classes of `train_texts`, n of them, to mark pairs with two.
        test_labels: The classes of `test_texts`, m of them; goes with `labels`.
    Returns:
        The pairs, the most similar first, then by row.
    Raises:
        ParamsError: `threshold` is outside (0, 1], or labels do not go with the texts.
        DataError: A list is a single text, or there are more pairs than can be held.
    Examples:
        >>> twins = near_duplicates(["Where is my card?", "where is my CARD", "Top up failed"], labels=["a", "b", "c"])
        >>> twins.frame()[["left", "right", "similarity", "exact", "conflict"]].values.tolist()
        [[0, 1, 1.0, True, True]]
    """
    if not 0 < threshold <= 1:
        raise ParamsError(f"threshold == {threshold}, must be in (0, 1].")
    lists = [_texts(train_texts, "train_texts")] + ([] if test_texts is None else [_texts(test_texts, "test_texts")])
    classes = _labels(lists, labels, test_labels)
    folded = [[_fold(text) for text in texts] for texts in lists]
    codes, distinct = pd.factorize(np.array([text or None for texts in folded for text in texts], object))
    sides = np.split(codes, [len(lists[0])]) if len(lists) == 2 else [codes]
    alike = _alike(_shingles(list(distinct)), threshold, sides)
    left, right, similarity = _rows(*alike, sides)
    order = np.lexsort((right, left, -similarity))
    left, right, similarity = left[order], right[order], similarity[order]
    table = pd.DataFrame({"left": left, "right": right, "similarity": similarity})
    table["exact"] = sides[0][left] == sides[-1][right]
    table["left_text"] = [lists[0][row] for row in left]
    table["right_text"] = [lists[-1][row] for row in right]
    if classes:
        table["left_label"], table["right_label"] = classes[0][left], classes[-1][right]
        missing = table[["left_label", "right_label"]].isna().any(axis=1)
        differ = (table["left_label"] != table["right_label"]).astype("boolean")
        table["conflict"] = differ.mask(missing)
    return NearDuplicates(tuple(int((side >= 0).sum()) for side in sides), float(threshold), table)


def _texts(texts: Iterable[Any], name: str) -> list[str | None]:
    if isinstance(texts, str | bytes):
        raise DataError(f"{name} is one {type(texts).__name__}, must be a list or a column of texts.")
    return [value if isinstance(value, str) else text_of(value) for value in texts]


def _labels(lists: list[list[str | None]], labels: Any, test_labels: Any) -> list[np.ndarray]:
    """The labels of each list; none at all where none were given."""
    given = [labels, test_labels][: len(lists)]
    absent = {item is None for item in given}
    if len(absent) == 2 or (len(lists) == 1 and test_labels is not None):
        raise ParamsError(
            "labels and test_labels go with train_texts and test_texts: give those of every list, or none."
        )
    if labels is None:
        return []
    out = []
    for name, values, texts in zip(("labels", "test_labels"), given, lists, strict=False):
        held = pd.Series(list(values), dtype=object).to_numpy()
        if len(held) != len(texts):
            raise ParamsError(f"{len(held):,} {name} for {len(texts):,} texts, must be one each.")
        out.append(np.array([None if is_missing(value) else value for value in held], object))
    return out


class _Folding(dict[int, str | None]):
    """Punctuation and controls as a space, apostrophes and marks of direction as nothing."""

    def __missing__(self, code: int) -> str | None:
        kind = unicodedata.category(chr(code))
        self[code] = None if chr(code) in "'’‘`" or kind == "Cf" else " " if kind[0] in "PZC" else chr(code)
        return self[code]


_FOLDED = _Folding()


def _fold(text: str | None) -> str:
    """A text without case, punctuation and needless white space; symbols, such as £ and emoji, stay.

    Examples:
        >>> _fold("  Don't   top-up £10 NOW!!! ")
        'dont top up £10 now'
    """
    if text is None:
        return ""
    text = text if text.isascii() else unicodedata.normalize("NFKC", text)
    return " ".join(text.casefold().translate(_FOLDED).split())


def _shingles(texts: list[str]) -> csr_matrix:
    """Which shingles each text has, shape (n, distinct), the rarest first; a space counts before and behind a text."""
    from scipy.sparse import csr_matrix

    padded = [f" {text} " for text in texts]
    characters = np.frombuffer("".join(padded).encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.int64)
    sizes = np.array([len(text) - SHINGLE + 1 for text in padded], np.int64)  # an empty text has been left out
    places = np.arange(sizes.sum()) + (SHINGLE - 1) * np.repeat(np.arange(len(texts)), sizes)
    packed = np.zeros(len(places), np.int64)
    for offset in range(SHINGLE):
        packed = packed << _CHARACTER | characters[places + offset]
    _, columns = np.unique(packed, return_inverse=True)
    width = int(columns.max(initial=-1)) + 1
    ends = np.concatenate([[0], np.cumsum(sizes)])
    found = csr_matrix((np.ones(len(columns), np.int32), columns, ends), shape=(len(texts), width))
    found.sum_duplicates()
    found.data[:] = 1
    rank = np.empty(width, np.int64)
    rank[np.argsort(np.bincount(found.indices, minlength=width), kind="stable")] = np.arange(width)
    found = csr_matrix((found.data, rank[found.indices], found.indptr), shape=found.shape)
    found.sort_indices()
    return found


Pairs = tuple[np.ndarray, np.ndarray, np.ndarray]


def _alike(shingles: csr_matrix, threshold: float, sides: list[np.ndarray]) -> Pairs:
    """Pairs of distinct texts, left and right, and their similarity; each with itself as well."""
    found = [_compared(shingles, *pair, threshold) for pair in _candidates(shingles, threshold, sides)]
    left, right, similarity = (np.concatenate(parts) for parts in zip(*found, strict=True)) if found else _none()
    return left, right, similarity


def _none() -> Pairs:
    return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)


def _candidates(
    shingles: csr_matrix, threshold: float, sides: list[np.ndarray]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs that share enough of their rarest shingles, some at a time.

    A pair at the threshold shares at least `least` shingles of each: then it shares k of them among the first
    `size - least + k` of each, in the order of rarity.
    """
    from scipy.sparse import csr_matrix

    size = np.diff(shingles.indptr)
    least = np.maximum(1, np.ceil(threshold * size - _ROUNDING)).astype(np.int64)
    shared = np.minimum(SHARED, least)
    place = np.arange(shingles.nnz) - np.repeat(shingles.indptr[:-1], size)
    first = place < np.repeat(size - least + shared, size)
    ends = np.concatenate([[0], np.cumsum(first)])[shingles.indptr]
    weight = np.repeat(-(-SHARED // shared), np.diff(ends)).astype(
        np.int32
    )  # fewer shared count as enough in a short text
    prefix = csr_matrix((weight, shingles.indices[first], ends), shape=shingles.shape)
    lefts, rights = np.unique(sides[0][sides[0] >= 0]), np.unique(sides[-1][sides[-1] >= 0])
    across = prefix[rights].T.tocsr()
    work = np.add.reduceat(np.diff(across.indptr)[prefix.indices], prefix.indptr[:-1])[lefts] if len(lefts) else lefts
    for part in _portions(work, _STEP):
        product = prefix[lefts[part]] @ across
        enough = np.flatnonzero(product.data >= SHARED)
        left = lefts[part][np.searchsorted(product.indptr, enough, side="right") - 1]
        right = rights[product.indices[enough]]
        kept = np.minimum(size[left], size[right]) >= threshold * np.maximum(size[left], size[right]) - _ROUNDING
        if len(sides) == 1:
            kept &= left <= right
        yield left[kept], right[kept]


def _portions(work: np.ndarray, most: int) -> Iterator[np.ndarray]:
    """Row numbers in portions of about as much work."""
    portion = np.cumsum(work) // most
    yield from np.split(np.arange(len(work)), np.flatnonzero(np.diff(portion)) + 1) if len(work) else ()


def _compared(shingles: csr_matrix, left: np.ndarray, right: np.ndarray, threshold: float) -> Pairs:
    """Those of the pairs that are as similar as it takes, by all their shingles."""
    size = np.diff(shingles.indptr)
    out = [_none()]
    for part in _portions(size[left] + size[right], _STEP):
        one, other = left[part], right[part]
        both = np.asarray(shingles[one].multiply(shingles[other]).sum(axis=1)).ravel()
        similarity = both / (size[one] + size[other] - both)
        kept = similarity >= threshold
        out.append((one[kept], other[kept], similarity[kept]))
    one, other, similarity = (np.concatenate(parts) for parts in zip(*out, strict=True))
    return one, other, similarity


def _rows(one: np.ndarray, other: np.ndarray, similarity: np.ndarray, sides: list[np.ndarray]) -> Pairs:
    """Pairs of rows from pairs of distinct texts."""
    distinct = 1 + max(int(side.max(initial=-1)) for side in sides)
    groups = [_groups(side, distinct) for side in sides]
    (order, start, count), (order_right, start_right, count_right) = groups[0], groups[-1]
    each = count[one] * count_right[other]
    pairs = np.where((len(sides) == 1) & (one == other), each - count[one], 2 * each).sum() // 2
    if pairs > MOST:
        raise DataError(
            f"{int(pairs):,} pairs of texts are alike, must be at most {MOST:,}. Raise threshold, or drop rows "
            "whose text is there many times first."
        )
    pair = np.repeat(np.arange(len(one)), each)
    within = np.arange(len(pair)) - np.repeat(np.cumsum(each) - each, each)
    left = order[start[one[pair]] + within // count_right[other[pair]]]
    right = order_right[start_right[other[pair]] + within % count_right[other[pair]]]
    similarity = similarity[pair]
    if len(sides) == 2:
        return left, right, similarity
    kept = (left < right) | (one[pair] != other[pair])
    left, right = np.minimum(left, right)[kept], np.maximum(left, right)[kept]
    return left, right, similarity[kept]


def _groups(codes: np.ndarray, distinct: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row numbers by the text they hold, and where each text's begin and how many they are."""
    there = np.flatnonzero(codes >= 0)
    count = np.bincount(codes[there], minlength=distinct)
    return there[np.argsort(codes[there], kind="stable")], np.cumsum(count) - count, count
