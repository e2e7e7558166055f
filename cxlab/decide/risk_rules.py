"""Every call through the table of risk rules: what was measured of it, which rule decides, what cannot be told.

    calls = assess(frame, params)        # params of `load_file("params/risk_score.yaml", RiskParams)`
    calls.frame()                        # a row a call: for each area its risk and the rule that decided

Of each area the rules are asked in the order of the table, high before medium. A condition on a value that is missing
is neither true nor false, and so is a rule without a false condition and with such a one (Kleene 1952, Introduction to
metamathematics, section 64). The risk of a call is

- high, if a high rule holds, whatever else is missing; medium, if all high rules are false and a medium one holds; low,
  if all are false;
- not high, if all high rules are false and it cannot be told whether a medium one holds;
- not measured, if no high rule is known to hold, and of some it cannot be told.

What cannot be there is not missing: a call without media has no opinion score, one that was not answered no handle
time, so no rule on them holds (`unless` and `only` of the params). A measure whose column is not in the table, or is
empty, was not measured at all: rules on it are left out, and said to be.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from cxlab.display import PALETTE, Result, axes
from cxlab.errors import DataError, ParamsError, listed, missing_column
from cxlab.params.risk import AREAS, UNITS, Area, Condition, Measure, Period, RiskParams, RiskRule

if TYPE_CHECKING:
    from matplotlib.axes import Axes


HIGH, MEDIUM, LOW, NOT_HIGH, NOT_MEASURED = range(5)
RISKS = ("high", "medium", "low", "not high", "not measured")
NO, YES, UNKNOWN = 0, 1, -1  # whether something holds, int8
MANY = 30  # values from which on a median may be called too small for its unit
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
TRUE, FALSE = frozenset({"true", "yes", "y", "1", "1.0", "t"}), frozenset({"false", "no", "n", "0", "0.0", "f"})


@dataclass(frozen=True, repr=False, eq=False)
class CallRisks(Result):
    """The risk of every call.

    Attributes:
        params: The rules and what they were asked of.
        source: The table, its index fresh.
        risk: By area a place in `RISKS`, int8 of shape (n,); areas of which no high rule can be asked are not there.
        rule: By area the place among `params.rules` of the rule that decided, -1 for none, int16 of shape (n,).
        holds: By code whether a rule holds: 1, 0, or -1 where it cannot be told; int8 of shape (n,).
        unmeasured: Codes of the rules that were left out, since the table lacks a measure.
        answered: Whether each call was: 1, 0, or -1; shape (n,).
        absent: Segments of the params that the table lacks.
    """

    title: ClassVar[str] = "The risk of every call"

    params: RiskParams
    source: pd.DataFrame = field(repr=False)
    risk: dict[Area, np.ndarray] = field(repr=False)
    rule: dict[Area, np.ndarray] = field(repr=False)
    holds: dict[str, np.ndarray] = field(repr=False)
    unmeasured: tuple[str, ...]
    answered: np.ndarray = field(repr=False)
    absent: tuple[str, ...]

    @property
    def note(self) -> str:  # type: ignore[override]
        said = [f"Rules version {self.params.version}."]
        if self.unmeasured:
            said.append(f"Left out, since the table lacks a measure: {listed(self.unmeasured)}.")
        lost = [area for area in AREAS if area not in self.risk]
        said += [f"Nothing of {area} is measured." for area in lost]
        if self.absent:
            said.append(f"Segments not in the table: {listed(self.absent)}.")
        return " ".join(said)

    @property
    def timed(self) -> bool:
        """The table says when calls began."""
        return self.params.columns.get("time") in self.source

    def told(self, area: Area) -> np.ndarray:
        """Of which calls it can be told whether they are high, shape (n,)."""
        return np.asarray(self.risk[area] != NOT_MEASURED)

    def high(self, area: Area) -> np.ndarray:
        """Which calls are high, shape (n,)."""
        return np.asarray(self.risk[area] == HIGH)

    def rules(self, area: Area, risk: str = "high") -> list[RiskRule]:
        """The rules that were asked."""
        return [r for r in self.params.rules if (r.area, r.risk) == (area, risk) and r.code not in self.unmeasured]

    def frame(self) -> pd.DataFrame:
        """A row a call, in the table's order: its id (or row number), and for each area its risk and rule."""
        name = self.params.columns.get("id")
        made: dict[str, Any] = {}
        if name in self.source:
            made[str(name)] = self.source[name]
        else:
            made["row"] = np.arange(len(self.source))
        codes = np.array([*(rule.code for rule in self.params.rules), ""], dtype=object)  # the last is also place -1
        for area in AREAS:
            made[f"{area}_risk"] = RISKS[NOT_MEASURED]
            made[f"{area}_rule"] = ""
            if area in self.risk:
                made[f"{area}_risk"] = np.array(RISKS, dtype=object)[self.risk[area]]
                made[f"{area}_rule"] = codes[self.rule[area]]
        return pd.DataFrame(made)

    def write(self, path: str | Path) -> None:
        """Writes `frame`, as CSV or Parquet by the suffix, whole or not at all.

        Raises:
            ParamsError: The suffix is another one, or the folder is not there.
            DataError: It cannot be written.
        """
        path = writable(path)
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            if path.suffix == ".csv":
                self.frame().to_csv(beside, index=False)
            else:
                self.frame().to_parquet(beside, index=False)
            beside.replace(path)
        except OSError as error:
            raise DataError(f"{path} cannot be written: {error.strerror or error}. Name another place.") from None
        finally:
            beside.unlink(missing_ok=True)

    def plot(self) -> Axes:
        """How many calls are high, by the rule that decided."""
        ax = axes(self.title)
        for place, area in enumerate(self.risk):
            rules = self.rules(area)
            fired = np.bincount(self.rule[area][self.high(area)], minlength=len(self.params.rules))
            of = [self.params.rules.index(rule) for rule in rules]
            ax.barh([f"{area}: {rule.title}" for rule in rules], fired[of], color=PALETTE[place])
        ax.set_xlabel("high-risk calls in which the rule decided")
        ax.invert_yaxis()
        return ax


