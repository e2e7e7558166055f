"""The report of a model of sequences: how good after so many events, when, how early the outcome is known, and why."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cxlab.data.catalog import entry
from cxlab.data.quality import check
from cxlab.display import plain, records
from cxlab.errors import listed
from cxlab.evidence.page import Part, Section, Text, drawing, rows
from cxlab.evidence.report import Report
from cxlab.evidence.sequence_drift import sequence_audit, sequence_drift
from cxlab.evidence.sequence_importance import SequenceImportance, sequence_importance
from cxlab.evidence.sequence_occlusion import Occlusion, occlusion
from cxlab.evidence.sequence_outcome import OutcomeEarly, outcome_of
from cxlab.evidence.sequence_rows import Prefixes, prefixes_of
from cxlab.evidence.sequence_times import CONCORDANCE, COVERED, Times, times_of
from cxlab.evidence.sequence_transitions import TransitionDrift, transition_drift
from cxlab.metrics import curves
from cxlab.metrics.by_length import ByLength, PerEvent, by_length, per_event, share_by_case
from cxlab.metrics.classification import bin_of
from cxlab.metrics.multiclass import Confusions, confusions
from cxlab.models.ahead import NEXT, REST, Ahead
from cxlab.models.training import Training

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PAIRS = 100  # pairs of events in the facts
FEW = 200  # test cases below which figures are said to rest on few
EXAMPLE = 25  # events of a case that is shown, at most


@dataclass(frozen=True, repr=False)
class SequenceReport(Report):
    """Evidence on a model of sequences.

    Attributes:
        prefixes: The test part.
        lengths: How good it is by events seen.
        events: Which events are told in advance.
        times: How good what is said of times is.
        outcome: How early the outcome is known; a sentence where it cannot be told, None where none is asked for.
        importance: What it decides by.
        transitions: Whether the same comes after the same.
    """

    prefixes: Prefixes = field(repr=False)
    lengths: ByLength
    events: PerEvent
    times: Times
    outcome: OutcomeEarly | str | None
    importance: SequenceImportance
    transitions: TransitionDrift

    def plot(self) -> Axes:
        return self.lengths.plot()

    def figures(self) -> dict[str, Callable[[], Axes]]:
        own: dict[str, Callable[[], Axes]] = {
            "by_length": self.lengths.plot,
            "importance": self.importance.plot,
            "times": self.times.plot,
        }
        if isinstance(self.outcome, OutcomeEarly):
            own["earliness"] = self.outcome.plot
        return {**own, "transitions": self.transitions.plot, **super().figures()}

    @property
    def cases(self) -> int:
        """Test cases."""
        return int(self.prefixes.case[-1]) + 1

    def _purpose(self) -> str:
        data, source, asked = self.subject.params.data, self.subject.table.source, self.subject.params.sequence
        origin = f" ({entry(source.entry).kind} data)" if source.entry else ""
        parts = {"next": "when", "rest": "how long the case will last"}
        said = [words for kind, words in parts.items() if kind in self._ahead.times]
        if asked.outcome is not None:
            told = asked.outcome.event or f"{asked.outcome.column} == {asked.outcome.value!r}"
            said.append(f"how it ends ({told})")
        also = f"; {', '.join(said)}" if said else ""
        return (
            f"Which of {len(self.prefixes.schema.labels):,} events ({data.event}, the end of the case among them) "
            f"comes next in each open {data.case} of {Path(source.path).name}{origin}, from {asked.min_prefix} events "
            f"on{also}."
        )

    @property
    def _ahead(self) -> Ahead:
        assert self.subject.model.ahead is not None
        return self.subject.model.ahead

    def _quality_of_model(self) -> str:
        found = self.training.evaluation.values(self.training.selected)
        right, three = found["accuracy"], found["top3"]
        said = (
            f"The next event is right in {right.value:.1%} ({right.low:.1%} to {right.high:.1%}) and among the three "
            f"likeliest in {three.value:.1%} of {len(self.prefixes.y):,} rows of {self.cases:,} test cases"
        )
        frame = self.lengths.frame()
        told = frame[frame["metric"] == "accuracy"]
        if len(told) > 1:
            ends = [f"{row.value:.1%} after {row.events_seen}" for row in (told.iloc[0], told.iloc[-1])]
            said += f": {' and '.join(ends)} events"
        return f"{said}. {self._said_of_times()} {self._said_of_outcome()}".strip()

    def _said_of_times(self) -> str:
        parts = []
        for kind, name in ((NEXT, "the next event"), (REST, "the end of the case")):
            order, held = self.times.of(kind, CONCORDANCE), self.times.of(kind, COVERED)
            if np.isfinite(order.value):
                parts.append(f"of {name} {order.value:.2f} and {held.value:.0%}")
        said = f"Concordance of times, and share within their {self.times.level:.0%} intervals"
        return f"{said}: {'; '.join(parts)}." if parts else ""

    def _said_of_outcome(self) -> str:
        if not isinstance(self.outcome, OutcomeEarly):
            return ""
        found = self.outcome.earliness
        table = found.frame().dropna(subset="auc")
        if table.empty:
            return ""
        first = table.iloc[0]
        said = f"The outcome has an AUC of {first['auc']:.2f} after {int(first['events_seen'])} events"
        if not found.counts[0]:
            return f"{said}; no alarm was precise enough."
        share = f"{found.found.value:.0%} of the cases it happens to are found"
        return f"{said}; {share}, and {found.precision.value:.0%} of the alarms are right."

    def _outcome_moved(self) -> str:
        found = self.transitions
        if not found.compared:
            return "No event is in enough cases to compare what comes after it."
        return (
            f"After {len(found.moved)} of {found.compared} events that could be compared, another follows than before."
        )

    @property
    def world(self) -> tuple[str, ...]:
        return self.transitions.moved

    def _unknowns(self) -> list[str]:
        few = self.cases if self.cases < FEW else 0
        skipped = {**self._ahead.skipped, **self.training.skipped}
        own = [
            f"much of small differences: there are {few:,} test cases" if few else "",
            *(note.rstrip(".") for note in self.subject.table.source.notes if "left out" in note),
            f"what could not be learnt or run: {listed(skipped)}" if skipped else "",
            "what an intervention would change: it tells what happens, not what would help",
        ]
        return [*filter(None, own), *super()._unknowns()]

    def _own_figures(self) -> dict[str, float]:
        figures = {"transitions_moved": float(len(self.transitions.moved))}
        for kind in (NEXT, REST):
            figures[f"concordance_{kind}"] = self.times.of(kind, CONCORDANCE).value
            figures[f"coverage_{kind}"] = self.times.of(kind, COVERED).value
        if isinstance(self.outcome, OutcomeEarly):
            figures["outcome_found"] = self.outcome.earliness.found.value
            figures["outcome_precision"] = self.outcome.earliness.precision.value
        return figures

    def _own_facts(self) -> dict[str, Any]:
        return {
            "skipped": self.training.skipped,
            "not_learnt": self._ahead.skipped,
            "by_length": records(self.lengths.frame()),
            "per_event": records(self.events.frame()),
            "confusions": records(self._pairs().head(PAIRS)),
            "calibration": records(self.reliability.frame()),
            "times": records(self.times.frame()),
            "time_calibration": records(self.times.calibrated()),
            "earliness": self._early_facts(),
            "importance": records(self.importance.frame()),
            "contributions": records(self.importance.contributions),
            "transitions": records(self.transitions.frame()),
            "split": plain(self._split()),
            "periods": [],
        }

    def _early_facts(self) -> dict[str, Any] | None:
        if isinstance(self.outcome, OutcomeEarly):
            return self.outcome.facts()
        return None if self.outcome is None else {"cannot_tell": self.outcome}

    def _split(self) -> dict[str, Any]:
        split, params = self.subject.split, self.subject.params.split
        times = self.subject.table.frame[str(self.subject.table.roles.time)]
        border = None if split.border is None else str(pd.Timestamp(split.border, unit="us", tz="UTC"))
        by_time = params.method == "time"
        return {
            "method": params.method,
            "cut": params.cut,
            "training_cases": len(np.unique(self.prefixes.table.cases[split.train])),
            "test_cases": self.cases,
            "border": border if params.cut and by_time else None,
            "censored": 0 if split.censored is None else len(split.censored),
            "left_out": split.purged,
            "first": str(times.min()),
            "last": str(times.max()),
        }

    @functools.cached_property
    def reliability(self) -> curves.Reliability:
        """Confidence against how often the likeliest event comes, with intervals over cases."""
        right, confidence = self.prefixes.right.astype(int), self.prefixes.confidence
        table = curves.reliability(right, confidence).frame()
        case = self.prefixes.case[self.prefixes.judged]
        place = bin_of(confidence, len(table))
        for number in np.unique(place):
            there = place == number
            whose = np.unique(case[there], return_inverse=True)[1]
            table.loc[number, ["low", "high"]] = share_by_case(right[there], np.ones(len(whose)), whose)[1:]
        return curves.Reliability(table)

    @functools.cached_property
    def confusions(self) -> Confusions:
        """Which event is taken for which."""
        return confusions(self.prefixes.y, self.prefixes.score, self.subject.labels)

    def _pairs(self) -> pd.DataFrame:
        """Without intervals, which would be of rows."""
        return self.confusions.frame().drop(columns=["low", "high"])

    def _sections(self) -> list[Section]:
        early = [self._early()] if self.outcome is not None else []
        return [
            self._data(),
            self._performance(),
            self._events(),
            self._calibration(),
            self._when(),
            *early,
            self._explanations(),
            self._fairness(),
            self._drift(),
            self._card(),
        ]

    def _looked_at(self) -> list[Part]:
        told = self._split()
        n, m = told["training_cases"], told["test_cases"]
        if told["method"] != "time":
            said = f"Cases were split at random: {n:,} train and {m:,} test. Nothing is said of later cases."
        elif told["border"]:
            said = (
                f"Cases are in the order in which they began: {n:,} train, and the latest {m:,} test. Nothing after "
                f"{told['border']}, when the first of these began, was learnt from; {told['censored']:,} training "
                "cases were open then and count for as long as they were seen"
            )
            said += f", and {told['left_out']:,} of their rows are left out." if told["left_out"] else "."
        else:
            said = (
                f"Cases are in the order in which they began: {n:,} train to their end, and the latest {m:,} test. "
                "Training cases may have gone on after the first test case began; with split.cut nothing after that "
                "moment is learnt from."
            )
        return [Text(said)]

    def _compared(self) -> list[Part]:
        found = self.lengths
        return [
            rows("By events seen, with 95 % intervals over cases", found.wide()),
            drawing(found.plot(), "Accuracy by events seen, with intervals; dashed: all rows"),
            drawing(found.plot("log_loss"), "Log loss by events seen, with intervals; dashed: all rows"),
            Text(found.note),
        ]

    def _events(self) -> Section:
        frame = self.events.frame()
        names = ["class", "n", "predicted", "right", "precision", "recall", "f1", "f1_low", "f1_high"]
        parts: list[Part] = [
            drawing(self.events.plot(), "F1 of the events told worst, with 95 % intervals over cases"),
            rows("Every event, the worst first", frame[names], folded=True),
            Text(self.events.note),
            drawing(self.confusions.plot(), "The most frequent pairs of true and predicted event"),
            rows("All pairs", self._pairs(), folded=True),
        ]
        return Section("events", "Which events does it foresee?", parts)

    def _calibration(self) -> Section:
        test = self.training.evaluation.values(self.training.selected)["ece"]
        kind = self.subject.model.calibrator.name
        how = f"Calibrated ({kind}) on out-of-fold predictions." if kind != "none" else "Not calibrated."
        said = f"Expected calibration error of the likeliest event on the test part: {test.value:.3f} "
        said += f"({test.low:.3f} to {test.high:.3f}). {how}"
        figure = self.reliability.plot()
        figure.set_xlabel("confidence in the likeliest event")
        figure.set_ylabel("share in which it came")
        for ax in figure.figure.axes:
            if ax is not figure:
                ax.set_ylabel("rows in the bin", loc="bottom")
        parts: list[Part] = [
            Text(said),
            drawing(figure, "Confidence against how often the likeliest event came, with counts"),
            rows("The same in numbers", self.reliability.frame(), folded=True),
            drawing(self.lengths.plot("ece"), "Expected calibration error by events seen"),
        ]
        title = "When it is 80 % sure, is it right in 80 %?"
        return Section("calibration", title, parts + self._calibrated_by_segment())

    def _when(self) -> Section:
        found = self.times
        parts: list[Part] = [Text(f"Not learnt: {kind}. {why}") for kind, why in found.skipped.items()]
        if len(found.rows):
            parts += [
                drawing(found.plot(), "Concordance, and share of times within their intervals, with 95 % intervals"),
                rows("What is said of times, with 95 % intervals over cases", found.frame()),
                Text(found.note),
            ]
        for days, one in found.calibration.items():
            figure = one.plot()
            figure.set_title(f"{found.dated}: within {days:g} days", loc="left", fontsize=11)
            parts.append(drawing(figure, f"Share predicted and share that came within {days:g} days"))
        if found.calibration:
            parts.append(rows("Shares by horizon in numbers", found.calibrated(), folded=True))
            parts.append(Text(next(iter(found.calibration.values())).note))
        return Section("times", "When?", parts)

    def _early(self) -> Section:
        if not isinstance(self.outcome, OutcomeEarly):
            return Section("outcome", "How early is the outcome known?", [Text(str(self.outcome), loud=True)])
        found = self.outcome
        figure = found.reliability.plot()
        for ax in figure.figure.axes:
            if ax is not figure:
                ax.set_ylabel("cases in the bin", loc="bottom")
        parts: list[Part] = [
            Text(f"Outcome: {found.name}; it is known of {found.cases:,} test cases."),
            drawing(found.plot(), "AUC after so many events, and share of cases it happens to with an alarm by then"),
            rows("Alarms", found.earliness.alarms()),
            rows("By events seen", found.frame(), folded=True),
            Text(found.note),
            drawing(figure, "Probability of the outcome against how often it happened, one random row of each case"),
        ]
        return Section("outcome", "How early is the outcome known?", parts)

    def _explanations(self) -> Section:
        found = self.importance
        parts: list[Part] = [
            Text(found.note),
            drawing(found.plot(), "Log loss added by shuffling each group of features, with 95 % intervals"),
            rows("Every group", found.frame(), folded=True),
        ]
        if len(found.contributions):
            caption = f"Features by mean absolute contribution to the trees' log-odds, {found.explained:,} rows"
            parts.append(rows(caption, found.contributions.head(40), folded=True))
            share = f"{found.weight:.0%} of the model are trees" if found.weight < 1 else "The model is trees"
            parts.append(Text(f"{share}; contributions add up to their log-odds before calibration, event by event."))
        examples = self._examples()
        for what, one in examples.items():
            caption = f"{what}, case {one.case}: earlier events that speak for it"
            parts.append(drawing(one.plot(), caption, personal=True))
        if examples:
            parts.append(Text(Occlusion.note))
        return Section("explanations", "What does it decide by?", parts)

    def _examples(self) -> dict[str, Occlusion]:
        """A prediction that it is sure of and that came true, and one that did not, of cases with some history."""
        said, right = self.prefixes.score.argmax(axis=1), self.prefixes.right
        seen = self.prefixes.position[self.prefixes.judged]
        going = said != len(self.subject.labels) - 1  # that a case ends is mostly told by its last event
        usual = np.quantile(seen[going], 0.75) if going.any() else 0
        fits = going & (seen >= usual) & (seen <= max(EXAMPLE, usual))
        found, kinds = {}, {"Sure, and it came": right, "Sure, and another came": ~right}
        for what, mask in kinds.items():
            if (mask & fits).any():
                at = int(self.prefixes.judged[np.argmax(np.where(mask & fits, self.prefixes.confidence, -1))])
                first = at - int(self.prefixes.position[at]) + 1
                found[what] = occlusion(self.subject, self.subject.test.iloc[first : at + 1])
        return found

    def _moved_over_time(self) -> list[Part]:
        found = self.transitions
        return [
            drawing(found.plot(), "How much what comes next differs between training and test, by event"),
            rows("What comes after each event, training against test", found.frame()),
            Text(found.note),
            rows("Shares of what comes next", found.shares, folded=True),
        ]


def sequence_report(training: Training, *, seed: int = 0) -> SequenceReport:
    """Gathers the evidence on the selected model of a training on a log; see `review`."""
    started = time.monotonic()
    prefixes = prefixes_of(training)
    whose = prefixes.judged
    case, position = prefixes.case[whose], prefixes.position[whose]
    decides = sequence_importance(prefixes, seed=seed)
    return SequenceReport(
        training=training,
        subject=prefixes.subject,
        prefixes=prefixes,
        lengths=by_length(prefixes.y, prefixes.score, position, case, seed=seed),
        events=per_event(prefixes.y, prefixes.score, prefixes.subject.labels, case),
        times=times_of(prefixes, seed=seed),
        outcome=outcome_of(prefixes, seed=seed),
        importance=decides,
        transitions=transition_drift(prefixes.table, prefixes.schema, prefixes.subject.split),
        audit=sequence_audit(prefixes, seed=seed),
        drift=sequence_drift(prefixes, importance=decides.weights, seed=seed),
        quality=check(prefixes.table),
        seconds=time.monotonic() - started,
    )
