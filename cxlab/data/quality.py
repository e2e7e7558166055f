"""Is this table fit to learn from? Each check says pass, fail or cannot tell, the rows concerned, and what to do.

    quality = check(read_table(params.data))
    quality.failed        # True if any check said no
    quality               # a table in the notebook

It also works on a table whose roles are wrong: what cannot be checked then is `cannot_tell`, never a pass.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import pandas as pd

from cxlab.data.leaks import MIN_CLASS, suspects
from cxlab.data.log import LogTable
from cxlab.data.schema import as_text
from cxlab.data.split import FOLDS, MIN_PER_CLASS
from cxlab.data.table import Table, binary
from cxlab.display import PALETTE, Result, axes
from cxlab.errors import CxlabError, listed, missing_column
from cxlab.params import ROW_ORDER, SplitParams

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Status = Literal["pass", "fail", "cannot_tell"]

MOSTLY = 0.9  # share of numbers from which text among them is a mistake; codes mix more evenly
DISTINCT = 0.95  # share of distinct texts from which a column names rows rather than describes them
ENOUGH = 20  # rows below which being all distinct, or in order, may be chance
SPOKEN = 4  # letters of a target's value from which a text may be said to hold it
GIVEN_AWAY = 0.5  # share of texts that hold their own target from which it is suspect
DATED = 0.5  # share of texts that read as dates from which a column holds times
SHOWN = 3  # values shown of each kind
_DATE = re.compile(r"\s*(\d{1,4})[-/.](\d{1,2})[-/.](\d{1,4})")
_COLOURS = {"pass": PALETTE[2], "fail": PALETTE[1], "cannot_tell": PALETTE[4]}


@dataclass(frozen=True)
class Check:
    """One answer.

    Attributes:
        code: Stable name.
        rows: How many rows it concerns; 0 where nothing was found.
        reason: The value, the rule and what to do.
    """

    code: str
    title: str
    status: Status
    rows: int
    reason: str


@dataclass(frozen=True, repr=False)
class Quality(Result):
    """All answers about one table of `n` rows."""

    checks: tuple[Check, ...]
    n: int
    title: ClassVar[str] = "Data quality"
    note: ClassVar[str] = "What cannot be told needs a person's look; suspects are listed, never dropped."

    @property
    def failed(self) -> bool:
        return any(item.status == "fail" for item in self.checks)

    @property
    def statuses(self) -> dict[str, str]:
        """Each check's status by its code."""
        return {item.code: item.status for item in self.checks}

    def frame(self) -> pd.DataFrame:
        return pd.DataFrame([asdict(item) for item in self.checks])

    def plot(self) -> Axes:
        """The share of rows that each check concerns, and its answer."""
        ax = axes(f"Checks of {self.n:,} rows", height=0.8 + 0.32 * len(self.checks))
        for place, item in enumerate(self.checks):
            colour = _COLOURS[item.status]
            ax.barh(place, item.rows / self.n if self.n else 0, color=colour)
            ax.text(1.02, place, item.status.replace("_", " "), color=colour, va="center")
        ax.set_yticks(range(len(self.checks)), [item.title for item in self.checks])
        ax.set_xlim(0, 1)
        ax.invert_yaxis()
        ax.set_xlabel("share of rows concerned")
        return ax


def check(table: Table) -> Quality:
    """Checks a table and the roles it was given.

    Args:
        table: As `read_table` gives it; its roles need not fit.
    Returns:
        One answer a check, always the same checks in the same order; of a log those of `log_quality`.
    """
    if isinstance(table, LogTable):
        from cxlab.data.log_quality import check_log

        return check_log(table)
    return Quality(asked(CHECKS, table), len(table.frame))


Answer = tuple[Status, int, str]


def asked(checks: Mapping[str, tuple[str, Callable[[Any], Answer]]], of: Any) -> tuple[Check, ...]:
    """Every check's answer about one thing, in their order."""
    answers = ((code, title, look(of)) for code, (title, look) in checks.items())
    return tuple(Check(code, title, status, int(rows), reason) for code, title, (status, rows, reason) in answers)


