"""Is this log fit to learn from? The checks of `cxlab.data.quality`, asked of cases and their events.

quality = check_log(read_log(params.data))
quality.failed        # True if any check said no
"""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pandas as pd

from cxlab.data.log import LONGEST_CASE, LogTable, check_roles
from cxlab.data.quality import Answer, Quality, Status, _comparable, asked, identifiers
from cxlab.data.schema import as_text
from cxlab.errors import CxlabError, listed

FEWEST = 10  # of an event, below which nothing is learnt of it
RARE = 0.01  # share of rows that may be rare events, or have a clock that runs backwards
CLASSES = 300  # events that a model tells apart; all rarer ones are one
LUMPED = 0.10  # share of rows from which it matters that they are
TIED = 0.05  # share of events that may have the time of the one before, where nothing says which came first
EMPTY = 0.95  # share of missing values from which an attribute says next to nothing
SHORT = 0.5  # share of cases of one event beyond which there is little to continue
BINS = 20  # quantiles into which a number is cut to be read alone
AHEAD = 4.0  # times fewer errors about the next event than by the last event, from which an attribute is suspect
LEAST = 200  # rows with a next event, below which nobody is suspected
SHOWN = 5  # names shown
_COUNT = re.compile(r"\d[\d,]*")


def check_log(table: LogTable) -> Quality:
    """Checks a log and the roles it was given.

    Args:
        table: As `read_log` gives it.
    Returns:
        One answer a check, always the same checks in the same order.
    """
    return Quality(asked(CHECKS, table), len(table.frame))


def _count(said: str) -> int:
    """The first number of a sentence."""
    found = _COUNT.search(said)
    assert found is not None
    return int(found[0].replace(",", ""))


def _missing_columns(table: LogTable) -> Answer:
    try:
        check_roles(table.roles, list(map(str, table.frame.columns)))
    except CxlabError as error:
        return "fail", len(table.frame), str(error)
    return "pass", 0, "Every column that the params name is there."


def _left_out(table: LogTable) -> Answer:
    notes = [note for note in table.source.notes if "are left out" in note]
    if not notes:
        return "pass", 0, "No row was left out but for what params or customers do not permit."
    rows = sum(map(_count, notes))
    return "cannot_tell", rows, f"{' '.join(notes)} Would they have told something else? Mend them where they are made."


def _duplicate_rows(table: LogTable) -> Answer:
    again = _comparable(table.frame).duplicated()
    if not again.any():
        return "pass", 0, "No row is there twice."
    said = f"{int(again.sum()):,} rows repeat an earlier one in full; each is learnt from as an event of its own."
    return "fail", int(again.sum()), f"{said} Remove them."


def _same(table: LogTable) -> np.ndarray:
    """Whether each row is of the case of the row before."""
    return np.append(False, table.cases[1:] == table.cases[:-1])


def _ties(table: LogTable) -> Answer:
    time = table.frame[str(table.roles.time)]
    tied = int((_same(table) & time.eq(time.shift()).to_numpy()).sum())
    said = f"{tied:,} of {len(time):,} events have the time of the one before in their case"
    if not tied:
        return "pass", 0, "No two events of a case have the same time."
    if table.roles.order is not None:
        return "pass", tied, f"{said}; {table.roles.order!r} says which came first."
    status: Status = "cannot_tell" if tied > TIED * len(time) else "pass"
    return status, tied, f"{said}; they stay in the order of the rows. Name a column that tells it as data.order."


def _backwards(table: LogTable) -> Answer:
    time = table.frame[str(table.roles.time)]
    back = int((_same(table) & (time < time.shift()).to_numpy()).sum())
    if not back:
        return "pass", 0, "No event has a time before the one that it follows."
    said = f"{back:,} of {len(time):,} events have a time before the one that {table.roles.order!r} puts first"
    status: Status = "cannot_tell" if back > RARE * len(time) else "pass"
    return status, back, f"{said}: taken as if no time had passed. Which of the two is wrong?"


def _short_cases(table: LogTable) -> Answer:
    lengths = np.bincount(table.cases)
    one = int((lengths == 1).sum())
    said = f"{one:,} of {len(lengths):,} cases have one event; the median case has {int(np.median(lengths)):,}."
    if one <= SHORT * len(lengths):
        return "pass", one, said
    return "cannot_tell", one, f"{said} There is little to continue: is it the right case column?"


