"""The measures of customer experience: which columns they read, and where a line is drawn that a company draws itself.

params = load_measures("params/measures.yaml", ["service_seconds=30"])
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from cxlab.params.files import Section, load_file
from cxlab.places import home

Days = Annotated[int, Field(ge=1, le=3_650)]
Share = Annotated[float, Field(gt=0, lt=1)]


class ContactColumns(Section):
    """Columns of the contacts, one row a contact; null where there is none.

    Attributes:
        id: Of the contact; calls and surveys name it.
        customer: Whose it is.
        time: When it was.
        channel: On which channel.
        reason: What it was about.
        resolved: Whether the agent marked it resolved, true or false.
        wait: Seconds of waiting.
    """

    id: str = "contact_id"
    customer: str = "customer_id"
    time: str = "at"
    channel: str | None = "channel"
    reason: str | None = "intent"
    resolved: str | None = "resolved"
    wait: str | None = "wait_seconds"


class CallColumns(Section):
    """Columns of the calls, one row a call.

    Attributes:
        contact: Its contact.
        customer: Whose it is.
        time: When it began.
        queue: Seconds until it was answered or given up.
        handle: Seconds of talk, hold and work afterwards.
        abandoned: Whether the caller gave up in the queue, true or false; null where only answered calls are there.
        agent: Who answered.
    """

    contact: str = "contact_id"
    customer: str = "customer_id"
    time: str = "started_at"
    queue: str | None = "queue_seconds"
    handle: str | None = "handle_seconds"
    abandoned: str | None = None
    agent: str | None = "agent"


class SurveyColumns(Section):
    """Columns of the surveys, one row a customer who was asked; an answer that is not there is missing.

    Attributes:
        contact: The contact it is about.
        customer: Who was asked.
        time: When.
        answered: When the answer came; null where that is not kept.
        csat: Satisfaction.
        nps: Whether they would recommend us, 0 to 10.
        ces: How easy it was.
    """

    contact: str = "contact_id"
    customer: str = "customer_id"
    time: str = "sent_at"
    answered: str | None = "answered_at"
    csat: str | None = "csat"
    nps: str | None = "nps"
    ces: str | None = None


class CustomerColumns(Section):
    """Columns of the customers, one row each.

    Attributes:
        id: Of the customer.
        joined: Since when.
        left: Until when, missing for those who are there; null where only the events tell.
        left_event: The event that tells it, in a table of events.
    """

    id: str = "customer_id"
    joined: str | None = "joined_at"
    left: str | None = None
    left_event: str | None = "account_closed"


class Scale(Section):
    """The answers of a survey's question.

    Attributes:
        lowest: The least.
        highest: The most.
    """

    lowest: float
    highest: float

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not self.lowest < self.highest:
            raise ValueError("with lowest < highest")
        return self


class RatedScale(Scale):
    """A scale on which some answers are good ones.

    Attributes:
        top: From where on.
    """

    top: float

    @model_validator(mode="after")
    def _top_within(self) -> Self:
        if not self.lowest < self.top <= self.highest:
            raise ValueError("with lowest < top <= highest")
        return self


class Cost(Section):
    """What a contact costs, in one currency throughout.

    Attributes:
        contact: Each.
        minute: Each minute of handling, on top.
    """

    contact: float = Field(ge=0)
    minute: float = Field(0.0, ge=0)


class LifetimeParams(Section):
    """The value of customers who buy when they like and leave without a word.

    Attributes:
        customer: Column of the customer.
        time: Column of the purchase's time; purchases of a day are one.
        amount: Column of what was paid, >= 0.
        unit_days: Days of the models' unit of time.
        horizon_days: How far ahead.
        discount: A year's, as a share.
        margin: What is left of a unit of sales.
        least: Customers with a repeat purchase below which nothing is fitted.
        draws: Simulated futures that the intervals rest on.
        seed: Of the draws.
        level: Of the intervals.
    """

    customer: str = "customer_id"
    time: str = "occurred_at"
    amount: str = "amount"
    unit_days: float = Field(7.0, gt=0)
    horizon_days: Days = 365
    discount: float = Field(0.1, ge=0, le=1)
    margin: float = Field(1.0, gt=0, le=1)
    least: int = Field(50, ge=10)
    draws: int = Field(400, ge=100, le=10_000)
    seed: int = Field(0, ge=0)
    level: Share = 0.95


class MeasuresParams(Section):
    """See `cxlab.decide.measures`.

    Attributes:
        contacts: Columns.
        calls: Columns.
        surveys: Columns.
        customers: Columns.
        by: Columns of contacts or customers whose groups are measured each for itself.
        csat: Its scale.
        ces: Its scale.
        answer_days: Within how many days an answer counts; who was asked later than that before the end is left out.
        respond: What tells who answers: columns of contacts or customers.
        least_chance: A customer's chance to answer counts as no less than this, so that none outweighs all others.
        recontact_days: Windows in which a contact about the same reason undoes a first-contact resolution.
        repeat_days: A contact is a repeat if the customer was here so many days before.
        service_seconds: A call is answered in time within so many.
        short_seconds: Who gives up sooner is not counted as a caller.
        costs: Of a contact, by channel.
        retention_days: After how many days we look who is still a customer.
        least: Rows and customers (or agents) below which a group is not judged.
        alpha: False discovery rate of the verdicts.
        level: Of the intervals.
        lifetime: Of the customers' value.
    """

    contacts: ContactColumns = ContactColumns()
    calls: CallColumns = CallColumns()
    surveys: SurveyColumns = SurveyColumns()
    customers: CustomerColumns = CustomerColumns()
    by: tuple[str, ...] = ()
    csat: RatedScale = RatedScale(lowest=1, highest=5, top=4)
    ces: Scale = Scale(lowest=1, highest=7)
    answer_days: int = Field(3, ge=0, le=365)
    respond: tuple[str, ...] = ()
    least_chance: float = Field(0.05, gt=0, le=0.5)
    recontact_days: tuple[Days, ...] = (7, 14)
    repeat_days: Days = 30
    service_seconds: float = Field(20, gt=0)
    short_seconds: float = Field(5, ge=0)
    costs: dict[str, Cost] = Field({})
    retention_days: tuple[Days, ...] = (30, 90, 365)
    least: int = Field(30, ge=10)
    alpha: Share = 0.05
    level: Share = 0.95
    lifetime: LifetimeParams = LifetimeParams()


def load_measures(path: str | Path | None = None, overrides: Sequence[str] = ()) -> MeasuresParams:
    """Columns and thresholds of a file, `params/measures.yaml` unless given.

    Raises:
        ParamsError: The file does not fit.
    """
    return load_file(path or home() / "params" / "measures.yaml", MeasuresParams, overrides)
