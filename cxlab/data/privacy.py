"""Personal data in what customers write, replaced by marks before anybody learns from it or reads it.

    masked = mask(frame["text"])
    masked.texts          # "call me at <phone>", in the order of the rows
    masked.counts         # {"email": 3, "iban": 0, "card": 1, "phone": 12}

What is looked for, and what is not, says `personal`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from cxlab.data.names import people
from cxlab.data.personal import KINDS, MARKS, masked, replaced
from cxlab.data.schema import text_of
from cxlab.display import PALETTE, Result, axes
from cxlab.errors import DataError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["KINDS", "MARKS", "Masked", "mask"]
NAME = "name"  # looked for only by a model that somebody brings


@dataclass(frozen=True, repr=False)
class Masked(Result):
    """Texts without what the marks stand for.

    Attributes:
        texts: In the order of the rows; None where there was none.
        counts: How many were masked, by kind.
        rows: In how many texts, by kind.
    """

    texts: tuple[str | None, ...]
    counts: dict[str, int]
    rows: dict[str, int]
    title: ClassVar[str] = "Personal data masked"

    @property
    def note(self) -> str:  # type: ignore[override]
        missed = "Addresses" if NAME in self.counts else "Names and addresses"
        return f"{missed} are not looked for: what is masked is not anonymous."

    @property
    def n(self) -> int:
        """Texts that are there."""
        return sum(text is not None for text in self.texts)

    def frame(self) -> pd.DataFrame:
        """One row a kind: kind, found, texts it was found in, n texts, share of them."""
        n = self.n
        rows = [
            (kind, self.counts[kind], self.rows[kind], n, self.rows[kind] / n if n else None) for kind in self.counts
        ]
        return pd.DataFrame(rows, columns=["kind", "found", "texts", "n", "share"]).astype({"share": float})

    def plot(self) -> Axes:
        """The share of texts that each kind was found in."""
        frame = self.frame()
        ax = axes(f"{self.title}: {self.n:,} texts", height=2.2)
        ax.barh(frame["kind"], frame["share"].fillna(0), color=PALETTE[0])
        for place, (found, texts) in enumerate(zip(frame["found"], frame["texts"], strict=True)):
            ax.annotate(f" {found:,} in {texts:,}", (frame["share"].fillna(0)[place], place), va="center", fontsize=8)
        ax.invert_yaxis()
        ax.margins(x=0.2)
        ax.set_xlim(left=0)
        ax.set_xlabel("share of texts")
        return ax


def mask(texts: Iterable[Any], *, names: str | Path | None = None) -> Masked:
    """Replaces e-mail addresses, bank accounts, cards and telephone numbers by marks; with a model of names these too.

    Args:
        texts: Texts; what is missing stays missing, what is no text is read as a file's text (1.0 is "1").
        names: Folder of a spaCy model that tells people's names (extra `privacy`); none is fetched.
    Returns:
        The texts and what was masked. What holds none of it stays byte for byte; masking again changes nothing.
    Raises:
        DataError: `texts` is a single text, or `names` holds no model that we load.
        ParamsError: The extra is not installed, or there is no such folder.
    Examples:
        >>> masked = mask(["Mail ann@example.com or call +44 20 7946 0958.", "I paid 1,250.00 on 2024-01-15."])
        >>> masked.texts
        ('Mail <email> or call <phone>.', 'I paid 1,250.00 on 2024-01-15.')
        >>> masked.counts
        {'email': 1, 'iban': 0, 'card': 0, 'phone': 1}
    """
    if isinstance(texts, str | bytes):
        raise DataError(f"texts is one {type(texts).__name__}, must be a list or a column of texts: mask([text]).")
    out: list[str | None] = []
    counts, rows = dict.fromkeys(KINDS, 0), dict.fromkeys(KINDS, 0)
    for value in texts:
        if (text := _text(value)) is not None:
            text, found = masked(text)
            for kind, count in found.items():
                counts[kind] += count
                rows[kind] += count > 0
        out.append(text)
    if names is not None:
        spoken = [place for place, text in enumerate(out) if text]
        texts_there = [str(out[place]) for place in spoken]
        spans = list(people(names)(texts_there))
        counts[NAME], rows[NAME] = sum(map(len, spans)), sum(map(bool, spans))
        for place, text, each in zip(spoken, texts_there, spans, strict=True):
            out[place] = replaced(text, [(start, end, f"<{NAME}>") for start, end in each])
    return Masked(tuple(out), counts, rows)


def _text(value: Any) -> str | None:
    """A value as text, as it is; whole numbers with all their digits, as a card may be among them."""
    if isinstance(value, str):
        return value
    whole = isinstance(value, int | np.integer) or (
        isinstance(value, float | np.floating) and float(value).is_integer()
    )
    if whole and not isinstance(value, bool):
        return str(int(value))
    return text_of(value)
