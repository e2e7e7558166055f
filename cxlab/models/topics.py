"""What customers talk about where nobody has labelled it: topics, what each is about, and how far to trust it.

    topics = find_topics(contacts["text"], times=contacts["at"])
    topics.frame()               # topic, how many, keywords, three examples, stability
    topics.over_time("month")    # which rise, which fall
    topics.of(["where is my card"])

Texts become points by their words (`topic_words`) or by vectors given, and points that are near one another a topic.
A topic is a hint to a person who reads its examples: nothing says that customers mean one thing by it.

Measured on the 10,003 training texts of BANKING77 (77 intents) and on the 8,142 contacts of the sample (21 intents in
120 sentences), with the number of topics left open. The adjusted Rand index of the texts with a topic is 1 where topics
are the intents, and 0 by luck; MiniLM are vectors of all-MiniLM-L6-v2.

| texts | points | method | topics | with a topic | adjusted Rand index |
|---|---|---|---|---|---|
| BANKING77 | words | k-means | 60 | 99 % | 0.29 |
| BANKING77 | words | HDBSCAN | 68 | 75 % | 0.38 |
| BANKING77 | MiniLM | k-means | 60 | all | 0.48 |
| BANKING77 | MiniLM | HDBSCAN | 45 | 62 % | 0.42 |
| sample | words | k-means | 60 | all | 0.23 |
| sample | words | HDBSCAN | 108 | 90 % | 0.23 |

What people say differs more than what they want: several topics may be one intent.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from cxlab.data.schema import is_missing
from cxlab.display import GREY, PALETTE, Result, axes, sentence
from cxlab.errors import DataError, ParamsError, unknown
from cxlab.metrics.bootstrap import wilson
from cxlab.metrics.groupings import one_thread
from cxlab.models.topic_groups import METHODS, NONE, Method, grouped, nearest_centre, stable
from cxlab.models.topic_words import VectorSpace, WordSpace, check_vectors, examples, keywords, read, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from cxlab.models.topic_trends import Period, TopicTrends

Array = np.ndarray

STABLE, SHAKY = 0.75, 0.6  # Hennig (2007), section 4 on how to read the mean Jaccard similarity
DRAWN = 25  # topics in a drawing


@dataclass(frozen=True, repr=False, eq=False)
class Topics(Result):
    """Groups of texts that are alike, the largest first.

    Attributes:
        table: See `frame`.
        topic: Each text's topic, its number from 0, or -1 for none; shape (n,).
        blank: Which texts are missing or blank, shape (n,).
        times: When each was said, shape (n,), UTC, NaT where it is not known; None where no times were given.
        silhouettes: Of each number of topics that was tried; empty where `k` was given.
        method: `kmeans` or `hdbscan`.
    """

    table: pd.DataFrame
    topic: Array
    blank: Array
    times: Array | None
    silhouettes: dict[int, float]
    method: str
    space: WordSpace | VectorSpace
    centres: Array
    reach: Array
    title: ClassVar[str] = "What is talked about"

    @property
    def k(self) -> int:
        return len(self.table)

    @property
    def n(self) -> int:
        """Texts that are not blank: what shares are of."""
        return int((~self.blank).sum())

    @property
    def names(self) -> list[str]:
        return self.table["name"].tolist()

    @property
    def note(self) -> str:  # type: ignore[override]
        """How many texts have no topic, and how to read the stability."""
        left = int((self.topic == NONE).sum() - self.blank.sum())
        few = "too few texts are like them" if self.method == "hdbscan" else "they share too few words with others"
        out = f" {left:,} of {self.n:,} texts have no topic: {few}." if left else ""
        out += f" {int(self.blank.sum()):,} blank ones are left out." if self.blank.any() else ""
        best = f" {self.k} topics have the best silhouette of {len(self.silhouettes)} numbers tried"
        best += ", the most of them: there may be more." if self.k == max(self.silhouettes, default=0) else "."
        shaky = int((self.table["stability"] < SHAKY).sum())
        trust = f" Do not trust the {shaky} of {self.k} below {SHAKY:g}." if shaky else ""
        return (
            f"Stability: how much of a topic comes back when half of the texts are grouped anew; from {STABLE:g} it is "
            f"stable.{trust}{out}{best if self.silhouettes else ''}"
        )

    def frame(self) -> pd.DataFrame:
        """One row a topic, the largest first: topic, name, n, of, share, low, high, stability, trust, keywords,
        examples.

        `of` counts the texts that are not blank; the share has Wilson's interval of 95 %. Stability is the mean
        Jaccard similarity in [0, 1] of the topic and the most similar of the topics found in half of the texts (Hennig
        2007, Cluster-wise assessment of cluster stability): from 0.75 it is stable, below 0.6 not to be trusted.
        Personal data in the examples, the three texts nearest to the topic's centre, is masked.
        """
        return self.table.copy()

    def of(self, texts: Iterable[Any], vectors: Any = None) -> pd.DataFrame:
        """The topic of each new text: topic (-1 for none), name, distance.

        Args:
            texts: m texts, missing ones allowed.
            vectors: Their embeddings, shape (m, d), where topics were found in such, and only there.
        Returns:
            One row a text. The distance is the cosine distance in [0, 2] to the nearest topic's centre, NaN where a
            text is blank or says nothing known. With HDBSCAN a text farther from it than 95 % of its own has no topic.
        Raises:
            ParamsError: Vectors are missing, or given where topics were found in words.
            DataError: Vectors do not fit.
        """
        said = read(texts)
        if isinstance(self.space, WordSpace):
            if vectors is not None:
                raise ParamsError("vectors are given, but these topics were found in words. Give the texts alone.")
            points = self.space.points(said)
        else:
            if vectors is None:
                raise ParamsError("These topics were found in vectors. Give vectors= of the same model.")
            points = self.space.points(check_vectors(vectors, len(said), width=len(self.space.mean)))
        placed = np.array([bool(text) for text in said], bool) & points.any(axis=1)
        topic, distance = np.full(len(said), NONE), np.full(len(said), np.nan)
        if self.k:
            topic[placed], distance[placed] = nearest_centre(points[placed], self.centres)
            topic[placed & ~(distance <= self.reach[topic])] = NONE
        names = pd.Series(self.names, dtype=object).reindex(topic).to_numpy()
        return pd.DataFrame({"topic": topic, "name": names, "distance": distance})

    def over_time(self, period: Period = "month", *, level: float = 0.01) -> TopicTrends:
        """Each topic's share by period, and which rise or fall. See `topic_trends.topic_trends`."""
        from cxlab.models.topic_trends import topic_trends

        return topic_trends(self, period, level=level)

    def plot(self) -> Axes:
        """The shares of the 25 largest topics with their intervals; grey are those not to be trusted."""
        shown = self.table.head(DRAWN)
        if shown.empty:
            return sentence(self.title, "No topic was found.")
        many = f", the {DRAWN} largest" if self.k > DRAWN else ""
        ax = axes(f"{self.k} topics of {self.n:,} texts{many} (grey: do not trust)", height=1.2 + 0.24 * len(shown))
        colour = np.where(shown["stability"] >= SHAKY, PALETTE[0], GREY)
        rows = range(len(shown))
        ax.hlines(rows, shown["low"], shown["high"], color=colour, linewidth=2)
        ax.scatter(shown["share"], rows, color=colour, s=25)
        ax.set_yticks(rows, [short(name) for name in shown["name"]], fontsize=8)
        ax.set_ylim(len(shown) - 0.5, -0.5)
        ax.set_xlim(left=0)
        ax.set_xlabel("share of texts (95 % interval)")
        return ax


