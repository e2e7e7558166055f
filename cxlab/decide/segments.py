"""The effect by segment: in each group, and whether it is another one than that of everybody else."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
import pandas as pd

from cxlab.decide.assignment import FEWEST
from cxlab.decide.experiments import Difference, Told, difference
from cxlab.decide.looks import Flags, Look, shared_level, untold, verdict_of
from cxlab.decide.plans import section
from cxlab.decide.sequential import always_valid_p, factor
from cxlab.decide.subjects import Subjects
from cxlab.display import Result, axes, interval_plot, row_height, sentence
from cxlab.metrics.rates import groups
from cxlab.metrics.sample import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from cxlab.params import Params

SEGMENT_COLUMNS = [
    *("segment", "group", "arm", "n", "control_n", "value", "control_value", "difference", "low", "high", "p"),
    *("verdict", "apart", "apart_low", "apart_high", "apart_p", "apart_verdict", "reason"),
]


@dataclass(frozen=True, repr=False, eq=False)
class SegmentReadout(Result):
    """The primary metric by segment: the effect in each group, and whether it is another than elsewhere."""

    metric: str
    rows: pd.DataFrame = field(repr=False)

    title: ClassVar[str] = "The effect by segment"

    @property
    def note(self) -> str:  # type: ignore[override]
        if self.rows.empty:
            return "No segments are declared; name columns in data.segments before the start."
        told = int((self.rows["verdict"] != "cannot tell").sum())
        apart = int((self.rows["apart_verdict"] == "differs").sum())
        return (
            f"Of {len(self.rows)} effects {told} can be told, {apart} differ from those of everybody else; all are "
            "adjusted together. A group whose interval crosses 0 is not one without an effect, and two groups of which "
            "one crosses it are not two different ones: for that look at `apart`."
        )

    def frame(self) -> pd.DataFrame:
        """One row a segment, group and arm; `apart` is the effect less that of everybody else, with its interval."""
        return self.rows.copy()

    def plot(self, arm: str | None = None) -> Axes:
        """A forest plot of one arm (the first); dashed no effect."""
        shown = self.rows[self.rows["low"].notna()]
        if shown.empty:
            return sentence(self.title, "No group is large enough to tell anything." if len(self.rows) else self.note)
        shown = shown[shown["arm"] == (arm or shown["arm"].iloc[0])]
        ax = axes(f"{self.metric}: {shown['arm'].iloc[0]} less control, by segment", height=row_height(shown))
        sizes = (shown["n"] + shown["control_n"]).map("{:,}".format)
        labels = (shown["segment"] + ": " + shown["group"] + " (" + sizes + ")").tolist()
        interval_plot(ax, labels, shown["difference"], shown["low"], shown["high"], reference=0.0)
        return ax


def segment_effects(
    params: Params, people: Subjects, look: Look, covariate: Array | None, distrust: str = ""
) -> pd.DataFrame:
    """The primary metric's effect in each group, and less that of everybody else; each of the two adjusted together.

    Args:
        params: With the segments and the `experiment` section.
        people: Who was in it.
        look: How they are looked at.
        covariate: What was known before, as one number, shape (n,).
        distrust: Why nothing is told, if so.
    """
    said = section(params)
    y = people.metrics[said.primary]
    least = max(FEWEST, params.fairness.min_group)
    found = []
    for segment in params.data.segments:
        label = groups(people.frame[segment])
        for group in label.cat.remove_unused_categories().cat.categories:
            for place in range(1, len(people.arms)):
                inside = (label == group).to_numpy()
                one = _Effect.of(people, y, inside, place=place, covariate=covariate, least=least)
                found.append((segment, group, people.arms[place], one))
    every = [one for *_, one in found]
    level = shared_level([look.told(one.here, said.level, one.place).p for one in every if one.here], said.level)
    gaps = [one.apart(look, said.level)[3] for one in every if one.elsewhere]
    apart_level = shared_level(gaps, said.level)
    rows = []
    for segment, group, arm, one in found:
        told = Told(np.nan, np.nan, np.nan) if one.here is None else look.told(one.here, level, one.place)
        apart = one.apart(look, apart_level)
        verdict = verdict_of(told, lower_is_better=said.primary in said.lower_is_better)
        differs = "differs" if apart[1] > 0 or apart[2] < 0 else "cannot tell"
        if distrust:
            verdict = differs = "cannot tell"
        change = np.nan if one.here is None else one.here.difference
        head = (segment, group, arm, one.n, one.control_n, one.value, one.control_value, change)
        rows.append((*head, *told, verdict, *apart, differs, distrust or one.untold))
    return pd.DataFrame(rows, columns=SEGMENT_COLUMNS)


@dataclass(frozen=True, eq=False)
class _Effect:
    """Of an arm in a group: the means, the difference, and that of everybody else; None where it cannot be told."""

    place: int
    n: int
    control_n: int
    value: float
    control_value: float
    here: Difference | None
    elsewhere: Difference | None
    untold: str

    @classmethod
    def of(cls, people: Subjects, y: Array, inside: Flags, *, place: int, covariate: Array | None, least: int) -> Self:
        """Of the customers inside the group, and of the others."""
        arm, control = inside & (people.codes == place), inside & (people.codes == 0)
        arm_else, control_else = ~inside & (people.codes == place), ~inside & (people.codes == 0)
        why = untold(y, arm, control, least)
        here = None if why else difference(y, arm, control, covariate)
        alone = bool(why or untold(y, arm_else, control_else, least))
        rest = None if alone else difference(y, arm_else, control_else, covariate)
        mean, base = (float(y[part].mean()) if part.any() else np.nan for part in (arm, control))
        return cls(place, int(arm.sum()), int(control.sum()), mean, base, here, rest, why)

    def apart(self, look: Look, level: float) -> tuple[float, float, float, float]:
        """The effect here less that elsewhere, its interval, and p; NaN where either is not told."""
        if self.here is None or self.elsewhere is None:
            return np.nan, np.nan, np.nan, np.nan
        gap = self.here.difference - self.elsewhere.difference
        error = math.hypot(self.here.error, self.elsewhere.error)
        if look.once:
            normal = NormalDist()
            half, p = error * normal.inv_cdf((1 + level) / 2), 2 * normal.cdf(-abs(gap) / error)
        else:
            t = self.here.n + self.here.control_n + self.elsewhere.n + self.elsewhere.control_n
            how = {"planned": look.planned_of(self.place), "tuned": look.tuned}
            half, p = error * float(factor(t, 1 - level, **how)), float(always_valid_p(gap / error, t, **how))
        return gap, gap - half, gap + half, p
