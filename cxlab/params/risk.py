"""The table of risk rules: what is measured of a call, in which unit, and from which value on it is a risk.

rules = load_file("params/risk_score.yaml", RiskParams, ["columns.mos=mean_opinion", "measures.mos.missing=[0]"])
"""

from __future__ import annotations

import re
from contextlib import suppress
from itertools import permutations
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import Field, StrictBool, model_validator

from cxlab.errors import listed, unknown
from cxlab.params.files import Section

Area = Literal["technology", "operations"]
AREAS: tuple[Area, ...] = ("technology", "operations")
Period = Literal["hour", "weekday", "day", "week", "month"]
# What measures are made of others in `cxlab.decide.risk_rules`.
_WRITTEN = re.compile(r"(?P<measure>\w+) +(?P<op><=|<|>=|>|is) +(?P<value>.+)")
DERIVED = ("hold_or_mute_seconds", "hold_or_mute_share")
DAY = 86_400.0
UNITS = {
    "seconds": {"s": 1.0, "ms": 0.001, "min": 60.0, "h": 3600.0},
    "percent": {"percent": 1.0, "fraction": 100.0},
}


class Measure(Section):
    """What a column holds.

    Attributes:
        kind: seconds, percent, number, flag (yes or no) or text.
        unit: Of the column: s, ms, min or h for seconds; percent or fraction for percent.
        range: What every value must lie in, in the rules' unit (seconds, percent).
        typical: What the median of the values above 0 must lie in: a wrong unit lies outside.
        missing: Values that stand for "not measured".
        unless: A flag; where it is true this cannot be measured, and no rule on it holds.
        only: A flag; where it is false this cannot be measured, and no rule on it holds.
    """

    kind: Literal["seconds", "percent", "number", "flag", "text"]
    unit: str | None = None
    range: tuple[float, float] | None = None
    typical: tuple[float, float] | None = None
    missing: tuple[Any, ...] = ()
    unless: str | None = None
    only: str | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        known = UNITS.get(self.kind, {})
        if self.unit is not None and self.unit not in known:
            raise ValueError(f"a unit of {self.kind}: {listed(known) or 'none'}; it is {self.unit!r}")
        for name, pair in (("range", self.range), ("typical", self.typical)):
            if pair is not None and (self.kind in ("flag", "text") or not pair[0] < pair[1]):
                raise ValueError(f"without {name}, or a number with {name} [low, high]; it is {list(pair)}")
        return self

    @property
    def factor(self) -> float:
        """What a value is multiplied with to be in the rules' unit."""
        return UNITS[self.kind][self.unit] if self.unit is not None else 1.0


class Condition(Section):
    """One comparison, as `mos < 3.5`, `no_media is true`, `network is wifi or wlan`, or its three keys.

    One that cannot be made, since the value is missing, is neither true nor false.
    """

    measure: str
    op: Literal["<", "<=", ">", ">=", "is"]
    value: Annotated[StrictBool | float | tuple[str, ...], Field(union_mode="left_to_right")]

    @model_validator(mode="before")
    @classmethod
    def _written(cls, given: Any) -> Any:
        if isinstance(given, str):
            parts = _WRITTEN.fullmatch(given.strip())
            if parts is None:
                raise ValueError("a condition such as mos < 3.5, no_media is true or network is wifi")
            text = parts["value"]
            value: bool | float | tuple[str, ...] | None = None
            if parts["op"] == "is":
                value = {"true": True, "false": False}.get(text, tuple(item.strip() for item in text.split(" or ")))
            else:
                with suppress(ValueError):
                    value = float(text)
            if value is None:
                raise ValueError(f"a condition with a number after {parts['op']}, as in mos < 3.5")
            return {"measure": parts["measure"], "op": parts["op"], "value": value}
        if isinstance(given, dict) and isinstance(given.get("value"), str):
            return given | {"value": (given["value"],)}
        return given

    def __str__(self) -> str:
        value = self.value
        if isinstance(value, tuple):
            return f"{self.measure} {self.op} {' or '.join(value)}"
        return f"{self.measure} {self.op} {str(value).lower() if isinstance(value, bool) else f'{value:g}'}"


class RiskRule(Section):
    """Conditions that make a call a risk when they all hold."""

    area: Area
    risk: Literal["high", "medium"]
    code: Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
    title: Annotated[str, Field(min_length=1)]
    when: tuple[Condition, ...]


class CauseParams(Section):
    """How root causes are looked for; see `cxlab.decide.root_causes`."""

    conditions: tuple[str, ...] = ()
    times: tuple[Period, ...] = ("hour", "weekday")
    pairs: bool = True
    least_calls: Annotated[int, Field(ge=10)] = 50
    least_ratio: Annotated[float, Field(ge=1)] = 1.2
    false_discoveries: Annotated[float, Field(gt=0, lt=1)] = 0.05
    most: Annotated[int, Field(ge=1)] = 10


