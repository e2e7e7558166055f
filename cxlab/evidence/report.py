"""The one report of a training: what a reviewer must know, as facts, as frames and as one page.

report = review(training)
report.summary        # five questions, five answers
report.facts()        # the same facts for programs
report.html()         # the same facts on one page that needs no network

What is shared by all tasks is here: data, comparison, fairness, drift, card. `churn_report`, `intent_report`
and `sequence_report` add what is asked of their kind of outcome.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pandas as pd

from cxlab.data.catalog import entry
from cxlab.data.quality import Quality
from cxlab.display import Result, plain, records
from cxlab.errors import ParamsError
from cxlab.evidence.drift import DriftReport
from cxlab.evidence.fairness import Audit
from cxlab.evidence.page import Part, Section, Text, drawing, render, rows
from cxlab.models.subject import Subject
from cxlab.models.training import Training

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, repr=False)
class Report(Result):
    """Evidence on the selected model of a training, whatever its task.

    Attributes:
        training: Leaderboard and comparison.
        subject: The selected model with its data.
        audit: Segments compared.
        drift: Training against test.
        quality: The data's checks.
        seconds: How long all this took.
    """

    training: Training = field(repr=False)
    subject: Subject
    audit: Audit
    drift: DriftReport
    quality: Quality
    seconds: float

    title: ClassVar[str] = "In five lines"

    def frame(self) -> pd.DataFrame:
        return pd.DataFrame(self.summary)

    def figures(self) -> dict[str, Callable[[], Axes]]:
        """What a run files as pictures, by name."""
        return {} if self.audit.frame().empty else {"fairness": self.audit.plot}

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
        raise NotImplementedError

    def _quality_of_model(self) -> str:
        raise NotImplementedError

    def _outcome_moved(self) -> str:
        raise NotImplementedError

    def _own_figures(self) -> dict[str, float]:
        raise NotImplementedError

    def _own_facts(self) -> dict[str, Any]:
        raise NotImplementedError

    def _sections(self) -> list[Section]:
        raise NotImplementedError

    @property
    def world(self) -> tuple[str, ...]:
        """What moved in the world that the data come from, in words."""
        return ()

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
        mattering = self.drift.drift.mattering
        said = f"Between training and test, {len(mattering)} of the columns that the model uses moved"
        said += f": {', '.join(mattering[:5])}." if mattering else "."
        said += f" {self._outcome_moved()}"
        return f"{said} The world moved: {'; '.join(self.world[:3])}." if self.world else said

    def _unknown(self) -> str:
        said = "; ".join(self._unknowns()) or "nothing that was asked here"
        return f"{said[0].upper()}{said[1:]}."

    def _unknowns(self) -> list[str]:
        unsure = (self.audit.frame()["verdict"] == "cannot tell").sum()
        suspects = [item.title for item in self.quality.checks if item.status == "cannot_tell"]
        parts = [
            f"{unsure} differences between groups" if unsure else "",
            f"data checks that could not tell: {', '.join(map(repr, suspects))}" if suspects else "",
            "how it does on later customers, for the data tell no time"
            if self.subject.table.roles.time is None
            else "",
        ]
        return [part for part in parts if part]

    def key_figures(self) -> dict[str, float]:
        """What MLflow's own table shows of the report."""
        worst = self.audit.worst
        return {
            "worst_group_gap": abs(worst.value) if worst is not None else math.nan,
            "fairness_failed": float((self.audit.frame()["verdict"] == "fail").sum()),
            "drifted_share": self.drift.drift.share,
            **self._own_figures(),
            "seconds_report": self.seconds,
        }

    def facts(self) -> dict[str, Any]:
        """Everything on the page, for programs: plain values only, and no single customer. Asked twice it says the
        same."""
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
            **self._own_facts(),
            "fairness": records(self.audit.frame()),
            "drift": records(self.drift.frame()),
            "estimated": {name: item._asdict() for name, item in self.drift.estimated.values.items()},
            "moved": {"columns": self.drift.drift.mattering, "world": list(self.world)},
            "quality": records(self.quality.frame()),
            "seconds": self.seconds,
        }
        return {key: plain(value) for key, value in found.items()}

    def html(self) -> str:
        """One page that needs no network, prints, and reads on a phone."""
        params, source, split = self.subject.params, self.subject.table.source, self.subject.split
        purged = f", {split.purged:,} rows left out between them" if split.purged else ""
        subtitle = (
            f"{self.training.selected}, {len(self.subject.outcome_train):,} rows trained and "
            f"{len(self.subject.outcome_test):,} tested ({split.method} split{purged}); "
            f"data SHA-256 {source.sha256[:16]}. Intervals are 95 %. Could not tell is never a pass."
        )
        return render(f"Review of {params.name}", subtitle, self.summary, self._sections())

    def _data(self) -> Section:
        suspects = [item for item in self.quality.checks if item.status != "pass"]
        told = "Every check passed." if not suspects else f"{len(suspects)} checks did not pass; read them first."
        table = self.quality.frame()[["status", "title", "rows", "reason"]]
        notes = [Text(note) for note in self.subject.table.source.notes]
        parts: list[Part] = [Text(told, loud=bool(suspects)), rows("Checks of the data", table), *notes]
        return Section("data", "Data", parts + self._looked_at())

    def _looked_at(self) -> list[Part]:
        """What else is said of the data."""
        return []

    def _performance(self) -> Section:
        training = self.training
        reasons = {
            why: [name for name in training.skipped if training.skipped[name] == why]
            for why in training.skipped.values()
        }
        skipped = [Text(f"Could not run here: {', '.join(names)}. {why}") for why, names in reasons.items()]
        parts: list[Part] = [
            Text("The test part decided nothing: the choice was made on cross-validated training rows."),
            rows("Candidates on the test part, with 95 % intervals", training.wide()),
            *skipped,
            rows("Each against the selected one, on the same rows", training.comparison.frame(), folded=True),
            drawing(
                training.comparison.plot(training.metric),
                f"Difference of each candidate to {training.selected} in {training.metric}, with 95 % intervals",
            ),
        ]
        return Section("performance", "Performance and comparison", parts + self._compared())

    def _calibrated_by_segment(self) -> list[Part]:
        """Whether each group's probabilities can be believed, where there are groups."""
        frame = self.audit.frame()
        by_segment = frame[frame["metric"] == "calibration_error"]
        columns = ["segment", "group", "n", "positives", "value", "low", "high"]
        return [rows("Calibration error by segment", by_segment, columns, folded=True)] if len(by_segment) else []

    def _compared(self) -> list[Part]:
        """What else is said of the performance."""
        return []

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
        return Section("fairness", "Who is treated differently?", parts + self._treated_otherwise())

    def _treated_otherwise(self) -> list[Part]:
        """What could be done about differences."""
        return []

    def _drift(self) -> Section:
        drift = self.drift.drift
        loud = [Text(f"The world moved: {'; '.join(self.world)}.", loud=True)] if self.world else []
        parts: list[Part] = [
            *loud,
            rows("Training against test, what matters first", drift.frame()),
            Text(drift.note),
            *self._moved_over_time(),
            rows("Performance estimated from the scores alone", self.drift.estimated.frame()),
            Text(self.drift.estimated.note),
        ]
        return Section("drift", "What has moved?", parts)

    def _moved_over_time(self) -> list[Part]:
        """What moved from period to period."""
        return []

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
        parts: list[Part] = [*map(Text, lines), *self._outcome_by_segment(), rows("Params", told, folded=True)]
        return Section("card", "Data card and params", parts)

    def _outcome_by_segment(self) -> list[Part]:
        return []


def review(training: Training, *, seed: int = 0, paraphrases: pd.DataFrame | None = None) -> Report:
    """Gathers the evidence on the selected model of a training.

    Args:
        training: Just made, or of a while ago.
        seed: Of every sample that is drawn; large data are sampled, and the page says so.
        paraphrases: Of a model of texts, pairs that mean the same (`text`, `other`); see `robustness`.
    Raises:
        ParamsError: There are paraphrases, and the model does not read texts.
    """
    if training.task == "intent":
        from cxlab.evidence.intent_report import intent_report

        return intent_report(training, seed=seed, paraphrases=paraphrases)
    if paraphrases is not None:
        raise ParamsError(f"Task {training.task} reads no texts, so paraphrases say nothing of it. Leave them out.")
    if training.task == "sequence":
        from cxlab.evidence.sequence_report import sequence_report

        return sequence_report(training, seed=seed)
    from cxlab.evidence.churn_report import churn_report

    return churn_report(training, seed=seed)
