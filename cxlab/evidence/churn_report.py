"""The report of a model of two outcomes: whom to contact, what it is worth, and whether the scores can be believed."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cxlab.data.catalog import entry
from cxlab.data.quality import check
from cxlab.display import records
from cxlab.evidence.drift import drift_between
from cxlab.evidence.fairness import audit, segments_of
from cxlab.evidence.importance import Importance, dependence, importance
from cxlab.evidence.over_time import OverTime, over_time
from cxlab.evidence.page import Drawing, Part, Section, Text, drawing, rows
from cxlab.evidence.reasons import reasons, what_if
from cxlab.evidence.remedy import Remedy, remedy
from cxlab.evidence.report import Report
from cxlab.evidence.value import Threshold, Value, choose_threshold, value
from cxlab.metrics import curves
from cxlab.metrics.rates import rates
from cxlab.models.subject import subject_of
from cxlab.models.training import Training

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.axes import Axes

STRONGEST = 3  # columns whose dependence is drawn
OVER = 1.5  # times the capacity from which the threshold is said not to fit


@dataclass(frozen=True, repr=False)
class ChurnReport(Report):
    """Evidence on a model of two outcomes.

    Attributes:
        threshold: Chosen on validation rows; goes with the model.
        value: Profit on the test part.
        importance: What it decides by.
        remedy: What other thresholds would buy and cost; None where no segment is judged.
        periods: What has moved, over time.
    """

    threshold: Threshold
    value: Value
    importance: Importance
    remedy: Remedy | None
    periods: OverTime

    def plot(self) -> Axes:
        return self.value.plot()

    def figures(self) -> dict[str, Callable[[], Axes]]:
        return {"importance": self.importance.plot, "value": self.value.plot, **super().figures()}

    def _purpose(self) -> str:
        data, source = self.subject.params.data, self.subject.table.source
        origin = f" ({entry(source.entry).kind} data)" if source.entry else ""
        return (
            f"The probability that {data.target} is {data.positive!r} for each customer of {Path(source.path).name}"
            f"{origin}, to contact those at {self.threshold.value:.3f} and above."
        )

    def _quality_of_model(self) -> str:
        found = self.training.evaluation.values(self.training.selected)
        auc, lift, profit = found["roc_auc"], found["lift"], self.value.profit
        return (
            f"ROC AUC {auc.value:.3f} ({auc.low:.3f} to {auc.high:.3f}), {len(self.subject.outcome_test):,} test rows; "
            f"the top {self.subject.params.value.capacity:.0%} hold {lift.value:.1f} times their share "
            f"({lift.low:.1f} to {lift.high:.1f}). At the threshold it earns {profit.value:.2f} a customer "
            f"({profit.low:.2f} to {profit.high:.2f}), if the value params hold. {self._over_capacity()}".strip()
        )

    def _outcome_moved(self) -> str:
        before, after = self.subject.outcome_train.mean(), self.subject.outcome_test.mean()
        return f"The outcome happened in {before:.1%} of training rows and {after:.1%} of test rows."

    @property
    def world(self) -> tuple[str, ...]:
        return self.periods.loud

    def _unknowns(self) -> list[str]:
        return ["whether a contact saves anybody (only an experiment tells)", *super()._unknowns()]

    def _own_figures(self) -> dict[str, float]:
        return {"profit_per_customer": self.value.profit.value, "threshold": self.threshold.value}

    def _own_facts(self) -> dict[str, Any]:
        return {
            "threshold": asdict(self.threshold),
            "value": records(self.value.frame()),
            "calibration": records(self._reliability().frame()),
            "periods": records(self.periods.frame()),
            "importance": records(self.importance.frame()),
        }

    def _reliability(self) -> curves.Reliability:
        return curves.reliability(self.subject.outcome_test, self.subject.score_test)

    def _sections(self) -> list[Section]:
        return [
            self._data(),
            self._performance(),
            self._calibration(),
            self._value(),
            self._explanations(),
            self._fairness(),
            self._drift(),
            self._card(),
        ]

    def _compared(self) -> list[Part]:
        y, score = self.subject.outcome_test, self.subject.score_test
        return [drawing(curves.gains(y, score).plot(), "Share of positives caught by share of customers contacted")]

    def _calibration(self) -> Section:
        test = self.training.evaluation.values(self.training.selected)["ece"]
        after = f"Expected calibration error on the test part: {test.value:.3f} ({test.low:.3f} to {test.high:.3f})."
        kind = self.subject.model.calibrator.name
        how = "Probabilities are as the model gives them: no calibration lowered the cross-fitted log loss."
        if kind != "none":
            how = f"Calibrated ({kind}) on out-of-fold predictions; before, the error is {self._uncalibrated():.3f}."
        reliability = self._reliability()
        parts: list[Part] = [
            Text(f"{after} {how}"),
            drawing(reliability.plot(), "Predicted probability against the share that happened, with counts"),
            rows("The same in numbers", reliability.frame(), folded=True),
        ]
        return Section("calibration", "When it says 30 %, is it 30 %?", parts + self._calibrated_by_segment())

    def _uncalibrated(self) -> float:
        raw = self.subject.model.uncalibrated(self.subject.model.schema.encode(self.subject.test))
        ece = next(metric for metric in self.training.evaluation.metrics if metric.name == "ece")
        return float(ece(self.subject.outcome_test, raw))

    def _over_capacity(self) -> str:
        """Said where test scores are so much higher than validation scores that the threshold no longer fits."""
        contacted, capacity = self.value.frame()["contacted"].iloc[0] / self.value.n, self.subject.params.value.capacity
        if contacted <= OVER * max(capacity, self.threshold.share):
            return ""
        return f"On the test part the threshold contacts {contacted:.0%} of customers; the capacity is {capacity:.0%}."

    def _value(self) -> Section:
        threshold = self.threshold
        said = f"The threshold {threshold.value:.3f} contacts {threshold.share:.1%} of customers: {threshold.reason}."
        near = (self.subject.score_test >= threshold.low) & (self.subject.score_test <= threshold.high)
        said += (
            f" Scores from {threshold.low:.3f} to {threshold.high:.3f} can't be told from it and go to a person: "
            f"{near.mean():.1%} of test rows."
        )
        caption = "Our threshold beside other policies, profit per customer; gain is what ours earns more"
        table = rows(caption, self.value.frame())
        picture = drawing(self.value.plot(), "Profit per customer by share contacted")
        warning = [Text(self._over_capacity(), loud=True)] if self._over_capacity() else []
        return Section("value", "What is it worth?", [Text(said), *warning, table, picture, Text(self.value.note)])

    def _explanations(self) -> Section:
        found = self.importance
        strongest = found.frame()["feature"].head(STRONGEST).tolist()
        parts: list[Part] = [
            Text(found.note),
            drawing(found.plot(), "Log loss added by shuffling each column, with 95 % intervals"),
            rows("Every column", self._meant(found.frame()), folded=True),
            *(self._dependence(name) for name in strongest),
            Text("Contributions add up to the model's log-odds before calibration; calibration keeps their order."),
        ]
        example = self.subject.test.iloc[[int(np.argmax(self.subject.score_test))]]
        reasoned = reasons(self.subject, example)
        change = what_if(self.subject, example, self.threshold.value)
        if len(reasoned.frame()):
            parts.append(Text(f"The customer with the highest score: {'; '.join(reasoned.texts)}.", personal=True))
            if len(change.frame()):
                caption = "The smallest changes that would cross the threshold, for her"
                parts.append(rows(caption, change.frame(), personal=True))
            parts.append(Text(change.note, personal=True))
        return Section("explanations", "What does it decide by?", parts)

    def _meant(self, frame: pd.DataFrame) -> pd.DataFrame:
        """With the declared meaning of each column, where there are any."""
        table = self.subject.table
        return frame.assign(meaning=frame["feature"].map(table.meaning)) if table.meanings else frame

    def _dependence(self, name: str) -> Drawing:
        found = dependence(self.subject, name, found=self.importance.contributions)
        return drawing(found.plot(), f"Contribution of {name} by its value", personal=True)

    def _treated_otherwise(self) -> list[Part]:
        if self.remedy is None:
            return []
        caption = "What other thresholds would buy and cost; none is applied"
        return [rows(caption, self.remedy.frame()), Text(self.remedy.note)]

    def _moved_over_time(self) -> list[Part]:
        if not self.periods.applies:
            return []
        figure = drawing(self.periods.plot(), "Outcome rate, scores and columns by period")
        return [figure, rows("By period", self.periods.frame(), folded=True)]

    def _outcome_by_segment(self) -> list[Part]:
        segments = self.subject.params.data.segments
        return [rows("The outcome by segment", rates(self.subject.table, segments).frame())] if segments else []


def churn_report(training: Training, *, seed: int = 0) -> ChurnReport:
    """Gathers the evidence on the selected model of a training of two outcomes; see `review`."""
    started = time.monotonic()
    subject = subject_of(training)
    params, y, score = subject.params, subject.outcome_test, subject.score_test
    threshold = choose_threshold(subject.outcome_valid, subject.score_valid, params.value)
    decides = importance(subject, seed=seed)
    weights = dict(zip(decides.frame()["feature"], decides.frame()["share"], strict=True))
    segments = segments_of(subject.test, params.data.segments)
    audited = audit(y, score, segments, threshold.value, params.fairness, seed=seed)
    return ChurnReport(
        training=training,
        subject=subject,
        threshold=threshold,
        value=value(y, score, threshold, params.value, seed=seed),
        importance=decides,
        audit=audited,
        remedy=remedy(subject, threshold.value, seed=seed) if params.data.segments else None,
        drift=drift_between(subject, importance=weights, threshold=threshold.value, seed=seed),
        periods=over_time(subject, importance=weights),
        quality=check(subject.table),
        seconds=time.monotonic() - started,
    )
