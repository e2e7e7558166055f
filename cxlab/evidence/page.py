"""The parts of a page, and the page: sections of text, tables and figures, as HTML that needs no network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxlab.display import svg

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

VERDICTS = {"fail", "pass", "moved", "stable", "worse", "better", "cannot tell"}
WORDS = {"difference": "difference", "diff_low": "from", "diff_high": "to", "low": "from", "high": "to"}


@dataclass(frozen=True)
class Text:
    text: str
    loud: bool = False
    kind: str = "text"


@dataclass(frozen=True)
class Cell:
    text: str
    style: str


@dataclass(frozen=True)
class Rows:
    """A table; `folded` hides it behind its caption until a reader asks."""

    caption: str
    columns: list[str]
    rows: list[list[Cell]]
    folded: bool = False
    kind: str = "table"


@dataclass(frozen=True)
class Drawing:
    caption: str
    svg: str
    kind: str = "figure"


Part = Text | Rows | Drawing


@dataclass(frozen=True)
class Section:
    """One heading of the page."""

    id: str
    title: str
    parts: list[Part] = field(default_factory=list)


def rows(caption: str, frame: pd.DataFrame, columns: Sequence[str] | None = None, *, folded: bool = False) -> Rows:
    """A frame as a table for people: four digits, verdicts marked, nothing where nothing is known."""
    names = [str(name) for name in (columns or frame.columns)]
    cells = [[_cell(value) for value in row] for row in frame[names].itertuples(index=False, name=None)]
    return Rows(caption, [WORDS.get(name, name.replace("_", " ")) for name in names], cells, folded)


def drawing(ax: Axes, caption: str) -> Drawing:
    return Drawing(caption, svg(ax, caption))


def _cell(value: Any) -> Cell:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return Cell("", "number")
    if isinstance(value, bool):
        return Cell("yes" if value else "no", "")
    if isinstance(value, int) or (hasattr(value, "dtype") and value.dtype.kind in "iu"):
        return Cell(f"{value:,}", "number")
    if isinstance(value, float):
        return Cell(f"{value:.4g}", "number")
    text = str(value)
    style = text.replace(" ", "-") if text in VERDICTS else "long" if len(text) > 40 else ""
    return Cell(text, style)


def render(title: str, subtitle: str, summary: Sequence[dict[str, str]], sections: Sequence[Section]) -> str:
    """The page as one HTML file."""
    import jinja2

    template = Path(__file__).with_name("report.html").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined)
    page = environment.from_string(template)
    return page.render(title=title, subtitle=subtitle, summary=summary, sections=sections)