def writable(path: str | Path) -> Path:
    """A path that a table may be written to.

    Raises:
        ParamsError: Its suffix is neither .csv nor .parquet, or its folder is not there.
    """
    path = Path(path)
    if path.suffix not in (".csv", ".parquet"):
        raise ParamsError(f"{path} ends in {path.suffix!r}, must end in .csv or .parquet.")
    if not path.parent.is_dir() or path.is_dir():
        raise ParamsError(f"{path} cannot be written: {path.parent} must be a folder, and {path.name} none.")
    return path


def assess(frame: pd.DataFrame, params: RiskParams) -> CallRisks:
    """Asks the rules of every call.

    Args:
        frame: One row a call; about half a second a million.
        params: The rules, and which columns hold what they need.
    Raises:
        DataError: A column that the params name is not there, none that a high rule needs is, ids repeat, or values do
            not fit their unit: out of range, a median that no contact centre has, a flag that is neither yes nor no.
    """
    source = frame.reset_index(drop=True)
    _known(source, params)
    measured = _Measured(source, params)
    truth: dict[str, np.ndarray] = {}
    left = []
    for rule in params.rules:
        if all(measured.has(item.measure) for item in rule.when):
            truth[rule.code] = _all_hold([measured.holds(item) for item in rule.when])
        else:
            left.append(rule.code)
    risk: dict[Area, np.ndarray] = {}
    decided: dict[Area, np.ndarray] = {}
    for area in AREAS:
        asked = [(k, r) for k, r in enumerate(params.rules) if r.area == area and r.code in truth]
        ordered = {name: [(k, r) for k, r in asked if r.risk == name] for name in ("high", "medium")}
        if not ordered["high"]:
            continue
        states, first = {}, {}
        for name, rules in ordered.items():
            state, place = np.zeros(len(source), np.int8), np.full(len(source), -1, np.int16)
            for k, rule in reversed(rules):
                holds = truth[rule.code]
                state[(holds == UNKNOWN) & (state == NO)] = UNKNOWN
                state[holds == YES] = YES
                place[holds == YES] = k
            states[name], first[name] = state, place
        is_high, is_medium = states["high"], states["medium"]
        lower = np.select([is_medium == YES, is_medium == NO], [MEDIUM, LOW], NOT_HIGH)
        found = np.select([is_high == YES, is_high == UNKNOWN], [HIGH, NOT_MEASURED], lower).astype(np.int8)
        risk[area] = found
        decided[area] = np.select([found == HIGH, found == MEDIUM], [first["high"], first["medium"]], -1).astype(
            np.int16
        )
    if not risk:
        needs = sorted({i.measure for r in params.rules if r.risk == "high" for i in r.when} & set(params.measures))
        raise DataError(
            f"The table has no measure that a high rule needs; it has {listed(map(str, frame.columns))}. Needed is at "
            f"least one of {listed(needs)}, under its name or with --set columns.{needs[0]}=COLUMN."
        )
    absent = tuple(name for name in params.segments if name not in source)
    return CallRisks(params, source, risk, decided, truth, tuple(left), measured.answered(), absent)


