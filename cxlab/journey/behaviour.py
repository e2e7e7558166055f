"""Customers who behave alike: groups of cases by what their journeys were like, and whether there are any.

    found = find_behaviours(events)
    found.frame()                          # segment, name, how many, stability, what makes it different
    found.differences()                    # every feature of every segment against the rest
    found = found.named({0: "night owls"})
    customers.join(found.column(), on="customer_id")
    found.assign(new_events)               # segments of other cases

Cases are compared by the features of `behaviour_features`. Where they differ by no more than those of one process would
there are no segments, and that is the answer; how this is decided stands in `behaviour_groups`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import ibis
import numpy as np
import pandas as pd

from cxlab.display import Result, axes, sentence
from cxlab.errors import DataError, ParamsError, listed, unknown
from cxlab.journey.behaviour_features import DEFAULT, GROUPS, Feature, Recipe, Space, compared, own_features
from cxlab.journey.behaviour_groups import (
    CHANCE,
    FEW_KS,
    FEWEST,
    NONE,
    SAMPLE,
    SCREENED,
    SHAKY,
    Grouping,
    Method,
    OneProcess,
    beyond_luck,
    choose,
    everybody,
    one_blob,
    scored,
    some,
    stability,
)
from cxlab.journey.events import Steps, steps
from cxlab.metrics.bootstrap import wilson
from cxlab.metrics.groupings import one_thread

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = np.ndarray
Drawn = tuple[np.ndarray, list[Feature]]  # features of a set of cases, as they are compared

METHODS = ("kmeans", "hdbscan")
STABLE = 0.75  # Hennig (2007), section 4 on how to read the mean Jaccard similarity
LEVEL = 0.05  # false discovery rate of the differences
TELLING = 0.5  # standard deviations that a feature in a name differs by
IN_NAME, SAID, DRAWN = 2, 4, 12  # features
NOBODY = "(none)"
LEARNT = 2_000_000  # events that one process is learnt of, at most
DIFFERENCES = ("segment", "name", "feature", "n", "mean", "rest", "difference", "low", "high", "p_adjusted", "told")


@dataclass(frozen=True, repr=False, eq=False)
class Behaviours(Result):
    """Groups of cases that behave alike, the largest first.

    Attributes:
        table: See `frame`.
        cases: One row a case: case, segment (-1 for none), distance.
        contrasts: See `differences`.
        numbers: One row a number of segments that was tried: see `behaviour_groups.choose`.
        agreement: The adjusted Rand indices of halves grouped anew, 1 where all agree and 0 by luck; shape (19,).
        method: `kmeans` or `hdbscan`.
        made_of: The groups of features that segments are made of.
        notes: What was left out when the events were read.
    """

    table: pd.DataFrame
    cases: pd.DataFrame
    contrasts: pd.DataFrame
    numbers: pd.DataFrame
    agreement: Array
    method: str
    notes: tuple[str, ...]
    made_of: tuple[str, ...]
    told: bool | None
    recipe: Recipe | None
    features: tuple[Feature, ...]
    space: Space
    grouping: Grouping
    title: ClassVar[str] = "Who behaves alike"

    @property
    def k(self) -> int:
        """Segments; 1 where there are none to tell apart."""
        return self.grouping.k

    @property
    def n(self) -> int:
        """Cases."""
        return len(self.cases)

    @property
    def note(self) -> str:  # type: ignore[override]
        """Whether there are segments, how far to trust them, and what was left out."""
        return " ".join([self._found(), *self._trust(), *self.notes])

    def _found(self) -> str:
        tried = self.numbers
        if tried.empty:
            few = f"{self.n:,} cases are too few, or too much alike, to look for segments." if self.k == 1 else ""
            return f"No segments found: {few}" if few else f"{self.k} segments, as asked for."
        if self.method == "hdbscan" and tried["k"].iloc[0] == 0:
            return f"No segments found among {self.n:,} cases: nowhere are they denser than elsewhere (HDBSCAN)."
        apart = tried["silhouette"] - tried["by_chance"]
        best = tried.loc[tried["taken"].idxmax() if tried["taken"].any() else apart.idxmax()]
        one = best["excess"] <= best["luck"] if self.told is None else not self.told
        shown = f"silhouette {best['silhouette']:.3f}, by chance {best['by_chance']:.3f}"
        if self.k == 1:
            why = "no groups are more apart than chance makes them in one process" if one else (
                f"groups are apart, but do not come back when half of the cases are grouped anew "
                f"(below {SHAKY:g} of 1)")  # fmt: skip
            return f"No segments found among {self.n:,} cases: {why} ({shown})."
        if one:
            return f"{self.k} segments, as asked for; but they are no more apart than chance makes them ({shown})."
        made = f", made of {listed(self.made_of)}" if self.recipe is not None and self.made_of else ""
        return f"{self.k} segments{made}, more apart than chance makes them in one process ({shown})."

    def _trust(self) -> list[str]:
        if self.k == 1:
            return []
        shaky = int((self.table["stability"] < SHAKY).sum())
        agree = f" (adjusted Rand index of two halves {self.agreement.mean():.2f})" if len(self.agreement) else ""
        said = f"Stability: how much of a segment comes back when half of the cases are grouped anew{agree}; from "
        out = [f"{said}{STABLE:g} it is stable." + (f" Do not trust the {shaky} below {SHAKY:g}." if shaky else "")]
        nobody = int((self.cases["segment"] == NONE).sum())
        out += [f"{nobody:,} of {self.n:,} cases are in none: too few are like them."] if nobody else []
        out.append("Differences describe the segments, which were made of them; they do not prove them.")
        return out

    def frame(self) -> pd.DataFrame:
        """One row a segment, the largest first: segment, name, n, of, share, low, high, stability, trust, differs.

        The share has Wilson's interval of 95 %. Stability is the mean Jaccard similarity in [0, 1] of the segment and
        the most similar of those found in half of the cases (Hennig 2007): from 0.75 it is stable, below 0.6 not to be
        trusted; missing where there is one segment only. The last row, segment -1, are cases of none, if there are any.
        """
        return self.table.copy()

    def differences(self) -> pd.DataFrame:
        """One row a segment and feature, the largest difference first: segment, name, feature, n, mean, rest,
        difference, low, high, p_adjusted, told.

        `mean` is the segment's, `rest` that of all other cases, in natural units; the difference is of the features as
        they are compared, in standard deviations of all cases (error: Hedges and Olkin 1985, chapter 5). `told` are
        those at a false discovery rate of 5 % (Benjamini and Hochberg 1995), and the intervals are so wide that of
        those told 5 % miss (Benjamini and Yekutieli 2005, False discovery rate-adjusted multiple confidence intervals).
        """
        return self.contrasts.copy()

    def column(self) -> pd.Series:
        """The name of each case's segment, `(none)` where it has none; the index are the cases."""
        names = self.table.set_index("segment")["name"]
        found = self.cases["segment"].map(names).astype(object).to_numpy()
        return pd.Series(found, index=pd.Index(self.cases["case"], name="case"), name="behaviour")

    def named(self, names: Mapping[int, str]) -> Behaviours:
        """The same segments under names that a person gives.

        Args:
            names: By segment; others keep theirs.
        Raises:
            ParamsError: There is no such segment, or two would have one name.
        """
        known = self.table["segment"].tolist()
        for segment, name in names.items():
            if segment not in known or segment == NONE:
                raise ParamsError(f"segment == {segment!r}, must be one of {listed(s for s in known if s != NONE)}.")
            if not isinstance(name, str) or not name.strip():
                raise ParamsError(f"The name of segment {segment} is {name!r}, must be some words.")
        new = {segment: names.get(segment, name) for segment, name in self.table[["segment", "name"]].to_numpy()}
        twice = [name for name in new.values() if list(new.values()).count(name) > 1]
        if twice:
            raise ParamsError(f"Two segments would be called {twice[0]!r}; names must differ.")
        table = self.table.assign(name=self.table["segment"].map(new))
        return replace(self, table=table, contrasts=self.contrasts.assign(name=self.contrasts["segment"].map(new)))

    def assign(self, source: Any, *, embeddings: pd.DataFrame | None = None) -> pd.DataFrame:
        """The segment of each case of other events, by the same features: case, segment, name, distance.

        Kinds of events that were not there when segments were found count as events, and in nothing else.

        Args:
            source: As in `find_behaviours`.
            embeddings: Of these cases, where segments were found in embeddings, and only there.
        Returns:
            One row a case, by name; the distance is to the centre (HDBSCAN: the nearest case) in the space of
            standardised features. With HDBSCAN what is farther from all cases than they are from another has none.
        Raises:
            ParamsError: Embeddings are missing, or given where segments were found without.
            DataError: The source cannot be used.
        """
        if bool(self.made_of) == (embeddings is not None):
            how = "without embeddings. Leave them out for" if self.made_of else "in embeddings. Give those of"
            raise ParamsError(f"These segments were found {how} these cases.")
        if self.recipe is None:
            values = _own(source)
            names = [feature.name for feature in self.features]
            absent = [name for name in names if name not in values]
            if absent:
                raise DataError(unknown("Column", absent[0], map(str, values.columns), where="in the data"))
            values = values[names]
        else:
            values = self.recipe.read(steps(source))
        if embeddings is not None:
            x = _embedded(embeddings, values.index, width=len(self.space.mean))
        else:
            used = [feature.group in self.made_of for feature in self.features]
            x = compared(values, self.features)[:, used]
        with one_thread():
            segment, distance = self.grouping.of(self.space.points(x))
        names_of = self.table.set_index("segment")["name"].to_dict() | {NONE: NOBODY}
        named = pd.Series(segment).map(names_of).astype(object)
        return pd.DataFrame({"case": values.index, "segment": segment, "name": named, "distance": distance})

    def plot(self) -> Axes:
        """What makes segments different: the features that differ most, in standard deviations from the rest."""
        if self.k == 1:
            return sentence(self.title, self._found())
        shown = self.table[self.table["segment"] != NONE]
        wide = self.contrasts.pivot(index="feature", columns="segment", values="difference")[shown["segment"]]
        top = wide.abs().max(axis=1).sort_values(ascending=False, kind="stable").index[:DRAWN]
        wide = wide.loc[top]
        width = max(6.5, 3.2 + 1.35 * len(shown))
        ax = axes(f"{len(shown)} segments of {self.n:,} cases", width=width, height=1.7 + 0.3 * len(wide))
        ax.imshow(wide, cmap="PuOr_r", vmin=-2, vmax=2, aspect="auto")
        for (row, column), value in np.ndenumerate(wide.to_numpy()):
            ax.text(column, row, f"{value:+.1f}", ha="center", va="center", fontsize=8,
                    color="white" if abs(value) > 1.5 else "black")  # fmt: skip
        labels = [f"{_wrapped(name)}\n{share:.0%}" for name, share in shown[["name", "share"]].to_numpy()]
        ax.set_xticks(range(len(shown)), labels, fontsize=8)
        ax.set_yticks(range(len(wide)), wide.index, fontsize=8)
        ax.set_xlabel("standard deviations above or below all other cases")
        return ax


