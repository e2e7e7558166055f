"""`cxlab data`: the catalogue of public data sets, and the quality of a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from cxlab.cli.shown import AsJson, Overrides, ParamsFile, emit, err, escaped, out, say, show
from cxlab.display import records
from cxlab.errors import ParamsError
from cxlab.params import Params

app = typer.Typer(help="The catalogue of public data sets, and the quality of a file.", no_args_is_help=True)


@app.command("list")
def data_list(as_json: AsJson = False) -> None:
    """List the public data sets that cxlab knows, with licence and origin."""
    from cxlab.data.catalog import Catalogue

    rows = records(Catalogue().frame())
    if as_json:
        emit({"data": rows})
        return
    show("Data sets", rows, ["name", "title", "rows", "kind", "licence", "fetched"])
    out.print("Fetch one: cxlab data get NAME. Then data.path: catalog:NAME in a params file.")


@app.command("get")
def data_get(
    name: Annotated[str, typer.Argument(help="A name that `cxlab data list` shows.")],
    to: Annotated[
        Path | None, typer.Option("--to", metavar="DIR", help="Where to put it; the user's cache unless given.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Fetch a data set and verify its SHA-256; from CXLAB_DATA_MIRROR first, if it is set."""
    from cxlab.data import catalog

    paths = [str(path) for path in catalog.get(name, to)]
    if as_json:
        emit({"name": name, "paths": paths})
        return
    for path in paths:
        say(path)
    err.print(f"Licence: {escaped(catalog.entry(name).licence)}", highlight=False)


@app.command("check")
def data_check(
    file: Annotated[Path, typer.Argument(help="A CSV or Parquet file.")],
    params: ParamsFile = None,
    overrides: Overrides = None,
    mapping: Annotated[
        Path | None, typer.Option(metavar="FILE", help="How a foreign table becomes events, as params/events/*.yaml.")
    ] = None,
    events: Annotated[bool, typer.Option("--events", help="The file holds events in the contract's columns.")] = False,
    page: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the checks of events as a page.")] = None,
    now: Annotated[
        str | None, typer.Option(metavar="TIME", help="Against which events are fresh, late or in the future.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check a table by the roles that a params file gives its columns, or events by their contract.

    Events are told by --events, by --mapping, or by an events section in the params, whose mapping, taxonomy and
    thresholds then hold. Without any of them no column has a role. Exit 1 if a check fails.
    """
    from cxlab.data.log import read_log
    from cxlab.data.quality import check
    from cxlab.data.table import read_table
    from cxlab.params import DataParams, load_params

    told = [*(overrides or []), f"data.path={file.absolute()}"]
    loaded = None if params is None else load_params(params, told)
    if events or mapping is not None or (loaded is not None and loaded.events is not None):
        _check_events(file, loaded, mapping, now, page, as_json)
    if page is not None or now is not None:
        option = "--page" if page is not None else "--now"
        raise ParamsError(f"{option} is about events; give --events or --mapping FILE with it.")
    data = DataParams(path=str(file)) if loaded is None else loaded.data
    quality = check(read_log(data) if loaded is not None and loaded.task == "sequence" else read_table(data))
    rows = records(quality.frame())
    if as_json:
        emit({"path": str(file), "checks": rows})
    else:
        by = f" with {params.name}" if params else ""
        show(f"Checks of {file.name}{by}", rows, ["status", "title", "rows", "reason"])
    raise typer.Exit(1 if quality.failed else 0)


def _check_events(
    file: Path, params: Params | None, mapping: Path | None, now: str | None, page: Path | None, as_json: bool
) -> NoReturn:
    from cxlab.data.event_quality import check_events, parts
    from cxlab.data.events import read_events
    from cxlab.data.taxonomy import load_mapping, load_taxonomy

    section = None if params is None else params.events
    where = mapping or (section.mapping if section else None)
    found = read_events(
        file,
        mapping=None if where is None else load_mapping(where),
        taxonomy=load_taxonomy(section.taxonomy if section else None),
        timezone=params.data.timezone if params else "UTC",
        now=now,
    )
    quality = check_events(found, thresholds=section.quality if section else None)
    rows, aside = records(quality.frame()), found.quarantine["reason"].value_counts().to_dict()
    total = f"{found.rows_in:,} rows in = {len(found.accepted):,} accepted + {len(found.quarantine):,} quarantined."
    if page is not None:
        page.write_text(_page(file.name, total, found.notes, parts(quality)), encoding="utf-8")
    taken = {"rows": found.rows_in, "accepted": len(found.accepted), "quarantined": aside}
    if as_json:
        emit({"path": str(file), "checks": rows, "events": taken, "notes": found.notes})
    else:
        show(f"Checks of {file.name}", rows, ["status", "title", "rows", "reason"])
        for note in found.notes:
            say(note)
        told = ", ".join(f"{count:,} {reason}" for reason, count in aside.items())
        say(total)
        if told:
            say(f"Quarantined: {told}.")
    raise typer.Exit(1 if quality.failed else 0)


def _page(name: str, total: str, notes: Sequence[str], shown: Sequence[tuple[str, Any]]) -> str:
    """The checks and the timeline as one page that needs no network."""
    import pandas as pd

    from cxlab.evidence.page import Part, Section, Text, drawing, render, rows

    made: list[Part] = [
        rows(caption, each) if isinstance(each, pd.DataFrame) else drawing(each, caption) for caption, each in shown
    ]
    told: list[Part] = [Text(note) for note in notes]
    sections = [Section("checks", "Checks and timeline", made), Section("notes", "What was read how", told)]
    return render(f"Events of {name}", total, [], sections)
