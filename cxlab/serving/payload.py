"""What a request to score says: JSON as rows, in our own form and in the Open Inference Protocol's."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from cxlab.errors import missing_column, unknown

LONGEST = 2000  # characters of a message; names in it are the client's
KEYS = ("rows", "row", "reasons")
LARGEST = int(sys.float_info.max)
# The tensors of the protocol that hold a table's values, and what JSON may hold in each besides null.
DATATYPES: dict[str, tuple[type, ...]] = {
    "FP64": (float, int),
    "FP32": (float, int),
    "INT64": (int,),
    "INT32": (int,),
    "BOOL": (bool,),
    "BYTES": (str,),
}
_NOT_ONE: dict[type, str] = {list: "a list", dict: "an object"}


class Refused(Exception):  # noqa: N818 - an answer, not a bug
    """A request that is answered with an error status.

    Attributes:
        status: The HTTP status.
        message: What is wrong, the rule, the remedy.
        problems: What is wrong with single rows, `{"row", "message"}` each; rows count from 0.
        headers: For the answer.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        problems: Sequence[dict[str, Any]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.problems, self.headers = status, _cut(message), list(problems), headers


class Asked(NamedTuple):
    """What a request asks for.

    Attributes:
        rows: Rows that hold every column of the model.
        reasons: How many a row at most.
        id: The request's own identifier; None where it has none.
        outputs: The output tensors wanted.
    """

    rows: list[dict[str, Any]]
    reasons: int = 0
    id: str | None = None
    outputs: tuple[str, ...] = ()


class Reader(NamedTuple):
    """Reads requests to one model.

    Attributes:
        names: The columns that every row must hold.
        id: The column that names the customer, which a row may hold.
        outputs: What the model answers, by name.
        rows: How many a request may hold.
        reasons: How many a request may want.
        surplus: How many values a row may hold besides the model's.
    """

    names: list[str]
    id: str | None
    outputs: tuple[str, ...]
    rows: int
    reasons: int
    surplus: int

    def asked(self, body: bytes) -> Asked:
        """A request in our own form.

        Raises:
            Refused: It cannot be read, or says something that does not fit.
        """
        tree = _object(parsed(body))
        for key in tree:
            if key not in KEYS:
                raise Refused(422, unknown("Key", _cut(key, 40), KEYS, where="one of a request"))
        if ("rows" in tree) == ("row" in tree):
            raise Refused(422, 'The body must hold one of "rows", a list of objects, and "row", one object.')
        rows = tree["rows"] if "rows" in tree else [tree["row"]]
        if not isinstance(rows, list):
            raise Refused(422, 'rows must be a list of objects, one a customer; "row" takes a single object.')
        reasons = tree.get("reasons", 0)
        if type(reasons) is not int or not 0 <= reasons <= self.reasons:
            raise Refused(422, f"reasons == {_shown(reasons)}, must be a whole number from 0 to {self.reasons}.")
        self._few(len(rows))
        self._check(rows)
        return Asked(rows, reasons)

    def inferred(self, body: bytes) -> Asked:
        """A request of the Open Inference Protocol: one tensor a column.

        Raises:
            Refused: It cannot be read, or says something that does not fit.
        """
        tree = _object(parsed(body))
        name, outputs = tree.get("id"), tree.get("outputs")
        if name is not None and not (isinstance(name, str) and _encodes(name)):
            raise Refused(422, "id must be text.")
        inputs = _named(tree.get("inputs"), "inputs")
        if len(inputs) > len(self.names) + self.surplus:
            raise Refused(422, f"The request has {len(inputs):,} inputs, must have one a column of the model.")
        wanted = self.outputs if outputs is None else tuple(_named(outputs, "outputs"))
        for output in wanted:
            if output not in self.outputs:
                raise Refused(422, unknown("Output", output, self.outputs, where="one of the model's"))
        for column in self.names:
            if column not in inputs:
                raise Refused(422, str(missing_column(column, inputs)))
        kept = [column for column in inputs if column in {*self.names, self.id}]
        columns = {column: self._tensor(column, inputs[column]) for column in kept}
        lengths = {column: len(values) for column, values in columns.items()}
        if len(set(lengths.values())) > 1:
            shown = ", ".join(f"{column} has {n}" for column, n in lengths.items())
            raise Refused(422, f"Inputs must have one value a row each, and as many rows: {shown}.")
        rows = [dict(zip(kept, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        self._check(rows)
        return Asked(rows, 0, name, wanted)

    def _tensor(self, name: str, tensor: dict[str, Any]) -> list[Any]:
        datatype, shape, data = tensor.get("datatype"), tensor.get("shape"), tensor.get("data")
        if not isinstance(datatype, str) or datatype not in DATATYPES:
            must = f"must be one of {', '.join(DATATYPES)}"
            raise Refused(422, f"Input {name!r}: datatype == {_shown(datatype)}, {must}.")
        flat = isinstance(shape, list) and all(type(n) is int for n in shape) and shape[1:] in ([], [1])
        if not flat or not shape or shape[0] < 0:
            raise Refused(422, f"Input {name!r}: shape == {_shown(shape)}, must be [rows] or [rows, 1].")
        self._few(shape[0])
        if not isinstance(data, list):
            raise Refused(422, f"Input {name!r}: data must be a list.")
        if len(shape) == 2 and all(isinstance(value, list) and len(value) == 1 for value in data):
            data = [value[0] for value in data]
        if len(data) != shape[0]:
            raise Refused(422, f"Input {name!r} has {len(data)} values, must have {shape[0]}, as its shape says.")
        kinds = DATATYPES[datatype]
        for row, value in enumerate(data):
            if value is not None and type(value) not in kinds:
                message = f"{name} == {_shown(value)}, must be {datatype} as its tensor says, or null."
                raise Refused(422, message, problems=[{"row": row, "message": message}])
        return data

    def _few(self, rows: int) -> None:
        if rows > self.rows:
            raise Refused(422, f"The request has {rows:,} rows, must have at most {self.rows:,}. Send it in parts.")

    def _check(self, rows: list[Any]) -> None:
        """Every row holds every column, and in each a single value that any program can read back."""
        problems: list[dict[str, Any]] = []
        most = len(self.names) + self.surplus
        for place, row in enumerate(rows):
            if not isinstance(row, dict):
                raise _one(place, "A row must be an object of column names and values.")
            if len(row) > most:
                raise _one(place, f"The row has {len(row):,} values, must have at most {most:,}. Leave out the others.")
            for name in self.names:
                try:
                    value = row[name]
                except KeyError:
                    raise _one(place, str(missing_column(name, row))) from None
                wrong = _wrong(value)
                if wrong:
                    problems.append({"row": place, "message": f"{name} {wrong}"})
                    break
            else:
                wrong = _wrong(row.get(self.id))
                if wrong:
                    problems.append({"row": place, "message": f"{self.id} {wrong}"})
        if problems:
            raise unreadable(problems, len(rows))


def parsed(body: bytes) -> Any:
    """The JSON of a body; NaN and infinities are none.

    Raises:
        Refused: It is none.
    """
    try:
        return _DECODER.decode(body.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise Refused(422, f"Byte {error.start} of the body is not UTF-8. Send JSON in UTF-8.") from None
    except RecursionError:
        raise Refused(400, "The body is nested too deeply to be a request.") from None
    except json.JSONDecodeError as error:
        raise Refused(400, f"The body is no JSON: {error.msg}, line {error.lineno} column {error.colno}.") from None
    except _NoJsonError as error:
        raise Refused(400, f"The body is no JSON: {error} is no number there. Send null for what is missing.") from None
    except ValueError:
        raise Refused(
            422, f"A number has more than {sys.get_int_max_str_digits():,} digits. Send one that is meant."
        ) from None


def unreadable(problems: Sequence[dict[str, Any]], rows: int) -> Refused:
    """The refusal of a request with rows that cannot be read."""
    said = f"{len(problems):,} of {rows:,} rows cannot be read, so none is scored: {problems[0]['message']}"
    return Refused(422, said, problems=problems)


class _NoJsonError(ValueError):
    """A constant that Python reads and JSON does not know."""


def _constant(name: str) -> Any:
    raise _NoJsonError(name)


_DECODER = json.JSONDecoder(parse_constant=_constant)


def _one(place: int, message: str) -> Refused:
    message = _cut(message)
    return Refused(422, f"Row {place}: {message}", problems=[{"row": place, "message": message}])


def _wrong(value: Any) -> str:
    """Why a value cannot be one of a table; empty where it can."""
    kind = type(value)
    if kind is float:
        return "" if math.isfinite(value) else "is too large, must be a finite number. Send null for what is missing."
    if kind is str:
        if not _encodes(value):
            return "holds half a character (a lone surrogate), must be whole text."
        return "holds the character NUL, must be text without it." if "\0" in value else ""
    if kind is int:
        return "" if -LARGEST <= value <= LARGEST else "is too large, must be a finite number."
    if kind is bool or value is None:
        return ""
    return f"is {_NOT_ONE[kind]}, must be a single value: text, a number, true, false or null."


def _encodes(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _object(tree: Any) -> dict[str, Any]:
    if not isinstance(tree, dict):
        raise Refused(422, "The body must be a JSON object.")
    return tree


def _named(items: Any, what: str) -> dict[str, dict[str, Any]]:
    """A list of objects by their names."""
    if not isinstance(items, list) or not items:
        raise Refused(422, f"{what} must be a list of objects, at least one.")
    found: dict[str, dict[str, Any]] = {}
    for item in items:
        name = item.get("name") if isinstance(item, dict) else None
        if not isinstance(name, str):
            raise Refused(422, f'{what}: each must be an object with a "name" that is text.')
        if name in found:
            raise Refused(422, f"{what}: {_cut(name, 40)!r} is there twice, must be there once.")
        found[name] = item
    return found


def _shown(value: Any) -> str:
    """A value in a message; lists of lists are not walked, for they may be deep."""
    if isinstance(value, list) and len(value) <= 4 and not any(isinstance(item, list | dict) for item in value):
        return _cut(repr(value), 40)
    return _NOT_ONE.get(type(value)) or _cut(repr(value), 40)


def _cut(text: str, most: int = LONGEST) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."
