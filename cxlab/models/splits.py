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
from cxlab.models.training import BLEND, Training, task_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, repr=False)
class SplitGap(Result):
    """The same candidate under a random and under a temporal split.

    Attributes:
        rows: One a split; empty where no column tells time.
        model: The candidate that was fitted under both.
    """

    rows: pd.DataFrame = field(repr=False)
    model: str

    title: ClassVar[str] = "The same model under two splits"

    @property
    def applies(self) -> bool:
        return not self.rows.empty

    @property
    def note(self) -> str:  # type: ignore[override]
        if not self.applies:
            return NO_TIME
        random, temporal = self.rows["value"]
        apart = self.rows["low"].iloc[0] > self.rows["high"].iloc[1]
        told = "the world moved" if apart else "no difference beyond noise"
        return f"{self.model}: random split {random:.3f}, temporal {temporal:.3f}; {told}. Expect the latter."

    def frame(self) -> pd.DataFrame:
        return self.rows

    def plot(self) -> Axes:
        if not self.applies:
            return sentence(self.title, self.note)
        ax = axes("ROC AUC of the same model under two splits, 95 % interval", height=2.2)
        return interval_plot(ax, self.rows["split"].tolist(), self.rows["value"], self.rows["low"], self.rows["high"])


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
    shares = training[training.selected].settings if training.selected == BLEND else {training.selected: 1.0}
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