def _features(table: Table) -> list[str]:
    """The features that are there."""
    return [name for name in table.features if name in table.frame.columns]


def _found(findings: dict[str, int], remedy: str, otherwise: str) -> Answer:
    """Fail with all findings (a sentence and the rows it concerns), or pass."""
    if not findings:
        return "pass", 0, otherwise
    return "fail", max(findings.values()), f"{'; '.join(findings)}. {remedy}"


def _missing_columns(table: Table) -> Answer:
    roles, names = table.roles, [str(name) for name in table.frame.columns]
    time = None if roles.time == ROW_ORDER else roles.time
    named = [roles.id, roles.target, time, *roles.segments, *(roles.features or ()), *roles.drop, *roles.known_after]
    absent = [name for name in dict.fromkeys(named) if name is not None and name not in names]
    if absent:
        return "fail", len(table.frame), " ".join(str(missing_column(name, names)) for name in absent)
    return "pass", 0, "Every column that the params name is there."


def _types(table: Table) -> Answer:
    findings = {}
    for name in _features(table):
        column = table.frame[name].dropna()
        if pd.api.types.is_numeric_dtype(column):
            endless = int(np.isinf(column.to_numpy(np.float64)).sum())
            if endless:
                findings[f"{name!r} has {endless:,} infinite values"] = endless
        elif pd.api.types.infer_dtype(column).startswith("mixed"):
            kinds = column.map(lambda value: type(value).__name__).value_counts()
            said = listed(f"{count:,} {kind}" for kind, count in kinds.items())
            findings[f"{name!r} mixes types: {said}"] = len(column) - int(kinds.iloc[0])
        elif pd.api.types.infer_dtype(column) == "string":
            values = pd.Series(column.unique())
            text = column[column.isin(values[pd.to_numeric(values, errors="coerce").isna()])]
            if 0 < len(text) <= (1 - MOSTLY) * len(column):
                row = table.frame.index.get_loc(text.index[0])
                shown = listed(map(repr, text.unique()), SHOWN)
                findings[f"{name!r} holds numbers, but {len(text):,} texts ({shown}; the first in row {row:,})"] = len(
                    text
                )
    return _found(findings, "Mend those values or make them blank.", "Each feature holds one type.")


def _comparable(frame: pd.DataFrame) -> pd.DataFrame:
    """Lists and the like as text, which can be compared."""
    odd = [i for i in range(frame.shape[1]) if pd.api.types.infer_dtype(frame.iloc[:, i]) == "mixed"]
    return frame.astype({frame.columns[i]: str for i in odd}) if odd else frame


def _duplicate_rows(table: Table) -> Answer:
    again = _comparable(table.frame).duplicated()
    if not again.any():
        return "pass", 0, "No row is there twice."
    return (
        "fail",
        int(again.sum()),
        f"{int(again.sum()):,} rows repeat an earlier one in full (the first: row {int(again.argmax()) + 1:,}). "
        "One copy may train while another tests: remove them, or name an id and split by group.",
    )


def _duplicate_ids(table: Table) -> Answer:
    name = table.roles.id
    if name is None or name not in table.frame.columns:
        return "cannot_tell", 0, "No id column: customers who are there twice cannot be seen. Name one as data.id."
    ids, roles = as_text(table.frame[name]), table.roles
    panel = roles.outcome_days > 0 and roles.time in table.frame.columns  # a row a customer and time
    keys = [ids.dropna(), *([table.frame[roles.time]] if panel else [])]
    repeated = pd.concat(keys, axis=1, join="inner").duplicated()
    absent, again = int(ids.isna().sum()), int(repeated.sum())
    findings = {}
    if again:
        first = ids[repeated.index[repeated]].iloc[0]
        findings[f"{name!r} repeats in {again:,} rows{' of one time' if panel else ''} (such as {first!r})"] = again
    if absent:
        findings[f"{name!r} is missing in {absent:,} rows"] = absent
    good = f"Every row has an id of its own{f' at each {roles.time}' if panel else ''}."
    return _found(findings, "Give one row a customer, or use split.method: group.", good)