def find_behaviours(
    source: Any,
    *,
    how: Method = "kmeans",
    k: int | None = None,
    features: Sequence[str] | None = None,
    embeddings: pd.DataFrame | None = None,
    seed: int = 0,
) -> Behaviours:
    """Groups cases that behave alike, or says that there are no groups.

    The same events in another order give the same segments, to the bit. Memory is that of the features, some hundred
    numbers a case; silhouettes are of 1,000 cases, and HDBSCAN is fitted to 5,000.

    Args:
        source: Events, as `steps` reads them; or a frame of features of your own, one row a case, the index the cases,
            which is one without a column `event`, and with numbers alone.
        how: `kmeans` puts every case into a segment; `hdbscan` (Campello, Moulavi and Sander 2013) finds dense groups,
            as many as there are, and leaves the rest without.
        k: How many segments, >= 1, of k-means alone; None chooses the number, which may be 1.
        features: Which groups of features segments are made of: length, counts, mix, pace, daypart, loops, ends; mix,
            pace, daypart and loops if None. Or which columns of your own; all if None. They are described by all.
        embeddings: Numbers of cases from elsewhere, the index the cases, used in place of features to find segments;
            what makes them different is told by features still. They should be centred about one point where there are
            no groups.
        seed: Of all draws.
    Raises:
        ParamsError: An argument cannot be.
        DataError: The source or the embeddings cannot be used.
    Examples:
        >>> ours = pd.DataFrame({"calls": [3, 1, 4, 1, 5] * 9 + [30, 31, 33] * 10})
        >>> ours["logins"] = [9, 8, 8] * 15 + [1, 0] * 15
        >>> find_behaviours(ours).frame()[["name", "n", "share", "trust"]].values.tolist()
        [['low calls, high logins', 45, 0.6, 'stable'], ['high calls, low logins', 30, 0.4, 'stable']]
    """
    _check(how, k, seed)
    mine = isinstance(source, pd.DataFrame) and "event" not in source
    log = None if mine else steps(source)
    recipe, values, described = _described(log, source, features)
    groups = _groups(described, recipe, features)
    if k is not None and k > len(values):
        raise ParamsError(f"k == {k}, must be at most {len(values):,}: so many cases there are.")
    x = compared(values, described)
    told = None
    with one_thread():
        if embeddings is not None:
            held = _embedded(embeddings, values.index)
            space = Space.of_embeddings(held)
            points = space.points(held)
            chance = one_blob(points, seed)
        elif log is None or recipe is None or len(x) < 2 * FEWEST or len(np.unique(x, axis=0)) < 2:
            space, points = _placed(x, described, groups)
            chance = one_blob(points, seed)
        else:
            sets = _one_process(log, replace(recipe, groups=groups), values, seed)
            if len(groups) > 1:
                groups, told = _telling(x, described, groups, sets, seed)
            space, points = _placed(x, described, groups)
            chance = _as_points(sets, groups)
        grouping, numbers = choose(points, chance, how, k, seed, told=told)
        segment, distance = grouping.of(points)
        if grouping.k > 1:
            steady = stability(points, segment, how, grouping.k, seed)
            jaccard, agreement = steady.jaccard, steady.rand
        else:
            grouping = everybody(points)
            segment, distance = grouping.of(points)
            jaccard, agreement = np.full(1, np.nan), np.empty(0)
    contrasts = _contrasts(x, values, segment, grouping.k)
    table, contrasts = _table(segment, grouping.k, jaccard, contrasts, described)
    cases = pd.DataFrame({"case": values.index, "segment": segment, "distance": distance})
    notes = () if log is None else log.notes
    return Behaviours(
        table, cases, contrasts, numbers, agreement, how, notes, () if embeddings is not None else groups, told, recipe,
        tuple(described), space, grouping,
    )  # fmt: skip


