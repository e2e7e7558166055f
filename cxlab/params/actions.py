"""A catalogue of actions and the limits they are taken within: `params/actions.yaml`.

params = load_actions("params/actions.yaml", ["budget=2000"])
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from cxlab.params.files import Section, load_file
from cxlab.params.trial import TrialParams
from cxlab.places import home

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Risk = Literal["low", "medium", "high"]
NONE = "none"  # to do nothing: always a candidate, never in a catalogue


class Eligible(Section):
    """Who may get an action, by columns of the customers' table. What is not known is a no.

    Attributes:
        require: Columns that must be true: a consent.
        exclude: Columns that must be false: a minor.
        where: Values that a column may have.
    """

    require: tuple[Text, ...] = ()
    exclude: tuple[Text, ...] = ()
    where: dict[Text, tuple[Any, ...]] = Field({})


class Frequency(Section):
    """How often at most.

    Attributes:
        most: Times.
        days: Within so many days before the decision.
    """

    most: int = Field(1, ge=1)
    days: float = Field(30, gt=0)


class Action(Section):
    """What can be done for a customer.

    Attributes:
        title: As it reads in a sentence: "a call".
        owner: Who answers for it.
        channel: Where it reaches the customer.
        cost: Of one, in the unit of `worth`.
        risk: What can go wrong; the more, the surer the effect must be.
        approve: Whether a person must approve each.
        capacity: How many at most in a round; no limit where none is given.
        frequency: How often a customer may get it; no limit where none is given.
        eligible: Who may get it.
        expected: The change of the outcome that its owner expects, said beforehand; what was learnt is compared to it.
        message: What the customer hears or reads, if it is ready.
    """

    title: Text
    owner: Text
    channel: Text
    cost: float = Field(ge=0)
    risk: Risk = "low"
    approve: bool = True
    capacity: int | None = Field(None, ge=0)
    frequency: Frequency | None = None
    eligible: Eligible = Eligible()
    expected: float | None = None
    message: Text | None = None


class Guardrails(Section):
    """What no suggestion may break.

    Attributes:
        level: How sure the value counted on is: its one-sided lower bound of this level ranks candidates.
        sure: How likely an action must be worth its cost, by its risk.
        harm: How likely at most it may do harm.
        contacts: How often a customer may be reached by whatever action.
    """

    level: float = Field(0.8, ge=0.5, lt=1)
    sure: dict[Risk, float] = Field({"low": 0.8, "medium": 0.9, "high": 0.95})
    harm: float = Field(0.05, gt=0, le=0.5)
    contacts: Frequency | None = Frequency(most=2, days=30)

    @model_validator(mode="after")
    def _sure_for_each(self) -> Self:
        missing = [name for name in ("low", "medium", "high") if not 0 <= self.sure.get(name, -1) < 1]
        if missing:
            raise ValueError(f"guardrails.sure.{missing[0]} in [0, 1); give one for low, medium and high")
        return self


class Holdout(Section):
    """Customers for whom nothing is ever done, so that it shows what all of it is worth.

    Attributes:
        share: Of all customers.
        salt: Another salt, another holdout; keep it for as long as you want to measure.
    """

    share: float = Field(0.1, gt=0, le=0.5)
    salt: Text = "holdout 1"


class ActionsParams(Section):
    """Which actions there are, what an outcome is worth, and what can be spent.

    Attributes:
        outcome: What the effects are effects on, in words: "stays for 91 days".
        worth: Of one outcome, in euros or any other unit that costs and budget share.
        worth_column: A column of the customers' table that holds it for each, in place of `worth`.
        budget: What a round may cost; no limit where none is given.
        trial: Columns of the decisions that effects are learnt from.
        actions: The catalogue, by name.
    """

    outcome: Text
    worth: float = Field(gt=0)
    worth_column: Text | None = None
    budget: float | None = Field(None, ge=0)
    trial: TrialParams | None = None
    guardrails: Guardrails = Guardrails()
    holdout: Holdout = Holdout()
    actions: dict[Text, Action] = Field(min_length=1)

    @model_validator(mode="after")
    def _none_is_given(self) -> Self:
        if NONE in self.actions:
            raise ValueError("a catalogue without 'none': to do nothing is always a candidate and costs nothing")
        return self


def load_actions(path: str | Path | None = None, overrides: Sequence[str] = ()) -> ActionsParams:
    """A catalogue of actions, `params/actions.yaml` unless given.

    Raises:
        ParamsError: A key is unknown or missing (an action without an owner), or a value does not fit.
    """
    return load_file(path or home() / "params" / "actions.yaml", ActionsParams, overrides)
