"""The `events:` section of a params file: how raw events become rows with features and an outcome.

events:
  features: features/service_company.yaml
  cutoffs: [2024-04-01, 2024-07-01]
  horizon_days: 90
  label: {event: account_closed, once: true}
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from cxlab.params.features import Days, Feature, Label, Outcome
from cxlab.params.files import Moment, Section

Purpose = Literal["service", "analytics", "personalisation", "marketing"]


class EventThresholds(Section):
    """From where on a check of events says no.

    Attributes:
        missing: Share of an event's rows that may lack a property which the source does deliver, and of all rows that
            may lack a customer_id.
        duplicates: Share of rows that may repeat an event_id.
        late_after_h: Hours from occurred_at to received_at after which an event is late.
        late: Share of events that may be late.
        skew_s: Seconds by which a channel's median event may be received before it occurred.
        ahead: Share of a channel's events that may be received so many seconds before they occurred.
        offset_s: Seconds of lag from which a lag that is the same for all events looks like a wrong time zone.
        silence: How many times the longest silence to be expected of a channel's stream its longest may be.
        volume_z: Robust z (by median absolute deviation) of a day's events against the same weekday.
        thin: Share of its usual day below which the end of a stream is thin.
        fresh_h: Hours that the last event may be old.
        quarantined: Share of rows that may break the contract, duplicates aside.
        least: Events below which a channel's rhythm cannot be told.
    """

    missing: float = Field(0.5, ge=0, le=1)
    duplicates: float = Field(0.001, ge=0, le=1)
    late_after_h: float = Field(24, gt=0)
    late: float = Field(0.05, ge=0, le=1)
    skew_s: float = Field(60, ge=0)
    ahead: float = Field(0.01, ge=0, le=1)
    offset_s: float = Field(900, gt=0)
    silence: float = Field(3, ge=1)
    volume_z: float = Field(6, gt=0)
    thin: float = Field(0.1, gt=0, lt=1)
    fresh_h: float = Field(48, gt=0)
    quarantined: float = Field(0.01, ge=0, le=1)
    least: int = Field(200, ge=20)


class ConsentParams(Section):
    """What events are used for, and on what ground where a customer said nothing.

    Attributes:
        purpose: What they are used for here.
        legitimate_interest: Purposes that are allowed until they are withdrawn; service always is.
        compatible: Other purposes that events of a purpose may be used for.
        retention: Days for which events of a purpose, and events used for it, are kept; no limit where none is given.
    """

    purpose: Purpose = "analytics"
    legitimate_interest: tuple[Purpose, ...] = ("analytics",)
    compatible: dict[Purpose, tuple[Purpose, ...]] = Field({"service": ("analytics",)})
    retention: dict[Purpose, float] = Field({})


class IdentityParams(Section):
    """How identifiers become customers; see `cxlab.data.identity.Caps`.

    Attributes:
        pseudonymise: Replace identifiers by keyed hashes at the door.
        linked: Customers whom one key may join.
        device: The same for a device.
        keys: Keys of one kind that a customer may have.
        decisions: A file of links that people took back.
    """

    pseudonymise: bool = True
    linked: int = Field(3, ge=1)
    device: int = Field(1, ge=1)
    keys: int = Field(20, ge=1)
    decisions: str | None = None


class AttributesParams(Section):
    """A table of customers.

    Attributes:
        path: customer_id and columns; `minor` and `vulnerable` mark customers who are left out of all but service.
        valid_from: The column that says since when a row holds; null where the columns never change.
        columns: Which become features or segments.
    """

    path: str
    valid_from: str | None = None
    columns: tuple[str, ...] = ()


class EventsParams(Section):
    """Raw events to rows: whose, at which cutoffs, with which features and which outcome.

    Attributes:
        cutoffs: Times, UTC where naive; each customer known before one gets a row there.
        horizon_days: How long after a cutoff the outcome is looked for.
        purge_days: Days right after a cutoff that count for neither.
        label: The outcome; that of the file of features where none is given.
        features: Declared features; in a file, the name of a file that lists them does as well. A log has none.
        active_days: Only customers with an event in so many days before a cutoff.
        mapping: A file that tells how a foreign table becomes events.
        taxonomy: What may happen; `params/events.yaml` if null.
        attributes: What is known of customers besides their events.
    """

    cutoffs: tuple[Moment, ...] = ()
    horizon_days: Days | None = None
    purge_days: int = Field(0, ge=0, le=36_500)
    label: Outcome | None = None
    features: tuple[Feature, ...] = ()
    active_days: Days | None = None
    mapping: str | None = None
    taxonomy: str | None = None
    attributes: AttributesParams | None = None
    identity: IdentityParams = IdentityParams()
    consent: ConsentParams = ConsentParams()
    quality: EventThresholds = EventThresholds()

    @model_validator(mode="after")
    def _label_has_horizon(self) -> Self:
        if (self.label is None) != (self.horizon_days is None):
            raise ValueError("given with both label and horizon_days, or with neither")
        return self

    def outcome(self) -> Label | None:
        """The label with its horizon, if this section declares one."""
        if self.label is None or self.horizon_days is None:
            return None
        return Label(**self.label.model_dump(), horizon=self.horizon_days, purge=self.purge_days)
