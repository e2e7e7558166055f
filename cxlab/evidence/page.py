"""The parts of a page, and the page: sections of text, tables and figures, as HTML that needs no network."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxlab.display import svg
from cxlab.errors import DataError

if TYPE_CHECKING:
    import pandas as pd
    from jinja2 import Environment
    from matplotlib.axes import Axes

VERDICTS = {"fail", "pass", "moved", "stable", "worse", "better", "cannot tell"}
PERSONAL = re.compile(r"<!--of customers-->.*?<!--/of customers-->\n?", re.DOTALL)
DECISION = "<!--decision-->", "<!--/decision-->"
WORDS = {"difference": "difference", "diff_low": "from", "diff_high": "to", "low": "from", "high": "to"}


@dataclass(frozen=True)
class Text:
    """A paragraph. `personal` parts, here and below, show single customers: they stay in the lab."""

    text: str
    loud: bool = False
    personal: bool = False
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
    personal: bool = False
    kind: str = "table"


@dataclass(frozen=True)
class Drawing:
    caption: str
    svg: str
    personal: bool = False
    kind: str = "figure"


Part = Text | Rows | Drawing


@dataclass(frozen=True)
class Section:
    """One heading of the page."""

    id: str
    title: str
    parts: list[Part] = field(default_factory=list)


def rows(
    caption: str,
    frame: pd.DataFrame,
    columns: Sequence[str] | None = None,
    *,
    folded: bool = False,
    personal: bool = False,
) -> Rows:
    """A frame as a table for people: four digits, verdicts marked, nothing where nothing is known."""
    names = [str(name) for name in (columns or frame.columns)]
    cells = [[_cell(value) for value in row] for row in frame[names].itertuples(index=False, name=None)]
    return Rows(caption, [_heading(name) for name in names], cells, folded, personal)


def _heading(name: str) -> str:
    of, _, end = name.rpartition("_")
    if name not in WORDS and end in ("low", "high"):
        name = f"{of}_{WORDS[end]}"
    return WORDS.get(name, name.replace("_", " "))


def drawing(ax: Axes, caption: str, *, personal: bool = False) -> Drawing:
    return Drawing(caption, svg(ax, caption), personal)


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


def without_customers(page: str) -> str:
    """A rendered page less what it shows of single customers."""
    return PERSONAL.sub("", page)


def with_decision(page: str, section: Section) -> str:
    """A rendered page with what was decided on it, in place of an earlier decision."""
    head, _, rest = page.partition(DECISION[0])
    _, mark, tail = rest.partition(DECISION[1])
    if not mark:
        raise DataError("The page has no place for a decision; it was made by another cxlab. Train again.")
    part = _environment().from_string('{% from "parts" import section with context %}{{ section(it) }}')
    return f"{head}{DECISION[0]}{part.render(it=section)}{DECISION[1]}{tail}"


def render(title: str, subtitle: str, summary: Sequence[dict[str, str]], sections: Sequence[Section]) -> str:
    """The page as one HTML file."""
    page = _environment().get_template("page")
    return page.render(title=title, subtitle=subtitle, summary=summary, sections=sections)


def _environment() -> Environment:
    """The two templates beside this module: the page, and its parts."""
    from jinja2 import DictLoader, Environment, StrictUndefined

    texts = {name: Path(__file__).with_name(f"{name}.html").read_text(encoding="utf-8") for name in ("page", "parts")}
    return Environment(autoescape=True, trim_blocks=True, undefined=StrictUndefined, loader=DictLoader(texts))
