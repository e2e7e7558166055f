"""`cxlab data`: the catalogue of public data sets, and the quality of a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cxlab.cli.shown import AsJson, Overrides, ParamsFile, emit, err, escaped, out, say, show
from cxlab.display import records

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
    as_json: AsJson = False,
) -> None:
    """Check a file against the roles that a params file gives its columns. Exit 1 if a check fails."""
    from cxlab.data.quality import check
    from cxlab.data.table import read_table
    from cxlab.params import load_params
    from cxlab.places import home

    source = params or home() / "params" / "churn.yaml"
    loaded = load_params(source, [*(overrides or []), f"data.path={file.absolute()}"])
    quality = check(read_table(loaded.data))
    rows = records(quality.frame())
    if as_json:
        emit({"path": str(file), "checks": rows})
    else:
        show(f"Checks of {file.name} with {source.name}", rows, ["status", "title", "rows", "reason"])
    raise typer.Exit(1 if quality.failed else 0)