def _constant_columns(table: Table) -> Answer:
    empty, single = [], []
    for name, column in _comparable(table.frame[_features(table)]).items():
        if column.isna().all():
            empty.append(str(name))
        elif column.notna().all() and column.nunique() == 1:
            single.append(str(name))
    n = len(table.frame)
    findings = {f"{listed(map(repr, empty))}: no value at all": n} if empty else {}
    findings |= {f"{name!r} is always {table.frame[name].iloc[0]!r}": n for name in single}
    remedy = f"Nothing can be learnt there: data.drop: [{', '.join(empty + single)}]."
    return _found(findings, remedy, "Each feature varies.")


def identifiers(table: Table) -> dict[str, str]:
    """Features that name their rows, with what gives each away."""
    findings = {}
    named = [name for name in _features(table) if name != table.roles.text]  # words differ, and are no names
    for name, column in _comparable(table.frame[named]).items():
        values = column.dropna()
        distinct = values.nunique()
        if len(values) < ENOUGH or pd.api.types.is_bool_dtype(values):
            continue
        if pd.api.types.is_numeric_dtype(values):
            numbers = values.to_numpy(np.float64)
            if distinct < len(values) or not np.array_equal(numbers, np.round(numbers)):
                continue
            if values.is_monotonic_increasing or values.is_monotonic_decreasing:
                findings[str(name)] = f"{name!r} counts the rows"
            elif str(name).casefold().endswith("id"):
                findings[str(name)] = f"{name!r} is another integer in each row"
        elif distinct >= DISTINCT * len(values):
            findings[str(name)] = f"{name!r} has {distinct:,} distinct values in {len(values):,} rows"
    return findings


def _identifiers(table: Table) -> Answer:
    return _found(
        {finding: int(table.frame[name].notna().sum()) for name, finding in identifiers(table).items()},
        f"A name (from {DISTINCT:.0%} distinct) tells nothing about the next customer: make it data.id or data.drop.",
        "No feature names its rows.",
    )


def _known_after(table: Table) -> Answer:
    declared = table.known_after
    if table.roles.target in table.features:
        declared = {**declared, str(table.roles.target): "params: it is the target"}
    late = {name: who for name, who in declared.items() if name in table.features}
    if late:
        says = ", ".join(f"{name!r} (says the {who})" for name, who in late.items())
        remedy = f"A model would lean on what it cannot know in time. Write data.drop: [{', '.join(late)}]."
        return "fail", len(table.frame), f"Known only after the outcome, yet among the features: {says}. {remedy}"
    if declared:
        return "pass", 0, f"Known only after the outcome and set aside: {listed(declared)}."
    return "pass", 0, "No column is declared as known only after the outcome (data.known_after)."


def _outcome(table: Table) -> np.ndarray | None:
    try:
        return table.outcome()
    except (CxlabError, KeyError):
        return None


def _leak_suspects(table: Table) -> Answer:
    if table.roles.text in table.frame.columns:
        return _told_in_words(table)
    outcome = _outcome(table)
    features = [name for name in _features(table) if name not in {*table.known_after, table.roles.target}]
    found = None if outcome is None else suspects(table.frame, features, outcome)
    if found is None:
        rule = f"needs features, a target of two values and {MIN_CLASS} rows of each"
        return "cannot_tell", 0, f"Whether a column gives the outcome away {rule}."
    cleared = [item for item in found if set(item.columns) <= set(table.roles.known_before)]
    found = [item for item in found if item not in cleared]
    if cleared and not found:
        names = ", ".join(name for item in cleared for name in item.columns)
        return "pass", 0, f"Strong, and known before the outcome, says data.known_before: {names}."
    if not found:
        return "pass", 0, "No feature is far ahead of the next in deciding the outcome."
    said = "; ".join(suspect.reason for suspect in found)
    names = ", ".join(name for suspect in found for name in suspect.columns)
    remedy = f"If it is known only after the outcome, write data.known_after and data.drop: [{names}]; if a person "
    remedy += f"knows that it is known in time, write data.known_before: [{names}]."
    return "cannot_tell", len(table.frame), f"Suspected leak: {said}. {remedy}"


