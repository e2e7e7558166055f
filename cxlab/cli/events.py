"""`cxlab simulate`, `features` and `forget`: from a world whose truth is known to what a model may learn from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cxlab.cli.shown import AsJson, Overrides, emit, say, show
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
    broken_identities, duplicates, clock_skew, bad_calls.
    """
    from cxlab.data.world import simulate as make

    world = make(out, customers=customers, seed=seed, plant=plant or (), without=without or ())
    if as_json:
        emit({"path": str(world.folder), "plants": world.plants, "rows": world.rows})
        return
    show(f"Simulated, not real: {out}", records(world.frame()), ["file", "rows", "bytes"])
    say(f"Planted: {', '.join(world.plants) or 'nothing'}. {world.note}")


def features(
    events: Annotated[Path, typer.Argument(help="Events in the contract's columns, or with a mapping any table.")],
    params: Annotated[
        Path, typer.Option("--params", metavar="FILE", help="Params with an events section, or a file of features.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="OUT", help="A Parquet file; its manifest lies beside it.")],
    cutoff: Annotated[
        list[str] | None, typer.Option(metavar="TIME", help="At which moment, instead of the params' cutoffs; again.")
    ] = None,
    active_days: Annotated[
        int | None, typer.Option(min=1, help="Only customers with an event in so many days before.")
    ] = None,
    mapping: Annotated[
        Path | None, typer.Option(metavar="FILE", help="How a foreign table becomes events, as params/events/*.yaml.")
    ] = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Compute declared features, one row a customer and cutoff, from what was received before each cutoff.

    The label, where one is declared, is told by what comes after; it is empty where the events end too early. Who
    withdrew consent or was forgotten is left out, as params say in events.consent; --set events.consent.purpose=service
    asks for another purpose.
    """
    from cxlab.data.admit import admit
    from cxlab.features.table import features_of
    from cxlab.params import load_events

    told, zone = load_events(params, overrides or [])
    given = {"mapping": str(mapping) if mapping else None, "active_days": active_days}
    told = told.model_copy(update={key: value for key, value in given.items() if value is not None})
    admitted = admit(events, told, timezone=zone)
    found = features_of(admitted, told, cutoff)
    manifest = found.write(out)
    facts = {key: found.manifest[key] for key in ("rows", "cutoffs", "labels", "definitions_sha256")}
    if as_json:
        quarantined = len(admitted.read.quarantine)
        emit({"path": str(out), "manifest": str(manifest), "quarantined": quarantined, **admitted.facts(), **facts})
        return
    say(f"{facts['rows']:,} rows, {len(told.features)} features, {len(facts['cutoffs'])} cutoffs: {out}")
    if facts["labels"]:
        say(f"Labels: {', '.join(f'{count:,} {name}' for name, count in facts['labels'].items())}.")
    say(admitted.told())


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

    A tombstone, a hash, stays, so that a later import can be filtered. Trained models are not changed. Kept sentence
    vectors do not say whose they are, so all go; they are made anew.
    """
    from cxlab.data.forget import forget as erase
    from cxlab.features.encoder import forget_embeddings
    from cxlab.places import home, store_folder

    found = erase(customer, folder or [store_folder() or home() / "mlruns"], kind=kind)
    forget_embeddings()
    if as_json:
        emit({"erased": found.erased, "found": records(found.frame()), "failed": found.failed})
    else:
        frame = found.frame()
        if len(frame):
            show("Erased", records(frame), [str(name) for name in frame.columns])
        say(f"{found.erased:,} rows erased. {found.note}")
    raise typer.Exit(1 if found.failed else 0)
