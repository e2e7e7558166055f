"""What bundles of every task have in common: a folder that is whole, raw rows in, a table of answers out.

This module travels with every bundle, so it knows numpy, pandas and its own kind alone.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd

from ..data.schema import Schema
from ..digest import sha256
from ..errors import BundleError, listed

FORMAT = 1
MANIFEST, SIGNATURE = "manifest.json", "model.sig"
SCHEMA, THRESHOLD, REASONS = "schema.json", "threshold.json", "reasons.json"
FEW = 16  # rows up to which values are cast one by one, which spares what a frame costs

Rows = pd.DataFrame | Sequence[Mapping[str, Any]]
Kind = Literal["number", "text", "truth"]


class Answered:
    """What a bundle says of n rows, in their order.

    Attributes:
        reasons: Of each row, the strongest first; empty where none were asked for.
        problems: Why a row could not be read, by its position.
        ids: The customers, where the rows name them.
        most: How many reasons a row were asked for.
    """

    reasons: list[tuple[str, ...]]
    problems: dict[int, str]
    ids: list[Any] | None
    most: int

    def columns(self) -> dict[str, np.ndarray]:
        """The answers by name, each of shape (n,)."""
        raise NotImplementedError

    def plain(self) -> dict[str, list[Any]]:
        """The same as Python's own values; None where there is no number, or it is infinite."""
        return {
            name: [value if math.isfinite(value) else None for value in values.tolist()]
            if values.dtype.kind == "f"
            else values.tolist()
            for name, values in self.columns().items()
        }

    @property
    def outcome(self) -> Sequence[str]:
        """Each answer in a word, to be counted: one of the bundle's `outcomes`."""
        raise NotImplementedError

    def __len__(self) -> int:
        return len(next(iter(self.columns().values())))

    def __getitem__(self, name: str) -> pd.Series:
        return self.frame()[name]

    def frame(self) -> pd.DataFrame:
        """One row an input row: id, the answers, reason_1 to reason_K."""
        columns: dict[str, Any] = {"id": range(1, len(self) + 1) if self.ids is None else self.ids, **self.columns()}
        for place in range(self.most):
            columns[f"reason_{place + 1}"] = [row[place] if place < len(row) else "" for row in self.reasons]
        return pd.DataFrame(columns)

    def _repr_html_(self) -> str:
        return self.frame().to_html(index=False, border=0, na_rep="")


@dataclass(frozen=True)
class AnyBundle:
    """An exported model of whatever task.

    Attributes:
        folder: Where it lies.
        manifest: What it is, and the SHA-256 of every file.
        schema: What it reads.
        id: The column that names the customer; None where rows are counted.
    """

    folder: Path
    manifest: dict[str, Any] = field(repr=False)
    schema: Schema = field(repr=False)
    id: str | None

    outputs: ClassVar[Mapping[str, Kind]]  # what it answers, by name
    outcomes: ClassVar[tuple[str, ...]]  # its answers in a word
    about: ClassVar[str]  # what it does, in a sentence
    platform: ClassVar[str]  # as the Open Inference Protocol names what runs it
    batch: ClassVar[int]  # rows that are best scored at once
    lanes: ClassVar[int] = 1  # a batch is filled up to a multiple of so many rows

    @property
    def name(self) -> str:
        return f"{self.manifest['model']} version {self.manifest['version']}"

    @property
    def examples(self) -> Mapping[str, Any]:
        """Values that show how to ask, of columns whose own categories or ranges do not."""
        return {}

    @property
    def rule(self) -> str:
        """How its answers come about, in a sentence."""
        raise NotImplementedError

    @property
    def tolerance(self) -> float:
        """By how much what it says of a golden row may differ between machines."""
        raise NotImplementedError

    def score(self, rows: Rows, *, reasons: int = 0) -> Answered:
        """Answers and reasons.

        Args:
            rows: Raw rows: a frame of shape (n, any), or n mappings. Other columns than the model's are left out;
                missing values and unseen categories are no errors.
            reasons: How many a row at most, >= 0.
        Raises:
            DataError: A column of the model is not there.
        """
        raise NotImplementedError

    def golden(self, rows: pd.DataFrame) -> np.ndarray:
        """What golden rows are compared by: numbers of shape (n,) or (n, any)."""
        raise NotImplementedError

    def effort(self, rows: Sequence[Mapping[str, Any]], reasons: int) -> float:
        """How long the rows take, in rows of the plainest kind, each some hundredths of a millisecond."""
        raise NotImplementedError

    def _values(self, rows: Rows) -> dict[str, Any]:
        """Raw values by column: lists where there are few rows, else what the frame holds."""
        wanted = self.schema.names
        if not isinstance(rows, pd.DataFrame):
            for row in rows:
                self.schema.check(row)
            names = [*wanted, self.id] if self.id and all(self.id in row for row in rows) else wanted
            return {name: [row[name] for row in rows] for name in names}
        if len(rows) > FEW:
            self.schema.check(rows.columns)
            names = [*wanted, self.id] if self.id and self.id in rows.columns else wanted
            return {name: rows[name] for name in names}
        columns = rows.columns.tolist()
        self.schema.check(columns)
        return dict(zip(columns, rows.to_numpy(dtype=object).T.tolist(), strict=True))

    def _cast(self, values: Mapping[str, Any]) -> dict[str, np.ndarray]:
        return {
            c.name: c.encode(found) if isinstance(found := values[c.name], pd.Series) else c.cast(found)
            for c in self.schema.columns
        }

    def _ids(self, values: Mapping[str, Any]) -> list[Any] | None:
        ids = values.get(self.id) if self.id else None
        return None if ids is None else list(ids)


