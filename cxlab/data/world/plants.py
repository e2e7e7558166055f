"""What may be planted in a world: troubles that a tool should find where they are, and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence

from cxlab.errors import ParamsError, unknown

PLANTS = {
    "leak": "two columns of customers.parquet that are known only after the outcome, one plain and one subtle",
    "bias": "customers of one language style wait longer and are helped less, for the same need",
    "drift": "from two thirds of the time on, habits, channels and the hazard's coefficients are others",
    "broken_identities": "several accounts and devices a person, shared devices, unknown visitors, one phone for many",
    "consent_withdrawals": "some withdraw a consent they gave",
    "incidents": "a wrong bill after a release in one tariff, and an outage in one region",
    "late_events": "some events are received days after they occurred",
    "duplicates": "some events are delivered twice, with one event_id",
    "clock_skew": "some devices' clocks run ahead, so that events are received before they occurred",
    "bad_calls": "from some week on, calls of one carrier at one site lose media, one voice, or packets",
}
DEFAULT = ("consent_withdrawals", "incidents", "late_events")  # what every company has; the rest is there if asked for


def chosen(plant: Sequence[str], without: Sequence[str]) -> frozenset[str]:
    """The defaults, with and without what was asked.

    Raises:
        ParamsError: A name that is not known, or is asked for both ways.
    """
    for name in (*plant, *without):
        if name not in PLANTS:
            raise ParamsError(unknown("Plant", name, PLANTS))
    both = sorted(set(plant) & set(without))
    if both:
        raise ParamsError(f"Plant {both[0]!r} is asked for and asked away. Give it to --plant or to --without.")
    return (frozenset(DEFAULT) | frozenset(plant)) - frozenset(without)