def _events(table: LogTable) -> pd.Series:
    return as_text(table.frame[str(table.roles.event)]).value_counts()


def _rare_events(table: LogTable) -> Answer:
    counts = _events(table)
    rare = counts[counts < FEWEST]
    said = f"{len(rare):,} of {len(counts):,} events were seen fewer than {FEWEST} times"
    if rare.empty:
        return "pass", 0, f"Each of {len(counts):,} events was seen at least {FEWEST} times."
    rows, share = int(rare.sum()), rare.sum() / len(table.frame)
    status: Status = "cannot_tell" if share > RARE else "pass"
    return status, rows, f"{said} ({share:.1%} of rows): {listed(rare.index, SHOWN)}. Nothing is learnt of them."


def _many_events(table: LogTable) -> Answer:
    counts = _events(table)
    if len(counts) <= CLASSES:
        return "pass", 0, f"{len(counts):,} events, at most {CLASSES} are told apart."
    rows, share = int(counts[CLASSES:].sum()), counts[CLASSES:].sum() / len(table.frame)
    said = f"{len(counts):,} events; the {len(counts) - CLASSES:,} rarest ({share:.1%} of rows) are one, (other)"
    return "fail" if share > LUMPED else "cannot_tell", rows, f"{said}. Name events more coarsely."


def _attributes(table: LogTable) -> list[str]:
    return [name for name in table.roles.attributes if name in table.frame.columns]


def _varied(table: LogTable) -> Answer:
    n, findings, rows = len(table.frame), [], 0
    for name in _attributes(table):
        column = table.frame[name].astype(object).map(str, na_action="ignore")
        missing, distinct = int(column.isna().sum()), int(column.nunique())
        if distinct == 0 or (distinct == 1 and not missing):
            findings.append(f"{name!r} is always the same" if distinct else f"{name!r} has no value at all")
            rows = n
        elif missing > EMPTY * n:
            findings.append(f"{name!r} is missing in {missing / n:.1%} of rows")
            rows = max(rows, missing)
    if not findings:
        return "pass", 0, "Each attribute varies." if _attributes(table) else "No attributes are declared."
    return "fail", rows, f"{'; '.join(findings)}. Nothing can be learnt there: take them out of data.attributes."


def _identifiers(table: LogTable) -> Answer:
    found = identifiers(table)
    if not found:
        return "pass", 0, "No attribute names its rows."
    rows = max(int(table.frame[name].notna().sum()) for name in found)
    remedy = f"Take them out of data.attributes: {listed(found)}."
    return "fail", rows, f"{'; '.join(found.values())}. A name tells nothing about the next case. {remedy}"


def _fixed(table: LogTable) -> Answer:
    begins = np.flatnonzero(~_same(table))
    lengths = np.diff(np.append(begins, len(table.frame)))
    names = []
    for name in _attributes(table):
        code = pd.factorize(table.frame[name])[0]
        if (code == np.repeat(code[begins], lengths)).all() and (lengths > 1).any():
            names.append(name)
    if not names:
        return "pass", 0, "No attribute is the same in all rows of each case."
    said = (
        f"The same in all rows of each case: {listed(names)}. That proves nothing: it may be known from the first event"
    )
    return "pass", 0, f"{said} on, or have been written back to all rows later. A person who knows the source can tell."


def _known_after(table: LogTable) -> Answer:
    declared = table.known_after
    late = {name: who for name, who in declared.items() if name in table.features}
    if late:
        says = ", ".join(f"{name!r} (says the {who})" for name, who in late.items())
        remedy = "A model would lean on what it cannot know in time. Take them out of data.attributes."
        return "fail", len(table.frame), f"Known only after the outcome, yet among the attributes: {says}. {remedy}"
    if declared:
        return "pass", 0, f"Known only after the outcome and set aside: {listed(declared)}."
    return "pass", 0, "No column is declared as known only after the outcome (data.known_after)."


