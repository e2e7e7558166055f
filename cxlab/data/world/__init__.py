"""A company's customers, simulated, with the truth beside them: to see whether a tool finds what was planted.

    world = simulate(Path("world"), customers=1_000, seed=1, plant=["bias"])
    world.read("contacts")              # a table a company would have
    world.read("truth/uplift")          # what only the simulator knows
    world.truth("coefficients")         # the hazard that makes customers leave

A telecom and energy company, 2024-01-01 and the weeks after. What a customer does depends on the seed and their number
alone, so the first thousand of a million are the thousand of a smaller world, and bytes do not depend on chunks.
Consent withdrawals, incidents and late events are there unless taken out; every other plant only when asked for.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from cxlab.data.world.clock import Clock
from cxlab.data.world.customers import Scene, people
from cxlab.data.world.draws import Draws
from cxlab.data.world.plants import DEFAULT, PLANTS, chosen
from cxlab.data.world.tables import chunk_tables
from cxlab.data.world.truth import write_truth
from cxlab.data.world.write import Streams
from cxlab.display import GREY, Result, axes, progress
from cxlab.errors import DataError, ParamsError, unknown

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["DEFAULT", "PLANTS", "World", "simulate"]
MOST = 10_000_000


@dataclass(frozen=True, repr=False)
class World(Result):
    """A simulated company on disk.

    Attributes:
        folder: Where it lies.
        plants: What is planted, sorted.
        rows: Of each Parquet file, by its name without the ending.
    """

    title: ClassVar[str] = "A simulated world"
    note: ClassVar[str] = "What is under truth/ is known to the simulator only; no model may see it."

    folder: Path
    plants: tuple[str, ...]
    rows: dict[str, int]

    def read(self, name: str) -> pd.DataFrame:
        """A Parquet file by its name: `events`, `truth/hazards`."""
        if name not in self.rows:
            raise DataError(unknown("File", name, self.rows, where="in this world"))
        return pd.read_parquet(self.folder / f"{name}.parquet")

    def truth(self, name: str) -> Any:
        """A JSON file under truth/: bias, causes if planted, coefficients, drift, incidents, leaks, plants, policy."""
        files = sorted(path.stem for path in (self.folder / "truth").glob("*.json"))
        if name not in files:
            raise DataError(unknown("File", name, files, where="in truth/"))
        return json.loads((self.folder / "truth" / f"{name}.json").read_text(encoding="utf-8"))

    def frame(self) -> pd.DataFrame:
        """A row a file: its rows and its size in bytes."""
        size = [(self.folder / f"{name}.parquet").stat().st_size for name in self.rows]
        return pd.DataFrame({"file": list(self.rows), "rows": list(self.rows.values()), "bytes": size})

    def plot(self) -> Axes:
        """Rows of each file, on a logarithmic scale."""
        ax = axes(self.title)
        ax.barh(list(self.rows), [max(1, count) for count in self.rows.values()], color=GREY)
        ax.set_xscale("log")
        ax.set_xlabel("rows")
        ax.invert_yaxis()
        return ax


def simulate(
    to: Path,
    *,
    customers: int = 1000,
    seed: int = 0,
    months: int = 18,
    plant: Sequence[str] = (),
    without: Sequence[str] = (),
    chunk: int = 4000,
) -> World:
    """Writes a world into a new folder, whole or not at all.

    Args:
        to: The folder; it must not exist yet.
        customers: How many, in 1..10,000,000. About 3 s and 33 MB each 10,000; memory does not grow with them.
        seed: The same seed gives the same bytes, with the same versions of numpy and pyarrow.
        months: How long, in 4..60; whole weeks are simulated.
        plant: Names in `PLANTS`, besides those in `DEFAULT`.
        without: Names in `PLANTS` to leave out.
        chunk: Customers at a time; bytes do not depend on it.
    Raises:
        ParamsError: A plant is not known, a number is out of its range, or the folder exists.
        DataError: The folder cannot be written.
    """
    plants = chosen(plant, without)
    for name, value, low, high in (
        ("customers", customers, 1, MOST),
        ("months", months, 4, 60),
        ("seed", seed, 0, 2**32 - 1),
        ("chunk", chunk, 1, MOST),
    ):
        if not low <= value <= high:
            raise ParamsError(f"{name} == {value}, must be in {low}..{high}.")
    to = Path(to).absolute()
    if to.exists() or to.is_symlink():
        raise ParamsError(f"{to} exists. A world is written into a new folder: give another name, or remove it.")
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{to.name}-", dir=to.parent))
        try:
            asked = {"customers": customers, "seed": seed, "months": months}
            rows = _fill(scratch, plants, chunk, asked)
            scratch.chmod(0o755)
            os.rename(scratch, to)  # noqa: PTH104  # fails where somebody else made the folder meanwhile
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    except OSError as error:
        why = error.strerror or error
        raise DataError(f"{to} cannot be written: {why}. Give a folder on a disk with room.") from None
    return World(to, tuple(sorted(plants)), rows)


def _fill(folder: Path, plants: frozenset[str], chunk: int, asked: dict[str, int]) -> dict[str, int]:
    clock, draws, many = Clock(round(asked["months"] * 52 / 12)), Draws(asked["seed"]), asked["customers"]
    drift = clock.weeks * 2 // 3 if "drift" in plants else clock.weeks + 1
    sums: dict[str, int] = {}
    with Streams(folder) as out, progress("Simulating customers") as bar:
        for begin in range(0, many, chunk):
            index = np.arange(begin, min(begin + chunk, many))
            who = people(draws, index, clock.weeks, withdrawals="consent_withdrawals" in plants)
            found, more = chunk_tables(Scene(draws, who, clock, plants, drift))
            for name, table in found.items():
                out.add(name, table)
            sums = {name: sums.get(name, 0) + count for name, count in more.items()}
            bar.advance((begin + len(index)) / many, f"{begin + len(index):,} of {many:,}")
    write_truth(folder / "truth", Scene(draws, who, clock, plants, drift), sums, asked)
    return out.rows
