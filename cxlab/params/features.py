"""Features of events, declared: what each counts, over which window, in which unit and what it gives where nothing is.

    features = load_features("params/features/service_company.yaml")
    describe(features)            # name, unit, description: the words that reports use

`cxlab.features.events` computes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Self

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from cxlab.errors import ParamsError, listed, nearest, unknown

if TYPE_CHECKING:
    import pandas as pd

ALL = "all"  # a window without a beginning


class Kind(NamedTuple):
    """What a kind needs, what it is called in words, and what it gives where no event is.

    Attributes:
        words: For the description, with {of} the property and {events} the events.
        unit: Where none is declared.
        empty: 0, or None for null.
        needs: Keys it cannot do without.
        may: Further keys that mean something to it.
    """

    words: str
    unit: str
    empty: int | None
    needs: tuple[str, ...] = ()
    may: tuple[str, ...] = ()


KINDS = {
    "count": Kind("number of {events}", "events", 0),
    "sum": Kind("sum of {of} over {events}", "", 0, ("property",)),
    "mean": Kind("mean {of} of {events}", "", None, ("property",)),
    "min": Kind("lowest {of} of {events}", "", None, ("property",)),
    "max": Kind("highest {of} of {events}", "", None, ("property",)),
    "distinct": Kind("number of different values of {of} among {events}", "values", 0, ("property",)),
    "last": Kind("latest {of} among {events}", "", None, ("property",), ("text",)),
    "recency": Kind("days since the latest of {events}", "days", None),
    "interval_mean": Kind("mean days between consecutive {events}; null below two", "days", None),
    "interval_std": Kind(
        "standard deviation (n - 1) of the days between consecutive {events}; null below three", "days", None
    ),
    "trend": Kind(
        "events a week in the later half of the window less those in the earlier half, of {events}",
        "events a week",
        0,
        ("window",),
    ),
    "decayed": Kind("{of} of {events}, each halved every {half_life:g} days", "", 0, ("half_life",), ("property",)),
    "share": Kind("share of {events} among {base}; null without any", "share", None),
    "ratio": Kind("{numerator} divided by {denominator}; null where that is 0 or null", "ratio", None),
}


def _several(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def _text(value: Any) -> Any:
    """YAML reads true and 1 as other types than text; properties are compared by their text in JSON."""
    if isinstance(value, Mapping):
        return {key: _text(item) for key, item in value.items()}
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_several)]
Property = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Days = Annotated[int, Field(ge=1, le=36_500)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)


class Which(_Section):
    """Which events are meant; nothing given means all of them.

    Attributes:
        event: Names of events, any of them.
        channel: Channels, any of them.
        where: Values of properties, all of them, compared by their text.
    """

    event: Names = ()
    channel: Names = ()
    where: Annotated[dict[Property, str], BeforeValidator(_text)] = {}

    def which(self) -> tuple[tuple[str, ...], tuple[str, ...], tuple[tuple[str, str], ...]]:
        """The same as one hashable key, in sorted order."""
        return tuple(sorted(self.event)), tuple(sorted(self.channel)), tuple(sorted(self.where.items()))

    def words(self) -> str:
        """`order events by app or web whose resolved is true`."""
        out = f"{' or '.join(self.event)} events" if self.event else "events"
        out += f" by {' or '.join(self.channel)}" if self.channel else ""
        return out + (f" whose {' and '.join(f'{k} is {v}' for k, v in self.where.items())}" if self.where else "")


class Feature(Which):
    """One feature.

    Attributes:
        kind: What is computed; the keys of `KINDS`.
        name: Generated from the rest if not given.
        unit: Of its values.
        description: In words; generated if not given.
        property: What is summed, averaged, ...: a number, and for distinct a text.
        window: Days back from the cutoff, [cutoff - window, cutoff), or all.
        half_life: Days after which an event counts half (decayed).
        text: The property is a text (last).
        numerator: A ratio's upper feature, by name.
        denominator: Its lower one.
        windows: Instead of both: the same count (or sum, with a property) over two windows, in days.
    """

    kind: Literal[tuple(KINDS)]  # type: ignore[valid-type]
    name: str = Field("", pattern=r"^([A-Za-z_][A-Za-z0-9_]*)?$")
    unit: str = ""
    description: str = ""
    property: Property | None = None
    window: Days | Literal["all"] = "all"
    half_life: float | None = Field(None, gt=0)
    text: bool = False
    numerator: str | None = None
    denominator: str | None = None
    windows: tuple[Days, Days] | None = None

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        kind = KINDS[self.kind]
        missing = [key for key in kind.needs if getattr(self, key) in (None, ALL)]
        if missing:
            raise ValueError(f"declared with {missing[0]} for kind {self.kind}")
        own = {"property", "half_life", "text", "numerator", "denominator", "windows"}
        may = {*kind.needs, *kind.may, *(own - {"half_life", "text"} if self.kind == "ratio" else ())}
        given = {key for key in own if getattr(self, key) != type(self).model_fields[key].default}
        extra = sorted(given - may)
        if extra:
            raise ValueError(f"declared without {extra[0]}, which says nothing to kind {self.kind}")
        if self.kind == "ratio" and (self.windows is None) == (self.numerator is None or self.denominator is None):
            raise ValueError("declared with numerator and denominator, or with windows, for kind ratio")
        if self.kind == "share" and not (self.channel or self.where):
            raise ValueError("declared with channel or where (whose share?) for kind share")
        object.__setattr__(self, "name", self.name or self._named())
        object.__setattr__(self, "unit", self.unit or KINDS[self.kind].unit or "as recorded")
        object.__setattr__(self, "description", self.description or self._described())
        return self

    def _named(self) -> str:
        if self.numerator is not None:
            return f"{self.numerator}_per_{self.denominator}"
        what = [*self.event, *self.channel, *(f"{k}_{v}" for k, v in self.where.items()), self.property or ""]
        span = "_".join(f"{days}d" for days in self.windows) if self.windows else self._span()
        half = f"hl{self.half_life:g}" if self.half_life else ""
        joined = "_".join(part for part in (self.kind, *what, half, span) if part)
        return "".join(letter if letter.isalnum() and letter.isascii() else "_" for letter in joined)

    def _span(self) -> str:
        return ALL if self.window == ALL else f"{self.window}d"

    def _described(self) -> str:
        base = Which(event=self.event).words()
        numerator, denominator = self.numerator, self.denominator
        if self.windows:
            what = f"sum of {self.property} over" if self.property else "number of"
            numerator, denominator = (f"{what} {self.words()} in {days} days" for days in self.windows)
        of = self.property or "count"
        text = KINDS[self.kind].words.format(
            of=of, events=self.words(), base=base, half_life=self.half_life or 0, numerator=numerator,
            denominator=denominator,
        )  # fmt: skip
        if self.kind == "ratio":
            return text
        what, otherwise, null = text.partition("; ")
        when = " before the cutoff" if self.window == ALL else f" in the {self.window} days before the cutoff"
        return what + when + otherwise + null


class Outcome(Which):
    """What may happen to a customer.

    Attributes:
        name: The column.
        absent: True where no such event occurs.
        once: It ends a relation: a customer to whom it happened before a cutoff has no row there.
    """

    name: str = Field("label", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    absent: bool = False
    once: bool = False


class Label(Outcome):
    """The outcome with its time: does such an event occur, or none, within (cutoff + purge, cutoff + purge + horizon]?

    Attributes:
        horizon: Days that are looked at.
        purge: Days between the cutoff and the horizon that count for neither.
    """

    horizon: Days
    purge: int = Field(0, ge=0, le=36_500)


class Features(_Section):
    """Declared features, in the order of their columns; and the label, where the file has one."""

    features: tuple[Feature, ...] = Field(min_length=1)
    label: Label | None = None

    @model_validator(mode="after")
    def _names_fit(self) -> Self:
        names = [feature.name for feature in self.features]
        twice = sorted({name for name in names if names.count(name) > 1 or name in ("customer_id", "cutoff")})
        if twice:
            raise ValueError(f"named apart: {twice[0]} is the name of two columns; give one a name of its own")
        simple = [feature.name for feature in self.features if feature.kind != "ratio"]
        for feature in self.features:
            for name in (feature.numerator, feature.denominator):
                if name is not None and name not in simple:
                    raise ValueError(f"declared, and no ratio: {unknown('Feature', name, simple, 'among them')}")
        return self

    def definitions(self) -> list[dict[str, Any]]:
        """Each feature as plain values: what a manifest says, and what is hashed."""
        return [feature.model_dump(mode="json") for feature in self.features]


def load_features(path: str | Path) -> Features:
    """Reads a file of features.

    Raises:
        ParamsError: It is not there or not YAML, a key is unknown, or a value does not fit.
    """
    path = Path(path)
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        siblings = [item.name for item in path.parent.glob("*.yaml")] if path.parent.is_dir() else []
        raise ParamsError(f"No features file {path}.{nearest(path.name, siblings)}") from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ParamsError(f"{path.name} cannot be read as a features file: {error}.") from None
    if not isinstance(tree, dict):
        raise ParamsError(f"{path.name} holds no keys; it needs a list of features.")
    try:
        return Features.model_validate(tree)
    except ValidationError as error:
        problems = dict.fromkeys(_explain(item, tree) for item in error.errors())
        raise ParamsError(f"{path.name}: " + "\n".join(problems)) from None


def describe(features: Features) -> pd.DataFrame:
    """One row a feature: name, unit, description, empty (what it gives without events)."""
    import pandas as pd

    rows = [(f.name, f.unit, f.description, "null" if KINDS[f.kind].empty is None else "0") for f in features.features]
    return pd.DataFrame(rows, columns=["name", "unit", "description", "empty"])


def _explain(item: Any, tree: Mapping[str, Any]) -> str:
    loc = [key for key in item["loc"] if not (isinstance(key, str) and "[" in key)]
    where = ".".join(str(key) for key in loc)
    if len(loc) > 1 and loc[0] == "features" and isinstance(loc[1], int):
        declared = tree["features"][loc[1]]
        name = declared.get("name") if isinstance(declared, dict) else None
        where = ".".join([f"features[{loc[1]}{f' {name}' if name else ''}]", *map(str, loc[2:])])
    if item["type"] == "extra_forbidden":
        model = Feature if loc[0] == "features" and len(loc) > 1 else Label if loc[0] == "label" else Features
        known = list(model.model_fields)
        return f"Key {where!r} is not known.{nearest(str(loc[-1]), known)} Keys there: {listed(known)}."
    if item["type"] == "missing":
        return f"Key {where!r} is missing; give it in the file."
    value = item["input"]
    if item["type"] == "literal_error" and loc[-1] == "kind":
        return f"{where} == {value!r}, must be one of {listed(KINDS)}.{nearest(str(value), KINDS)}"
    rule = item["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    shown = "" if isinstance(value, dict | list | BaseModel) else f" == {value!r}"
    return f"{where or 'features'}{shown}, must be {rule}."
