"""Weeks, and at which moment of one a person does something: by their own rhythm in their own time zone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from zoneinfo import ZoneInfo

import numpy as np

from cxlab.data.world.draws import Draws, cumulative

BEGIN = datetime(2024, 1, 1, tzinfo=UTC)  # a Monday
SECOND = 1_000_000  # in microseconds, the unit of all moments
HOUR, DAY = 3600 * SECOND, 86_400 * SECOND
WEEK = 7 * DAY
START = int(BEGIN.timestamp()) * SECOND
REGIONS = {
    "north": "Europe/London",
    "south": "Europe/Madrid",
    "east": "Europe/Athens",
    "west": "Europe/Lisbon",
    "islands": "Atlantic/Azores",
}
RHYTHMS = ("day", "evening", "night", "service")  # the last: when somebody answers the phone


def _hours() -> np.ndarray:
    """How busy each hour of the week is, cumulative, shape (rhythms, 168), a rhythm each raised by its number."""
    hour, day = np.arange(168) % 24, np.arange(168) // 24

    def around(peak: float, width: float) -> np.ndarray:
        away = np.minimum(np.abs(hour - peak), 24 - np.abs(hour - peak))
        return np.exp(-((away / width) ** 2))

    weekend = day >= 5
    open_hours = np.where((hour >= 8) & (hour < 20) & (day < 6), around(10.5, 4) + 0.4 * around(17, 2.5), 0)
    weights = [
        0.03 + around(12, 4) * np.where(weekend, 0.7, 1),
        0.03 + around(20, 3) * np.where(weekend, 1.3, 1),
        0.03 + around(23, 3) * np.where(weekend, 1.6, 1),
        open_hours * np.array([1.35, 1.1, 1, 1, 1, 0.6, 0])[day],
    ]
    return cumulative(weights) + np.arange(len(RHYTHMS))[:, None]


HOURS = _hours().ravel()


@dataclass(frozen=True)
class Clock:
    """The weeks of a world.

    Attributes:
        weeks: How many.
    """

    weeks: int

    @cached_property
    def offsets(self) -> np.ndarray:
        """How far each region is ahead of UTC, microseconds, shape (regions, weeks); taken at mid-week."""
        middle = [BEGIN + timedelta(days=7 * week + 3) for week in range(self.weeks)]
        zones = [ZoneInfo(name) for name in REGIONS.values()]
        ahead = [[zone.utcoffset(at) or timedelta() for at in (m.astimezone(zone) for m in middle)] for zone in zones]
        return np.array([[int(item.total_seconds()) * SECOND for item in row] for row in ahead], dtype=np.int64)

    @property
    def end(self) -> int:
        return START + self.weeks * WEEK

    def week_start(self, week: np.ndarray | int) -> np.ndarray:
        return np.asarray(START + np.asarray(week, dtype=np.int64) * WEEK)

    def moment(
        self, draws: Draws, name: str, rhythm: np.ndarray, region: np.ndarray, week: np.ndarray, *keys: np.ndarray
    ) -> np.ndarray:
        """A moment within the given weeks (of UTC), by the hours of a rhythm there; arrays of shape (n,)."""
        place = np.searchsorted(HOURS, draws.uniform(name, *keys, week) + rhythm) - 168 * rhythm
        local = place * HOUR + (draws.uniform(f"{name} within", *keys, week) * HOUR).astype(np.int64)
        return self.week_start(week) + (local - self.offsets[region, week]) % WEEK