def periods(calls: CallRisks, period: Period) -> pd.Series:
    """In which period each call began, as ordered categories, shape (n,); missing where no time is known.

    Raises:
        ParamsError: The params name no column of times that is in the table.
    """
    from cxlab.data.times import UNKNOWN as NO_TIME
    from cxlab.data.times import microseconds_of

    params, name = calls.params, calls.params.columns.get("time")
    if name not in calls.source:
        raise ParamsError(f"by {period} needs the time of calls; name its column: --set columns.time=COLUMN.")
    at = microseconds_of(calls.source[name], None, params.timezone)
    times = pd.Series(pd.to_datetime(np.where(at == NO_TIME, 0, at), unit="us", utc=True)).dt.tz_convert(
        params.timezone
    )
    if period == "hour":
        codes, labels = times.dt.hour.to_numpy(), [f"{hour:02d}" for hour in range(24)]
    elif period == "weekday":
        codes, labels = times.dt.weekday.to_numpy(), list(WEEKDAYS)
    else:
        day = times.dt.tz_localize(None).to_numpy().astype("datetime64[D]")
        if period == "week":  # named by its Monday; 1970-01-05 was one
            day = day - (day.astype(np.int64) - 4) % 7
        kind = "datetime64[M]" if period == "month" else "datetime64[D]"
        codes, found = pd.factorize(day.astype(kind).astype(np.int64), sort=True)
        labels = np.datetime_as_string(found.astype(kind)).tolist()
    known = pd.CategoricalDtype(labels, ordered=True)
    return pd.Series(pd.Categorical.from_codes(np.where(at == NO_TIME, -1, codes).tolist(), dtype=known))


def _known(source: pd.DataFrame, params: RiskParams) -> None:
    for measure, column in params.columns.items():
        if column not in source and measure in params.measures:
            raise missing_column(column, map(str, source.columns))
    name = params.columns.get("id")
    if name in source and source[name].duplicated().any():
        value, many = source.loc[source[name].duplicated(), name].iloc[0], int(source[name].duplicated().sum())
        raise DataError(
            f"Column {name!r} repeats: {value!r} is there again, {many:,} rows in all. A row must be a call: remove "
            "duplicates, or name another column with --set columns.id=COLUMN."
        )


