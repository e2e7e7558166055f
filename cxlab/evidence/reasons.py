"""Why this customer, in words, and what would change it.

    reasons(subject, rows.iloc[[0]]).texts      # ("4 calls to customer service, more than 92 % of customers", ...)
    what_if(subject, rows.iloc[[0]], 0.3)       # the smallest changes of what we can act on

The words come from `params/reasons.yaml`. A column of `data.segments` is never named and never changed.
"""

from __future__ import annotations

import dataclasses
import itertools
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import pandas as pd
import yaml
from pydantic import TypeAdapter, ValidationError

from cxlab.data.schema import Column
from cxlab.display import PALETTE, Result, axes, interval_plot, sentence
from cxlab.errors import DataError, ParamsError, unknown
from cxlab.evidence.explain import contributions
from cxlab.evidence.wording import Distribution, Phrase, alike, written
from cxlab.models.subject import Subject
from cxlab.places import home

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COMPARED = 20_000  # training rows a customer is compared with at most
GRID = 20  # steps between the smallest and the largest training value that a change may take
SMALL = 1e-9  # a smaller contribution, in log-odds, is no reason


Wording = Mapping[str, Phrase]


def phrases(path: str | Path | None = None) -> dict[str, Phrase]:
    """The phrase table: one phrase a column.

    Args:
        path: A YAML file; by default `params/reasons.yaml`, and no phrases where that is not there.
    Raises:
        ParamsError: The file cannot be read, or does not say what a phrase table says.
    """
    source = home() / "params" / "reasons.yaml" if path is None else Path(path)
    if path is None and not source.exists():
        return {}
    try:
        tree = yaml.safe_load(source.read_text(encoding="utf-8")) or {}
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ParamsError(f"{source} cannot be read as a phrase table: {error}.") from None
    if not isinstance(tree, dict):
        raise ParamsError(f"{source.name} holds no columns; write a column's name, and phrase: under it.")
    found, checked = {}, TypeAdapter(Phrase)
    for column, entry in tree.items():
        try:
            found[str(column)] = checked.validate_python(_keys_as_text(entry))
        except ValidationError as error:
            raise ParamsError(f"{source.name}, {column}: {_explained(error)}") from None
    return found


_COUNT = "{value:g}"
_SHOWN = {"share": "{value:.0%}", "days": "{value:.1f} days", "events": _COUNT, "values": _COUNT, "as recorded": _COUNT}


def wording_of(subject: Subject) -> Wording:
    """Phrases by column: those of `params/reasons.yaml`, and of other columns their declared meaning."""
    told = {}
    for column in subject.model.schema.columns:
        if column.name in subject.table.meanings:
            description, unit = subject.table.meanings[column.name]
            text = description.partition("; ")[0].replace(" before the cutoff", "")  # the customer's cutoff is now
            shown = _SHOWN.get(unit, f"{{value:g}} {unit}") if column.kind == "number" else "{value}"
            told[column.name] = Phrase(phrase=text.replace("{", "{{").replace("}", "}}") + f": {shown}", unit=unit)
    return told | dict(phrases())


def _keys_as_text(entry: Any) -> Any:
    """YAML reads yes and 1 as other types than text."""
    if not (isinstance(entry, dict) and isinstance(entry.get("levels"), dict)):
        return entry
    words = {True: "yes", False: "no"}
    levels = {words[key] if isinstance(key, bool) else str(key): text for key, text in entry["levels"].items()}
    return {**entry, "levels": levels}


