"""The command line: parse, call, print. Heavy libraries load inside the command that needs them.

Exit status: 0 done; 1 a check said no; 2 the input or the usage is wrong, or the run was interrupted.
"""

from __future__ import annotations

from collections.abc import Callable

import typer

from cxlab.cli import data, decide, events, evidence, house, release, run
from cxlab.cli.shown import stop
from cxlab.errors import CxlabError

app = typer.Typer(
    name="cxlab",
    help="Train, compare, approve and serve models of customer experience, from notebooks and from here.",
    epilog="Every command answers --help. Start with: cxlab run all",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
COMMANDS: tuple[Callable[..., None], ...] = (
    run.run,
    evidence.compare,
    evidence.report,
    evidence.drift,
    release.gate,
    release.approve,
    release.reject,
    release.rollback,
    release.history,
    release.export,
    release.verify,
    release.score,
    release.serve,
    events.simulate,
    events.features,
    events.forget,
    house.ui,
    house.doctor,
)
for command in COMMANDS:
    app.command()(command)
app.add_typer(data.app, name="data")
app.add_typer(decide.app, name="decide")
app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(house.lab)


def main() -> None:
    """The entry point: mistakes of the user end with a message and status 2, never a traceback."""
    try:
        app()
    except CxlabError as error:
        stop(str(error))