def find_topics(
    texts: Iterable[Any],
    *,
    times: Iterable[Any] | None = None,
    method: Method = "kmeans",
    k: int | None = None,
    vectors: Any = None,
    seed: int = 0,
) -> Topics:
    """Groups texts by what they say, without labels.

    k-means places every text that has a known word; HDBSCAN (Campello, Moulavi and Sander 2013) finds dense groups, as
    many as there are, and leaves the rest without a topic. The number of topics of k-means is that of the best mean
    silhouette (Rousseeuw 1987, Silhouettes: a graphical aid, over 3,000 points) among 15 numbers from 2 to 60, with
    five texts a topic or more. The same texts in another order are grouped the same way, to the bit.

    Args:
        texts: n texts; missing and blank ones get no topic and are counted.
        times: When each was said, n of them, naive ones in UTC; missing ones are left out of `over_time`.
        method: `kmeans` or `hdbscan`. The latter's time grows with the square of n.
        k: How many topics, >= 1; with k-means alone.
        vectors: Embeddings of the texts, shape (n, d), used instead of their words; keywords are of the words still.
            Texts in languages that write no spaces between words need them.
        seed: Of the decomposition, the starts of k-means and the resamples.
    Raises:
        ParamsError: `method`, `k` or `seed` cannot be; or more topics are asked for than texts differ.
        DataError: No text says anything that groups it, or times or vectors do not fit.
    Examples:
        >>> said = ["reset my password", "password reset please", "my bill is wrong", "the wrong bill"] * 10
        >>> topics = find_topics(said, k=2)
        >>> topics.frame()["n"].tolist()
        [20, 20]
        >>> topics.of(["a wrong bill", "hm"])["topic"].tolist()
        [0, -1]
    """
    _check(method, k, seed)
    said = read(texts)
    when = None if times is None else _when(times, len(said))
    with one_thread():
        space: WordSpace | VectorSpace
        words = WordSpace.learn(said, seed)
        if vectors is None:
            space, points = words, words.points(said)
        else:
            held = check_vectors(vectors, len(said))
            there = sorted(
                (text, row.tobytes(), i) for i, (text, row) in enumerate(zip(said, held, strict=True)) if text
            )
            if not there:
                raise _nothing(said)
            space = VectorSpace.learn(held[[i for *_, i in there]], seed)
            points = space.points(held)
        placed = np.array([bool(text) for text in said], bool) & points.any(axis=1)
        rows = np.array(sorted(np.flatnonzero(placed), key=lambda i: (said[i], points[i].tobytes())), np.int64)
        if not len(rows):
            if vectors is None:
                raise _nothing(said)
            raise DataError(f"The vectors of {len(said):,} texts are all the same, so there is nothing to group.")
        grouping, silhouettes = grouped(points[rows], method, k, seed)
        stability = stable(points[rows], grouping, method, seed)
    codes = np.full(len(said), NONE)
    codes[rows] = grouping.codes
    table = _table(said, points, codes, grouping.centres, words=words, stability=stability)
    blank = np.array([not text for text in said], bool)
    return Topics(table, codes, blank, when, silhouettes, method, space, grouping.centres, grouping.reach)


