"""`params/insights.yaml`: what is new since when, and who does what about it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import Field, model_validator

from cxlab.params.files import Moment, Section, load_file
from cxlab.params.signals import Owned
from cxlab.places import home


class Duty(Owned):
    """Who answers for a figure, and what they do when it gets worse."""

    action: str = Field(min_length=1)


class InsightParams(Section):
    """What a supervisor's page shows.

    Attributes:
        since: From when on is new.
        baseline: From when on until `since` is what it is held against.
        most: Lines, at most.
        duties: By a risk score's area or a measure's code.
        others: Of figures without a duty of their own.
    """

    since: Moment
    baseline: Moment
    most: int = Field(8, ge=1)
    duties: dict[str, Duty] = Field(default_factory=dict)
    others: Duty

    @model_validator(mode="after")
    def _in_order(self) -> InsightParams:
        if not self.baseline < self.since:
            raise ValueError(f"baseline == {self.baseline!r} before since == {self.since!r}")
        return self


def load_insights(path: str | Path | None = None, overrides: Sequence[str] = ()) -> InsightParams:
    """Duties of a file, `params/insights.yaml` unless given.

    Raises:
        ParamsError: The file does not fit, or a duty has no owner.
    """
    return load_file(path or home() / "params" / "insights.yaml", InsightParams, overrides)
