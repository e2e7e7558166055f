"""Gates: each reads a version's dossier and says pass, fail, cannot tell or not applicable, and why.

    decision = judge(open_dossier("churn", "3"))
    decision.frame()        # one row a gate: code, title, status, value, limit, reason
    decision.blocking       # what stands in the way of an approval

To add one, write a class like `Calibrated` and enter it in `GATES`. Its fields are what `params/gates.yaml` may turn.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import numpy as np
import pandas as pd
import yaml
from pydantic import TypeAdapter, ValidationError

from cxlab.display import GREY, PALETTE, Result, axes, plain
from cxlab.errors import CxlabError, ParamsError, unknown
from cxlab.evidence.explain import contributions, draw
from cxlab.evidence.sequence_importance import contributions_of
from cxlab.evidence.words import words_for
from cxlab.models.prefix_boost import PrefixBoost
from cxlab.models.training import task_of
from cxlab.places import home
from cxlab.release.dossier import Dossier

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from cxlab.models.subject import Subject

Status = Literal["pass", "fail", "cannot_tell", "not_applicable"]
OPEN = ("fail", "cannot_tell")  # what blocks unless it is waived
LEAK_CHECKS = ("known_after", "leak_suspects", "late_timestamps")
COLOURS = {"pass": PALETTE[2], "fail": PALETTE[1], "cannot_tell": PALETTE[4], "not_applicable": GREY}


class Verdict(NamedTuple):
    """What a gate says: the value it looked at, the limit, and why."""

    status: Status
    value: float | None
    limit: float | None
    reason: str


@dataclass(frozen=True)
class Gate:
    """One condition of an approval.

    Attributes:
        code: Stable name.
        title: The condition, in words.
        waivable: Whether a person may let a version pass in spite of it, with a reason.
    """

    code: ClassVar[str]
    title: ClassVar[str]
    waivable: ClassVar[bool] = True

    def check(self, report: Dossier) -> Verdict:
        raise NotImplementedError


@dataclass(frozen=True)
class BeatsBaseline(Gate):
    """The lower end of the paired gain over a baseline of the same training lies above the margin."""

    code = "beats_baseline"
    title = "Beats the baseline"
    baseline: str = "prior"
    margin: float = 0.0

    def check(self, report: Dossier) -> Verdict:
        facts = report.facts
        if facts["selected"] == self.baseline:
            return Verdict("fail", 0.0, self.margin, f"The baseline itself ({self.baseline}) was selected.")
        metric = facts["selection_metric"]
        rows = [row for row in facts["comparison"] if (row["candidate"], row["metric"]) == (self.baseline, metric)]
        if not rows:
            return Verdict("cannot_tell", None, self.margin, f"{self.baseline} was not among the candidates.")
        low, high = _worse(report, metric, rows[0])
        told = f"{metric}: gain over {self.baseline} {low:.4f} to {high:.4f}."
        return Verdict(_above(low, high, self.margin), low, self.margin, told)


@dataclass(frozen=True)
class NotWorseThanChampion(Gate):
    """Non-inferiority: on the same test rows it is at most a margin worse than the champion."""

    code = "not_worse_than_champion"
    title = "Not worse than the champion"
    margin: float = 0.01

    def check(self, report: Dossier) -> Verdict:
        if report.champion is None:
            return Verdict("not_applicable", None, self.margin, "There is no other champion.")
        metric = report.facts["selection_metric"]
        try:
            frame = report.against_champion().frame()
        except CxlabError as error:
            return Verdict("cannot_tell", None, self.margin, str(error))
        row = frame[frame["metric"] == metric].iloc[0]
        low, high = _worse(report, metric, row)
        told = (
            f"{metric}: {low:+.4f} to {high:+.4f} worse than version {report.champion}, on the same {row['n']:,} rows."
        )
        return Verdict(_below(low, high, self.margin), high, self.margin, told)


@dataclass(frozen=True)
class Calibrated(Gate):
    """The expected calibration error on the test part stays below a limit, with its whole interval."""

    code = "calibrated"
    title = "Means what it says"
    max_error: float = 0.05

    def check(self, report: Dossier) -> Verdict:
        found = report.facts["metrics"]["ece"]
        low, high = found["low"], found["high"]
        told = f"Expected calibration error {low:.3f} to {high:.3f}."
        return Verdict(_below(low, high, self.max_error), high, self.max_error, told)


@dataclass(frozen=True)
class Fair(Gate):
    """No judged difference between groups fails, and every one could be told."""

    code = "fair"
    title = "Treats groups alike"

    def check(self, report: Dossier) -> Verdict:
        judged = [row for row in report.facts["fairness"] if row["verdict"] != "shown"]
        if not judged:
            return Verdict("not_applicable", None, 0, "data.segments names no column, so nothing was judged.")
        by = {name: [row for row in judged if row["verdict"] == name] for name in ("fail", "cannot tell")}
        status: Status = "fail" if by["fail"] else "cannot_tell" if by["cannot tell"] else "pass"
        worst = by["fail"] or by["cannot tell"]
        names = ", ".join(dict.fromkeys(f"{row['segment']} {row['group']} ({row['metric']})" for row in worst))
        counts = f"{len(by['fail'])} fail, {len(by['cannot tell'])} cannot tell, of {len(judged)} judged differences"
        return Verdict(status, len(by["fail"]), 0, f"{counts}{f': {names}' if names else ''}.")


@dataclass(frozen=True)
class NoLeak(Gate):
    """No column known only after the outcome, no suspect, no time after the event. Never waived: declare it."""

    code = "no_leak"
    title = "No leak found"
    waivable = False

    def check(self, report: Dossier) -> Verdict:
        found = [row for row in report.facts["quality"] if row["code"] in LEAK_CHECKS]
        if len(found) < len(LEAK_CHECKS):
            return Verdict("cannot_tell", None, 0, "The report does not hold all checks for leaks.")
        wrong = [row for row in found if row["status"] != "pass"]
        status: Status = "pass" if not wrong else "fail" if any(r["status"] == "fail" for r in wrong) else "cannot_tell"
        reason = " ".join(row["reason"] for row in wrong) or "Nothing declared, nothing suspected."
        return Verdict(status, len(wrong), 0, reason)


@dataclass(frozen=True)
class DriftUnderstood(Gate):
    """Nothing that matters moved between training and test; else a person's waiver says that it is understood."""

    code = "drift_understood"
    title = "Drift is understood"
    max_moved: int = 0

    def check(self, report: Dossier) -> Verdict:
        columns, world = report.facts["moved"]["columns"], report.facts["moved"]["world"]
        if len(columns) <= self.max_moved and not world:
            return Verdict("pass", len(columns), self.max_moved, "No column that the model uses moved.")
        said = "; ".join([f"moved: {', '.join(columns)}"] * bool(columns) + list(world))
        reason = f"{said[0].upper()}{said[1:]}. If you know why and that it does no harm, waive this gate and say so."
        return Verdict("fail", len(columns), self.max_moved, reason)


