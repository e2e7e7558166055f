"""The `experiment:` section of a params file: what was tried on whom, and by what it is judged.

experiment:
  id: customer_id
  arm: arm
  control: none
  primary: visit
  metrics: [visit, spend]
"""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, model_validator

from cxlab.params.files import Moment, Section, Worded, as_text


def _texts(value: Any) -> Any:
    return {as_text(key): share for key, share in value.items()} if isinstance(value, dict) else value


class Guardrail(Section):
    """A metric that must not suffer.

    Attributes:
        metric: Its column.
        margin: How much harm is still acceptable, > 0, in the metric's unit: 0.01 is a point of a share.
    """

    metric: str
    margin: float = Field(gt=0)


class ExperimentParams(Section):
    """What was tried on whom, and by what it is judged.

    Attributes:
        id: The column that names the customer; null where every row is one of its own.
        arm: The column that says what a customer got.
        control: The arm that the others are compared with.
        primary: The one metric that decides.
        metrics: All that are looked at, the primary among them.
        lower_is_better: Those of them, and of the guardrails, that are bad when they rise.
        guardrails: What must not suffer.
        covariates: Columns known before the assignment: they shorten intervals (CUPED) and show whether arms are alike.
        split: Shares of the arms, or weights; all alike if none are given.
        salt: Of the assignment by `cxlab.decide.assignment`; where it is given every customer's arm is checked.
        assigned_at: The column with the time at which a customer got the arm.
        outcome_at: The column with the time at which the outcome was known.
        hypothesis: Why the arm should help, in a sentence.
        minimum_effect: On the primary metric, the smallest that is worth having, > 0, in its unit.
        power: Chance to see an effect of that size.
        level: Of the intervals; 1 - level is the chance of a false alarm on the primary metric.
        looks: How often the data are looked at; 1 is once, at the end. Of more all are held to the level together.
        customers: How many are planned, all arms together; the plan says it from minimum_effect and power.
        per_day: How many come into the experiment a day, to say how long it takes.
        started: When the first customer was assigned, if no column says it.
        ends: When it ends.
        plan: The file of the plan that was written before the start.
    """

    id: str | None = "customer_id"
    arm: str = "arm"
    control: Worded = "control"
    primary: str
    metrics: tuple[str, ...] = ()
    lower_is_better: tuple[str, ...] = ()
    guardrails: tuple[Guardrail, ...] = ()
    covariates: tuple[str, ...] = ()
    split: Annotated[dict[str, Annotated[float, Field(gt=0)]], BeforeValidator(_texts)] = Field({})
    salt: str | None = None
    assigned_at: str | None = None
    outcome_at: str | None = None
    hypothesis: str = ""
    minimum_effect: float | None = Field(None, gt=0)
    power: float = Field(0.8, gt=0, lt=1)
    level: float = Field(0.95, gt=0.5, lt=1)
    looks: int = Field(10, ge=1)
    customers: int | None = Field(None, ge=2)
    per_day: float | None = Field(None, gt=0)
    started: Moment | None = None
    ends: Moment | None = None
    plan: str | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        told = {*self.measured}
        strange = [name for name in self.lower_is_better if name not in told]
        if strange:
            raise ValueError(f"lower_is_better of metrics or guardrails alone, {strange[0]!r} is neither")
        outcomes = sorted(told & {*self.covariates})
        if outcomes:
            raise ValueError(f"covariates from before the assignment, {outcomes[0]!r} is an outcome")
        if self.split and (len(self.split) < 2 or self.control not in self.split):
            raise ValueError(f"split with shares of the control {self.control!r} and of one arm at least")
        if self.salt is not None and not self.split:
            raise ValueError("salt together with split, which says what shares were assigned with it")
        return self

    @property
    def outcomes(self) -> tuple[str, ...]:
        """The metrics, the primary one first."""
        return tuple(dict.fromkeys([self.primary, *self.metrics]))

    @property
    def measured(self) -> tuple[str, ...]:
        """The metrics and the guardrails' metrics."""
        return tuple(dict.fromkeys([*self.outcomes, *(item.metric for item in self.guardrails)]))