def _leak_suspects(table: LogTable) -> Answer:
    """Attributes that tell the next event alone, far better than the last event does; by halves of the cases."""
    rows = np.flatnonzero(~table.last)
    if len(rows) < LEAST:
        return (
            "cannot_tell",
            0,
            f"{len(rows):,} rows have a next event, must be at least {LEAST} to suspect an attribute.",
        )
    events = pd.factorize(table.frame[str(table.roles.event)])[0]
    following, learns = events[rows + 1], np.random.default_rng(0).random(int(table.cases[-1]) + 1) < 0.5
    half = learns[table.cases[rows]]
    wrong = _wrong(events[rows], following, half)
    cleared = set(table.roles.known_before)
    found = {}
    for name in _attributes(table):
        share = _wrong(_coded(table.frame[name])[rows], following, half)
        if share * AHEAD < wrong and name not in cleared:
            found[name] = f"{name!r} alone misses the next event in {share:.1%} of rows, the last event in {wrong:.1%}"
    if not found:
        return "pass", 0, "No attribute tells the next event by itself."
    remedy = f"If it is written down later, write data.known_after: [{', '.join(found)}] and take it out of "
    remedy += f"data.attributes; if it is known in time, write data.known_before: [{', '.join(found)}]."
    return "cannot_tell", len(table.frame), f"Suspected leak: {'; '.join(found.values())}. {remedy}"


def _coded(column: pd.Series) -> np.ndarray:
    """Values as codes, numbers of many values by quantiles, shape (n,)."""
    if pd.api.types.is_numeric_dtype(column) and column.nunique() > BINS:
        return pd.qcut(column, BINS, labels=False, duplicates="drop").fillna(-1).to_numpy(np.int64)
    return pd.factorize(column)[0]


def _wrong(code: np.ndarray, following: np.ndarray, half: np.ndarray) -> float:
    """How often the commonest next event of a value, by one half of the cases, is wrong in the other."""
    counted = pd.DataFrame({"code": code[half], "next": following[half]}).value_counts()
    best = counted.reset_index().drop_duplicates("code").set_index("code")["next"]
    usual = np.bincount(following[half]).argmax() if half.any() else -1
    said = pd.Series(code[~half]).map(best).fillna(usual).to_numpy()
    return float((said != following[~half]).mean()) if (~half).any() else 1.0


def _late_timestamps(table: LogTable) -> Answer:
    aside = {*table.known_after, *table.roles.known_before}
    found = {name: said for name, said in table.suspects().items() if name not in aside}
    if not found:
        return "pass", 0, "No column holds a time later than its event, or it is declared."
    used = [name for name in found if name in table.roles.attributes]
    rows = max(_count(said.removeprefix(f"{name}:")) for name, said in found.items())
    remedy = f"What was written later was not known then: data.known_after: [{', '.join(found)}]"
    remedy += f", and take {listed(used)} out of data.attributes." if used else "; columns written with it are suspect."
    return "fail" if used else "cannot_tell", rows, f"{' '.join(found.values())} {remedy} Of a plan: data.known_before."


def _open_cases(table: LogTable) -> Answer:
    n = int(table.cases[-1]) + 1
    if not table.roles.ends:
        said = "data.ends names no event, so every case counts as ended with its last row, also one that was still open"
        return "cannot_tell", 0, f"{said} when the log was written. Name the events that end a case."
    still = int((~table.ended[table.last]).sum())
    return "pass", still, f"{still:,} of {n:,} cases are still open; they count for as long as they were seen."


def _cut_cases(table: LogTable) -> Answer:
    cut = int((np.bincount(table.cases) >= LONGEST_CASE).sum())
    if not cut:
        return "pass", 0, f"No case has {LONGEST_CASE:,} events, which is as many as are kept."
    said = f"{cut:,} cases have {LONGEST_CASE:,} events and more, of which the first are kept"
    return "cannot_tell", cut * LONGEST_CASE, f"{said}: is the case column a case's?"


CHECKS: dict[str, tuple[str, Callable[[LogTable], Answer]]] = {
    "missing_columns": ("Columns are there", _missing_columns),
    "left_out": ("No row left out", _left_out),
    "duplicate_rows": ("No row twice", _duplicate_rows),
    "equal_times": ("The order is told", _ties),
    "clock": ("The clock runs forwards", _backwards),
    "short_cases": ("Cases go on", _short_cases),
    "rare_events": ("Events are frequent enough", _rare_events),
    "many_events": ("Events can be told apart", _many_events),
    "constant_columns": ("Attributes vary", _varied),
    "identifiers": ("No identifier among the attributes", _identifiers),
    "case_attributes": ("Attributes that stay", _fixed),
    "known_after": ("Attributes are known in time", _known_after),
    "leak_suspects": ("No attribute tells what comes next", _leak_suspects),
    "late_timestamps": ("No time after the event", _late_timestamps),
    "open_cases": ("Open cases are known", _open_cases),
    "cut_cases": ("Cases are whole", _cut_cases),
}