@dataclass(frozen=True)
class Explained(Gate):
    """Contributions add up, of sequences those of trees, and the strongest columns are strong in most parts of the test
    rows; of words the first.
    """

    code = "explained"
    title = "Explanations add up and hold"
    rows: int = 200
    min_parts: int = 3
    strongest: int = 3

    def check(self, report: Dossier) -> Verdict:
        subject = report.subject
        if report.facts["selected"] == "prior":
            return Verdict("not_applicable", None, self.min_parts, "The prior looks at nothing.")
        drawn, sequences = draw(len(subject.test), self.rows, 0), subject.params.task == "sequence"
        rows = subject.test.iloc[drawn]
        try:
            if sequences:
                prefixes = subject.model.schema.encode(subject.test).iloc[drawn]
                for member in subject.model.members:
                    if isinstance(member, PrefixBoost) and member.model_ is not None:
                        contributions_of(member, prefixes)
            elif subject.many:
                words_for(subject, subject.texts(rows))
            else:
                contributions(subject.model, rows, background=subject.train)
        except ArithmeticError as error:
            return Verdict("fail", None, self.min_parts, str(error))
        except CxlabError as error:
            return Verdict("cannot_tell", None, self.min_parts, str(error))
        if subject.many and not sequences:  # of hundreds of words none need be strong everywhere
            return Verdict("pass", None, None, f"Contributions of words add up on {len(rows)} texts.")
        found = report.facts["importance"]
        used = [row for row in found if row["value"] > 0] if sequences else found  # the last event alone may tell
        if not used:
            return Verdict("cannot_tell", None, self.min_parts, "No feature was found that the model decides by.")
        parts = {row["feature"]: row["folds"] for row in used[: self.strongest]}
        weakest = min(parts, key=lambda name: parts[name])
        told = (
            f"Contributions add up on {len(rows)} rows; {weakest} is strong in {parts[weakest]} of 5 parts of the test."
        )
        status: Status = "pass" if parts[weakest] >= self.min_parts else "cannot_tell"
        return Verdict(status, parts[weakest], self.min_parts, told)


