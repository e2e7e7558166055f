"""A small log whose flow is known, models of it, and their bundles: for tests of how sequences leave the lab."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import cxlab
from cxlab.evidence.report import Report, review
from cxlab.models.subject import Subject
from cxlab.models.task import Model
from cxlab.models.training import train
from cxlab.params import DataParams, Params
from cxlab.release.bundle import write_bundle

FLOW = {
    "Created": (("Assigned", "Resolved", "Waiting"), (0.6, 0.2, 0.2)),
    "Assigned": (("Waiting", "Resolved", "Escalated"), (0.4, 0.4, 0.2)),
    "Waiting": (("Assigned", "Resolved", "Reply"), (0.3, 0.4, 0.3)),
    "Escalated": (("Resolved", "Assigned"), (0.7, 0.3)),
    "Reply": (("Waiting", "Resolved"), (0.4, 0.6)),
    "Resolved": ((None, "Assigned"), (0.85, 0.15)),
}
FACTS = {"version": "1", "task": "sequence"}
TEAMS = ("north", "south", "east")
KNOWN = ("team", "channel", "worker", "agent", "amount")  # neither in the order of the alphabet nor all of few values


def cases(n: int = 150, seed: int = 0) -> pd.DataFrame:
    """Tickets that begin six hours apart, slower in the north; those that were escalated are late more often."""
    rng, rows = np.random.default_rng(seed), []
    for number in range(n):
        time = pd.Timestamp("2025-01-01T08:00") + pd.Timedelta(hours=6 * number + float(rng.exponential(4)))
        team, amount, event, own = str(rng.choice(TEAMS)), round(float(rng.lognormal(3, 1)), 2), "Created", []
        opened, channel = time, str(rng.choice(["web", "phone"]))
        while event is not None:
            people = f"w{rng.integers(25)}", f"a{rng.integers(30)} {team}"
            known = (team, channel, *people, amount if rng.random() < 0.9 else None)
            own.append((f"t{number:04d}", event, time, opened, len(own), *known))
            time += pd.Timedelta(seconds=round(3600 * float(rng.exponential(15 if team == "north" else 5))))
            following, shares = FLOW[event]
            event = following[rng.choice(len(following), p=shares)]
            team = str(rng.choice(TEAMS)) if rng.random() < 0.15 else team
        escalated = any(row[1] == "Escalated" for row in own)
        late = "yes" if rng.random() < (0.7 if escalated else 0.2) else "no"
        rows += [(*row, late) for row in own]
    return pd.DataFrame(rows, columns=["ticket", "step", "at", "opened", "place", *KNOWN, "late"])


def asked(path: Path, *, data: dict[str, object] | None = None, **more: object) -> Params:
    """Params of a log that lies there."""
    roles = {"case": "ticket", "event": "step", "time": "at", "attributes": KNOWN, "segments": ("team",)}
    sections = {
        "sequence": {"outcome": {"column": "late", "value": "yes"}},
        "search": {"trials": 1, "candidates": ["prior", "markov", "lightgbm"]},
    }
    return Params(
        task="sequence",
        name="tickets",
        data=DataParams(path=str(path), **{**roles, **(data or {})}),
        **{**sections, **more},
    )


def with_members(subject: Subject, model: Model) -> Subject:
    """The same under review with another model."""
    kept = (subject.name, subject.params, subject.table, subject.split)
    return Subject(*kept, model, subject.score_valid)


@pytest.fixture(scope="session")
def reviewed_cases(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """A model of the tickets, a blend of all candidates, with its report."""
    folder = tmp_path_factory.mktemp("reviewed_cases")
    cases().to_csv(folder / "tickets.csv", index=False)
    params = asked(folder / "tickets.csv")
    training = train(cxlab.load_table(params), params, storage=None)
    names = [line.name for line in training.candidates if line.name in ("prior", "markov", "lightgbm")]
    ahead, chosen = training.model.ahead, training[training.selected]
    members = [training[name].model.members[0] for name in names]
    blend = Model(chosen.model.schema, members, [0.1, 0.5, 0.4], chosen.model.calibrator, chosen.model.labels)
    blend.ahead = ahead
    lines = tuple(
        replace(line, model=blend) if line.name == training.selected else line for line in training.candidates
    )
    return review(replace(training, candidates=lines))


@pytest.fixture(scope="session")
def exported_cases(tmp_path_factory: pytest.TempPathFactory, reviewed_cases: Report) -> Path:
    """The bundle of that model; not to be changed."""
    to = tmp_path_factory.mktemp("exported_cases") / "tickets-1"
    facts, evidence = {"model": "tickets", **FACTS}, {"card.md": "# tickets"}
    return write_bundle(reviewed_cases.subject, to, facts=facts, report=reviewed_cases.facts(), evidence=evidence)


@pytest.fixture
def cases_folder(exported_cases: Path, tmp_path: Path) -> Path:
    """A copy of the bundle that a test may change."""
    return Path(shutil.copytree(exported_cases, tmp_path / "bundle"))


@pytest.fixture(scope="session")
def open_cases() -> pd.DataFrame:
    """Rows of tickets that no training saw, as a file holds them, in no order."""
    frame = cases(40, seed=7).drop(columns="late")
    times = {name: frame[name].dt.strftime("%Y-%m-%dT%H:%M:%S") for name in ("at", "opened")}
    frame = frame.assign(ticket="n" + frame["ticket"], **times)
    return frame.sample(frac=1, random_state=1).reset_index(drop=True)


@pytest.fixture(scope="session")
def odd_subject(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Subject]:
    """A maker of quick models of logs with other roles, whose times begin with the day."""

    def make(candidates: tuple[str, ...] = ("markov",), *, data: dict[str, object], **more: object) -> Subject:
        folder = tmp_path_factory.mktemp("odd")
        frame = cases(90, seed=2)
        for name in ("at", "opened"):
            frame[name] = frame[name].dt.strftime("%d/%m/%Y %H:%M")
        frame.sample(frac=1, random_state=0).to_csv(folder / "tickets.csv", index=False)
        params = asked(folder / "tickets.csv", data=data, search={"trials": 1, "candidates": candidates}, **more)
        return review(train(cxlab.load_table(params), params, storage=None)).subject

    return make
