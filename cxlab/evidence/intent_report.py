"""The report of a model of many classes that reads texts: how good, when it is not sure, and by which words."""

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
from cxlab.display import records
from cxlab.errors import DataError, listed
from cxlab.evidence.abstained import ANSWERED, AWAY, EVERYBODY, SEVERAL, STRANGE, TurnedAway, turned_away
from cxlab.evidence.confused import most_confused
from cxlab.evidence.drift import drift_between
from cxlab.evidence.fairness import audit_answers, segments_of
from cxlab.evidence.page import Part, Section, Text, drawing, rows
from cxlab.evidence.report import Report
from cxlab.evidence.robustness import Robustness, robustness
from cxlab.evidence.text_quality import ALIKE, TextQuality, text_quality
from cxlab.evidence.texts import in_order
from cxlab.evidence.word_importance import WordImportance, word_importance, words_of_test
from cxlab.evidence.words import Words, words_for
from cxlab.metrics import curves
from cxlab.metrics.abstention import Abstention, RiskCoverage, risk_coverage
from cxlab.metrics.intervals import FEWEST
from cxlab.metrics.multiclass import Confusions, confusions, per_class
from cxlab.models.subject import subject_of
from cxlab.models.training import Training

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PAIRS = 100  # pairs of classes in the facts
SHOWN = 30  # pairs of classes with texts, and labels to look at in the first table


