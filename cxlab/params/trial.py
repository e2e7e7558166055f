"""Columns of a table of decisions: what was known, what was done with which chance, and what came of it."""

from __future__ import annotations

from pydantic import Field

from cxlab.params.files import Section


class TrialParams(Section):
    """A row a decision.

    Attributes:
        action: What was done.
        control: The value that means nothing was.
        outcome: What came of it, something wanted: numbers or booleans, higher is better.
        customer: Whose decision it was; null where each row is another customer.
        time: When it was decided.
        chances: The column with the chance of each action; empty where every row had the same.
        features: What was known; null: every other column.
        drop: Columns that are none of these.
    """

    action: str = "action"
    control: str = "none"
    outcome: str = "outcome"
    customer: str | None = "customer_id"
    time: str | None = None
    chances: dict[str, str] = Field(default_factory=dict)
    features: tuple[str, ...] | None = None
    drop: tuple[str, ...] = ()
