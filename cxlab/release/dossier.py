"""All that a gate may look at: a version's report, its model, and the champion it would follow.

The report on file and the model must be those that were registered; if either changed, nothing is opened.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from cxlab.data.log import LogTable
from cxlab.data.schema import as_text
from cxlab.digest import canonical, sha256
from cxlab.errors import DataError, ParamsError, StoreError, listed
from cxlab.metrics.intervals import Comparison, evaluate
from cxlab.models.subject import Subject
from cxlab.models.training import task_of
from cxlab.release.bundle import Prepared
from cxlab.tracking.ledger import Entry, Ledger, read_ledger
from cxlab.tracking.registry import DIGEST, open_version, version_of
from cxlab.tracking.reports import Filed, report_of


@dataclass(frozen=True)
class Dossier:
    """A version under review.

    Attributes:
        model: Its registered name.
        version: A number.
        author: Who trained it.
        filed: Its report.
        subject: The model with its data.
        model_sha256: Of the registered file.
        ledger: What was done to the model's versions so far.
    """

    model: str
    version: str
    author: str
    filed: Filed = field(repr=False)
    subject: Subject = field(repr=False)
    model_sha256: str
    ledger: Ledger = field(repr=False)

    @property
    def name(self) -> str:
        return f"{self.model} version {self.version}"

    @property
    def facts(self) -> dict[str, Any]:
        """The report's."""
        return self.filed.facts

    @property
    def digests(self) -> dict[str, str]:
        """What an approval is bound to."""
        return {"model_sha256": self.model_sha256, "report_sha256": digest_of(self.facts)}

    @functools.cached_property
    def prepared(self) -> Prepared:
        """The model as it would be exported."""
        return Prepared.of(self.subject, self.facts)

    @functools.cached_property
    def champion(self) -> str | None:
        """The version that is live and that this one would follow; None where there is none, or it is this one."""
        live = self.ledger.live()
        return None if live == self.version else live

    def against_champion(self) -> Comparison:
        """This version against the champion, on this version's test part.

        Raises:
            CxlabError: They can't be compared; the message says why.
        """
        if self.champion is None:
            raise ParamsError(f"{self.model} has no other champion to compare with.")
        champion = open_version(self.model, self.champion)
        asked, theirs = _outcome(self.subject), _outcome(champion)
        if asked != theirs:
            raise DataError(f"The champion predicts {theirs[0]} == {listed(theirs[1:], 5)}: another outcome.")
        seen = rows_seen(champion, self.subject)
        if seen:
            rows = f"{seen:,} of the {len(self.subject.test):,} test rows"
            raise DataError(f"The champion (version {self.champion}) learnt from {rows}.")
        scores = {"champion": champion.scores(self.subject.test)[self.subject.judged], "this": self.subject.score_test}
        metrics = task_of(self.subject.params.task).metrics(self.subject.params.value)
        table, split = self.subject.table, self.subject.split
        groups = table.cases[split.test[self.subject.judged]] if isinstance(table, LogTable) else None
        return evaluate(self.subject.outcome_test, scores, metrics, groups=groups).compare("champion")


def _outcome(subject: Subject) -> tuple[str, ...]:
    """What a model predicts: the column, and its value or, of many classes, all of them."""
    roles = subject.params.data
    if subject.params.task == "sequence":
        return (str(roles.event), *subject.labels)
    return (str(roles.target), *(subject.labels if subject.many else [repr(roles.positive)]))


def open_dossier(model: str, version: str) -> Dossier:
    """Opens a version for review.

    Raises:
        ParamsError: There is no such version, or it was never registered whole.
        StoreError: Its model or its report is not what was registered, or the ledger is broken.
        DataError: It has no report, or its training data are gone.
    """
    number, tags = version_of(model, version)
    ledger = read_ledger(model)
    if ledger.problems:
        raise StoreError(f"The ledger of {model} is broken: {ledger.problems[0]} See: cxlab history {model}")
    first = registered(ledger, number)
    filed = report_of(model, number)
    wanted = first.facts.get("report_sha256")
    if wanted is None:
        raise DataError(f"{model} version {number} was registered without a report. Train it again: cxlab run {model}")
    if digest_of(filed.facts) != wanted:
        raise StoreError(
            f"The report of {model} version {number} is not the one that was registered: its facts differ."
        )
    if tags.get(DIGEST) != first.facts["model_sha256"]:
        raise StoreError(f"{model} version {number} is tagged with another SHA-256 than the one that was registered.")
    subject = open_version(model, number)
    return Dossier(model, number, first.who, filed, subject, first.facts["model_sha256"], ledger)


def registered(ledger: Ledger, version: str) -> Entry:
    """The entry with which a version came into the ledger.

    Raises:
        ParamsError: There is none.
    """
    for entry in ledger.of(version):
        if entry.what == "registered":
            return entry
    raise ParamsError(
        f"{ledger.model} version {version} is not in the ledger: it was made without it, or its process died before "
        "the end. Train it again."
    )


def digest_of(facts: Any) -> str:
    """SHA-256 of a report's facts, however their file is written."""
    return sha256(canonical(facts))


def rows_seen(one: Subject, other: Subject) -> int:
    """How many test rows of the other the one learnt from.

    Of one file, row numbers tell; else the ids, where both have them; else the content of the columns they share. Of
    logs the names of the cases tell.
    """
    same_file = one.table.source.sha256 == other.table.source.sha256
    if isinstance(one.table, LogTable) and isinstance(other.table, LogTable):
        cases = set(as_text(one.train[str(one.params.data.case)]))
        return int(as_text(other.test[str(other.params.data.case)]).isin(cases).sum())
    if same_file and one.table.test is None and other.table.test is None:
        return int(np.isin(other.split.test, one.split.train).sum())
    ids = one.params.data.id, other.params.data.id
    if ids[0] and ids[1] and ids[1] in other.test.columns:
        return int(as_text(other.test[ids[1]]).isin(set(as_text(one.train[ids[0]]))).sum())
    shared = [name for name in one.model.schema.names if name in other.test.columns and name in one.train.columns]
    learnt, tested = (_content(one, frame, shared) for frame in (one.train, other.test))
    return int(np.isin(tested, learnt).sum())


def _content(subject: Subject, frame: pd.DataFrame, names: list[str]) -> np.ndarray:
    by_name = {column.name: column for column in subject.model.schema.columns}
    cast = pd.DataFrame({name: by_name[name].encode(frame[name]) for name in names})
    return pd.util.hash_pandas_object(cast, index=False).to_numpy()
