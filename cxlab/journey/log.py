"""The log that params name, as steps of journeys.

log = journey_log(cxlab.load_table(params), params.journey)
cxlab.journey_map(log, value=params.journey.value)
"""

from __future__ import annotations

import pandas as pd

from cxlab.data.log import LogTable
from cxlab.errors import ParamsError, missing_column
from cxlab.journey.events import Steps, steps
from cxlab.params import JourneyParams


def journey_log(table: LogTable, asked: JourneyParams) -> Steps:
    """Steps of a log, its states as a person named them.

    A value that is said now and then, such as a satisfaction, is laid on the events before it: each has the one that
    was said next in its case.

    Args:
        table: The log, as `cxlab.load_table` reads it.
        asked: Names of states, and which columns are looked at.
    Raises:
        DataError: A column is not in the log.
        ParamsError: The table is no log.
    """
    if not isinstance(table, LogTable):
        raise ParamsError("Journeys are of logs: params of the task sequence name case, event and time.")
    roles, frame = table.roles, table.frame
    names = [str(roles.case), str(roles.event), str(roles.time)]
    for name in (asked.by, asked.value, asked.repeats):
        if name is not None and name not in frame.columns:
            raise missing_column(name, map(str, frame.columns))
    keep = list(dict.fromkeys(name for name in (asked.by, asked.value, asked.repeats) if name and name not in names))
    made = frame[[*names, *keep]]
    if asked.value is not None:
        said = pd.to_numeric(
            made[asked.value].map(lambda each: float(each) if isinstance(each, bool) else each), errors="coerce"
        )
        made = made.assign(**{asked.value: said.groupby(table.cases).bfill()})
    for name in keep:
        if name != asked.value and made[name].dtype == object:
            made = made.assign(**{name: made[name].astype("string")})
    case, event, time = names
    return steps(made, case=case, event=event, time=time, keep=keep, states=asked.states or None)
