"""The plan of an experiment, written before the first customer: what is hoped for, what counts, how long it takes.

    written = plan(params, past)
    written.customers, written.days
    written.write("plan.json")        # then experiment.plan: plan.json in the params

A plan is a file that nobody changes: it carries its own hash, who wrote it and when. The readout holds the experiment
to it, and says so where it was written after the start.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from cxlab.decide.assignment import FEWEST, design, shares_of
from cxlab.decide.experiments import customers_needed, detectable, predicted
from cxlab.decide.sequential import as_one_look
from cxlab.decide.subjects import numbers
from cxlab.digest import canonical, sha256
from cxlab.display import GREY, PALETTE, Result, axes
from cxlab.errors import DataError, ParamsError, missing_column
from cxlab.params.experiment import ExperimentParams
from cxlab.places import acting_person

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from cxlab.params import Params

WEEK = 7  # days; lengths are whole weeks, so that every weekday counts alike
SIZES = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0)  # of the planned customers, at which the plan says what could be seen
HELD = (  # what the params may not say otherwise than the plan
    *("primary", "metrics", "lower_is_better", "guardrails", "covariates", "control", "split", "salt"),
    *("minimum_effect", "level", "looks"),
)


@dataclass(frozen=True, repr=False)
class Plan(Result):
    """What was settled before the start.

    Attributes:
        name: Of the experiment.
        settled: The `experiment` section of the params, what the start and the file of the plan aside.
        segments: Of the readout.
        customers: How many, all arms together.
        days: How long that takes, in whole weeks; None where nobody said how many come a day.
        baseline: Of the primary metric in the past: n, mean, sd, and the share of its variance that covariates explain.
        sizes: customers and the effect that so many would show, of the smallest arm.
        started: When it is to start.
        written_at: UTC.
        written_by: Who.
    """

    name: str
    settled: dict[str, Any]
    segments: tuple[str, ...]
    customers: int
    days: int | None
    baseline: dict[str, float]
    sizes: tuple[dict[str, float | None], ...] = field(repr=False)
    started: str | None
    written_at: str
    written_by: str

    title: ClassVar[str] = "The plan of an experiment"

    @property
    def sha256(self) -> str:
        """Of everything in it."""
        return sha256(canonical(self._facts()))

    @property
    def ends(self) -> str | None:
        """When the planned length is over."""
        if self.settled["ends"] or not (self.started and self.days):
            return self.settled["ends"]
        return (moment(self.started) + timedelta(days=self.days)).isoformat()

    @property
    def note(self) -> str:  # type: ignore[override]
        said, base = self.settled, self.baseline
        looks = "one look at the end" if said["looks"] == 1 else f"{said['looks']} looks"
        days = f", {self.days} days" if self.days else ""
        return (
            f"{said['hypothesis'] or 'No hypothesis is written.'} To see a change of {said['minimum_effect']:g} in "
            f"{said['primary']} (now {base['mean']:.4g}) with a chance of {said['power']:.0%} and {looks} it takes "
            f"{self.customers:,} customers{days}. Written by {self.written_by}, {self.written_at}."
        )

    def frame(self) -> pd.DataFrame:
        """One row a number of customers: customers, days, and the smallest effect they show with the planned power."""
        return pd.DataFrame(list(self.sizes), columns=["customers", "days", "detectable"])

    def plot(self) -> Axes:
        """The smallest effect that can be seen, over customers; dashed what is wanted."""
        ax = axes(f"{self.name}: the smallest effect on {self.settled['primary']} that can be seen")
        shown = self.frame()
        ax.plot(shown["customers"], shown["detectable"], "o-", color=PALETTE[0])
        ax.axhline(self.settled["minimum_effect"], color=GREY, linestyle="--", linewidth=1)
        ax.axvline(self.customers, color=GREY, linestyle="--", linewidth=1)
        ax.set_xlabel("customers, all arms")
        ax.set_ylim(bottom=0)
        return ax

    def write(self, path: str | Path) -> Path:
        """Writes it as JSON with its hash; a file that is there is never changed.

        Raises:
            ParamsError: The file is there, or cannot be written.
        """
        path = Path(path)
        text = json.dumps({**self._facts(), "sha256": self.sha256}, indent=2, ensure_ascii=False) + "\n"
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
        except FileExistsError:
            raise ParamsError(
                f"{path} is there already, and a plan is never changed. Write it to another file and say why."
            ) from None
        except OSError as error:
            raise ParamsError(f"{path} cannot be written: {error.strerror}.") from None
        return path

    def _facts(self) -> dict[str, Any]:
        return json.loads(canonical(asdict(self)))


def plan(params: Params, past: pd.DataFrame, *, at: datetime | None = None) -> Plan:
    """How many customers and days it takes to see the smallest effect that is worth having.

    Power is that of Welch's test, by tea-tasting. With more than one look it is that of the confidence sequence at the
    planned end, which asks for more; it may well be decided earlier. With several arms the primary metric is tested
    once an arm, each at its part of 1 - level.

    Args:
        params: With an `experiment` section that says minimum_effect.
        past: Rows as they were before, one a customer, with the primary metric and the covariates.
        at: When it is written; now.
    Raises:
        ParamsError: There is no such section, no minimum_effect or no arms.
        DataError: A column is not there, or the past tells too little.
    """
    said = section(params)
    if said.minimum_effect is None:
        raise ParamsError(
            "experiment.minimum_effect is missing: the smallest change of the primary metric that is worth having, in "
            "its unit. Without it no length can be planned."
        )
    if not said.split:
        raise ParamsError(f"experiment.split is missing; say who gets what, such as {{{said.control}: 0.5, new: 0.5}}.")
    y = numbers(past, said.primary, params.data.positive)
    if len(y) < FEWEST or not np.ptp(y) > 0:
        raise DataError(
            f"{said.primary!r} has {len(y):,} rows and {len(np.unique(y))} values in the past, must have {FEWEST} rows "
            "and two values at least. Give a longer past."
        )
    for name in said.covariates:
        if name not in past.columns:
            raise missing_column(name, map(str, past.columns))
    covariate = predicted(design(past, said.covariates)[0], y, np.zeros(len(y), dtype=np.intp))
    shares = shares_of(said.split)
    smallest = min(share for name, share in shares.items() if name != said.control)
    both = smallest + shares[said.control]
    alpha = (1 - said.level) / (len(shares) - 1)
    asked: dict[str, Any] = {
        "power": said.power,
        "alpha": alpha if said.looks == 1 else as_one_look(alpha),
        "ratio": smallest / shares[said.control],
        "covariate": covariate,
    }
    needed = math.ceil(customers_needed(y, effect=said.minimum_effect, **asked) / both)
    days = None if said.per_day is None else WEEK * math.ceil(needed / said.per_day / WEEK)
    customers = needed if days is None else max(needed, math.floor(days * (said.per_day or 0)))
    sizes = [max(8, round(share * customers)) for share in SIZES]
    seen = detectable(y, [max(8, round(size * both)) for size in sizes], **asked)
    rows = [
        {"customers": size, "days": size / said.per_day if said.per_day else None, "detectable": effect}
        for size, effect in zip(sizes, seen, strict=True)
    ]
    explained = 0.0 if covariate is None else float(np.corrcoef(covariate, y)[0, 1] ** 2)
    baseline = {"n": len(y), "mean": float(y.mean()), "sd": float(y.std(ddof=1)), "explained": explained}
    settled = said.model_dump(mode="json", exclude={"plan", "started", "customers"})
    settled["metrics"] = list(said.outcomes)
    moment_ = (at or datetime.now(UTC)).astimezone(UTC).isoformat(timespec="seconds")
    segments = params.data.segments
    return Plan(
        params.name, settled, segments, customers, days, baseline, tuple(rows), said.started, moment_, acting_person()
    )


def section(params: Params) -> ExperimentParams:
    """The `experiment` section.

    Raises:
        ParamsError: There is none.
    """
    if params.experiment is None:
        raise ParamsError(
            f"The params of {params.name} have no experiment section; it says which column is the arm, which arm the "
            "control, which metric decides. See params/experiment.yaml."
        )
    return params.experiment


def load_plan(path: str | Path) -> Plan:
    """Reads a plan that was written.

    Raises:
        ParamsError: It is not there, is no plan, or was changed.
    """
    path = Path(path)
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        digest = facts.pop("sha256")
        found = Plan(**{**facts, "segments": tuple(facts["segments"]), "sizes": tuple(facts["sizes"])})
        whole = found.sha256 == digest
        moment(found.written_at)
    except FileNotFoundError:
        raise ParamsError(
            f"No plan {path}. It is written before the start (see cxlab.decide.plans); take experiment.plan out if "
            "there is none: then intervals hold at any look, and the decision can't be 'expand'."
        ) from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ParamsError(f"{path} cannot be read as a plan: {error}. Write one with cxlab.decide.plans.") from None
    if not whole:
        raise ParamsError(f"{path} was changed after it was written: its hash does not fit. Restore the file.")
    return found


def check_kept(found: Plan, params: Params) -> None:
    """Holds the params to the plan.

    Raises:
        ParamsError: They say something else.
    """
    said = section(params).model_dump(mode="json")
    said["metrics"] = list(section(params).outcomes)
    if not said["split"]:
        said["split"] = found.settled["split"]
    wrong = [
        f"{key} was planned as {found.settled[key]!r}, the params say {said[key]!r}"
        for key in HELD
        if said[key] != found.settled[key]
    ]
    if found.segments != params.data.segments:
        wrong.append(f"segments were planned as {list(found.segments)}, the params say {list(params.data.segments)}")
    if wrong:
        raise ParamsError(
            f"The plan of {found.name} is not what is read out: {'; '.join(wrong)}. Read out what was planned; what "
            "came to mind later is a hypothesis for another experiment."
        )


def moment(text: str) -> datetime:
    """An ISO time; UTC where it is naive.

    Raises:
        ParamsError: It is none.
    """
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ParamsError(f"{text!r} is no time; write it as 2026-03-01 or 2026-03-01T09:00+01:00.") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
