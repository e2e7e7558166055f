"""What holds a trigger back: a rule that forbids for good, or one that forbids until a moment that is known.

Each answers with a `Block` or with None. The engine (`cxlab.decide.triggers`) asks all of them before every contact;
local time is the customer's own, summer time included, and where the zone is not known every zone of the params must
agree.
"""

from __future__ import annotations

import zoneinfo
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, time, timedelta
from functools import lru_cache
from typing import Any, NamedTuple

from cxlab.decide.signals import ALL, Profile, micros, moment
from cxlab.decide.strength import HOUR
from cxlab.params.signals import GuardrailParams, HarmParams

DAY = 24 * HOUR
ALWAYS = "service"  # the one purpose that needs no word of the customer

GUARDRAILS = (
    "left",
    "paused",
    "consent",
    "minor",
    "opted_out",
    "declined",
    "channel",
    "snoozed",
    "incident",
    "cool_down",
    "daily_cap",
    "capacity",
    "quiet_hours",
)  # in the order in which they are asked


class Block(NamedTuple):
    """A guardrail, until when it holds (None: for good), and why in words."""

    guardrail: str
    until: int | None
    why: str


@lru_cache
def _zone(name: str) -> zoneinfo.ZoneInfo:
    return zoneinfo.ZoneInfo(name)


def local(at: int, zone: str) -> datetime:
    """Wall time of a moment in microseconds."""
    return moment(at).astimezone(_zone(zone))


def is_quiet(at: int, zone: str, quiet: tuple[time, time]) -> bool:
    """Whether the wall clock is within quiet hours: from the first on, until before the second; they may span midnight.

    Examples:
        >>> is_quiet(0, "UTC", (time(21), time(8))), is_quiet(8 * HOUR, "UTC", (time(21), time(8)))
        (True, False)
    """
    start, end = quiet
    now = local(at, zone).time()
    return start <= now < end if start <= end else now >= start or now < end


def quiet_until(at: int, zones: Sequence[str], quiet: tuple[time, time]) -> int | None:
    """The first moment, found so, at which it is quiet in none of the zones: `at` itself where it is not quiet now.

    None where no such moment comes within two days. From the end of one zone's quiet hours to that of the next; where
    the clocks skip the end, the hour they skip is added (PEP 495).
    """
    limit = at + 2 * DAY
    while at <= limit:
        found = [_wall_after(at, zone, quiet[1]) for zone in zones if is_quiet(at, zone, quiet)]
        if not found:
            return at
        at = max(found)
    return None


def _wall_after(at: int, zone: str, wall: time) -> int:
    """The next moment after `at` at which the wall clock shows a time of day."""
    day = local(at, zone).date()
    for ahead in range(3):
        naive = datetime.combine(day + timedelta(days=ahead), wall)
        for fold in (0, 1):
            found = micros(naive.replace(tzinfo=_zone(zone), fold=fold).astimezone(UTC))
            if found > at:
                return found
    raise AssertionError("three days hold every time of day")


def day_ends(at: int, zone: str) -> int:
    """The next local midnight."""
    return _wall_after(at, zone, time(0))


def same_day(one: int, other: int, zone: str) -> bool:
    """Whether two moments have one local date."""
    return local(one, zone).date() == local(other, zone).date()


def permits(
    said: Mapping[str, Sequence[Any]], marks: frozenset[str], purpose: str, rules: GuardrailParams
) -> tuple[bool, str]:
    """Whether a customer permits a purpose, and why not, by the rules of `cxlab.data.consent`.

    Args:
        said: The newest word by purpose: when, and whether it was a grant.
        marks: Of minor and vulnerable: nothing but service is for them.
        purpose: What for.
        rules: What holds where nothing was said.
    """
    if purpose != ALWAYS and marks:
        return False, f"marked {' and '.join(sorted(marks))}: nothing but service is for them"
    if purpose in said:
        granted = bool(said[purpose][1])
        return granted, "" if granted else f"consent for {purpose} was withdrawn"
    unsaid = purpose == ALWAYS or purpose in rules.legitimate_interest
    return unsaid, "" if unsaid else f"consent for {purpose} was never given"


def opted_out(words: Mapping[str, Sequence[Any]], channel: str) -> bool:
    """Whether the customer wants nothing on a channel, or on none."""
    return any(name in words and not words[name][1] for name in (channel, ALL))


def channel_for(
    channels: Sequence[str], profile: Profile, preferred: str | None, words: Mapping[str, Sequence[Any]]
) -> str | None:
    """The preferred channel if the step can use it, else the first that reaches the customer and is not refused."""
    order = sorted(channels, key=lambda name: name != preferred)  # stable: the others keep their order
    open_ = [name for name in order if name not in profile.unreachable and not opted_out(words, name)]
    return open_[0] if open_ else None


def cool_down(at: int, contacts: Sequence[Sequence[Any]], hours: float, what: str) -> Block | None:
    """Whether the last of some contacts is too fresh."""
    last = max((contact[0] for contact in contacts), default=None)
    if last is None or at >= last + int(hours * HOUR):
        return None
    return Block("cool_down", last + int(hours * HOUR), f"{what} within {hours:g} hours")


def daily_cap(at: int, contacts: Sequence[Sequence[Any]], profile: Profile, most: int) -> Block | None:
    """Whether the customer's local day has had its contacts."""
    full = [
        zone
        for zone in profile.zones
        if sum(at - contact[0] < 2 * DAY and same_day(contact[0], at, zone) for contact in contacts) >= most
    ]
    if not full:
        return None
    if most == 0:
        return Block("daily_cap", None, "no contact is allowed on any day")
    return Block("daily_cap", max(day_ends(at, zone) for zone in full), f"{most} of {most} contacts today")


def quiet_hours(at: int, profile: Profile, quiet: tuple[time, time]) -> Block | None:
    """Whether it is quiet where the customer is."""
    where = [zone for zone in profile.zones if is_quiet(at, zone, quiet)]
    if not where:
        return None
    until = quiet_until(at, profile.zones, quiet)
    return Block("quiet_hours", until, f"{local(at, where[0]):%H:%M} in {where[0]}")


def too_much_harm(contacts: int, opt_outs: int, complaints: int, rules: HarmParams) -> str | None:
    """Which rate pauses a trigger, in words, if one does.

    A rate is too high where the lower end of its Wilson interval lies above the limit. It is looked at after every
    opt-out and complaint, so that a harmless trigger is paused by chance more often than the level says: the error is
    on the side of the customer.
    """
    from cxlab.metrics.bootstrap import wilson

    if contacts < rules.least:
        return None
    for count, limit, name in ((opt_outs, rules.opt_outs, "opt-outs"), (complaints, rules.complaints, "complaints")):
        low, high = (float(end) for end in wilson(min(count, contacts), contacts, level=rules.level))
        if low > limit:
            return (
                f"{count} {name} after {contacts} contacts: {count / contacts:.3f} ({low:.3f} to {high:.3f}), "
                f"at most {limit:g} may be"
            )
    return None
