"""What moved between training and test cases, and whose next event is told worse.

One random row of each case is looked at, so that rows do not depend on one another and the tests and intervals hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import pandas as pd
from scipy.special import expit, logit

from cxlab.data.log import LogTable
from cxlab.data.schema import Column, Schema
from cxlab.errors import DataError
from cxlab.evidence.drift import Drift, DriftReport, compare_samples
from cxlab.evidence.estimate import MOST_ROWS, Estimated, _bends
from cxlab.evidence.fairness import READING, Audit, segments_of
from cxlab.evidence.groups import draws, measure, partitions
from cxlab.evidence.sequence_importance import BEFORE, COUNTS, LAST, LENGTH, SINCE
from cxlab.evidence.sequence_rows import Prefixes, matched, one_each, probabilities, some_cases
from cxlab.evidence.sequence_transitions import TransitionDrift, transitions_to
from cxlab.evidence.verdicts import ANSWERS, COLUMNS, GAPS, gaps, judged
from cxlab.features.prefixes import HOUR, Cases, PrefixSchema, microseconds
from cxlab.metrics.bootstrap import interval, resampled
from cxlab.metrics.sample import Sample
from cxlab.models.calibration import clipped
from cxlab.models.subject import Subject

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
    whose = prefixes.case[prefixes.judged]
    return _drifted(prefixes.subject, prefixes.subject.test, prefixes.score, whose, importance, seed)


def log_drift(
    subject: Subject, log: LogTable, *, importance: Mapping[str, float] | None = None, seed: int = 0
) -> tuple[DriftReport, TransitionDrift]:
    """Another log against the training cases of a model: its columns, what the model says of it, and what follows what.

    Cases of it may be open still, and shorter for that: they are held against rows of training cases with as many
    events. The model speaks at each row from enough events on, and transitions are counted where it is known what came
    next.

    Args:
        subject: The model and its data.
        log: The other log, as `load_table` reads it.
        importance: As for `sequence_drift`.
        seed: Of the rows drawn.
    Raises:
        DataError: No case of the log has enough events.
    """
    schema, least = subject.model.schema, subject.params.sequence.min_prefix
    assert isinstance(schema, PrefixSchema) and isinstance(subject.table, LogTable)
    asked = np.flatnonzero(log.seen >= least)
    if not len(asked):
        raise DataError(f"No case of the log has {least} events, from which on the model speaks.")
    score = probabilities(subject.model, schema.encode(log.frame), asked)
    found = _drifted(subject, log.frame, score, log.cases[asked], importance, seed, seen=log.seen[asked])
    return found, transitions_to(log, schema, subject.table, subject.split)


def _drifted(  # noqa: PLR0917
    subject: Subject,
    rows: pd.DataFrame,
    score: np.ndarray,
    whose: np.ndarray,
    importance: Mapping[str, float] | None,
    seed: int,
    seen: np.ndarray | None = None,
) -> DriftReport:
    """Cases against the training cases.

    Args:
        subject: The model and its data.
        rows: The cases, whole or up to now.
        score: What the model says at some of their rows, shape (n, k).
        whose: The case of each of those, shape (n,).
        importance: As for `sequence_drift`.
        seed: Of the rows drawn.
        seen: Events up to each of those, where cases may be open: training rows then have as many.
    """
    schema = subject.model.schema
    assert isinstance(schema, PrefixSchema) and isinstance(subject.table, LogTable)
    table, at = subject.table, subject.valid_rows
    drawn = one_each(whose, seed)
    now_rows = _timed(rows, schema).iloc[one_each(Cases.of(rows[schema.roles.case]).code, seed)]
    trained, compared = _timed(subject.train, schema), [*schema.columns, Column(GAP, "number")]
    own = table.cases[subject.split.train]
    if seen is None:
        valid, learnt = one_each(table.cases[at], seed), one_each(own, seed)
        compared.append(Column(SEEN, "number"))
    else:
        valid = matched(table.cases[at], table.seen[at], seen[drawn], seed)
        tested = subject.split.test[subject.judged]
        same = matched(table.cases[tested], table.seen[tested], seen[drawn], seed)
        learnt = matched(own, trained[SEEN].to_numpy(), now_rows[SEEN].to_numpy(), seed)
    before, names = subject.score_valid[valid], np.array(schema.labels, object)
    # Training rows were scored by other fits, which matters where all that is compared may be quiet.
    said = before if seen is None else subject.score_test[same]
    weights = None
    if importance is not None:
        weights = {column.name: importance[column.name] for column in schema.attributes}
        weights[schema.roles.event] = max(importance[name] for name in (LAST, BEFORE, COUNTS))
        weights |= {GAP: importance[SINCE], SEEN: importance[LENGTH]} if seen is None else {GAP: importance[SINCE]}
    found = compare_samples(
        trained.iloc[learnt],
        now_rows,
        Schema(tuple(compared)),
        importance=weights,
        said={NEXT: tuple(names[part.argmax(axis=1)] for part in (said, score[drawn]))},
    )
    confidence = np.minimum(score.max(axis=1), 1.0)
    estimated = estimate_by_case(confidence, whose, calibrated_on=before.max(axis=1), seed=seed)
    return DriftReport(SequenceDrift(found.rows, found.findings, found.n_reference, found.n_current), estimated, None)


def _timed(rows: pd.DataFrame, schema: PrefixSchema) -> pd.DataFrame:
    """Rows with the time since the event before and the events so far."""
    cases, when = Cases.of(rows[schema.roles.case]), microseconds(rows[schema.roles.time])
    gap = np.where(cases.place == 0, np.nan, np.maximum(np.diff(when, prepend=when[:1]), 0) / HOUR)
    return rows.assign(**{GAP: gap, SEEN: cases.place + 1})


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
