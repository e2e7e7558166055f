"""What the command line prints: tables for people, one JSON object for programs; all else goes to stderr."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from cxlab.display import plain

out = Console(soft_wrap=True, width=None if sys.stdout.isatty() else 140)
err = Console(stderr=True, soft_wrap=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else there.")]
ParamsFile = Annotated[
    Path | None, typer.Option("--params", metavar="FILE", help="A params file; params/NAME.yaml unless given.")
]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="One value over the file's, as search.trials=20.")
]
Model = Annotated[str, typer.Argument(help="A registered model's name.")]
Version = Annotated[str, typer.Argument(help="A version's number, or an alias such as challenger.")]


def stop(message: str) -> NoReturn:
    """Ends with a message and status 2."""
    err.print(f"[bold red]cxlab:[/] {escaped(message)}", highlight=False)
    sys.exit(2)


def escaped(text: str) -> str:
    """Text that rich prints as it is."""
    return text.replace("[", r"\[")


def say(text: str) -> None:
    """A line for people."""
    out.print(escaped(text), highlight=False)


def emit(facts: Mapping[str, Any]) -> None:
    """Exactly one JSON object on stdout; what is not a number is null."""
    print(json.dumps(plain(facts), allow_nan=False))


def show(title: str, rows: Iterable[Mapping[str, Any]], columns: list[str]) -> None:
    """A table for people."""
    table = Table(title=title, title_justify="left", header_style="bold", show_edge=False, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(_cell(row.get(column)) for column in columns))
    out.print(table)


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float):
        return f"{value:.1e}" if 0 < abs(value) < 5e-5 else f"{value:.4f}"
    return escaped(str(value))


def span(low: float | None, high: float | None) -> str:
    """An interval for people."""
    return "" if low is None or high is None or math.isnan(low) else f"{low:.4f} to {high:.4f}"


def short(path: Path) -> str:
    """A path as seen from the working folder, where it lies below it."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