@dataclass(frozen=True, repr=False)
class IntentReport(Report):
    """Evidence on a model of many classes.

    Attributes:
        abstention: Its threshold, and how sure that is.
        away: Test texts by what it does with them.
        coverage: Risk by how many are answered.
        texts: What texts and labels are worth.
        words: Of a sample of test texts.
        importance: Words it decides by.
        robustness: What becomes of answers when texts are changed.
    """

    abstention: Abstention
    away: TurnedAway
    coverage: RiskCoverage
    texts: TextQuality = field(repr=False)
    words: Words = field(repr=False)
    importance: WordImportance
    robustness: Robustness

    def plot(self) -> Axes:
        return self.coverage.plot()

    def figures(self) -> dict[str, Callable[[], Axes]]:
        own = {"importance": self.importance.plot, "risk_coverage": self.coverage.plot}
        return {**own, "per_class": self.per_class.plot, "robustness": self.robustness.plot, **super().figures()}

    def _purpose(self) -> str:
        data, source = self.subject.params.data, self.subject.table.source
        origin = f" ({entry(source.entry).kind} data)" if source.entry else ""
        most = self.abstention.max_false_rejection
        return (
            f"Which of {len(self.subject.labels)} values of {data.target} each {data.text} of "
            f"{Path(source.path).name}{origin} asks for, or that it does not know: at most {most:.1%} of the customers "
            "who ask for one of them may be turned away."
        )

    def _quality_of_model(self) -> str:
        found = self.training.evaluation.values(self.training.selected)
        right, f1 = found["accuracy"], found["macro_f1"]
        answered, away = self.away.of(ANSWERED), self.away.of(AWAY)
        worst = self.per_class.frame().dropna(subset="f1").head(3)
        names = ", ".join(f"{row['class']} ({row['f1']:.2f})" for row in worst.to_dict("records"))
        return (
            f"Accuracy {right.value:.3f} ({right.low:.3f} to {right.high:.3f}) and macro F1 {f1.value:.3f} "
            f"({f1.low:.3f} to {f1.high:.3f}) on {len(self.subject.outcome_test):,} test rows. It turns away "
            f"{away['share']:.1%} ({away['low']:.1%} to {away['high']:.1%}) of them; of those that it answers it is "
            f"right in {answered['accuracy']:.1%} ({answered['accuracy_low']:.1%} to "
            f"{answered['accuracy_high']:.1%}). Lowest F1: {names}."
        )

    def _outcome_moved(self) -> str:
        k = len(self.subject.labels)
        before, after = (
            np.bincount(codes, minlength=k) / len(codes)
            for codes in (self.subject.outcome_train, self.subject.outcome_test)
        )
        most = int(np.argmax(np.abs(after - before)))
        return (
            f"Of all intents {self.subject.labels[most]} moved most: {before[most]:.1%} of training rows are labelled "
            f"so, and {after[most]:.1%} of test rows."
        )

    def _unknowns(self) -> list[str]:
        failed = [row.test for row in self.robustness.frame().itertuples() if row.verdict == "cannot tell"]
        asked = "paraphrase" in self.robustness.frame()["test"].to_numpy()
        own = [
            "whether it knows what it has never heard of: all test texts ask for a known intent",
            "" if asked else "whether it understands paraphrases, for none were given",
            f"whether answers hold against {listed(failed)}" if failed else "",
            f"intents of fewer than {FEWEST} test rows: {listed(self.texts.few, 5)}" if self.texts.few else "",
        ]
        return [*filter(None, own), *super()._unknowns()]

    def _own_figures(self) -> dict[str, float]:
        answered, away = self.away.of(ANSWERED), self.away.of(AWAY)
        return {
            "threshold": self.abstention.threshold,
            "turned_away_share": float(away["share"]),
            "accuracy_answered": float(answered["accuracy"]),
            "aurc": self.coverage.area.value,
            "label_errors": float(self.texts.confident),
            "near_duplicates": float(len(self.texts.twins.rows)),
            "robustness_failed": float(len(self.robustness.failed)),
        }

    def _own_facts(self) -> dict[str, Any]:
        return {
            "skipped": self.training.skipped,
            "doubt": self._doubt_facts(),
            "per_class": records(self.per_class_frame()),
            "confusions": records(self.confusions.frame().drop(columns="examples").head(PAIRS)),
            "risk_coverage": records(self.coverage.frame()),
            "calibration": records(self.reliability.frame()),
            "importance": records(self.importance.frame()),
            "words": records(self.words.by_intent()),
            "robustness": records(self.robustness.frame()),
            **self.texts.facts(),
            "periods": [],
        }

    def _doubt_facts(self) -> dict[str, Any]:
        found, away = self.abstention, self.away
        share = {
            name: getattr(found.share, end) for name, end in (("share", "value"), ("low", "low"), ("high", "high"))
        }

        def part(who: str, value: str = "share", ends: str = "") -> dict[str, Any]:
            row = away.of(who)
            n = row["n"] if value == "accuracy" else away.of(EVERYBODY)["n"]
            return {"value": row[value], "low": row[f"{ends}low"], "high": row[f"{ends}high"], "n": int(n)}

        accuracy = {
            name: part(who, "accuracy", "accuracy_")
            for name, who in (("accuracy", EVERYBODY), ("accuracy_answered", ANSWERED), ("accuracy_turned_away", AWAY))
        }
        kinds = {"turned_away": AWAY, "out_of_scope": STRANGE, "several": SEVERAL}
        return {
            **{"threshold": found.threshold, "max_false_rejection": found.max_false_rejection, "n": found.n},
            **{"rejected": found.rejected, **share, "certainty": found.certainty},
            "test": {name: part(who) for name, who in kinds.items()} | accuracy,
        }

    @functools.cached_property
    def per_class(self) -> Any:
        """Precision, recall and F1 of each intent, the worst first."""
        return per_class(self.subject.outcome_test, self.subject.score_test, self.subject.labels)

    def per_class_frame(self) -> pd.DataFrame:
        """The same, with the training rows of each intent."""
        frame, labels = self.per_class.frame(), self.subject.labels
        counts = np.bincount(self.subject.outcome_train, minlength=len(labels))
        frame.insert(1, "n_train", frame["class"].map(dict(zip(labels, counts.tolist(), strict=True))))
        return frame

    @functools.cached_property
    def confusions(self) -> Confusions:
        """Which intent is taken for which, with texts."""
        subject = self.subject
        order = in_order(subject)
        said = [subject.texts_test[i] for i in order]
        return confusions(subject.outcome_test[order], subject.score_test[order], subject.labels, said)

    @functools.cached_property
    def reliability(self) -> curves.Reliability:
        """Confidence against how often the likeliest intent is right."""
        order = in_order(self.subject)
        score = self.subject.score_test[order]
        right = score.argmax(axis=1) == self.subject.outcome_test[order]
        return curves.reliability(right.astype(int), np.minimum(score.max(axis=1), 1.0))

    def _sections(self) -> list[Section]:
        return [
            self._data(),
            self._performance(),
            self._doubt(),
            self._confused(),
            self._calibration(),
            self._explanations(),
            self._robust(),
            self._fairness(),
            self._drift(),
            self._card(),
        ]

    def _looked_at(self) -> list[Part]:
        found, without = self.texts, self.texts.accuracy_without_twins()
        twins = len(found.twins.rows)
        told = "No test text has a near-duplicate in the training part."
        if twins:
            told = (
                f"{twins:,} of {found.twins.n[-1]:,} test texts have a near-duplicate in the training part (Jaccard "
                f"similarity of at least {found.twins.threshold:g}): they test memory. Without them accuracy is "
                f"{without['value'] or 0:.3f} ({without['low']:.3f} to {without['high']:.3f}, {without['n']:,} rows)."
            )
        few = f"Classes of fewer than {FEWEST} test rows, of which figures say little: {listed(found.few)}."
        close = (
            f"Hard to tell from another (at least {ALIKE:.0%} of the rows of both are taken for each other): "
            f"{listed(sorted(found.close))}. Are they one class, or badly labelled?"
        )
        suspects = found.suspects()
        labels = (
            f"{len(found.errors.table):,} of {found.errors.n:,} training labels are doubted by a model that did not "
            f"learn from them, {found.confident:,} of them confidently. {found.errors.note}"
        )
        more = f"Labels to look at: the first {len(suspects):,} of {len(found.errors.table):,}, the worst first"
        parts: list[Part | None] = [
            rows("Texts and labels", found.frame()),
            Text(told),
            rows("Texts in both parts, those with two labels first", found.twin_texts(), folded=True, personal=True)
            if twins
            else None,
            Text(few) if found.few else None,
            Text(close) if found.close else None,
            rows(
                "Classes that are alike, by answers to training rows", found.alike.drop(columns="examples"), folded=True
            ),
            rows("The same with texts", found.alike[["one", "other", "examples"]], folded=True, personal=True),
            Text(labels),
            rows("Given and suggested labels, most frequent first", found.errors.pairs().head(SHOWN), folded=True),
            rows(more, suspects, folded=True, personal=True) if len(suspects) else None,
        ]
        return [part for part in parts if part is not None]

    def _compared(self) -> list[Part]:
        found = self.per_class
        return [
            drawing(found.plot(), "F1 of the worst intents, with 95 % intervals"),
            rows("Every intent, the worst first", self.per_class_frame(), folded=True),
            Text(found.note),
        ]

    def _doubt(self) -> Section:
        found, away = self.abstention, self.away
        several, curve, spread = away.of(SEVERAL), self.coverage.plot(), found.plot()
        said = (
            f"It does not answer below a familiarity of {found.threshold:.3f}, which turned away {found.rejected:,} of "
            f"{found.n:,} cross-fitted training rows; {found.max_false_rejection:.1%} were allowed. Of new texts in "
            f"scope it may turn away {found.share.low:.1%} to {found.share.high:.1%}; that it is no more than allowed "
            f"is {found.certainty:.0%} sure. Of test texts it turns away {away.of(AWAY)['share']:.1%}, "
            f"{int(away.of(STRANGE)['n']):,} of them as out of scope; {int(several['n']):,} are said to ask for "
            "several things."
        )
        parts: list[Part] = [
            Text(said),
            rows("Test texts by what it does with them", away.frame()),
            Text(away.note),
            drawing(curve, "Share of wrong answers by share of texts answered, the most familiar first"),
            rows("The same in numbers", self.coverage.frame(), folded=True),
            Text(self.coverage.note),
            drawing(spread, "Familiarity of cross-fitted training rows, and where answers begin"),
        ]
        return Section("doubt", "When does it say that it does not know?", parts)

    def _confused(self) -> Section:
        subject, found = self.subject, self.confusions
        frame, small = found.frame(), most_confused(subject.outcome_test, subject.score_test, subject.labels)
        parts: list[Part] = [
            drawing(found.plot(), "The most frequent pairs of true and predicted intent"),
            rows("All pairs", frame.drop(columns="examples"), folded=True),
            Text(found.note),
            drawing(small.plot(), f"{small.title}: rows by true and predicted intent"),
            rows("The map in numbers", small.frame(), folded=True),
        ]
        if len(frame):
            shown = frame.head(SHOWN)[["true", "predicted", "n", "of", "examples"]]
            caption = f"The {len(shown)} most frequent pairs with texts, the surest errors first"
            parts.append(rows(caption, shown, folded=True, personal=True))
        return Section("confusion", "What is taken for what?", parts)

    def _calibration(self) -> Section:
        test = self.training.evaluation.values(self.training.selected)["ece"]
        kind = self.subject.model.calibrator.name
        how = f"Calibrated ({kind}) on out-of-fold predictions." if kind != "none" else "Not calibrated."
        said = f"Expected calibration error of the likeliest intent on the test part: {test.value:.3f} "
        said += f"({test.low:.3f} to {test.high:.3f}). {how}"
        figure = self.reliability.plot()
        figure.set_xlabel("confidence in the likeliest intent")
        figure.set_ylabel("share that was right")
        parts: list[Part] = [
            Text(said),
            drawing(figure, "Confidence against how often the likeliest intent is right, with counts"),
            rows("The same in numbers", self.reliability.frame(), folded=True),
        ]
        return Section(
            "calibration", "When it is 80 % sure, is it right in 80 %?", parts + self._calibrated_by_segment()
        )

    def _explanations(self) -> Section:
        found, words = self.importance, self.words
        parts: list[Part] = [
            Text(found.note),
            drawing(found.plot(), "Log loss added by taking each word away, with 95 % intervals"),
            rows("Every word that was looked at", found.frame(), folded=True),
        ]
        by_intent = words.by_intent()
        if len(by_intent):
            said = by_intent.assign(told=[f"{r.word} ({r.contribution:+.2f})" for r in by_intent.itertuples()])
            joined = said.groupby("intent").agg(texts=("texts", "first"), words=("told", ", ".join)).reset_index()
            caption = f"Words that speak loudest for each intent, {len(words.texts):,} test texts"
            parts.append(rows(caption, joined, folded=True))
        parts.append(Text(words.note))
        for place, what in self._examples().items():
            one = words_for(self.subject, [self.subject.texts_test[place]])
            told, true = one.sums().iloc[0], self.subject.labels[self.subject.outcome_test[place]]
            sums = f"{told['constant']:+.2f} without words, {told['words']:+.2f} by words"
            sums += "" if one.exact else f", {told['remainder']:+.2f} unexplained"
            caption = f"{what}: “{one.texts[0]}” is taken for {one.intents[0]}, labelled {true}: {sums}, "
            parts.append(drawing(one.plot(), f"{caption}margin {told['margin']:+.2f}", personal=True))
        return Section("explanations", "What does it decide by?", parts)

    def _examples(self) -> dict[int, str]:
        """A test text that it is sure of and right, and one that it is sure of and wrong."""
        order = in_order(self.subject)
        answers, y = self.subject.answers_test, self.subject.outcome_test
        confidence, right = answers.confidence[order, 0], (answers.code[:, 0] == y)[order]
        kinds = {"Right and sure": right, "Sure, and labelled otherwise": ~right}
        return {
            int(order[np.argmax(np.where(mask, confidence, -1))]): what for what, mask in kinds.items() if mask.any()
        }

    def _robust(self) -> Section:
        found = self.robustness
        loud = [Text(f"Answers do not hold: {listed(found.failed)}.", loud=True)] if found.failed else []
        parts: list[Part] = [
            *loud,
            drawing(found.plot(), "Share of answers that hold, with 95 % intervals and the limits"),
            rows("Texts said otherwise", found.frame()),
            Text(found.note),
        ]
        if len(found.changed):
            shown = found.changed.groupby("test", sort=False).head(5)
            parts.append(rows("Answers that did not hold, five a test", shown, folded=True, personal=True))
        return Section("robustness", "Does the answer hold?", parts)