def _placed(x: Array, features: Sequence[Feature], groups: Sequence[str]) -> tuple[Space, Array]:
    """The space of some groups of features, and cases in it."""
    used = np.array([feature.group in groups for feature in features])
    space = Space.learn(x[:, used], [feature for feature in features if feature.group in groups])
    return space, space.points(x[:, used])


def _telling(
    x: Array, features: Sequence[Feature], groups: tuple[str, ...], sets: Sequence[Drawn], seed: int
) -> tuple[tuple[str, ...], bool]:
    """The groups of features in which cases are more apart than one process sets them, and whether there are any."""
    views = [(group,) for group in groups] + [groups]

    def silhouettes(held: Array, of: Sequence[Feature]) -> Array:
        shown = some(held, SCREENED, seed)
        ks = [k for k in FEW_KS if k < len(shown)]
        return np.array([scored(_placed(shown, of, view)[1], ks, "kmeans", seed) for view in views])

    excess, luck = beyond_luck(silhouettes(x, features), np.array([silhouettes(*one) for one in sets]))
    beyond = excess.max(axis=1) > luck
    alone = tuple(group for group, tells in zip(groups, beyond, strict=False) if tells)
    return alone or groups, bool(beyond.any())


def _as_points(sets: Sequence[Drawn], groups: tuple[str, ...]) -> Callable[[int], Array]:
    return lambda number: _placed(*sets[number], groups)[1]