class RiskParams(Section):
    """The whole table.

    Attributes:
        version: Of the rules; said in every result.
        columns: id, time or a measure, and the column it lies in; a measure not named here lies in one of its own name.
        timezone: Of times without an offset, and of hours and days.
        segments: Columns whose values are scored apart; those not in a table are passed over.
        times: Periods that are scored apart.
        cluster: The column of what calls share, such as the agent, in comparisons and causes; null: calls are
            independent.
        measures: By name.
        rules: In the order of evaluation within area and risk.
        causes: How causes are looked for.
    """

    version: str
    columns: dict[str, str] = Field(default_factory=dict)
    timezone: str = "UTC"
    segments: tuple[str, ...] = ()
    times: tuple[Period, ...] = ()
    cluster: str | None = None
    measures: dict[str, Measure]
    rules: tuple[RiskRule, ...]
    causes: CauseParams = CauseParams()

    @model_validator(mode="after")
    def _sound(self) -> Self:
        try:
            ZoneInfo(self.timezone)
        except (KeyError, ValueError, OSError):  # not found; not well-formed; a folder
            raise ValueError(
                f"timezone == {self.timezone!r}, must be a time zone's name such as Europe/Berlin."
            ) from None
        for name in self.columns:
            if name not in (*self.measures, "id", "time"):
                raise ValueError(unknown("Measure", name, ["id", "time", *self.measures], "in measures") + HOW)
        for name, measure in self.measures.items():
            for key, other in (("unless", measure.unless), ("only", measure.only)):
                if other is not None and (other not in self.measures or self.measures[other].kind != "flag"):
                    raise ValueError(f"measures.{name}.{key} == {other!r}, must be a measure of kind flag.")
        empty = [rule.code for rule in self.rules if not rule.when]
        if empty or not self.rules:
            raise ValueError(f"Rule {empty[0]} has no condition." if empty else "rules has no rule; add one.")
        twice = sorted({r.code for r in self.rules if sum(r.code == other.code for other in self.rules) > 1})
        if twice:
            raise ValueError(f"Rule code {twice[0]!r} is there more than once. Every rule needs a code of its own.")
        bounds = {rule.code: self._bounds(rule) for rule in self.rules}
        for first, second in permutations(self.rules, 2):
            _overlap(first, second, bounds)
        return self

    def kind_of(self, name: str) -> Measure:
        """A measure by its name, a derived one too."""
        if name in DERIVED:
            return Measure(kind="number" if name.endswith("share") else "seconds", range=(0.0, 2 * DAY))
        return self.measures[name]

    def _bounds(self, rule: RiskRule) -> dict[str, Bounds]:
        """What each measure of a rule must be.

        Raises:
            ValueError: A condition does not fit its measure, cannot hold or always holds, or two exclude each other.
        """
        found: dict[str, Bounds] = {}
        for item in rule.when:
            if item.measure not in (*self.measures, *DERIVED):
                said = unknown("Measure", item.measure, [*self.measures, *DERIVED], "in measures")
                raise ValueError(f"Rule {rule.code}: {said}")
            measure = self.kind_of(item.measure)
            wants: Any = {"flag": bool, "text": tuple}.get(measure.kind, float)
            if type(item.value) is not wants or (item.op == "is") != (wants is not float):
                form = {bool: "is true or is false", tuple: "is and a text or a list of texts"}
                need = form.get(wants, "<, <=, > or >= and a number")
                raise ValueError(f"Rule {rule.code}: {item} does not fit {measure.kind}, which needs {need}.")
            made = Bounds.of(item)
            if measure.range is not None and wants is float:
                whole = Bounds(low=measure.range[0], high=measure.range[1])
                if made.meet(whole).empty or whole.within(made):
                    how = "can never hold" if made.meet(whole).empty else "always holds"
                    raise ValueError(
                        f"Rule {rule.code}: {item} {how}, as {item.measure} lies in {measure.range[0]:g} to "
                        f"{measure.range[1]:g}. Is the value in another unit? Rules are in seconds and percent."
                    )
            before = found.get(item.measure)
            found[item.measure] = made if before is None else before.meet(made)
            if found[item.measure].empty:
                said = " and ".join(str(x) for x in rule.when if x.measure == item.measure)
                raise ValueError(f"Rule {rule.code}: {said} cannot both hold. Make two rules of it, or mend a value.")
        return found


HOW = " A measure is declared in measures, as mos: {kind: number, range: [1, 5]}."


class Bounds(Section):
    """The values that a condition allows: an interval, with ends that belong to it unless open, or a set."""

    low: float = float("-inf")
    high: float = float("inf")
    low_open: bool = False
    high_open: bool = False
    values: frozenset[Any] | None = None

    @classmethod
    def of(cls, item: Condition) -> Bounds:
        """Of one condition."""
        if isinstance(item.value, tuple):
            return cls(values=frozenset(text.casefold() for text in item.value))
        if isinstance(item.value, bool):
            return cls(values=frozenset([item.value]))
        if item.op.startswith("<"):
            return cls(high=item.value, high_open=item.op == "<")
        return cls(low=item.value, low_open=item.op == ">")

    def meet(self, other: Bounds) -> Bounds:
        """What both allow."""
        if self.values is not None and other.values is not None:
            return Bounds(values=self.values & other.values)
        low, high = max(self.low, other.low), min(self.high, other.high)
        return Bounds(
            low=low,
            high=high,
            low_open=any(x.low == low and x.low_open for x in (self, other)),
            high_open=any(x.high == high and x.high_open for x in (self, other)),
        )

    def within(self, other: Bounds) -> bool:
        """Whether the other allows all that this allows."""
        return self.meet(other) == self

    @property
    def empty(self) -> bool:
        if self.values is not None:
            return not self.values
        return self.low > self.high or (self.low == self.high and (self.low_open or self.high_open))


def _overlap(one: RiskRule, other: RiskRule, bounds: dict[str, dict[str, Bounds]]) -> None:
    """Whether a rule can never decide, since another one holds wherever it does and comes first.

    Raises:
        ValueError: It is so.
    """
    if one.area != other.area or (one.risk, other.risk) == ("medium", "high"):
        return
    wide, narrow = bounds[one.code], bounds[other.code]
    if not all(name in narrow and narrow[name].within(limit) for name, limit in wide.items()):
        return
    said = [f"{rule.code} ({rule.risk}: {' and '.join(map(str, rule.when))})" for rule in (one, other)]
    raise ValueError(
        f"Rules overlap in {one.area}: wherever {said[1]} holds, {said[0]} holds too, so that it can never decide. "
        f"Remove {other.code}, or change a value."
    )