@dataclass(frozen=True)
class AbstainsWithinBudget(Gate):
    """The share of customers in scope who are turned away on the test part is within what the params allow."""

    code = "abstains_within_budget"
    title = "Turns few customers away"
    margin: float = 0.01

    def check(self, report: Dossier) -> Verdict:
        subject = report.subject
        if not subject.many or subject.params.task == "sequence":
            return Verdict("not_applicable", None, None, "It scores everybody.")
        budget = subject.params.abstain.max_false_rejection
        limit = budget + self.margin
        found = report.facts.get("doubt", {}).get("test", {}).get("turned_away")
        if found is None:
            return Verdict("cannot_tell", None, limit, "The report does not say whom it turns away.")
        low, high = found["low"], found["high"]
        told = f"It turns away {low:.1%} to {high:.1%} of {found['n']:,} test customers; the params allow {budget:.1%}."
        return Verdict(_below(low, high, limit), high, limit, told)


@dataclass(frozen=True)
class Robust(Gate):
    """Answers hold when the same is said otherwise: no test of the report fails, and every one could be told."""

    code = "robust"
    title = "Holds when it is said otherwise"

    def check(self, report: Dossier) -> Verdict:
        if not report.subject.many or report.subject.params.task == "sequence":
            return Verdict("not_applicable", None, None, "It reads no words.")
        rows = report.facts.get("robustness")
        if not rows:
            return Verdict("cannot_tell", None, 0, "The report does not say whether answers hold.")
        by = {name: [row["test"] for row in rows if row["verdict"] == name] for name in ("fail", "cannot tell")}
        status: Status = "fail" if by["fail"] else "cannot_tell" if by["cannot tell"] else "pass"
        names = ", ".join(by["fail"] or by["cannot tell"])
        counts = (
            f"{len(by['fail'])} fail, {len(by['cannot tell'])} cannot tell, of {len(rows)} ways to say it otherwise"
        )
        return Verdict(status, len(by["fail"]), 0, f"{counts}{f': {names}' if names else ''}.")


@dataclass(frozen=True)
class Fast(Gate):
    """One raw row, or one case, is scored within the limit, 99 times of 100, on this machine."""

    code = "fast"
    title = "Fast enough"
    max_ms: float = 50.0
    repeats: int = 300

    def check(self, report: Dossier) -> Verdict:
        bundle, row = report.prepared.bundle, _one(report.subject)
        taken = []
        for _ in range(self.repeats):
            started = time.perf_counter()
            bundle.score(row)
            taken.append(1000 * (time.perf_counter() - started))
        late = float(np.quantile(taken, 0.99))
        what = "row" if len(row) == 1 else f"case of {len(row)} events"
        told = f"One {what} takes {np.median(taken):.2f} ms, 99th percentile {late:.2f} ms, on this machine."
        return Verdict("pass" if late <= self.max_ms else "fail", late, self.max_ms, told)


@dataclass(frozen=True)
class Parity(Gate):
    """The export gives the trained model's scores, on golden, adversarial and test rows. Never waived."""

    code = "parity"
    title = "The export scores alike"
    waivable = False
    max_difference: float = 1e-5

    def check(self, report: Dossier) -> Verdict:
        try:
            found = report.prepared.parity
        except ParamsError as error:
            return Verdict("fail", None, self.max_difference, str(error))
        where = f", from column {found.column!r}" if found.column else ""
        told = f"Off by at most {found.largest:.2g} on {found.rows:,} rows{where}."
        return Verdict(
            "pass" if found.largest <= self.max_difference else "fail", found.largest, self.max_difference, told
        )


GATES: tuple[type[Gate], ...] = (
    BeatsBaseline,
    NotWorseThanChampion,
    Calibrated,
    Fair,
    NoLeak,
    DriftUnderstood,
    Explained,
    AbstainsWithinBudget,
    Robust,
    Fast,
    Parity,
)


def _one(subject: Subject) -> pd.DataFrame:
    """One raw test row; of a log those of one case of usual length."""
    if subject.params.task != "sequence":
        return subject.test.head(1)
    cases = subject.test[str(subject.params.data.case)]
    sizes = cases.value_counts(sort=False)
    return subject.test[cases == (sizes - sizes.median()).abs().idxmin()]


def _worse(report: Dossier, metric: str, row: Mapping[str, Any]) -> tuple[float, float]:
    """How much worse a compared candidate is than its reference: the ends of the interval."""
    low, high = float(row["diff_low"]), float(row["diff_high"])
    return (-high, -low) if _higher_is_better(report, metric) else (low, high)