def _described(
    log: Steps | None, source: Any, features: Sequence[str] | None
) -> tuple[Recipe | None, pd.DataFrame, list[Feature]]:
    """How features are made, and what they are, by case."""
    if features is not None and (isinstance(features, str) or not len(features)):
        raise ParamsError(f"features == {features!r}, must be a list of one name or more, or None for all.")
    if log is None:
        values = _own(source)
        known = [str(name) for name in values]
    else:
        known = list(GROUPS)
    for name in features or ():
        if name not in known:
            raise ParamsError(unknown("Feature", str(name), known))
    if log is None:
        return None, values, own_features(values)
    recipe = Recipe.learn(log, GROUPS)
    return recipe, recipe.read(log), recipe.features()


def _groups(described: Sequence[Feature], recipe: Recipe | None, features: Sequence[str] | None) -> tuple[str, ...]:
    """The groups of features that segments are made of."""
    asked = features or (DEFAULT if recipe else [feature.group for feature in described])
    return tuple(dict.fromkeys(feature.group for feature in described if feature.group in asked))


def _own(source: Any) -> pd.DataFrame:
    """A frame of somebody's own features, by case."""
    if not isinstance(source, pd.DataFrame):
        raise DataError(f"The features are a {type(source).__name__}, must be a DataFrame with one row a case.")
    if source.empty:
        raise DataError(
            f"The frame has {len(source):,} rows and {source.shape[1]} columns, must have one each or more."
        )
    words = [name for name, kind in source.dtypes.items() if not pd.api.types.is_numeric_dtype(kind)]
    if words:
        raise DataError(
            f"Column {str(words[0])!r} does not hold numbers. A frame without a column 'event' must be features, one "
            "row a case; name the columns of a log with cxlab.journey.events.steps(frame, case=, event=, time=)."
        )
    return _by_case(source, "features").rename(columns=str)


