"""Fingerprints: one way to write facts as bytes, and one way to hash.

This module travels with every bundle, so it knows the standard library alone.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any


def canonical(facts: Any) -> bytes:
    """Plain values as JSON in the one form that is hashed: sorted keys, no blanks, UTF-8, no NaN.

    Examples:
        >>> canonical({"b": 1, "a": "ä"})
        b'{"a":"\\xc3\\xa4","b":1}'
    """
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8")


def sha256(content: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
