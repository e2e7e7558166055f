"""`params/alerts.yaml`: which figures are watched, from where on somebody is told, who, and what is to be done."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from cxlab.params.files import Section, load_file
from cxlab.params.signals import Owned
from cxlab.places import home


class RuleParams(Owned):
    """What every rule says.

    Attributes:
        measure: The figure that is watched.
        action: What the owner does.
        owner: Who answers.
    """

    measure: str
    action: str = Field(min_length=1)


class ThresholdRule(RuleParams):
    """A figure beyond a limit.

    Attributes:
        above: The most that is fine.
        below: The least that is fine.
        share: The figure is a share of `n`: the whole Wilson interval must lie beyond the limit.
        periods: How many periods in a row.
    """

    kind: Literal["threshold"]
    above: float | None = None
    below: float | None = None
    share: bool = False
    periods: int = Field(1, ge=1)

    @model_validator(mode="after")
    def _limit(self) -> Self:
        if self.above is None and self.below is None:
            raise ValueError("given a limit: above or below")
        return self


class AnomalyRule(RuleParams):
    """A figure that is unlike the same weekday of the weeks before.

    Attributes:
        z: Robust z from which it is.
        weeks: Weeks before that are compared with.
        least: Weeks below which it cannot be told.
        direction: Which side matters.
    """

    kind: Literal["anomaly"]
    z: float = Field(5, gt=0)
    weeks: int = Field(8, ge=3)
    least: int = Field(5, ge=3)
    direction: Literal["both", "up", "down"] = "both"


class SegmentRule(RuleParams):
    """A group whose share of the figure fell.

    Attributes:
        days: Days that are looked at.
        baseline_days: Days before them that are compared with.
        drop: By which part the share must have fallen, at least, as the interval says.
        fdr: False discovery rate over groups.
    """

    kind: Literal["segment_drop"]
    days: int = Field(7, ge=1)
    baseline_days: int = Field(28, ge=7)
    drop: float = Field(0.2, ge=0, lt=1)
    fdr: float = Field(0.05, gt=0, lt=1)


Rule = Annotated[ThresholdRule | AnomalyRule | SegmentRule, Field(discriminator="kind")]


class WebhookParams(Section):
    """Where new alerts are posted; https, or http on this machine.

    Attributes:
        url: The address.
        timeout_s: Seconds to wait.
    """

    url: str
    timeout_s: float = Field(3, gt=0, le=30)

    @field_validator("url")
    @classmethod
    def _safe(cls, url: str) -> str:
        parts = urlsplit(url)
        local = parts.scheme == "http" and parts.hostname in ("localhost", "127.0.0.1", "::1")
        if not (parts.hostname and (parts.scheme == "https" or local)):
            raise ValueError("an https:// address, or http:// on localhost")
        return url


class AlertsParams(Section):
    """All rules.

    Attributes:
        rules: By name.
        webhook: None: nothing leaves this machine.
    """

    rules: dict[str, Rule] = Field(min_length=1)
    webhook: WebhookParams | None = None


def load_alerts(path: str | Path | None = None, overrides: Sequence[str] = ()) -> AlertsParams:
    """Rules of a file, `params/alerts.yaml` unless given.

    Raises:
        ParamsError: The file is not there or not YAML, a key is unknown, a value does not fit, or a rule has no owner.
    """
    return load_file(path or home() / "params" / "alerts.yaml", AlertsParams, overrides)
