"""What events may be: the contract's columns, the taxonomy of a company's events, and how a foreign table maps to them.

The words stand in `params/events.yaml` and `params/events/`; `events.py` reads tables by them.
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import pyarrow as pa
import yaml
from pydantic import BeforeValidator, ConfigDict, StrictFloat, StrictInt, StrictStr, TypeAdapter
from pydantic import ValidationError as Invalid
from pydantic.dataclasses import dataclass as checked

from cxlab.data.schema import text_of
from cxlab.errors import ParamsError, nearest, unknown
from cxlab.places import home

KEYS = ("account", "email", "device", "phone")  # aliases by which a customer may be known
PURPOSES = ("service", "analytics", "personalisation", "marketing")
_TEXT, _TIME = pa.string(), pa.timestamp("us", tz="UTC")
COLUMNS: dict[str, pa.DataType] = {
    **dict.fromkeys(("event_id", "customer_id", *KEYS), _TEXT),
    **dict.fromkeys(("occurred_at", "received_at"), _TIME),
    **dict.fromkeys(("channel", "event", "properties", "purpose"), _TEXT),
}
SHOWN = 80  # characters of a value in a message

_STRICT = ConfigDict(extra="forbid")
_Name = Annotated[str, BeforeValidator(text_of)]  # YAML reads 1.0, -100 and yes as other types than text
_T = TypeVar("_T")


@checked(frozen=True, config=_STRICT)
class Property:
    """What one property of an event may hold."""

    type: Literal["text", "number", "integer", "boolean"]
    unit: str | None = None
    values: tuple[StrictStr | StrictInt | StrictFloat, ...] | None = None
    required: bool = False


@checked(frozen=True, config=_STRICT, kw_only=True)
class EventKind:
    """One event of the taxonomy; `purpose` is what it may be used for unless a row says otherwise."""

    channels: tuple[str, ...]
    properties: dict[str, Property]
    owner: str
    purpose: Literal["service", "analytics", "personalisation", "marketing"]
    description: str


@checked(frozen=True, config=_STRICT)
class Taxonomy:
    """All events that may come in."""

    version: _Name
    channels: tuple[str, ...]
    events: dict[str, EventKind]

    def __post_init__(self) -> None:
        for name, kind in self.events.items():
            for channel in kind.channels:
                if channel not in self.channels:
                    raise ValueError(f"events.{name}: " + unknown("Channel", channel, self.channels))


@checked(frozen=True, config=_STRICT)
class Layout:
    """How a text file is laid out; `fixed_width` gives each column's first and last place, counted from 1."""

    separator: str | None = None
    decimal: Literal[".", ","] = "."
    encoding: str | None = None
    header_lines: int = 0
    fixed_width: dict[str, tuple[int, int]] | None = None


@checked(frozen=True, config=_STRICT)
class Times:
    """How times are written: `strptime` formats tried in turn, `unix` or `unix_ms`; ISO 8601 where none is given."""

    formats: tuple[str, ...] = ()
    timezone: str | None = None


@checked(frozen=True, config=_STRICT)
class Mapping:
    """How a foreign table becomes events; `params/events/` has examples.

    Attributes:
        columns: The contract's column to the table's, or to several that are joined by a slash.
        values: The contract's column to what its values are here; others stay as they are.
        constants: The contract's column to one value for every row.
        properties: The property to the table's column.
        keep: Whether columns that are named nowhere become properties under their own names.
        leave_out: Columns that are left out knowingly.
        missing: Texts that stand for a missing value, besides the usual ones.
        copies: Whether rows that are alike in full are one event, or events of their own.
    """

    name: str = "the contract"
    file: Layout = Layout()
    columns: dict[str, str | tuple[str, ...]] | None = None
    values: dict[str, dict[_Name, str]] | None = None
    constants: dict[str, str] | None = None
    properties: dict[str, str] | None = None
    keep: bool = False
    leave_out: tuple[str, ...] = ()
    missing: tuple[_Name, ...] = ()
    copies: Literal["quarantine", "number"] = "quarantine"
    times: Times = Times()

    def __post_init__(self) -> None:
        texts = [name for name, kind in COLUMNS.items() if kind == _TEXT and name != "properties"]
        for part, known in (("columns", list(COLUMNS)), ("values", texts), ("constants", texts)):
            for name in getattr(self, part) or ():
                if name not in known:
                    raise ValueError(f"{part}: " + unknown("Column", name, known, where="one that can stand there"))
        if "properties" in (self.columns or ()) and (self.properties or self.keep):
            raise ValueError("columns.properties names a column of JSON objects; leave out properties and keep then")


def load_taxonomy(path: str | Path | None = None) -> Taxonomy:
    """A taxonomy of events, `params/events.yaml` by default.

    Raises:
        ParamsError: It cannot be read, a key is unknown, or a value does not fit.
    """
    return _from_yaml(home() / "params" / "events.yaml" if path is None else Path(path), Taxonomy)


def load_mapping(path: str | Path) -> Mapping:
    """How a foreign table becomes events, as a YAML file tells.

    Raises:
        ParamsError: It cannot be read, a key is unknown, or a value does not fit.
    """
    return _from_yaml(Path(path), Mapping)


def _from_yaml(path: Path, kind: type[_T]) -> _T:
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
        return TypeAdapter(kind).validate_python(tree)
    except FileNotFoundError:
        raise ParamsError(
            f"No file {path}.{nearest(path.name, [p.name for p in path.parent.glob('*.yaml')])}"
        ) from None
    except Invalid as error:
        said = [_explained(item) for item in error.errors()]
        raise ParamsError(f"{path.name}: " + "\n".join(dict.fromkeys(said))) from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ParamsError(f"{path} cannot be read as YAML: {error}.") from None


def _explained(item: Any) -> str:
    keys = [str(key) for key in item["loc"]] or ["the file"]
    if item["type"] == "unexpected_keyword_argument":
        kinds: tuple[Any, ...] = (Taxonomy, EventKind, Property, Mapping, Layout, Times)
        known = dict.fromkeys(field.name for kind in kinds for field in fields(kind))
        return f"Key {'.'.join(keys)!r} is not known.{nearest(keys[-1], known)}"
    if item["type"] in ("missing", "missing_argument"):
        return f"Key {'.'.join(keys)!r} is missing."
    if item["type"] == "value_error":
        return str(item["msg"]).removeprefix("Value error, ")
    return f"{'.'.join(keys)} == {str(item.get('input'))[:SHOWN]!r}: {item['msg']}."