def _by_case(frame: pd.DataFrame, what: str) -> pd.DataFrame:
    """Rows by the name of their case; numbers that are there."""
    out = frame.astype(np.float64)
    out.index = pd.Index(frame.index.astype(str).astype(object), name="case")
    if out.index.has_duplicates:
        twice = out.index[out.index.duplicated()][0]
        raise DataError(f"Case {twice!r} has two rows of {what}, must have one. Set the index to the cases.")
    bad = ~np.isfinite(out.to_numpy())
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise DataError(
            f"{int(bad.sum()):,} values of the {what} are missing or infinite (case {out.index[row]!r}, column "
            f"{str(out.columns[column])!r}). Fill them or leave these cases out."
        )
    return out.sort_index()


def _embedded(embeddings: Any, cases: pd.Index, *, width: int | None = None) -> Array:
    """Embeddings of the cases, in their order."""
    if not isinstance(embeddings, pd.DataFrame):
        raise DataError(
            f"embeddings are a {type(embeddings).__name__}, must be a DataFrame of numbers whose index are the cases."
        )
    held = _by_case(embeddings, "embeddings")
    if not held.shape[1] or held.shape[1] != (width or held.shape[1]):
        raise DataError(f"embeddings have {held.shape[1]} columns, must have {width or 'one or more'}.")
    absent = cases.difference(held.index)
    if len(absent):
        raise DataError(
            f"{len(absent):,} of {len(cases):,} cases have no embedding (case {absent[0]!r}). Give a row for each."
        )
    return held.loc[cases].to_numpy()


def _one_process(log: Steps, recipe: Recipe, values: pd.DataFrame, seed: int) -> list[Drawn]:
    """Sets of cases that one process makes: features as they are compared, and which they are."""
    n = min(len(values), SAMPLE)
    rng = np.random.default_rng([seed, 3])
    drawn = np.sort(rng.permutation(len(values))[: 2 * SAMPLE])
    chosen = ibis.memtable(pd.DataFrame({"case": pd.Series(values.index[drawn], dtype="string")}))
    held = log.table.semi_join(chosen, "case").select("case", "event", "time", "position")
    process = OneProcess.learn(log.ask(held.order_by("case", "position").limit(LEARNT)).astype({"event": str}))
    sets = []
    for number in range(CHANCE):
        drawn_log = process.draw(n, np.random.default_rng([seed, 4, number]))
        made = Steps(ibis.memtable(drawn_log), (), len(drawn_log), n, log.con)
        learnt = Recipe.learn(made, recipe.groups)
        features = learnt.features()
        sets.append((compared(learnt.read(made), features), features))
    return sets