def _told_in_words(table: Table) -> Answer:
    """Whether texts say the value of their target, as where a form's choice was pasted into what was said."""
    target = table.roles.target
    if target not in table.frame.columns:
        return "cannot_tell", 0, "Whether texts give the outcome away needs a target."
    values = as_text(table.frame[target]).fillna("").str.casefold()
    texts = as_text(table.frame[table.roles.text]).fillna("").str.casefold()
    written = zip(texts, values, values.str.replace("_", " "), strict=True)
    said = sum(len(value) >= SPOKEN and (value in text or plain in text) for text, value, plain in written)
    if said > GIVEN_AWAY * len(values):
        remedy = "Was it filled in with the answer? Leave it out of the texts."
        return (
            "cannot_tell",
            said,
            f"Suspected leak: {said / len(values):.0%} of texts hold their own {target!r}. {remedy}",
        )
    return "pass", 0, f"{said:,} texts hold their own {target!r}, of {len(values):,}."


def _texts(table: Table) -> Answer:
    name = table.roles.text
    if name is None or name not in table.frame.columns:
        return "pass", 0, "No column of words is named (data.text)."
    texts = as_text(table.frame[name]).fillna("")
    blank = int((texts == "").sum())
    if blank:
        return "cannot_tell", blank, f"{blank:,} of {len(texts):,} texts are blank. What do they stand for?"
    return "pass", 0, f"{len(texts):,} texts, {texts.nunique():,} of them different."


def _late_timestamps(table: Table) -> Answer:
    roles, frame = table.roles, table.frame
    aside = {*table.known_after, *roles.known_before}
    names = [name for name in _features(table) if name not in aside and _is_time(frame[name])]
    if not names:
        return "pass", 0, "No feature holds times."
    if roles.time is None or roles.time not in frame.columns or not _is_time(frame[roles.time]):
        remedy = "Name the time of the event as data.time to see which come later."
        return "cannot_tell", 0, f"Features with times: {listed(names)}. {remedy}"
    day_first = any(_day_first(frame[name]) for name in (*names, roles.time))
    event = _times(frame[roles.time], day_first)
    later = {name: int((_times(frame[name], day_first) > event).sum()) for name in names}
    findings = [f"{name!r} is later than {roles.time!r} in {count:,} rows" for name, count in later.items() if count]
    if not findings:
        return "pass", 0, f"No time among the features is later than {roles.time!r}: {listed(names)}."
    remedy = "What was written later was not known then: data.known_after and data.drop. Of a plan: data.known_before."
    return "cannot_tell", max(later.values()), f"Suspected leak: {'; '.join(findings)}. {remedy}"


def _is_time(column: pd.Series) -> bool:
    if pd.api.types.is_datetime64_any_dtype(column):
        return True
    if pd.api.types.is_numeric_dtype(column):
        return False
    texts = column.dropna().iloc[:200].astype(str)
    return len(texts) > 0 and float(texts.str.match(_DATE).mean()) >= DATED


def _day_first(column: pd.Series) -> bool:
    """Whether a first number above 12 shows that the day comes first."""
    if pd.api.types.is_datetime64_any_dtype(column):
        return False
    first = pd.to_numeric(column.dropna().astype(str).str.extract(_DATE)[0], errors="coerce")
    return bool(((first > 12) & (first <= 31)).any())


def _times(column: pd.Series, day_first: bool) -> pd.Series:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what cannot be read as a time is no time, and no finding
        return pd.to_datetime(column, errors="coerce", utc=True, dayfirst=day_first)


