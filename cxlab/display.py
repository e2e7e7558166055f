"""One shape for every result: `.frame()`, `.plot()`, and a table in the notebook; one palette; one progress bar.

A result's frame is tidy: one row a fact, the denominator beside the rate, the interval beside the value.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sized
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

# Okabe and Ito (2008): told apart with any colour vision; the first is for emphasis, grey for context.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
GREY = "#8C8C8C"

LONG, FIRST = 80, 25  # rows above which a table is cut in a notebook, and how many then stay

PROGRESS_FILE = "CXLAB_PROGRESS"  # a process that executes notebooks reads progress here


class Result:
    """What every question answers with. Subclasses give a title, a frame and a plot.

    Attributes:
        title: What the table shows, for a heading.
        note: One sentence that says how to read it.
    """

    title: ClassVar[str] = ""
    note: ClassVar[str] = ""

    def frame(self) -> pd.DataFrame:
        """The facts, one a row."""
        raise NotImplementedError

    def plot(self) -> Axes:
        """The same facts, drawn."""
        raise NotImplementedError

    def _repr_html_(self) -> str:
        return as_html(self.title, self.frame(), self.note)

    def __repr__(self) -> str:
        return f"{self.title}\n{self.frame().to_string(index=False)}"


def plain(value: Any) -> Any:
    """Values as JSON holds them: what is not a finite number is null, what JSON has no word for is text."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """A frame's rows, plain."""
    return [plain(row) for row in frame.to_dict("records")]


def as_html(title: str, frame: pd.DataFrame, note: str) -> str:
    """A heading, the table unless it is empty, of a long one its first rows, and a sentence."""
    shown = frame if len(frame) <= LONG else frame.head(FIRST)
    table = "" if frame.empty else shown.to_html(index=False, border=0, na_rep="", float_format=lambda x: f"{x:.4g}")
    if len(shown) < len(frame):
        table += f"<p>The first {len(shown):,} of {len(frame):,} rows; .frame() has all.</p>"
    return f"<h4>{escape(title)}</h4>{table}" + (f"<p>{escape(note)}</p>" if note else "")


def axes(title: str, *, width: float = 7.0, height: float = 3.6) -> Axes:
    """An empty drawing in our style, in inches."""
    import matplotlib.pyplot as plt

    _, ax = plt.subplots(figsize=(width, height), layout="constrained")
    ax.set_title(title, loc="left", fontsize=11)
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(length=3)
    return ax


def sentence(title: str, text: str) -> Axes:
    """A sentence where there is nothing to draw."""
    ax = axes(title, height=1.5)
    ax.text(0.5, 0.5, text, ha="center", va="center", wrap=True, transform=ax.transAxes)
    ax.set_axis_off()
    return ax


def date_axis(ax: Axes, *, most: int = 6) -> None:
    """Few and short dates along x."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(minticks=2, maxticks=most)  # type: ignore[no-untyped-call]
    ax.xaxis.set_major_locator(locator)
    ax.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]


def row_height(rows: Sized) -> float:
    """Inches for a drawing with one label a row."""
    return 1.3 + 0.42 * len(rows)


def axes_grid(titles: list[str], *, columns: int = 3) -> list[Axes]:
    """Small empty drawings side by side, one a title."""
    import matplotlib.pyplot as plt

    rows = max(1, -(-len(titles) // columns))
    _, grid = plt.subplots(rows, columns, figsize=(3.2 * columns, 2.3 * rows), layout="constrained", squeeze=False)
    used = list(grid.flat)[: max(1, len(titles))]
    for title, ax in zip(titles, used, strict=False):
        ax.set_title(title, loc="left", fontsize=9)
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(length=2, labelsize=7)
    for ax in list(grid.flat)[len(titles) :]:
        ax.set_axis_off()
    return used


def interval_plot(
    ax: Axes, labels: list[str], value: Any, low: Any, high: Any, *, reference: float | None = None
) -> Axes:
    """Points with their intervals, one label a row, the first on top.

    Args:
        ax: Where to draw.
        labels: Names, n of them.
        value: Point values, shape (n,).
        low: Lower ends, shape (n,).
        high: Upper ends, shape (n,).
        reference: A vertical line to compare with, in the unit of `value`.
    """
    rows = range(len(labels))
    ax.hlines(rows, low, high, color=PALETTE[0], linewidth=2)
    ax.plot(value, rows, "o", color=PALETTE[0])
    if reference is not None:
        ax.axvline(reference, color=GREY, linewidth=1, linestyle="--")
    ax.set_yticks(rows, labels)
    ax.invert_yaxis()
    ax.margins(y=0.2)
    return ax


class Progress:
    """How far a long step has come. `advance` takes a fraction in [0, 1]."""

    def __init__(self, label: str) -> None:
        self.label = label
        self._file = os.environ.get(PROGRESS_FILE)
        self._bar: Any = None
        if (self._file is None and sys.stderr.isatty()) or (self._file is None and "ipykernel" in sys.modules):
            from tqdm import tqdm

            form = "{desc:<40} {percentage:3.0f}% |{bar:30}| {elapsed}"
            self._bar = tqdm(total=1.0, desc=label, bar_format=form, file=sys.stderr, leave=False)

    def advance(self, fraction: float, text: str = "") -> None:
        if self._file is not None:
            line = json.dumps({"label": self.label, "text": text, "fraction": fraction})
            with Path(self._file).open("a", encoding="utf-8") as out:
                out.write(line + "\n")
        elif self._bar is not None:
            self._bar.set_description(f"{self.label} {text}".strip(), refresh=False)
            self._bar.n = min(fraction, 1.0)
            self._bar.refresh()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


@contextmanager
def progress(label: str) -> Iterator[Progress]:
    """A progress bar in a terminal or a notebook; lines in a file where `cxlab run` is watching; else silent."""
    bar = Progress(label)
    try:
        yield bar
    finally:
        bar.advance(1.0)
        bar.close()


def svg(ax: Axes, description: str) -> str:
    """A drawing as inline SVG, text as text, described for those who cannot see it; the drawing is closed."""
    import io

    import matplotlib.pyplot as plt

    figure = ax.get_figure(root=True)
    assert figure is not None
    out = io.StringIO()
    with plt.rc_context({"svg.fonttype": "none", "svg.hashsalt": "cxlab"}):
        figure.savefig(out, format="svg", metadata={"Date": None})
    plt.close(figure)
    body = out.getvalue()
    return body[body.index("<svg") :].replace("<svg", f'<svg role="img" aria-label="{escape(description)}"', 1)
