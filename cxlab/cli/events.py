"""`cxlab simulate` and `forget`: a world whose truth is known, and a customer who wants to be erased."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cxlab.cli.shown import AsJson, emit, say, show
from cxlab.display import records


def simulate(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="A folder that is not there yet.")],
    customers: Annotated[int, typer.Option(help="How many.")] = 1000,
    seed: Annotated[int, typer.Option(help="The same seed gives the same world.")] = 0,
    plant: Annotated[list[str] | None, typer.Option(metavar="NAME", help="What to plant besides the usual.")] = None,
    without: Annotated[list[str] | None, typer.Option(metavar="NAME", help="What to leave out of the usual.")] = None,
    as_json: AsJson = False,
) -> None:
    """Simulate a service company: its customers, their events, and the truth beside them.

    The usual holds consent withdrawals, incidents and late events. Further plants: leak, bias, drift,
    broken_identities, duplicates, clock_skew.
    """
    from cxlab.data.world import simulate as make

    world = make(out, customers=customers, seed=seed, plant=plant or (), without=without or ())
    if as_json:
        emit({"path": str(world.folder), "plants": world.plants, "rows": world.rows})
        return
    show(f"Simulated, not real: {out}", records(world.frame()), ["file", "rows", "bytes"])
    say(f"Planted: {', '.join(world.plants) or 'nothing'}. {world.note}")


def forget(
    customer: Annotated[str, typer.Argument(help="An identifier, or its pseudonym.")],
    kind: Annotated[str, typer.Option(help="Which identifier: customer_id, account, email, phone or device.")] = (
        "customer_id"
    ),
    folder: Annotated[
        list[Path] | None, typer.Option(metavar="DIR", help="Where to look; the tracking store's folder unless given.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Erase a customer from the tables that cxlab holds, and say from where. Exit 1 if a file could not be searched.

    A tombstone, a hash, stays, so that a later import can be filtered. Trained models are not changed.
    """
    from cxlab.data.forget import forget as erase
    from cxlab.places import home, store_folder

    found = erase(customer, folder or [store_folder() or home() / "mlruns"], kind=kind)
    if as_json:
        emit({"erased": found.erased, "found": records(found.frame()), "failed": found.failed})
    else:
        frame = found.frame()
        if len(frame):
            show("Erased", records(frame), [str(name) for name in frame.columns])
        say(f"{found.erased:,} rows erased. {found.note}")
    raise typer.Exit(1 if found.failed else 0)