def _table(
    said: list[str], points: Array, codes: Array, centres: Array, *, words: WordSpace, stability: Array
) -> pd.DataFrame:
    k = len(centres)
    n, of = np.bincount(codes[codes >= 0], minlength=k), sum(map(bool, said))
    found = keywords(words, said, codes, k)
    shown = []
    for group in range(k):
        members = np.flatnonzero(codes == group)
        shown.append(examples([said[row] for row in members], points[members] @ centres[group]))
    low, high = wilson(n, np.full(k, of))
    columns: dict[str, Any] = {"topic": np.arange(k)}
    columns["name"] = [", ".join(each[:3]) or f"topic {group}" for group, each in enumerate(found)]
    columns |= {"n": n, "of": of, "share": n / of, "low": low, "high": high, "stability": stability}
    trust = np.select(
        [np.isnan(stability), stability >= STABLE, stability >= SHAKY],
        ["cannot tell", "stable", "fair"],
        "do not trust",
    )
    columns |= {"trust": trust, "keywords": [", ".join(each) for each in found], "examples": shown}
    return pd.DataFrame(columns)


def _check(method: str, k: int | None, seed: int) -> None:
    if method not in METHODS:
        raise ParamsError(unknown("Method", str(method), METHODS))
    if k is not None and (isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1):
        raise ParamsError(f"k == {k!r}, must be a whole number >= 1, or None to choose it.")
    if k is not None and method == "hdbscan":
        raise ParamsError(f"k == {k}, but HDBSCAN finds as many topics as there are. Leave k out, or take kmeans.")
    check_seed(seed)


def check_seed(seed: Any) -> None:
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 2**32:
        raise ParamsError(f"seed == {seed!r}, must be a whole number in [0, 2**32).")


def _nothing(said: list[str]) -> DataError:
    there = sum(map(bool, said))
    rule = "there must be two or more that share a word"
    return DataError(
        f"{there:,} of {len(said):,} texts are not blank and none can be grouped: {rule}. Give more texts."
    )


def _when(times: Iterable[Any], n: int) -> Array:
    """Times in UTC as datetime64[us], shape (n,); NaT where there is none."""
    held = pd.Series(list(times), dtype=object)
    if len(held) != n:
        raise DataError(f"{len(held):,} times for {n:,} texts, must be one each.")
    there = ~held.map(is_missing).to_numpy(bool)
    numbers = held.map(lambda value: isinstance(value, int | float | np.number)).to_numpy(bool) & there
    stamps = pd.to_datetime(held.where(~numbers), errors="coerce", utc=True, format="ISO8601")
    bad = np.flatnonzero(there & stamps.isna().to_numpy())
    if len(bad):
        raise DataError(
            f"{len(bad):,} of {n:,} times cannot be read (row {bad[0]}: {held[bad[0]]!r}), must be datetimes or ISO "
            "8601: 2026-01-31 or 2026-01-31T10:00."
        )
    return stamps.dt.tz_localize(None).to_numpy("datetime64[us]")
