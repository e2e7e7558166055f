"""What the texts and their labels are worth: twins in both parts, labels that are probably wrong, classes that are too
small or too alike to tell.

    found = text_quality(subject)
    found.frame()       # one row a finding
    found.suspects()    # labels to look at, the least credible first: customers' words
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from cxlab.data.label_errors import LabelErrors, label_errors
from cxlab.data.near_duplicates import NearDuplicates, near_duplicates
from cxlab.display import Result
from cxlab.metrics.bootstrap import wilson
from cxlab.metrics.intervals import FEWEST
from cxlab.metrics.multiclass import confusions
from cxlab.models.subject import Subject

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PAIRS = 20  # of classes that are told
ALIKE = 0.05  # share of the rows of two classes that are taken for each other, from which they are said to be alike


@dataclass(frozen=True, repr=False, eq=False)
class TextQuality(Result):
    """Findings about texts and labels.

    Attributes:
        subject: The model and its data.
        twins: Pairs of a training and a test text that are alike.
        errors: Labels of validated training rows that are probably wrong.
        few: Classes with fewer than ten test rows, whose figures say little.
        alike: One a pair of classes: one, other, n (taken for each other), of (rows of both), share, low, high,
            examples. By cross-fitted answers to training rows, so that the test part decides nothing.
    """

    subject: Subject
    twins: NearDuplicates
    errors: LabelErrors
    few: tuple[str, ...]
    alike: pd.DataFrame

    title: ClassVar[str] = "What the texts and their labels are worth"
    note: ClassVar[str] = "Suspects are listed, never dropped: a person decides."

    def frame(self) -> pd.DataFrame:
        """One row a finding: finding, n, of, share, low, high."""
        labels = len(self.subject.labels)
        lines = [
            ("test texts with a twin in the training part", len(self.twins.rows), self.twins.n[-1]),
            ("of these twins, pairs with two labels", len(self.twins.conflicts), len(self.twins.table)),
            ("labels that are probably wrong", self.confident, self.errors.n),
            (f"classes of fewer than {FEWEST} test rows", len(self.few), labels),
            ("classes that are hard to tell from another", len(self.close), labels),
        ]
        low, high = wilson([n for _, n, _ in lines], [of for *_, of in lines])
        rows = pd.DataFrame(lines, columns=["finding", "n", "of"])
        return rows.assign(share=rows["n"] / rows["of"].where(rows["of"] > 0), low=low, high=high)

    @property
    def confident(self) -> int:
        """Labels that are confidently another."""
        return int(self.errors.table["confident"].sum())

    @property
    def close(self) -> set[str]:
        """Classes of which and another at least 5 % of the rows are taken for each other."""
        pairs = self.alike[self.alike["share"] >= ALIKE]
        return {*pairs["one"], *pairs["other"]}

    def plot(self) -> Axes:
        """Rows of the pairs of classes that labels confuse most."""
        return self.errors.plot()

    def suspects(self, most: int | None = 100) -> pd.DataFrame:
        """Labels to look at, the least credible first: id (or row, counted from 1), text, given, suggested, probability
        (of the given), suggested_probability, confident."""
        told = self.errors.frame().head(len(self.errors.table) if most is None else most)
        place, subject = told["row"].to_numpy(np.intp), self.subject
        rows = subject.valid_rows[place]
        name = subject.table.roles.id
        first = {"row": rows + 1} if name is None else {"id": subject.table.frame[name].to_numpy(object)[rows]}
        texts = {"text": np.array(subject.texts_valid, object)[place]}
        kept = ["given", "suggested", "probability_given", "probability_suggested", "confident"]
        return pd.DataFrame({**first, **texts, **{key: told[key].to_numpy() for key in kept}})

    def twin_texts(self, most: int = PAIRS) -> pd.DataFrame:
        """Pairs in both parts, those with two labels first: similarity, training_text, test_text and their labels."""
        table = self.twins.table
        two = table["conflict"].fillna(False).astype(bool)
        shown = table.loc[[*table.index[two], *table.index[~two]]].head(most)
        names = {"left_text": "training_text", "right_text": "test_text"}
        labels = {"left_label": "training_label", "right_label": "test_label"}
        return shown[["similarity", *names, *labels]].rename(columns=names | labels).reset_index(drop=True)

    def accuracy_without_twins(self) -> dict[str, Any]:
        """Of test rows that have no twin: n, value, low, high."""
        right = self.subject.score_test.argmax(axis=1) == self.subject.outcome_test
        kept = np.delete(right, self.twins.rows)
        low, high = (float(end) for end in wilson(kept.sum(), len(kept)))
        return {"n": len(kept), "value": float(kept.mean()) if len(kept) else None, "low": low, "high": high}

    def facts(self) -> dict[str, Any]:
        """Aggregates alone, no customer's words."""
        twins, errors = self.twins, self.errors
        return {
            "near_duplicates": {
                **{"threshold": twins.threshold, "pairs": len(twins.table), "exact": twins.exact},
                **{"test_rows": len(twins.rows), "of": twins.n[-1], "conflicts": len(twins.conflicts)},
                "accuracy_without": self.accuracy_without_twins(),
            },
            "label_errors": {
                **{"n": errors.n, "suspects": len(errors.table), "confident": self.confident},
                "few": errors.few,
                "pairs": errors.pairs().head(PAIRS).to_dict("records"),
            },
            "classes": {"few": self.few, "alike": self.alike.drop(columns="examples").to_dict("records")},
        }


def text_quality(subject: Subject) -> TextQuality:
    """Looks at the texts and labels of a model of many classes.

    Args:
        subject: The model and its data; labels are doubted by its cross-fitted probabilities.
    """
    labels = np.array(subject.labels, object)
    given, valid = labels[subject.outcome_valid], subject.texts_valid
    train = subject.texts(subject.train)
    twins = near_duplicates(
        train, subject.texts_test, labels=labels[subject.outcome_train], test_labels=labels[subject.outcome_test]
    )
    errors = label_errors(given, subject.score_valid, subject.labels)
    counts = np.bincount(subject.outcome_test, minlength=len(labels))
    few = tuple(str(name) for name in labels[counts < FEWEST])
    return TextQuality(subject, twins, errors, few, _alike(subject, valid))


def _alike(subject: Subject, texts: list[str]) -> pd.DataFrame:
    """The pairs of classes that are taken for each other most, either way."""
    found = confusions(subject.outcome_valid, subject.score_valid, subject.labels, texts).frame()
    ends = np.sort(found[["true", "predicted"]].to_numpy(str), axis=1)
    found = found.assign(one=ends[:, 0], other=ends[:, 1])
    grouped = found.groupby(["one", "other"])
    table = grouped.agg(n=("n", "sum"), examples=("examples", " | ".join)).reset_index()
    rows = dict(zip(subject.labels, np.bincount(subject.outcome_valid, minlength=len(subject.labels)), strict=True))
    table["of"] = [rows[one] + rows[other] for one, other in zip(table["one"], table["other"], strict=True)]
    table["share"] = table["n"] / table["of"]
    table["low"], table["high"] = wilson(table["n"], table["of"])
    table = table.sort_values(["share", "n", "one"], ascending=[False, False, True], kind="stable").head(PAIRS)
    return table[["one", "other", "n", "of", "share", "low", "high", "examples"]].reset_index(drop=True)
