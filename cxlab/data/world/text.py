"""Arrow columns from numpy codes: names, keys, moments, JSON. All vectorised; a loop over events would take hours."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

MOMENT = pa.timestamp("us", tz="UTC")


def named(codes: np.ndarray, names: Sequence[str]) -> pa.Array:
    """Names of places, shape (n,)."""
    return pa.array(list(names), pa.string()).take(pa.array(codes))


def quoted(codes: np.ndarray, names: Sequence[str]) -> pa.Array:
    """The same as JSON strings."""
    return named(codes, [json.dumps(name) for name in names])


def moments(at: np.ndarray, known: np.ndarray | None = None) -> pa.Array:
    """Microseconds since 1970 as moments in UTC; null where not known."""
    return pa.array(at.astype(np.int64), mask=None if known is None else ~known).cast(MOMENT)


def keys(head: str, number: np.ndarray, tail: str = "", *, width: int = 7) -> pa.Array:
    """`c0000012` from 12."""
    digits = pc.utf8_lpad(pa.array(number.astype(np.int64)).cast(pa.string()), width, "0")
    return pc.binary_join_element_wise(head, digits, tail, "")


def hexed(bits: np.ndarray) -> pa.Array:
    """64 bits as 16 hexadecimal digits."""
    digits = bits.astype(">u8").tobytes().hex().encode()
    ends = np.arange(len(bits) + 1, dtype=np.int32) * 16
    return pa.StringArray.from_buffers(len(bits), pa.py_buffer(ends), pa.py_buffer(digits))


def objects(**columns: pa.Array | np.ndarray) -> pa.Array:
    """JSON objects with sorted keys and no blanks; strings come quoted."""
    parts: list[pa.Array | str] = []
    for name in sorted(columns):
        column = columns[name]
        text = pa.array(column).cast(pa.string()) if isinstance(column, np.ndarray) else column
        parts += [f'{"," if parts else "{"}"{name}":', text]
    return pc.binary_join_element_wise(*parts, "}", "")
