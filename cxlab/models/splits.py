"""Would a random split have flattered us?

A random split lets a model learn from customers who came after those it is tested on. In use it never can. Where
the world moves, the random figure is too good; the figure of the temporal split is the one to expect.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd

from cxlab.data.split import NO_TIME, make_split
from cxlab.display import Result, axes, interval_plot, sentence
from cxlab.metrics.intervals import evaluate
from cxlab.models.calibration import NoCalibration
from cxlab.models.task import Model
from cxlab.models.training import BLEND, Training, chosen_candidates, task_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, repr=False)
class _Gap(Result):
    """One candidate, fitted in two ways.

    Attributes:
        rows: One a way, named in the first column, with its figure and interval; empty where there is no second way.
        model: The candidate.
    """

    rows: pd.DataFrame = field(repr=False)
    model: str

    drawn: ClassVar[str]
    absent: ClassVar[str]

    @property
    def applies(self) -> bool:
        return not self.rows.empty

    @property
    def note(self) -> str:  # type: ignore[override]
        return self._told(*self.rows["value"]) if self.applies else self.absent

    def _told(self, one: float, other: float) -> str:
        """Both figures in words."""
        raise NotImplementedError

    def frame(self) -> pd.DataFrame:
        return self.rows

    def plot(self) -> Axes:
        if not self.applies:
            return sentence(self.title, self.note)
        rows = self.rows
        return interval_plot(
            axes(self.drawn, height=2.2), rows.iloc[:, 0].tolist(), rows["value"], rows["low"], rows["high"]
        )


class SplitGap(_Gap):
    """The same candidate under a random and under a temporal split."""

    title: ClassVar[str] = "The same model under two splits"
    drawn: ClassVar[str] = "ROC AUC of the same model under two splits, 95 % interval"
    absent: ClassVar[str] = NO_TIME

    def _told(self, one: float, other: float) -> str:
        apart = self.rows["low"].iloc[0] > self.rows["high"].iloc[1]
        told = "the world moved" if apart else "no difference beyond noise"
        return f"{self.model}: random split {one:.3f}, temporal {other:.3f}; {told}. Expect the latter."


class BorderGap(_Gap):
    """The same candidate, taught by whole cases and by what was known when the test part began."""

    title: ClassVar[str] = "The same model, with and without what happened later"
    drawn: ClassVar[str] = "Log loss of the same model on the same test rows, 95 % interval"
    absent: ClassVar[str] = "Not applicable: cases are not split by time, or training was cut at the border already."

    def _told(self, one: float, other: float) -> str:
        return (
            f"{self.model}: log loss {one:.3f} where training cases are learnt from to their end, {other:.3f} where "
            "nothing after the test part began is known. The second is what to expect of a model trained that day."
        )


def _shares(training: Training) -> dict[str, float]:
    """What the selected model is made of: candidates and their weights."""
    chosen = training.selected
    return training[chosen].settings if chosen == BLEND else {chosen: 1.0}


def compare_splits(training: Training, *, metric: str = "roc_auc") -> SplitGap:
    """Fits the selected model again, at its settings, under a random and under a temporal split.

    Args:
        training: Its data must tell time, else the result says that the question does not apply. Scores are taken
            before calibration.
        metric: The figure to compare.
    """
    columns = ["split", "n", "positives", "rate_train", "rate_test", "metric", "value", "low", "high"]
    table, params = training.table, training.params
    if table.roles.time is None or table.test is not None:
        return SplitGap(pd.DataFrame(columns=columns), training.selected)
    task = task_of(params.task)
    y, seed = task.outcome(table), params.split.seed
    shares = _shares(training)
    builders = {candidate.name: candidate.build for candidate in task.candidates}
    rows = []
    for method, title in (("stratified", "random"), ("time", "temporal")):
        split = make_split(table, y, params.split.model_copy(update={"method": method}))
        schema = table.schema(split.train)
        X, test = (schema.encode(table.frame.iloc[part]) for part in (split.train, split.test))
        score = np.zeros(len(test))
        for name, share in shares.items():
            fitted = builders[name](schema, training[name].settings, seed).fit(X, y[split.train])
            score += share * fitted.predict_proba(test)[:, 1]
        metrics = [item for item in task.metrics(params.value) if item.name == metric]
        found = evaluate(y[split.test], {"model": score}, metrics, seed=seed).values("model")[metric]
        rates = y[split.train].mean(), y[split.test].mean()
        rows.append((title, len(split.test), int(y[split.test].sum()), *rates, metric, *found))
    return SplitGap(pd.DataFrame(rows, columns=columns), training.selected)


def compare_borders(training: Training) -> BorderGap:
    """Fits the selected model of a log again, at its settings, on what was known when the test part began.

    Args:
        training: Of a log that is split by time, its cases whole; else the result says that this does not apply.
    """
    columns = ["training", "n", "rows", "censored", "value", "low", "high"]
    params = training.params
    if training.split.border is None or params.split.method != "time" or params.split.cut:
        return BorderGap(pd.DataFrame(columns=columns), training.selected)
    task = task_of(params.task)
    assert task.ground is not None
    shares = _shares(training)
    candidates = {item.name: item for item in chosen_candidates(task, params)[0]}
    cut = task.ground(
        training.table, params.model_copy(update={"split": params.split.model_copy(update={"cut": True})})
    )
    members = [
        candidates[name].build(cut.schema, training[name].settings, cut.seed).fit(cut.X, cut.y) for name in shares
    ]
    model = Model(cut.schema, members, list(shares.values()), NoCalibration(), cut.labels)
    rows, judged = training.table.frame.iloc[training.split.test], training.split.counted(training.split.test)
    groups = np.asarray(training.table.cases)[training.split.test[judged]]  # type: ignore[attr-defined]
    known = model.schema.following(rows)[judged]  # type: ignore[attr-defined]
    (metric,) = [item for item in task.metrics(params.value) if item.name == "log_loss"]
    whole = training.evaluation.values(training.selected)["log_loss"]
    late = evaluate(known, {"cut": model.predict_proba(rows)[judged]}, [metric], seed=cut.seed, groups=groups)
    censored = 0 if cut.split.censored is None else len(cut.split.censored)
    made = [
        ("cases whole", len(judged), len(training.split.train), 0, *whole),
        ("cut at the border", len(judged), len(cut.split.train), censored, *late.values("cut")["log_loss"]),
    ]
    return BorderGap(pd.DataFrame(made, columns=columns), training.selected)