def _explained(error: ValidationError) -> str:
    item = error.errors()[0]
    key = str(item["loc"][0]) if item["loc"] else ""
    if item["type"] == "unexpected_keyword_argument":
        return unknown("Key", key, [item.name for item in dataclasses.fields(Phrase)])
    rule = item["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    return f"{key or 'the entry'} == {item['input']!r}, must be {rule}."


@dataclass(frozen=True, repr=False, eq=False)
class Reasons(Result):
    """What raises one customer's risk, the strongest first.

    Attributes:
        rows: One row a reason; see `frame`.
    """

    rows: pd.DataFrame

    title: ClassVar[str] = "Why this customer"

    @property
    def note(self) -> str:  # type: ignore[override]
        if self.rows.empty:
            return "No column that may be named raises this customer's risk above the average customer's."
        return "Compared with customers in training. Contributions are in log-odds, before calibration."

    @property
    def texts(self) -> tuple[str, ...]:
        """The reasons as sentences."""
        return tuple(self.rows["text"])

    def frame(self) -> pd.DataFrame:
        """One row a reason: feature, value, direction, contribution, comparison, n (customers compared with), text."""
        return self.rows

    def plot(self) -> Axes:
        """The contributions behind the reasons."""
        length = self.rows["contribution"].to_numpy(np.float64)
        ax = axes(self.title, height=1.2 + 0.4 * len(length))
        ax.barh(range(len(length)), length, color=[PALETTE[int(each < 0)] for each in length])
        ax.set_yticks(range(len(length)), [textwrap.fill(text, 45) for text in self.texts])
        ax.invert_yaxis()
        ax.set_xlabel("contribution to the log-odds" if len(length) else self.note)
        return ax


def reasons(
    subject: Subject, row_frame: pd.DataFrame, k: int = 3, *, lowering: bool = False, wording: Wording | None = None
) -> Reasons:
    """What speaks for a customer's risk: value, direction and comparison, in words; no segment, and nothing twice.

    Args:
        subject: The model under review.
        row_frame: One raw row.
        k: Reasons at most, >= 1; fewer where fewer columns raise the risk.
        lowering: Also what lowers the risk.
        wording: Phrases by column; `wording_of(subject)` by default.
    Raises:
        DataError: Not one row, or a column is missing.
        ParamsError: The phrase table cannot be used.
    """
    if k < 1:
        raise ValueError(f"k == {k}, must be >= 1.")
    found = contributions(subject.model, _one_row(row_frame), background=subject.train)
    words, train = wording_of(subject) if wording is None else wording, _training(subject)
    values = found.values[0]
    groups = alike({name: train[name].to_numpy() for name in train.columns})
    group_of = {name: number for number, group in enumerate(groups) for name in group}
    told: set[int] = set()
    rows: list[tuple[Any, ...]] = []
    for j in np.argsort(-(np.abs(values) if lowering else values), kind="stable"):
        name, size = found.columns[j], abs(values[j]) if lowering else values[j]
        if len(rows) == k or size < SMALL:
            break
        if name in subject.params.data.segments or group_of[name] in told:
            continue
        told.add(group_of[name])
        value = written(found.inputs[name].iloc[0])
        compared = Distribution.of(train[name].to_numpy()).compared(value)
        text = f"{words.get(name, Phrase()).says(name, value)}, {compared}"
        direction = "raises" if values[j] > 0 else "lowers"
        rows.append((name, value, direction, values[j], compared, len(train), text))
    names = ["feature", "value", "direction", "contribution", "comparison", "n", "text"]
    return Reasons(pd.DataFrame(rows, columns=names))


@dataclass(frozen=True, repr=False, eq=False)
class WhatIf(Result):
    """The smallest changes that carry one customer's score across the threshold.

    Attributes:
        before: The score as it is, calibrated.
        threshold: The score from which a customer counts as at risk.
        changes: New values by column, the smallest change first; `row.assign(**changes[0])` applies one.
        rows: One row a change; see `frame`.
    """

    before: float
    threshold: float
    changes: tuple[dict[str, Any], ...]
    rows: pd.DataFrame

    title: ClassVar[str] = "What would change it"

    @property
    def note(self) -> str:  # type: ignore[override]
        where, aim = ("above", "below") if self.before >= self.threshold else ("below", "above")
        now = f"The score is {self.before:.3f}, {where} the threshold {self.threshold:.3f}."
        if not self.changes:
            return f"{now} No allowed change, of one column or of those tried together, would bring it {aim}."
        return (
            f"{now} Each line would bring it {aim}. Size: in standard deviations of training, a changed category "
            "counting as one. This is what the model would say, not what would happen: it has not seen a change."
        )

    def frame(self) -> pd.DataFrame:
        """One row a change: change, columns, size, before, after, threshold."""
        return self.rows

    def plot(self) -> Axes:
        """From the score as it is to the score after each change."""
        top = self.rows.head(6)
        labels = [textwrap.fill(text, 50) for text in top["change"]]
        if top.empty:
            return sentence(self.title, self.note)
        ax = axes(self.title, height=1.6 + 0.6 * len(top))
        ends = top[["before", "after"]].min(axis=1), top[["before", "after"]].max(axis=1)
        interval_plot(ax, labels, top["after"], *ends, reference=self.threshold)
        ax.set_xlabel("score: now, and after the change (dot)")
        return ax


def what_if(
    subject: Subject,
    row_frame: pd.DataFrame,
    threshold: float,
    *,
    most: Literal[1, 2] = 2,
    wording: Wording | None = None,
) -> WhatIf:
    """Which smallest changes of the actionable columns would carry the score across the threshold.

    Numbers take training quantiles in the allowed direction, categories the other levels seen in training. Two columns
    are changed together only where that takes less than changing either alone.

    Args:
        subject: The model under review.
        row_frame: One raw row.
        threshold: On the calibrated score, in (0, 1); a score at the threshold is above it.
        most: Columns changed together at most, 1 or 2.
        wording: Phrases by column; `wording_of(subject)` by default.
    Raises:
        DataError: Not one row, or a column is missing.
        ParamsError: The phrase table cannot be used.
    """
    if not 0 < threshold < 1 or most not in (1, 2):
        raise ValueError(f"threshold == {threshold} and most == {most}, must be in (0, 1) and 1 or 2.")
    model, words = subject.model, wording_of(subject) if wording is None else wording
    row, train = model.schema.encode(_one_row(row_frame)), _training(subject)
    before = float(model.predict_proba(row)[0, 1])
    moves: dict[str, list[tuple[Any, float]]] = {}
    for column in model.schema.columns:
        actionable = words.get(column.name, Phrase()).actionable
        if actionable and column.name not in subject.params.data.segments:
            moves[column.name] = _moves(column, written(row[column.name].iloc[0]), train[column.name], actionable)
    best: dict[tuple[str, ...], tuple[float, float, dict[str, Any]]] = {}
    for names in itertools.chain.from_iterable(itertools.combinations(moves, size) for size in range(1, most + 1)):
        alone = min((best[name,][0] for name in names if (name,) in best), default=np.inf)
        options = itertools.product(*(moves[name] for name in names))
        tried = [option for option in options if sum(size for _, size in option) < alone]
        if not tried:
            continue
        grid = row.iloc[np.zeros(len(tried), np.int64)].reset_index(drop=True)
        grid = grid.assign(**{name: [option[at][0] for option in tried] for at, name in enumerate(names)})
        after = model.predict_proba(grid)[:, 1]
        crossing = np.flatnonzero((after >= threshold) != (before >= threshold))
        sizes = np.array([sum(size for _, size in option) for option in tried])
        if len(crossing):
            first = crossing[np.argmin(sizes[crossing])]
            values = {name: value for name, (value, _) in zip(names, tried[first], strict=True)}
            best[names] = (float(sizes[first]), float(after[first]), values)
    ordered = sorted(best.values(), key=lambda found: found[0])
    rows = [
        (_told(changes, row, words), len(changes), size, before, after, threshold) for size, after, changes in ordered
    ]
    table = pd.DataFrame(rows, columns=["change", "columns", "size", "before", "after", "threshold"])
    return WhatIf(before, threshold, tuple(changes for _, _, changes in ordered), table)


def _moves(
    column: Column, value: float | str, train: pd.Series, actionable: str | tuple[str, ...]
) -> list[tuple[Any, float]]:
    """Allowed new values of a column, each with its size in training spreads."""
    if column.kind == "category":
        levels = actionable if isinstance(actionable, tuple) else column.categories
        return [(level, 1.0) for level in column.categories if level != value and level in levels]
    if isinstance(actionable, tuple):
        raise ParamsError(f"Phrase of {column.name}: actionable is a list, must be down, up or any for a number.")
    known = train.dropna().to_numpy(np.float64)
    spread = known.std() if len(known) else 0.0
    if isinstance(value, str) or np.isnan(value) or spread == 0:
        return []
    grid = {written(each) for each in np.quantile(known, np.linspace(0, 1, GRID + 1), method="nearest")}
    way = {"down": lambda each: each < value, "up": lambda each: each > value, "any": lambda each: each != value}
    return [(each, abs(each - value) / spread) for each in sorted(grid) if way[actionable](each)]


def _told(changes: dict[str, Any], row: pd.DataFrame, words: Wording) -> str:
    parts = []
    for name, value in changes.items():
        phrase, old = words.get(name, Phrase()), written(row[name].iloc[0])
        now = f"{old:.7g} {phrase.unit}".strip() if isinstance(old, float) else phrase.says(name, old)
        parts.append(f"{phrase.says(name, value)} (now {now})")
    return " and ".join(parts)


def _training(subject: Subject) -> pd.DataFrame:
    train = subject.train
    if len(train) > COMPARED:
        train = train.sample(COMPARED, random_state=0)
    return subject.model.schema.encode(train)


def _one_row(frame: pd.DataFrame) -> pd.DataFrame:
    """Raises:
    DataError: It is not a frame of one row.
    """
    if not isinstance(frame, pd.DataFrame):
        raise DataError(f"The row is a {type(frame).__name__}, must be a frame of one row. Pass frame.iloc[[0]].")
    if len(frame) != 1:
        raise DataError(f"{len(frame)} rows given, must be 1. Pass one of them: frame.iloc[[0]].")
    return frame
