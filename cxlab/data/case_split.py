"""Which cases of a log train and which test: no case on both sides.

Cases are ordered by when they began; the latest test. The earlier ones are learnt from to their end, as comparisons in
the field do, or with `split.cut` up to the moment at which the first test case begins, so that nothing is known that
was not known then. A case that was still open is censored at its last event, not dropped: what is quick is known sooner
than what is slow, so without it the quick would look likelier than it is (see `models.sequence.waited_for`).

Validation inside the training part goes forwards over the later half of its cases, each third of it by those that began
before; where cases are few they are cross-fitted at random instead, so that none is lost.
"""

from __future__ import annotations

import numpy as np
from sklearn.model_selection import GroupKFold

from cxlab.data.log import LogTable
from cxlab.data.split import FOLDS, Fold, Split
from cxlab.errors import DataError, ParamsError
from cxlab.params import SequenceParams, SplitParams

FEWEST = 10  # cases
FORWARD = 200  # training cases from which validation goes forwards in time
NEVER = np.iinfo(np.int64).max
FORWARD_FOLDS = 3  # each costs a training of every candidate; all of the later half is validated however many
LEARNT_FROM = 0.5  # share of the training cases before the first that are validated


def split_cases(table: LogTable, params: SplitParams, sequence: SequenceParams) -> Split:
    """Splits a log for one training.

    Args:
        table: The log.
        params: Method (`time`, or `group` for cases at random), share of the cases that test, seed, `cut`.
        sequence: From how many events on a prefix counts.
    Raises:
        DataError: There are too few cases, or all began at once.
        ParamsError: The method is not one for logs, or a test part is published.
    """
    if table.roles.test_path is not None:
        raise ParamsError("data.test_path is for tables; a log is split by its cases. Leave it out.")
    cases = table.cases
    n = int(cases[-1]) + 1
    if n < FEWEST:
        raise DataError(f"The log has {n:,} cases, must have at least {FEWEST} to train and to test.")
    when, known = table.when, _known(table)
    if params.method == "time":
        test_case, border = _latest(table, params.test)
    elif params.method == "group":
        chosen = np.random.default_rng(params.seed).permutation(n)[: max(1, round(n * params.test))]
        test_case, border = np.isin(np.arange(n), chosen), int(when.max()) + 1
    else:
        raise ParamsError(f"split.method == {params.method!r}, must be time or group (cases at random) for a log.")
    if not params.cut:
        border = int(when.max()) + 1
    train = np.flatnonzero(~test_case[cases] & (when < border))
    certain = known[train] < border
    if len(np.unique(cases[train[certain]])) < FEWEST / 2:
        raise DataError(
            f"Only {len(np.unique(cases[train[certain]])):,} cases had an event that was followed by another before "
            f"the test part begins, must be at least {FEWEST // 2}. Bring more cases, or lower split.test."
        )
    # Where clocks run backwards a later event may be before the border though an earlier one is not.
    certain &= np.append(np.diff(train) == 1, True) | np.append(np.diff(cases[train]) != 0, True)
    judged = (table.seen >= sequence.min_prefix) & (known < NEVER)
    judged[train[~certain]] = False
    if not judged[test_case[cases]].any():
        raise DataError(
            f"No case of the test part has {sequence.min_prefix} events, from which on predictions count. Lower "
            "sequence.min_prefix."
        )
    forward = params.method == "time" and len(np.unique(cases[train])) >= FORWARD
    folds = _folds(cases[train], judged[train], params.seed, forward)
    purged = int((~test_case[cases]).sum()) - len(train)
    censored, test = np.flatnonzero(~certain), np.flatnonzero(test_case[cases])
    return Split(train, test, folds, params.method, purged, forward, judged, censored, border)


def _known(table: LogTable) -> np.ndarray:
    """When it was known what came after each row: never, where the case is open. Microseconds."""
    roles = table.roles
    if roles.ends and not table.frame[str(roles.event)].astype(str).isin(roles.ends).any():
        raise DataError(f"data.ends == {list(roles.ends)}: no event of {roles.event!r} is called so.")
    known = np.where(table.last, table.when, np.append(table.when[1:], 0))
    return np.where(table.last & ~table.ended, NEVER, known)


def _latest(table: LogTable, share: float) -> tuple[np.ndarray, int]:
    """Which cases test, and when the first of them began."""
    start = table.opened[table.begins].dt.as_unit("us").astype("int64").to_numpy()
    moments, first = np.unique(start, return_index=True)  # cases are in the order of their starts
    if len(moments) < 2:
        raise DataError("All cases began at the same time, so none is later than others. Write split.method: group.")
    at = int(np.abs(1 - first[1:] / len(start) - share).argmin()) + 1
    return start >= moments[at], int(moments[at])


def _folds(cases: np.ndarray, judged: np.ndarray, seed: int, forward: bool) -> tuple[Fold, ...]:
    """Forwards over the later half of the cases, or at random by case."""
    there = np.unique(cases)
    if forward:
        edges = there[np.linspace(LEARNT_FROM * len(there), len(there), FORWARD_FOLDS + 1).astype(int)[:-1]]
        ends = np.append(edges[1:], there[-1] + 1)
        bounds = zip(edges, ends, strict=True)
        pairs = [
            (np.flatnonzero(cases < edge), np.flatnonzero((cases >= edge) & (cases < end))) for edge, end in bounds
        ]
    else:
        shuffled = np.random.default_rng(seed).permutation(len(there))[np.searchsorted(there, cases)]
        pairs = list(GroupKFold(min(FOLDS, len(there))).split(cases, groups=shuffled))
    return tuple((learnt, valid) for learnt, valid in pairs if judged[valid].any())
