"""Params: YAML files turned into typed, frozen objects, checked before anything runs.

One definition serves the notebooks, the command line and Python:

    params = load_params("params/churn.yaml", ["search.budget_s=10"])
    params.search.budget_s        # 10.0
    params.data.path              # absolute; the file gives it relative to itself

A key we do not know, or a value of the wrong type, stops here with the nearest key named.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from cxlab.errors import ParamsError
from cxlab.params.events import EventsParams
from cxlab.params.experiment import ExperimentParams
from cxlab.params.features import Outcome, load_features
from cxlab.params.files import Section, Worded, checked, lay_over, read_yaml

TASKS = ("churn", "intent", "sequence")
ENCODER = "encoder"  # a name, or a path where it has a slash
PATHS = (  # keys that hold paths: in a file relative to it, on the command line to the working folder
    "data.path",
    "data.test_path",
    "data.names",
    "events.features",
    "events.mapping",
    "events.taxonomy",
    "events.attributes.path",
    "events.identity.decisions",
    "experiment.plan",
    ENCODER,
)
CATALOG = "catalog:"  # data.path: catalog:ibm_telco is what `cxlab data get ibm_telco` fetched
ROW_ORDER = "(row)"  # data.time where the order of the rows is the order of time


class DataParams(Section):
    """Where the data lie and which column plays which role."""

    path: str
    test_path: str | None = None
    separator: str | None = None
    decimal: str | None = None
    encoding: str | None = None
    id: str | None = None
    target: str | None = None
    positive: Worded = "yes"
    text: str | None = None
    names: str | None = None
    case: str | None = None
    event: str | None = None
    order: str | None = None
    opened: str | None = None
    ends: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    time: str | None = None
    time_format: str | None = None
    timezone: str = "UTC"
    segments: tuple[str, ...] = ()
    features: tuple[str, ...] | None = None
    drop: tuple[str, ...] = ()
    known_after: tuple[str, ...] = ()
    known_before: tuple[str, ...] = ()
    outcome_days: float = Field(0, ge=0)


class SplitParams(Section):
    """Which rows are kept for the one final test."""

    method: Literal["stratified", "time", "group"] = "stratified"
    test: float = Field(0.25, gt=0, lt=1)
    seed: int = Field(0, ge=0, lt=2**32)
    cut: bool = False


class SearchParams(Section):
    """How long to search, among what, and how to choose."""

    candidates: tuple[str, ...] | None = None
    budget_s: float = Field(60, gt=0)
    trials: int | None = Field(None, ge=1)
    metric: str | None = None
    select: Literal["best", "simplest_within_noise"] = "best"


class ValueParams(Section):
    """What an action costs and earns, in the currency of your books."""

    contact_cost: float = Field(5.0, ge=0)
    saved_value: float = Field(120.0, ge=0)
    save_rate: float = Field(0.3, ge=0, le=1)
    capacity: float = Field(0.10, gt=0, le=1)


class AbstainParams(Section):
    """When a model of many classes may say that it does not know."""

    max_false_rejection: float = Field(0.04, ge=0, lt=1)


class OutcomeParams(Section):
    """How a case ends, as far as it matters: an event that comes, or the last value of a column."""

    event: str | None = None
    column: str | None = None
    value: Worded = "yes"

    @model_validator(mode="after")
    def _one(self) -> OutcomeParams:
        if (self.event is None) == (self.column is None):
            raise ValueError("one of event and column: the event that is the outcome, or the column that tells it")
        return self


class SequenceParams(Section):
    """What is asked of a case that is still open.

    Attributes:
        min_prefix: Events that a case must have had before a prediction counts.
        outcome: What may become of it.
        horizons_days: Within which the outcome, or else the end of the case, may come.
        level: Of the intervals of times.
        precision: Of the alarms for the outcome, by which it is said how early it is known.
    """

    min_prefix: int = Field(2, ge=1)
    outcome: OutcomeParams | None = None
    horizons_days: tuple[Annotated[float, Field(gt=0)], ...] = (30, 60, 90)
    level: float = Field(0.8, gt=0, lt=1)
    precision: float = Field(0.8, gt=0, lt=1)


class JourneyParams(Section):
    """What is looked at of journeys.

    Attributes:
        most: Events that stay as they are, the most frequent ones; the others are joined.
        states: New names of events by their old ones: several with one new name become one state.
        value: A column whose mean is laid on each state, such as a satisfaction.
        stages: Of a funnel, in their order; none, no funnel.
        event: The one that paths lead to.
        by: A column of cases whose groups are compared.
        groups: Two of its values; none: where it has two, those.
        repeats: A column that says what a repeat is about, such as a contact reason; the event itself if null.
    """

    most: int = Field(20, ge=1)
    states: dict[str, str] = Field({})
    value: str | None = None
    stages: tuple[str, ...] = ()
    event: str | None = None
    by: str | None = None
    groups: tuple[str, ...] = ()
    repeats: str | None = None


class FairnessParams(Section):
    """Which differences between segments are judged, and how large they may be."""

    metrics: tuple[Literal["tpr", "fpr", "selection_rate", "precision", "auc", "calibration_error"], ...] = (
        "tpr",
        "fpr",
    )
    max_difference: float = Field(0.10, gt=0, le=1)
    min_group: int = Field(50, ge=1)


class Params(Section):
    """All that a run may be told.

    Attributes:
        task: Which question is asked of the data.
        name: The registered model; one a use case, so that champions are comparable.
        encoder: Of sentences, by its name or its folder; never fetched.
        events: How the rows are made where `data.path` holds raw events.
        experiment: What was tried on whom, where rows are those of an experiment.
    """

    task: Literal["churn", "intent", "sequence"] = "churn"
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 _.-]*$")
    data: DataParams
    split: SplitParams = SplitParams()
    search: SearchParams = SearchParams()
    encoder: str = "all-MiniLM-L6-v2"
    value: ValueParams = ValueParams()
    abstain: AbstainParams = AbstainParams()
    sequence: SequenceParams = SequenceParams()
    journey: JourneyParams = JourneyParams()
    fairness: FairnessParams = FairnessParams()
    events: EventsParams | None = None
    experiment: ExperimentParams | None = None

    @model_validator(mode="before")
    @classmethod
    def _sequences_in_time(cls, tree: Any) -> Any:
        """Cases are split by time unless the params say otherwise."""
        if isinstance(tree, Mapping) and tree.get("task") == "sequence":
            split = tree.get("split", {})
            if isinstance(split, Mapping):
                return {**tree, "split": {"method": "time", "test": 1 / 3, **split}}
        return tree

    @model_validator(mode="before")
    @classmethod
    def _rows_of_events(cls, tree: Any) -> Any:
        """Events become rows of known columns; a customer has one at each cutoff, so the latest cutoffs test."""
        if not isinstance(tree, Mapping) or not isinstance(events := tree.get("events"), Mapping):
            return tree
        data, split = tree.get("data", {}), tree.get("split", {})
        if not isinstance(data, Mapping) or not isinstance(split, Mapping):
            return tree
        if tree.get("task") == "sequence":
            return {**tree, "data": _own(data, {"case": "customer_id", "event": "event", "time": "occurred_at"})}
        label = events.get("label")
        name = label.get("name", "label") if isinstance(label, Mapping) else "label"
        days = sum(value for key in ("horizon_days", "purge_days") if isinstance(value := events.get(key), int))
        own = _own(data, {"id": "customer_id", "target": name, "time": "cutoff", "outcome_days": days})
        return {**tree, "data": {**own, "positive": "yes"}, "split": {"method": "time", **split}}

    @model_validator(mode="after")
    def _rows_need_features(self) -> Params:
        if self.events is not None and self.task != "sequence" and not self.events.features:
            raise ValueError("events.features == [], must have at least one, or name a file of them.")
        return self

    def flat(self) -> dict[str, Any]:
        """Dotted names and plain values, as a tracking server shows them.

        Examples:
            >>> Params(name="a", data=DataParams(path="x.csv")).flat()["split.test"]
            0.25
        """
        out: dict[str, Any] = {}

        def walk(prefix: str, value: Any) -> None:
            if isinstance(value, Mapping):
                for key, item in value.items():
                    walk(f"{prefix}.{key}" if prefix else key, item)
            else:
                out[prefix] = value

        tree = self.model_dump(mode="json")
        if self.events is not None:
            tree["events"]["features"] = [feature.name for feature in self.events.features]
        walk("", tree)
        return out


def _own(data: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """The data section with the roles that follow from events."""
    for key, value in own.items():
        if data.get(key) not in (None, value):
            raise ValueError(f"data.{key} == {data[key]!r}, must be {value!r} or left out: events make the rows.")
    return {**data, **own}


def load_params(path: str | Path, overrides: Sequence[str] = ()) -> Params:
    """Reads a params file and lays overrides over it.

    Args:
        path: A YAML file. Data paths in it are relative to its folder.
        overrides: `a.b=value` each, the value read as YAML; data paths are relative to the working folder.
    Raises:
        ParamsError: The file is not there or not YAML, a key is unknown, or a value does not fit.
    """
    path = Path(path).absolute()
    tree = _resolve(read_yaml(path), path.parent)
    for override in overrides:
        lay_over(tree, override, given=_from_here)
    _declare(tree)
    return checked(tree, Params, path.name)


def load_events(path: str | Path, overrides: Sequence[str] = ()) -> tuple[EventsParams, str]:
    """What a params file says of events, and the time zone of times without one; or a file of features alone.

    Args:
        path: A params file with an `events:` section, or a file whose keys are `features` and `label`.
        overrides: As for `load_params`; a file of features has none.
    Raises:
        ParamsError: The file does not fit, or has no such section.
    """
    path = Path(path)
    tree = read_yaml(path.absolute())
    if "features" in tree:
        if overrides:
            raise ParamsError(f"--set {overrides[0]!r} changes a params file; {path.name} lists features alone.")
        declared = load_features(path)
        label = declared.label
        if label is None:
            return EventsParams(features=declared.features), "UTC"
        told = {"horizon_days": label.horizon, "purge_days": label.purge}
        outcome = Outcome(**label.model_dump(exclude={"horizon", "purge"}))
        return EventsParams(features=declared.features, label=outcome, **told), "UTC"
    params = load_params(path, overrides)
    if params.events is None:
        raise ParamsError(f"{path.name} has no events section; it says how events become rows. See params/churn.yaml.")
    return params.events, params.data.timezone


def _resolve(tree: dict[str, Any], folder: Path) -> dict[str, Any]:
    """A copy with absolute paths."""
    out = copy.deepcopy(tree)
    for dotted in PATHS:
        *above, last = dotted.split(".")
        node: Any = out
        for key in above:
            node = node.get(key) if isinstance(node, dict) else None
        if isinstance(node, dict) and isinstance(node.get(last), str) and (dotted != ENCODER or "/" in node[last]):
            node[last] = resolve_path(node[last], folder)
    return out


def _declare(tree: dict[str, Any]) -> None:
    """Features declared in a file of their own come into the params, so that what is kept of a run says them."""
    events = tree.get("events")
    if not isinstance(events, dict) or not isinstance(events.get("features"), str):
        return
    declared = load_features(events["features"])
    events["features"] = declared.features
    if declared.label is not None and events.get("label") is None:
        said = declared.label.model_dump(exclude={"horizon", "purge"})
        events |= {"label": said, "horizon_days": declared.label.horizon, "purge_days": declared.label.purge}


def _from_here(dotted: str, value: Any) -> Any:
    """A path that was given on the command line."""
    if dotted in PATHS and isinstance(value, str) and (dotted != ENCODER or "/" in value):
        return resolve_path(value, Path.cwd())
    return value


def resolve_path(path: str, folder: Path) -> str:
    """An absolute path, or the name of a catalogued data set as it is."""
    return path if path.startswith(CATALOG) else os.path.normpath(folder / Path(path).expanduser())