@dataclass(frozen=True)
class Whole:
    """The files of a folder that is what was exported; each is hashed again when it is read."""

    folder: Path
    manifest: dict[str, Any]

    def __getitem__(self, name: str) -> bytes:
        if name not in self.manifest["files"]:
            raise BundleError(f"The bundle {self.folder} has no {name} in its manifest. Do not use it.")
        content = (self.folder / name).read_bytes()
        if sha256(content) != self.manifest["files"][name]:
            raise BundleError(f"The bundle {self.folder} changed while it was read. Do not use it.")
        return content


def opened(folder: Path) -> Whole:
    """A bundle's folder after every file of it was hashed.

    Raises:
        BundleError: It is no bundle, of another format, or not whole: a file differs, is missing, or is not listed.
    """
    manifest = read_manifest(folder)
    wrong = differences(folder, manifest)
    if wrong:
        raise BundleError(f"The bundle {folder} is not what was exported: {listed(wrong, 5)}. Do not use it.")
    return Whole(folder, manifest)


def read_manifest(folder: Path) -> dict[str, Any]:
    """What a bundle says of itself.

    Raises:
        BundleError: There is no manifest, or it cannot be read.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
    except FileNotFoundError:
        raise BundleError(f"{folder} is no bundle: it has no {MANIFEST}. Make one: cxlab export") from None
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(f"{folder / MANIFEST} cannot be read: {str(error)[:200]}.") from None
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
        raise BundleError(f"{folder / MANIFEST} is damaged: it lists no files.")
    if manifest.get("format") != FORMAT:
        raise BundleError(
            f"{folder}: format == {manifest.get('format')!r}, must be {FORMAT}. Use the cxlab that made it."
        )
    return manifest


def differences(folder: Path, manifest: Mapping[str, Any]) -> list[str]:
    """What of a folder differs from its manifest: files changed, missing, not listed, and links."""
    listed_files, found, wrong = manifest["files"], set(), []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            wrong.append(f"{name} is a link")
        elif path.is_dir():
            if not any(other.startswith(f"{name}/") for other in listed_files):
                wrong.append(f"{name}/ is not listed")
        elif name not in (MANIFEST, SIGNATURE):
            found.add(name)
            if name not in listed_files:
                wrong.append(f"{name} is not listed")
            elif sha256(path.read_bytes()) != listed_files[name]:
                wrong.append(f"{name} differs")
    wrong += [f"{name} is missing" for name in sorted(set(listed_files) - found)]
    needed = {SCHEMA, THRESHOLD, REASONS} - set(listed_files)
    return wrong + [f"{name} is not in the manifest" for name in sorted(needed)]