def _contrasts(x: Array, values: pd.DataFrame, segment: Array, k: int) -> pd.DataFrame:
    """Each feature of each segment against the rest. See `Behaviours.differences`."""
    from scipy import stats

    if k < 2:
        return pd.DataFrame(columns=list(DIFFERENCES))
    n, sd, natural = len(x), x.std(axis=0), values.to_numpy(np.float64)
    parts = []
    for one in range(k):
        own = segment == one
        size, others = int(own.sum()), n - int(own.sum())
        apart = x[own].mean(axis=0) - x[~own].mean(axis=0)
        difference = np.divide(apart, sd, out=np.zeros_like(sd), where=sd > 1e-12)
        part = {"segment": one, "name": "", "feature": values.columns, "n": size}
        part |= {"mean": natural[own].mean(axis=0), "rest": natural[~own].mean(axis=0), "difference": difference}
        parts.append(pd.DataFrame(part).assign(error=np.sqrt(1 / size + 1 / others + difference**2 / (2 * n))))
    out = pd.concat(parts, ignore_index=True)
    p = 2 * stats.norm.sf(out["difference"].abs() / out["error"])
    out["p_adjusted"] = stats.false_discovery_control(p)
    out["told"] = out["p_adjusted"] <= LEVEL
    z = stats.norm.isf(LEVEL * max(int(out["told"].sum()), 1) / len(out) / 2)
    out["low"], out["high"] = out["difference"] - z * out["error"], out["difference"] + z * out["error"]
    order = np.lexsort((np.arange(len(out)), -out["difference"].abs().round(9), out["segment"]))
    return out.iloc[order].reset_index(drop=True)[list(DIFFERENCES)]


def _table(
    segment: Array, k: int, jaccard: Array, contrasts: pd.DataFrame, features: Sequence[Feature]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The frame, and the differences with the names of the segments."""
    of = len(segment)
    parts = [contrasts[contrasts["segment"] == one] for one in range(k)]
    names = _names(parts, {feature.name: feature for feature in features}) if k > 1 else ["everybody"]
    differs = ["; ".join(_said(row) for row in part[part["told"]].head(SAID).to_dict("records")) for part in parts]
    trust = np.select(
        [np.isnan(jaccard), jaccard >= STABLE, jaccard >= SHAKY], ["cannot tell", "stable", "fair"], "do not trust"
    ).tolist()
    codes, stable = list(range(k)), list(jaccard)
    if (segment == NONE).any():
        codes, names, differs = [*codes, NONE], [*names, NOBODY], [*differs, ""]
        stable, trust = [*stable, np.nan], [*trust, "cannot tell"]
    n = np.array([(segment == one).sum() for one in codes])
    low, high = wilson(n, np.full(len(n), of))
    table = {"segment": codes, "name": names, "n": n, "of": of, "share": n / of, "low": low, "high": high}
    frame = pd.DataFrame(table | {"stability": stable, "trust": trust, "differs": differs})
    return frame, contrasts.assign(name=contrasts["segment"].map(dict(zip(codes, names, strict=True))))


def _names(parts: Sequence[pd.DataFrame], features: Mapping[str, Feature]) -> list[str]:
    """Plain words of what differs most; where two would be the same, more words, and then numbers."""
    words = [_words(part, features) for part in parts]
    names = [", ".join(each[:IN_NAME]) or f"segment {one}" for one, each in enumerate(words)]
    names = [
        ", ".join(words[one][: IN_NAME + 1]) or name if names.count(name) > 1 else name
        for one, name in enumerate(names)
    ]
    return [f"{name} ({one})" if names.count(name) > 1 else name for one, name in enumerate(names)]


def _words(part: pd.DataFrame, features: Mapping[str, Feature]) -> list[str]:
    """What a segment is called, the largest difference first, a word a subject."""
    out: dict[str, str] = {}
    for row in part[part["told"] & (part["difference"].abs() >= TELLING)].to_dict("records"):
        feature = features[row["feature"]]
        if row["difference"] < 0 and feature.group in ("ends", "daypart"):
            continue  # what one seldom begins with says little
        low = feature.low if row["mean"] else feature.none
        out.setdefault(feature.subject, feature.high if row["difference"] > 0 else low)
    return list(out.values())


def _said(row: Mapping[Any, Any]) -> str:
    return f"{row['feature']} {row['mean']:.3g} (rest {row['rest']:.3g})"


def _wrapped(name: str, most: int = 18) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(name, most, max_lines=4, placeholder="…"))


def _check(how: str, k: int | None, seed: int) -> None:
    if how not in METHODS:
        raise ParamsError(unknown("Method", str(how), METHODS))
    if k is not None and (isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1):
        raise ParamsError(f"k == {k!r}, must be a whole number >= 1, or None to choose it.")
    if k is not None and how == "hdbscan":
        raise ParamsError(f"k == {k}, but HDBSCAN finds as many segments as there are. Leave k out, or take kmeans.")
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 2**32:
        raise ParamsError(f"seed == {seed!r}, must be a whole number in [0, 2**32).")