def _higher_is_better(report: Dossier, metric: str) -> bool:
    subject = report.subject
    known = {item.name: item for item in task_of(subject.params.task).metrics(subject.params.value)}
    return known[metric].higher_is_better


def _above(low: float, high: float, limit: float) -> Status:
    return "pass" if low > limit else "fail" if high <= limit else "cannot_tell"


def _below(low: float, high: float, limit: float) -> Status:
    return "pass" if high <= limit else "fail" if low > limit else "cannot_tell"


@dataclass(frozen=True, repr=False)
class Decision(Result):
    """What the gates said of one version.

    Attributes:
        name: The version.
        verdicts: By gate, in the order of `GATES`.
    """

    name: str
    verdicts: dict[type[Gate], Verdict]

    title: ClassVar[str] = "Gates"
    note: ClassVar[str] = (
        "Fail and cannot tell block an approval unless a person waives them by code, with a reason; "
        "leaks and parity are never waived."
    )

    @property
    def blocking(self) -> tuple[str, ...]:
        """Codes of the gates that stand in the way."""
        return tuple(gate.code for gate, verdict in self.verdicts.items() if verdict.status in OPEN)

    @property
    def statuses(self) -> dict[str, str]:
        return {gate.code: verdict.status for gate, verdict in self.verdicts.items()}

    @property
    def figures(self) -> dict[str, dict[str, Any]]:
        """Status, value and limit by code, as an approval keeps them."""
        kept = ("status", "value", "limit")
        return {gate.code: {name: plain(getattr(said, name)) for name in kept} for gate, said in self.verdicts.items()}

    def frame(self) -> pd.DataFrame:
        """One row a gate: code, title, status, value, limit, reason."""
        rows = [(gate.code, gate.title, *verdict) for gate, verdict in self.verdicts.items()]
        return pd.DataFrame(rows, columns=["code", "title", "status", "value", "limit", "reason"])

    def plot(self) -> Axes:
        """One line a gate, coloured by what it says."""
        ax = axes(f"Gates of {self.name}", height=1.2 + 0.32 * len(self.verdicts))
        for place, verdict in enumerate(self.verdicts.values()):
            ax.barh(place, 1, color=COLOURS[verdict.status])
            ax.text(1.02, place, verdict.status.replace("_", " "), va="center")
        ax.set_yticks(range(len(self.verdicts)), [gate.title for gate in self.verdicts])
        ax.set_xlim(0, 1.4)
        ax.set_xticks([])
        ax.invert_yaxis()
        return ax


def judge(report: Dossier, gates: Sequence[Gate] | None = None) -> Decision:
    """Asks every gate.

    Args:
        report: The version under review.
        gates: With their limits; those of `params/gates.yaml` by default.
    """
    asked = load_gates() if gates is None else gates
    return Decision(report.name, {type(gate): gate.check(report) for gate in asked})


def load_gates(path: str | Path | None = None) -> tuple[Gate, ...]:
    """The gates with the limits of a YAML file, `params/gates.yaml` by default.

    Raises:
        ParamsError: The file can't be read, names an unknown gate or key, or a value does not fit.
    """
    source = home() / "params" / "gates.yaml" if path is None else Path(path)
    try:
        tree = yaml.safe_load(source.read_text(encoding="utf-8")) if path or source.exists() else {}
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ParamsError(f"{source} cannot be read as gates: {error}.") from None
    if not isinstance(tree or {}, dict):
        raise ParamsError(f"{source.name} holds no gates; write a gate's code, and its limits under it.")
    told = tree or {}
    for code in told:
        if code not in {gate.code for gate in GATES}:
            raise ParamsError(f"{source.name}: {unknown('Gate', str(code), [gate.code for gate in GATES])}")
    return tuple(_with_limits(gate, told.get(gate.code) or {}, source.name) for gate in GATES)


def _with_limits(gate: type[Gate], told: Any, where: str) -> Gate:
    known = [item.name for item in fields(gate)]
    if not isinstance(told, dict):
        raise ParamsError(f"{where}: {gate.code} == {told!r}, must hold keys: {', '.join(known) or 'none'}.")
    for key in told:
        if key not in known:
            raise ParamsError(f"{where}, {gate.code}: {unknown('Key', str(key), known)}")
    try:
        return TypeAdapter(gate).validate_python(told)
    except ValidationError as error:
        item = error.errors()[0]
        rule = item["msg"].removeprefix("Input should be ")
        raise ParamsError(f"{where}: {gate.code}.{item['loc'][0]} == {item['input']!r}, must be {rule}.") from None