def _labels(table: Table) -> Answer:
    target = table.roles.target
    if target is None or target not in table.frame.columns:
        return "cannot_tell", 0, "No target column. Name the outcome as data.target."
    if table.roles.text is not None:
        return _many_labels(table)
    for part, frame in (("", table.frame), ("Test part: ", table.test)):
        if frame is None or target not in frame.columns:
            continue
        try:
            binary(frame[target], table.roles.positive)
        except CxlabError as error:
            return "fail", _outside(as_text(frame[target]), table.roles.positive), part + str(error)
    values = as_text(table.frame[target]).value_counts()
    said = listed(f"{value!r} {count:,}" for value, count in values.items())
    positive = as_text(table.frame[target])[table.outcome() == 1].iloc[0]
    return "pass", 0, f"{target!r} has two values ({said}); {positive!r} is the positive one."


def _many_labels(table: Table) -> Answer:
    for part, frame in (("", table.frame), ("Test part: ", table.test)):
        try:
            if frame is not None:
                table.codes(frame)
        except (CxlabError, KeyError) as error:
            return "fail", 0 if frame is None else len(frame), part + str(error)
    counts = as_text(table.frame[table.roles.target]).value_counts()
    ends = [f"{counts.index[place]!r} with {counts.iloc[place]:,} rows" for place in (0, -1)]
    said = f"the largest {ends[0]}, the smallest {ends[1]}"
    return "pass", 0, f"{table.roles.target!r} has {len(counts):,} values, {said}."


def _outside(text: pd.Series, positive: str) -> int:
    """Rows that are missing, or neither positive nor the commonest other value; all where that leaves one value."""
    others = text[text != positive].value_counts()
    two = {positive, *others.index[:1]} if (text == positive).any() else set(others.index[:2])
    outside = int((~text.isin(two)).sum())
    return outside or len(text)


def _class_counts(table: Table) -> Answer:
    held_out = 0.0 if table.test is not None else SplitParams().test
    least = math.ceil(MIN_PER_CLASS / (1 - held_out))
    rule = f"at least {least} ({MIN_PER_CLASS // FOLDS} in each of {FOLDS} folds, {held_out:.0%} held out to test)"
    if table.roles.text is not None and table.roles.target in table.frame.columns:
        counts = as_text(table.frame[table.roles.target]).value_counts()
        small = counts[counts < least]
        if small.empty:
            return "pass", 0, f"Each of {len(counts):,} classes has {rule}."
        names = listed((f"{name} ({count})" for name, count in small.items()), SHOWN)
        said = f"{len(small):,} of {len(counts):,} classes have fewer than {least} rows: {names}."
        return "fail", int(small.sum()), f"{said} Join them with others, or remove them."
    outcome = _outcome(table)
    if outcome is None:
        return "cannot_tell", 0, "Classes cannot be counted until the target has two values."
    smaller = int(min(outcome.sum(), len(outcome) - outcome.sum()))
    if smaller < least:
        return "fail", smaller, f"The smaller class has {smaller:,} rows, must have {rule}. Bring more rows of it."
    return "pass", 0, f"The smaller class has {smaller:,} rows, needs {rule}."


CHECKS: dict[str, tuple[str, Callable[[Table], Answer]]] = {
    "missing_columns": ("Columns are there", _missing_columns),
    "types": ("One type a column", _types),
    "duplicate_rows": ("No row twice", _duplicate_rows),
    "duplicate_ids": ("No customer twice", _duplicate_ids),
    "constant_columns": ("Features vary", _constant_columns),
    "identifiers": ("No identifier among the features", _identifiers),
    "known_after": ("Features are known in time", _known_after),
    "leak_suspects": ("No feature decides alone", _leak_suspects),
    "late_timestamps": ("No time after the event", _late_timestamps),
    "texts": ("Words are there", _texts),
    "labels": ("Labels are the declared ones", _labels),
    "class_counts": ("Classes can be split", _class_counts),
}