def intent_report(training: Training, *, seed: int = 0, paraphrases: pd.DataFrame | None = None) -> IntentReport:
    """Gathers the evidence on the selected model of a training of many classes; see `review`.

    Raises:
        DataError: The training has no abstention threshold.
    """
    if training.abstention is None:
        raise DataError("The training has no threshold of doubt: it was made by an older cxlab. Train again.")
    started = time.monotonic()
    subject = subject_of(training)
    answers, order = subject.answers_test, in_order(subject)
    right = answers.code[:, 0] == subject.outcome_test
    segments = segments_of(subject.test, subject.params.data.segments)
    confidence = np.minimum(answers.confidence[:, 0], 1.0)
    words = words_of_test(subject, seed=seed)
    return IntentReport(
        training=training,
        subject=subject,
        abstention=training.abstention,
        away=turned_away(subject),
        coverage=risk_coverage(right[order], answers.familiarity[order], seed=seed),
        texts=text_quality(subject),
        words=words,
        importance=word_importance(subject, words, seed=seed),
        robustness=robustness(subject, paraphrases=paraphrases, seed=seed),
        audit=audit_answers(right, confidence, ~answers.abstained, segments, subject.params.fairness, seed=seed),
        drift=drift_between(subject, seed=seed),
        quality=check(subject.table),
        seconds=time.monotonic() - started,
    )
