"""What moved between training and test cases, and whose next event is told worse.

One random row of each case is looked at, so that rows do not depend on one another and the tests and intervals hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import pandas as pd
from scipy.special import expit, logit

from cxlab.data.schema import Column, Schema
from cxlab.evidence.drift import Drift, DriftReport, compare_samples
from cxlab.evidence.estimate import MOST_ROWS, Estimated, _bends
from cxlab.evidence.fairness import READING, Audit, segments_of
from cxlab.evidence.groups import draws, measure, partitions
from cxlab.evidence.sequence_importance import BEFORE, COUNTS, LAST, LENGTH, SINCE
from cxlab.evidence.sequence_rows import Prefixes, one_each, some_cases
from cxlab.evidence.verdicts import ANSWERS, COLUMNS, GAPS, gaps, judged
from cxlab.features.prefixes import HOUR, Cases, microseconds
from cxlab.metrics.bootstrap import interval, resampled
from cxlab.metrics.sample import Sample
from cxlab.models.calibration import clipped

NEXT = "(next event)"  # what the model says
GAP, SEEN = "(hours since the event before)", "(events so far)"
RESAMPLES = 1000


class SequenceDrift(Drift):
    """What moved between two samples of cases."""

    @property
    def note(self) -> str:  # type: ignore[override]
        return (
            f"{super().note} A row is a random one of each case, so that rows do not depend on one another; a long "
            "case counts as much as a short one."
        )

    @property
    def share(self) -> float:
        """Share of the columns that moved, whether they matter or not."""
        columns = self.rows[self.rows["column"] != NEXT]
        return float((columns["verdict"] == "moved").mean())


def sequence_drift(prefixes: Prefixes, *, importance: Mapping[str, float] | None = None, seed: int = 0) -> DriftReport:
    """Events, attributes, times between events and lengths of test cases against those of training cases, and the
    performance that the probabilities promise.

    Args:
        prefixes: The test part.
        importance: What the model decides by, by the names of `feature_groups`; None weighs all alike.
        seed: Of the rows drawn.
    """
    subject, roles = prefixes.subject, prefixes.schema.roles
    schema = Schema((*prefixes.schema.columns, Column(GAP, "number"), Column(SEEN, "number")))
    parts = []
    for rows in (subject.train, subject.test):
        cases = Cases.of(rows[roles.case])
        when = microseconds(rows[roles.time])
        gap = np.where(cases.place == 0, np.nan, np.maximum(np.diff(when, prepend=when[:1]), 0) / HOUR)
        added = rows.assign(**{GAP: gap, SEEN: cases.place + 1})
        parts.append(added.iloc[one_each(cases.code, seed)])
    whose = prefixes.table.cases[subject.valid_rows], prefixes.case[prefixes.judged]
    valid, test = (one_each(case, seed) for case in whose)
    before, now = subject.score_valid[valid], prefixes.score[test]
    names = np.array(prefixes.schema.labels, object)
    weights = None
    if importance is not None:
        weights = {column.name: importance[column.name] for column in prefixes.schema.attributes}
        weights[roles.event] = max(importance[name] for name in (LAST, BEFORE, COUNTS))
        weights |= {GAP: importance[SINCE], SEEN: importance[LENGTH]}
    said = {NEXT: (names[before.argmax(axis=1)], names[now.argmax(axis=1)])}
    reference, current = parts
    found = compare_samples(reference, current, schema, importance=weights, said=said)
    estimated = estimate_by_case(prefixes.confidence, whose[1], calibrated_on=before.max(axis=1), seed=seed)
    drift = SequenceDrift(found.rows, found.findings, found.n_reference, found.n_current)
    return DriftReport(drift, estimated, None)


class SequenceEstimated(Estimated):
    """What calibrated probabilities of the next event promise, outcomes unseen."""

    @property
    def note(self) -> str:  # type: ignore[override]
        return f"{super().note} Cases are drawn for the interval, and rows of a case are taken to be right together."


def estimate_by_case(
    confidence: np.ndarray, case: np.ndarray, *, calibrated_on: np.ndarray, resamples: int = RESAMPLES, seed: int = 0
) -> SequenceEstimated:
    """How often the likeliest event comes, by its probability, with an interval over cases.

    It is `estimate_accuracy` for rows that depend on one another: whether they are right is drawn by one number a case,
    the strongest dependence there is.

    Args:
        confidence: Calibrated probabilities of the likeliest event, shape (n,).
        case: Whose each row is, shape (n,).
        calibrated_on: The same of rows behind the calibration that do not depend on one another, shape (k,).
        resamples: Draws, >= 1.
        seed: The same seed gives the same interval.
    """
    rows = some_cases(case, MOST_ROWS, seed)
    p, whose = confidence[rows], np.unique(case[rows], return_inverse=True)[1]
    rng = np.random.default_rng(seed)
    bends = _bends(np.minimum(calibrated_on, 1.0), resamples, rng)
    margin, m = logit(clipped(p)), int(whose.max()) + 1
    drawn = np.empty(resamples)
    for at, weights in enumerate(w for chunk in resampled(m, resamples=resamples, seed=seed) for w in chunk):
        bent, each = expit(bends[at, 0] + bends[at, 1] * margin), weights[whose]
        luck = (rng.random(m)[whose] < bent).mean() - bent.mean()
        drawn[at] = each @ bent / each.sum() + luck
    found = interval(float(p.mean()), drawn, bounds=(0.0, 1.0))
    return SequenceEstimated({"accuracy": found}, len(rows), len(case))


class SequenceAudit(Audit):
    """Whose next event is told worse."""

    title: ClassVar[str] = Audit.title

    @property
    def note(self) -> str:  # type: ignore[override]
        return (
            f"{READING} Accuracy, how often the likeliest next event comes, is judged, whatever fairness.metrics says. "
            "Calibration error is the mean confidence minus the accuracy: above 0, the model is too sure. `positives` "
            "are rows whose likeliest event came. Rows of a case depend on one another, so one random row of each case "
            "is looked at, with the segment that it has there."
        )


def sequence_audit(prefixes: Prefixes, *, seed: int = 0) -> SequenceAudit:
    """How often the next event is right, by segment, of one random row of each test case.

    Raises:
        DataError: A segment is no column.
    """
    subject = prefixes.subject
    rows = one_each(prefixes.case[prefixes.judged], seed)
    segments = segments_of(subject.test, subject.params.data.segments).iloc[prefixes.judged[rows]]
    params, parts = subject.params.fairness, partitions(segments)
    if not parts:
        empty = pd.DataFrame(columns=[*COLUMNS, "single", "tellable"])
        return SequenceAudit(empty, pd.DataFrame(columns=GAPS), params, 0, ("accuracy",), "answers")
    sample = Sample.of(prefixes.right[rows].astype(int), prefixes.confidence[rows], name="confidence")
    everybody = np.ones(len(sample.y))
    here = measure(parts, sample.y, everybody, sample.score, auc=False)
    drawn = draws(parts, sample.y, everybody, sample.score, resamples=RESAMPLES, seed=seed, auc=False)
    asked = {name: ANSWERS[name] for name in ("accuracy", "calibration_error")}
    table, comparisons = judged(parts, here, drawn, params, metrics=asked, asked=("accuracy",))
    spans = gaps(parts, here, drawn[:, :, 0], params.min_group, asked)
    return SequenceAudit(table, spans, params, comparisons, ("accuracy",), "answers")