class _Measured:
    """The measures of a table, in the rules' units, each read once."""

    def __init__(self, source: pd.DataFrame, params: RiskParams) -> None:
        self.source, self.params = source, params
        self._read: dict[str, np.ndarray | None] = {}
        self._holds: dict[Condition, np.ndarray] = {}

    def has(self, name: str) -> bool:
        return self.values(name) is not None

    def values(self, name: str) -> np.ndarray | None:
        """Numbers with NaN, flags as 1, 0 and -1, texts as an object array; None if not in the table."""
        if name not in self._read:
            made = self._derived(name)
            self._read[name] = made if made is not None or name not in self.params.measures else self._column(name)
        return self._read[name]

    def _derived(self, name: str) -> np.ndarray | None:
        if name == "hold_or_mute_seconds":
            parts = [self._on(x) for x in ("hold_seconds", "mute_seconds") if x in self.params.measures]
            known = [part for part in parts if part is not None]
            return np.sum(known, axis=0) if known else None
        if name == "hold_or_mute_share":
            part, whole = self.values("hold_or_mute_seconds"), self._on("handle_seconds")
            if part is None or whole is None:
                return None
            return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)
        if name == "answered" and self._column_of(name) is None:
            gone, handled = self.values("abandoned"), self.values("handle_seconds")
            if gone is not None:
                return np.where(gone == UNKNOWN, UNKNOWN, 1 - gone).astype(np.int8)
            if handled is not None:
                return np.where(np.isnan(handled), UNKNOWN, handled > 0).astype(np.int8)
        return None

    def _on(self, name: str) -> np.ndarray | None:
        return self.values(name) if name in self.params.measures else None

    def _column_of(self, name: str) -> str | None:
        column = self.params.columns.get(name, name)
        return column if column in self.source and self.source[column].notna().any() else None

    def _column(self, name: str) -> np.ndarray | None:
        column, measure = self._column_of(name), self.params.measures[name]
        if column is None:
            return None
        given = self.source[column]
        if measure.missing:
            given = given.mask(given.isin(measure.missing))
            if not given.notna().any():
                return None
        if measure.kind == "flag":
            return _flags(given, column, name)
        if measure.kind == "text":
            return given.astype(object).to_numpy()
        return _numbers(given, column, name, measure)

    def answered(self) -> np.ndarray:
        made = self._on("answered")
        return np.full(len(self.source), UNKNOWN, np.int8) if made is None else made

    def impossible(self, name: str) -> np.ndarray | None:
        """Of which calls a measure cannot be there, shape (n,); None: of none."""
        if name in ("hold_or_mute_seconds", "hold_or_mute_share"):
            parts = [self.impossible(x) for x in ("hold_seconds", "handle_seconds") if x in self.params.measures]
            known = [part for part in parts if part is not None]
            return np.any(known, axis=0) if known else None
        measure, found = self.params.measures[name], None
        for flag, value in ((measure.unless, YES), (measure.only, NO)):
            values = None if flag is None else self.values(flag)
            if values is not None:
                found = (values == value) if found is None else found | (values == value)
        return found

    def holds(self, item: Condition) -> np.ndarray:
        """Whether a condition does, int8 of shape (n,)."""
        if item not in self._holds:
            self._holds[item] = self._asked(item)
        return self._holds[item]

    def _asked(self, item: Condition) -> np.ndarray:
        values = self.values(item.measure)
        assert values is not None
        if isinstance(item.value, bool):
            found = np.where(values == UNKNOWN, UNKNOWN, values == item.value)
        elif isinstance(item.value, tuple):
            codes, texts = pd.factorize(values)
            wanted = {text.casefold() for text in item.value}
            fits = np.array([*(str(text).strip().casefold() in wanted for text in texts), UNKNOWN], np.int8)
            found = fits[codes]  # the last one is of the code -1, for missing
        else:
            compare = {"<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal}[item.op]
            found = np.where(np.isnan(values), UNKNOWN, compare(values, item.value))
        gone = self.impossible(item.measure)
        return (found if gone is None else np.where(gone, NO, found)).astype(np.int8)


def _all_hold(parts: list[np.ndarray]) -> np.ndarray:
    """Kleene's conjunction."""
    false, true = np.any([p == NO for p in parts], axis=0), np.all([p == YES for p in parts], axis=0)
    return np.select([false, true], [NO, YES], UNKNOWN).astype(np.int8)


def _flags(given: pd.Series, column: str, name: str) -> np.ndarray:
    if given.dtype == bool:
        return given.to_numpy().astype(np.int8)
    codes, values = pd.factorize(given)
    texts = [str(value).strip().casefold() for value in values]
    wrong = [value for value, text in zip(values, texts, strict=True) if text not in TRUE | FALSE]
    if wrong:
        raise DataError(
            f"Column {column!r} ({name}) holds {listed(map(repr, wrong), 3)}; it must say yes or no, true or false, "
            f"1 or 0. Name another column with --set columns.{name}=COLUMN, or what is no answer with "
            f"--set 'measures.{name}.missing=[{wrong[0]}]'."
        )
    return np.array([*(YES if text in TRUE else NO for text in texts), UNKNOWN], np.int8)[codes]


def _numbers(given: pd.Series, column: str, name: str, measure: Measure) -> np.ndarray:
    """In the rules' unit.

    Raises:
        DataError: A value is no number or out of its range, or the median is not typical: most often a wrong unit.
    """
    factor = measure.factor
    if pd.api.types.is_timedelta64_dtype(given):
        values, factor = given.dt.total_seconds().to_numpy(), 1.0
    else:
        read = pd.to_numeric(given, errors="coerce")
        wrong = given[read.isna() & given.notna()]
        if len(wrong):
            raise DataError(
                f"Column {column!r} ({name}) has {len(wrong):,} values that are no number, such as {wrong.iloc[0]!r}. "
                f"If they stand for what was not measured: --set 'measures.{name}.missing=[{wrong.iloc[0]}]'."
            )
        values = read.to_numpy(np.float64, na_value=np.nan) * factor
    known = values[~np.isnan(values)]
    units = [unit for unit in UNITS.get(measure.kind, {}) if unit != measure.unit]
    remedy = (
        f"If the column is in another unit, say so: --set measures.{name}.unit={' or '.join(units)}."
        if units
        else f"If the column is on another scale, it is not {name}: remove it from columns, or bring it to this one."
    )
    is_unit = f" {measure.unit}" if measure.unit else ""
    if measure.range is not None:
        low, high = measure.range
        outside = known[(known < low) | (known > high)]
        if len(outside):
            raise DataError(
                f"Column {column!r} ({name}) has {len(outside):,} of {len(known):,} values outside {low:g} to "
                f"{high:g}, such as {outside[0] / factor:g}{is_unit}. {remedy} If such a value stands for what was not "
                f"measured: --set 'measures.{name}.missing=[{outside[0] / factor:g}]'; if it is right, widen "
                f"measures.{name}.range."
            )
    some = known[known > 0]
    if measure.typical is not None and len(some):
        median, (low, high) = float(np.median(some)), measure.typical
        if median > high or (median < low and len(some) >= MANY):
            raise DataError(
                f"Column {column!r} ({name}) has a median of {median / factor:g}{is_unit}, which is outside "
                f"{low:g} to {high:g} in the rules' unit: this looks like a wrong unit. {remedy} If it is right, widen "
                f"measures.{name}.typical."
            )
    return values
