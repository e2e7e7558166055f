"""The one report of a training: what a reviewer must know, as facts, as frames and as one page.

report = review(training)
report.summary        # five questions, five answers
report.facts()        # the same facts for programs
report.html()         # the same facts on one page that needs no network
"""

from __future__ import annotations

import functools
import math
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from cxlab.data.catalog import entry
from cxlab.data.quality import Quality, check
from cxlab.display import Result, plain, records
from cxlab.evidence.drift import DriftReport, drift_between
from cxlab.evidence.fairness import Audit, audit, segments_of
from cxlab.evidence.importance import Importance, dependence, importance
from cxlab.evidence.over_time import OverTime, over_time
from cxlab.evidence.page import Drawing, Part, Section, Text, drawing, render, rows
from cxlab.evidence.reasons import reasons, what_if
from cxlab.evidence.remedy import Remedy, remedy
from cxlab.evidence.value import Threshold, Value, choose_threshold, value
from cxlab.metrics import curves
from cxlab.metrics.rates import rates
from cxlab.models.subject import Subject, subject_of
from cxlab.models.training import Training

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STRONGEST = 3  # columns whose dependence is drawn
OVER = 1.5  # times the capacity from which the threshold is said not to fit


@dataclass(frozen=True, repr=False)
class Report(Result):
    """Evidence on the selected model of a training.

    Attributes:
        training: Leaderboard and comparison.
        subject: The selected model with its data.
        threshold: Chosen on validation rows; goes with the model.
        value: Profit on the test part.
        importance: What it decides by.
        audit: Segments compared.
        remedy: What other thresholds would buy and cost; None where no segment is judged.
        drift: Training against test.
        periods: The same over time.
        quality: The data's checks.
        seconds: How long all this took.
    """

    training: Training = field(repr=False)
    subject: Subject
    threshold: Threshold
    value: Value
    importance: Importance
    audit: Audit
    remedy: Remedy | None
    drift: DriftReport
    periods: OverTime
    quality: Quality
    seconds: float

    title: ClassVar[str] = "In five lines"

    def frame(self) -> pd.DataFrame:
        return pd.DataFrame(self.summary)

    def plot(self) -> Axes:
        return self.value.plot()

    @functools.cached_property
    def summary(self) -> list[dict[str, str]]:
        """What it is for, how good, who is treated differently, what has moved, what we do not know."""
        answers = {
            "What is it for?": self._purpose(),
            "How good is it?": self._quality_of_model(),
            "Who is treated differently?": self._treated(),
            "What has moved?": self._moved(),
            "What do we not know?": self._unknown(),
        }
        return [{"question": question, "answer": answer} for question, answer in answers.items()]

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

    def _treated(self) -> str:
        judged = self.audit.frame()
        judged = judged[judged["verdict"].isin(["pass", "fail", "cannot tell"])]
        if judged.empty:
            return "Not asked: data.segments names no column."
        counts = judged["verdict"].value_counts()
        failed = judged[judged["verdict"] == "fail"]
        words = [f"{counts.get(name, 0)} {name}" for name in ("fail", "cannot tell", "pass")]
        names = ", ".join(dict.fromkeys(f"{r.segment} {r.group} ({r.metric})" for r in failed.itertuples()))
        limit = self.subject.params.fairness.max_difference
        return f"Of {len(judged)} judged differences (limit {limit:.2f}): {', '.join(words)}." + (
            f" Failing: {names}." if names else ""
        )

    def _moved(self) -> str:
        found = self.drift.drift
        mattering = found.mattering
        said = f"Between training and test, {len(mattering)} of the columns that the model uses moved"
        said += f": {', '.join(mattering[:5])}." if mattering else "."
        before, after = self.subject.outcome_train.mean(), self.subject.outcome_test.mean()
        said += f" The outcome happened in {before:.1%} of training rows and {after:.1%} of test rows."
        return f"{said} The world moved: {'; '.join(self.periods.loud[:3])}." if self.periods.loud else said

    def _unknown(self) -> str:
        unsure = (self.audit.frame()["verdict"] == "cannot tell").sum()
        suspects = [item.title for item in self.quality.checks if item.status == "cannot_tell"]
        parts = [
            "whether a contact saves anybody (only an experiment tells)",
            f"{unsure} differences between groups" if unsure else "",
            f"data checks that could not tell: {', '.join(map(repr, suspects))}" if suspects else "",
            "how it does on later customers, for the data tell no time" if not self.periods.applies else "",
        ]
        said = "; ".join(part for part in parts if part)
        return f"{said[0].upper()}{said[1:]}."

    def key_figures(self) -> dict[str, float]:
        """What MLflow's own table shows of the report."""
        worst = self.audit.worst
        return {
            "worst_group_gap": abs(worst.value) if worst is not None else math.nan,
            "fairness_failed": float((self.audit.frame()["verdict"] == "fail").sum()),
            "drifted_share": self.drift.drift.share,
            "profit_per_customer": self.value.profit.value,
            "threshold": self.threshold.value,
            "seconds_report": self.seconds,
        }

    def facts(self) -> dict[str, Any]:
        """Everything on the page, for programs: plain values only. Asked twice it says the same."""
        return dict(self._facts)

    @functools.cached_property
    def _facts(self) -> dict[str, Any]:
        chosen = self.training.evaluation.values(self.training.selected)
        found = {
            "summary": [f"{line['question']} {line['answer']}" for line in self.summary],
            "selected": self.training.selected,
            "selection_metric": self.training.metric,
            "metrics": {name: item._asdict() for name, item in chosen.items()},
            "comparison": records(self.training.comparison.frame()),
            "threshold": asdict(self.threshold),
            "value": records(self.value.frame()),
            "calibration": records(self._reliability().frame()),
            "fairness": records(self.audit.frame()),
            "drift": records(self.drift.frame()),
            "estimated": {name: item._asdict() for name, item in self.drift.estimated.values.items()},
            "periods": records(self.periods.frame()),
            "moved": {"columns": self.drift.drift.mattering, "world": list(self.periods.loud)},
            "importance": records(self.importance.frame()),
            "quality": records(self.quality.frame()),
            "seconds": self.seconds,
        }
        return {key: plain(value) for key, value in found.items()}

    def _reliability(self) -> curves.Reliability:
        return curves.reliability(self.subject.outcome_test, self.subject.score_test)

    def html(self) -> str:
        """One page that needs no network, prints, and reads on a phone."""
        params, source, split = self.subject.params, self.subject.table.source, self.subject.split
        purged = f", {split.purged:,} rows left out between them" if split.purged else ""
        subtitle = (
            f"{self.training.selected}, {len(self.subject.outcome_train):,} rows trained and "
            f"{len(self.subject.outcome_test):,} tested ({split.method} split{purged}); "
            f"data SHA-256 {source.sha256[:16]}. Intervals are 95 %. Could not tell is never a pass."
        )
        sections = [
            self._data(),
            self._performance(),
            self._calibration(),
            self._value(),
            self._explanations(),
            self._fairness(),
            self._drift(),
            self._card(),
        ]
        return render(f"Review of {params.name}", subtitle, self.summary, sections)

    def _data(self) -> Section:
        suspects = [item for item in self.quality.checks if item.status != "pass"]
        told = "Every check passed." if not suspects else f"{len(suspects)} checks did not pass; read them first."
        table = self.quality.frame()[["status", "title", "rows", "reason"]]
        notes = [Text(note) for note in self.subject.table.source.notes]
        parts: list[Part] = [Text(told, loud=bool(suspects)), rows("Checks of the data", table), *notes]
        return Section("data", "Data", parts)

    def _performance(self) -> Section:
        training = self.training
        y, score = self.subject.outcome_test, self.subject.score_test
        parts: list[Part] = [
            Text("The test part decided nothing: the choice was made on cross-validated training rows."),
            rows("Candidates on the test part, with 95 % intervals", training.wide()),
            rows("Each against the selected one, on the same rows", training.comparison.frame(), folded=True),
            drawing(
                training.comparison.plot(training.metric),
                f"Difference of each candidate to {training.selected} in {training.metric}, with 95 % intervals",
            ),
            drawing(curves.gains(y, score).plot(), "Share of positives caught by share of customers contacted"),
        ]
        return Section("performance", "Performance and comparison", parts)

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
        frame = self.audit.frame()
        by_segment = frame[frame["metric"] == "calibration_error"]
        if len(by_segment):
            columns = ["segment", "group", "n", "positives", "value", "low", "high"]
            parts.append(rows("Calibration error by segment", by_segment, columns, folded=True))
        return Section("calibration", "When it says 30 %, is it 30 %?", parts)

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

    def _fairness(self) -> Section:
        frame = self.audit.frame()
        if frame.empty:
            return Section("fairness", "Who is treated differently?", [Text(self._treated())])
        judged = frame[frame["verdict"] != "shown"]
        parts: list[Part] = [
            Text(self._treated(), loud=bool((frame["verdict"] == "fail").any())),
            drawing(self.audit.plot(), "Differences between each group and everybody else, with the limit"),
            rows("Judged differences", judged),
            rows("All rates by group", frame[frame["verdict"] == "shown"], folded=True),
            Text(self.audit.note),
        ]
        if self.remedy is not None:
            parts.append(rows("What other thresholds would buy and cost; none is applied", self.remedy.frame()))
            parts.append(Text(self.remedy.note))
        return Section("fairness", "Who is treated differently?", parts)

    def _drift(self) -> Section:
        drift, periods = self.drift.drift, self.periods
        parts: list[Part] = [
            *([Text(f"The world moved: {'; '.join(periods.loud)}.", loud=True)] if periods.loud else []),
            rows("Training against test, what matters first", drift.frame()),
            Text(drift.note),
        ]
        if periods.applies:
            parts.append(drawing(periods.plot(), "Outcome rate, scores and columns by period"))
            parts.append(rows("By period", periods.frame(), folded=True))
        parts.append(rows("Performance estimated from the scores alone", self.drift.estimated.frame()))
        parts.append(Text(self.drift.estimated.note))
        return Section("drift", "What has moved?", parts)

    def _card(self) -> Section:
        source, params = self.subject.table.source, self.subject.params
        card = Path(source.path).with_suffix(".md")
        lines = [f"File {Path(source.path).name}, {source.rows:,} rows, SHA-256 {source.sha256}."]
        if source.entry:
            known = entry(source.entry)
            lines.append(f"{known.title}; {known.kind}; licence {known.licence}; {known.citation}")
        elif card.exists():
            words = card.read_text(encoding="utf-8").split("\n## ")[0]
            lines += [line.strip("# ").strip() for line in words.splitlines() if line.strip() and "|" not in line]
        told = pd.DataFrame(list(params.flat().items()), columns=["param", "value"]).astype(str)
        segments = params.data.segments
        parts: list[Part] = [Text(line) for line in lines]
        if segments:
            parts.append(rows("The outcome by segment", rates(self.subject.table, segments).frame()))
        return Section("card", "Data card and params", [*parts, rows("Params", told, folded=True)])


def review(training: Training, *, seed: int = 0) -> Report:
    """Gathers the evidence on the selected model of a training.

    Args:
        training: Just made, or of a while ago.
        seed: Of every sample that is drawn; large data are sampled, and the page says so.
    """
    started = time.monotonic()
    subject = subject_of(training)
    params, y, score = subject.params, subject.outcome_test, subject.score_test
    threshold = choose_threshold(subject.outcome_valid, subject.score_valid, params.value)
    decides = importance(subject, seed=seed)
    weights = dict(zip(decides.frame()["feature"], decides.frame()["share"], strict=True))
    segments = segments_of(subject.test, params.data.segments)
    audited = audit(y, score, segments, threshold.value, params.fairness, seed=seed)
    return Report(
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
