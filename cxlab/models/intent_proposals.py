"""New intents, proposed from what a model turned away.

    turned_away = texts[scores["abstained"]]
    proposals = propose_intents(turned_away, train.groupby("category")["text"].apply(list).to_dict())
    proposals.frame()      # what may become an intent, what it says, and the known intent it is most like

A proposal is for a person: to name, to merge with others, or to add to a known intent.

Measured on BANKING77, the texts of 5 intents that the model does not know and a tenth of others, eight draws. Purity
is the share of the texts in a group whose intent is the group's commonest; an intent comes in three or four groups.

| points | known intents given | unknown intents' texts in a group | purity |
|---|---|---|---|
| words | yes | 94 % (92 at worst) | 0.87 (0.71 at worst) |
| words | no | 100 % | 0.81 |
| vectors of all-MiniLM-L6-v2 | yes | 91 % | 0.94 |
| vectors of all-MiniLM-L6-v2 | no | 97 % | 0.92 |
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from cxlab.display import PALETTE, Result, axes, sentence
from cxlab.errors import DataError, ParamsError
from cxlab.metrics.groupings import one_thread
from cxlab.models.topic_groups import NONE, stability
from cxlab.models.topic_words import (
    VectorSpace,
    WordSpace,
    check_vectors,
    examples,
    keywords,
    read,
    short,
    words_of,
)
from cxlab.models.topics import SHAKY, check_seed

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = np.ndarray

COHESION = 0.6  # mean similarity that joins two groups
MOST = 5_000  # utterances grouped pair by pair; the others join the group they are most like
RESAMPLED = 1_500  # the most utterances in a half that shows how stable groups are
DRAWN = 25
COLUMNS = [
    *("proposal", "name", "n", "utterances", "of", "share", "cohesion", "stability"),
    *("nearest_intent", "similarity", "keywords", "examples"),
]


@dataclass(frozen=True, repr=False, eq=False)
class Proposals(Result):
    """Groups of texts that may become intents, the largest first.

    Attributes:
        table: See `frame`.
        proposal: Each text's proposal, its number from 0, or -1 for none; shape (n,).
        blank: Which texts are missing or blank, shape (n,).
        least: Distinct utterances that a group must have.
    """

    table: pd.DataFrame
    proposal: Array
    blank: Array
    least: int
    title: ClassVar[str] = "Proposals for new intents"

    @property
    def n(self) -> int:
        """Texts that are not blank."""
        return int((~self.blank).sum())

    @property
    def grouped(self) -> int:
        """Texts in a proposal."""
        return int((self.proposal >= 0).sum())

    @property
    def note(self) -> str:  # type: ignore[override]
        blank = f" {int(self.blank.sum()):,} blank ones are left out." if self.blank.any() else ""
        return (
            f"{self.n - self.grouped:,} of {self.n:,} texts fit no group of {self.least} utterances or more.{blank} "
            f"A group's texts have a similarity of {COHESION:g} on average where they were joined; a stability below "
            f"{SHAKY:g} says that half of the texts would be grouped otherwise. Where a known intent is nearly as "
            "similar as the texts are to each other, the group may belong to it."
        )

    def frame(self) -> pd.DataFrame:
        """One row a proposal, the largest first: proposal, name, n, utterances, of, share, cohesion, stability,
        nearest_intent, similarity, keywords, examples.

        `utterances` counts the texts that differ in words, `of` all that are not blank. Cohesion is the mean cosine
        similarity of two utterances of the group, similarity that of one of the group and one of the nearest known
        intent; both in [-1, 1]. Personal data in the examples is masked.
        """
        return self.table.copy()

    def plot(self) -> Axes:
        """Texts of the 25 largest proposals, and the known intent each is most like."""
        shown = self.table.head(DRAWN)
        if shown.empty:
            return sentence(self.title, f"No {self.least} of {self.n:,} texts hang together.")
        many = f", the {DRAWN} largest" if len(self.table) > DRAWN else ""
        ax = axes(
            f"{len(self.table)} proposals from {self.n:,} texts{many}", width=10.0, height=1.2 + 0.24 * len(shown)
        )
        ax.barh(range(len(shown)), shown["n"], color=PALETTE[0])
        for place, (n, near, similarity) in enumerate(shown[["n", "nearest_intent", "similarity"]].to_numpy()):
            said = f" {n:,}" + (f", like {short(str(near), 30)} ({similarity:.2f})" if pd.notna(near) else "")
            ax.text(float(n), place, said, va="center", fontsize=7, parse_math=False)
        ax.set_yticks(range(len(shown)), [short(name) for name in shown["name"]], fontsize=8)
        ax.set_ylim(len(shown) - 0.5, -0.5)
        ax.margins(x=0.3)
        ax.set_xlabel("texts")
        return ax


def propose_intents(
    texts: Iterable[Any],
    known: Mapping[str, Any] | None,
    *,
    vectors: Any = None,
    least: int = 5,
    seed: int = 0,
) -> Proposals:
    """Groups the texts that no intent fits.

    Utterances are joined bottom up while two groups have a mean cosine similarity of 0.6 or more (average linkage:
    Sokal and Michener 1958). Of more than 5,000 different ones as many are drawn, and the others join the group that
    they are as similar to. The words of the known intents help to tell what matters in them: give them where there are
    any. Stability is as in `find_topics`. The order of the texts decides nothing.

    Args:
        texts: n texts that the model turned away, chosen by the caller; missing and blank ones are counted.
        known: Texts of each known intent, or their vectors where `vectors` are given; None where there are none.
        vectors: Embeddings of the texts, shape (n, d), used instead of their words.
        least: Utterances that differ in words and make a proposal, >= 2.
        seed: Of the draws.
    Raises:
        ParamsError: `least` or `seed` cannot be.
        DataError: `known` is no mapping to texts, or vectors do not fit.
    Examples:
        >>> said = [f"can I insure my {pet}" for pet in ("dog", "cat", "horse", "bird", "Cat!", "cow")]
        >>> proposals = propose_intents([*said, "where is the branch"], {"fee": ["why this fee", "a fee was charged"]})
        >>> proposals.frame()[["n", "utterances", "nearest_intent"]].values.tolist()
        [[6, 5, 'fee']]
    """
    if isinstance(least, bool) or not isinstance(least, int | np.integer) or least < 2:
        raise ParamsError(f"least == {least!r}, must be a whole number >= 2.")
    check_seed(seed)
    if known is not None and not isinstance(known, Mapping):
        raise DataError(f"known is a {type(known).__name__}, must map each intent to its texts, or be None.")
    said = read(texts)
    names = sorted(known or {}, key=str)
    with one_thread():
        if vectors is None:
            of_known = [read(known[name], f"known[{name!r}]") for name in names]  # type: ignore[index]
            words = WordSpace.learn([*said, *(text for part in of_known for text in part)], seed)
            points, others = words.points(said), [words.points(part) for part in of_known]
        else:
            words = WordSpace.learn(said, seed)
            points, others = _embedded(said, vectors, names, known or {}, seed)
        key, first = _distinct(said, points)
        codes = _largest(_groups(points[first], seed), least)
        k = int(codes.max(initial=NONE)) + 1
        stable = stability(points[first], codes, lambda part, _: _linked(part), k=k, most=RESAMPLED, seed=seed)
    proposal = np.where(key >= 0, np.append(codes, NONE)[key], NONE)
    like = {name: part[part.any(axis=1)].mean(axis=0) for name, part in zip(names, others, strict=True) if part.any()}
    rows = [_proposed(said, points, first[codes == group], like) for group in range(k)]
    table = pd.DataFrame(rows, columns=["utterances", "cohesion", "nearest_intent", "similarity", "examples"])
    found = keywords(words, said, proposal, k)
    table["name"] = _names(found, {str(name) for name in names})
    table["keywords"] = [", ".join(each) for each in found]
    table["proposal"], table["stability"] = np.arange(k), stable
    table["n"] = np.bincount(proposal[proposal >= 0], minlength=k)
    table["of"] = sum(map(bool, said))
    table["share"] = table["n"] / table["of"]
    return Proposals(table[COLUMNS], proposal, np.array([not text for text in said], bool), int(least))


def _embedded(
    said: list[str], vectors: Any, names: list[str], known: Mapping[str, Any], seed: int
) -> tuple[Array, list[Array]]:
    """Points of the texts and of each known intent."""
    held = check_vectors(vectors, len(said))
    parts = []
    for name in names:
        try:
            n = len(known[name])
        except TypeError:
            raise DataError(
                f"known[{name!r}] is a {type(known[name]).__name__}, must be vectors as vectors= are."
            ) from None
        parts.append(check_vectors(known[name], n, f"known[{name!r}]", held.shape[1]))
    there = [row for row, text in enumerate(said) if text]
    there.sort(key=lambda row: held[row].tobytes())
    if not there:
        return np.zeros((len(said), 1)), [np.zeros((len(part), 1)) for part in parts]
    space = VectorSpace.learn(np.concatenate([held[there], *parts]), seed)
    return space.points(held), [space.points(part) for part in parts]


def _distinct(said: list[str], points: Array) -> tuple[Array, Array]:
    """Which utterance each text is, -1 for none, shape (n,), and a row of each, shape (m,); sorted by what is said."""
    place: dict[tuple[str, ...], int] = {}
    key = np.full(len(said), NONE)
    first: list[int] = []
    rows = [row for row, text in enumerate(said) if text and points[row].any()]
    for row in sorted(rows, key=lambda row: (said[row], points[row].tobytes())):
        same = tuple(words_of(said[row])) or (said[row],)
        if same not in place:
            place[same] = len(first)
            first.append(row)
        key[row] = place[same]
    return key, np.array(first, np.int64)


def _groups(points: Array, seed: int) -> Array:
    """A group of each point, shape (m,)."""
    if len(points) <= MOST:
        return _linked(points)
    drawn = np.zeros(len(points), bool)
    drawn[np.random.default_rng(seed).choice(len(points), MOST, replace=False)] = True
    codes = np.full(len(points), NONE)
    codes[drawn] = found = _linked(points[drawn])
    means = np.zeros((int(found.max()) + 1, points.shape[1]))
    np.add.at(means, found, points[drawn])
    similarity = points[~drawn] @ (means / np.bincount(found)[:, None]).T
    codes[~drawn] = np.where(similarity.max(axis=1) >= COHESION, similarity.argmax(axis=1), NONE)
    return codes


def _linked(points: Array) -> Array:
    """Groups by average linkage, shape (m,), numbered from 0."""
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import pdist

    if len(points) < 2:
        return np.zeros(len(points), np.int64)
    tree = linkage(np.maximum(pdist(points, "cosine"), 0), "average")
    return fcluster(tree, 1 - COHESION, "distance").astype(np.int64) - 1


def _largest(codes: Array, least: int) -> Array:
    """The groups of `least` points or more, the largest first, of equals the one that begins first; -1 for others."""
    found, first, size = np.unique(codes, return_index=True, return_counts=True)
    kept = (found >= 0) & (size >= least)
    order = found[kept][np.lexsort((first[kept], -size[kept]))]
    rank = np.full(int(codes.max(initial=NONE)) + 2, NONE)  # the last for codes of -1
    rank[order] = np.arange(len(order))
    return rank[codes]


def _proposed(said: list[str], points: Array, rows: Array, like: dict[str, Array]) -> tuple[Any, ...]:
    """How many utterances a group has, how they hang together, and the known intent they are most like."""
    m, middle = len(rows), points[rows].mean(axis=0)
    cohesion = (m * float(middle @ middle) - 1) / (m - 1)  # the mean over pairs, each point's with itself left out
    near = max(like, key=lambda name: float(middle @ like[name]), default=None)
    similarity = np.nan if near is None else float(middle @ like[near])
    return m, cohesion, near, similarity, examples([said[row] for row in rows], points[rows] @ middle)


def _names(found: list[list[str]], taken: set[str]) -> list[str]:
    """A name of its own for each group: its keywords, and a number where another has them."""
    out = []
    for number, words in enumerate(found):
        base = "_".join(words[:3]) or f"proposal_{number}"
        name = next(name for i in count(1) if (name := base if i == 1 else f"{base}_{i}") not in taken)
        taken.add(name)
        out.append(name)
    return out
