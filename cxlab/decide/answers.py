"""What people answer to suggestions: accept, edit or reject. Each answer is kept, with who, when and why, and is data.

    answers = Answers("mlruns/answers.jsonl")
    answers.give(suggestions, "1548edc7d6b3352d", "reject", reason="has just moved house")
    answers.frame()                     # every answer
    acceptance(answers.frame()).plot()  # by action: how often accepted, and why not

A line a answer, appended and never changed; who changes their mind answers again, and the last answer counts.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from cxlab.decide.actions import Suggestions
from cxlab.display import Result, axes, interval_plot, row_height, sentence
from cxlab.errors import DataError, ParamsError, StoreError, missing_column, unknown
from cxlab.metrics.bootstrap import wilson
from cxlab.params.actions import NONE
from cxlab.places import acting_person

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

Answer = Literal["accept", "edit", "reject"]
COLUMNS = (
    "suggestion",
    "customer_id",
    "action",
    "answer",
    "edited",
    "reason",
    "who",
    "at",
    "confidence",
    "value",
    "low",
)


class Answers:
    """A file of answers, a JSON object a line.

    Attributes:
        path: Where it lies; it need not be there yet.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def give(
        self,
        suggestions: Suggestions,
        suggestion: str,
        answer: Answer,
        *,
        reason: str = "",
        edited: str | None = None,
        now: datetime | None = None,
    ) -> dict[str, Any]:
        """Keeps one answer.

        Args:
            suggestions: Which the answer belongs to.
            suggestion: Its number, of the column `suggestion`.
            answer: accept, edit or reject.
            reason: Why; needed unless accepted, since it is what can be learnt.
            edited: The action in its place, where it is edited; `none` is one.
            now: When; the present if None.
        Returns:
            The line as kept.
        Raises:
            ParamsError: The answer is not one of the three, or lacks its reason or its action.
            DataError: There is no such suggestion, or nothing to answer to: the customer is held out or not eligible.
            StoreError: The file cannot be written.
        """
        if answer not in get_args(Answer):
            raise ParamsError(unknown("Answer", str(answer), get_args(Answer), where="one of the three"))
        rows = suggestions.table[suggestions.table["suggestion"] == suggestion]
        if rows.empty:
            raise DataError(f"No suggestion {suggestion!r} among these {len(suggestions.table):,}; look them up again.")
        row = rows.iloc[0]
        if row["status"] in ("held out", "not eligible"):
            raise DataError(
                f"{row['customer_id']} is {row['status']}, which no answer changes: a holdout that is acted upon no "
                "longer measures, and eligibility is a matter of the catalogue."
            )
        self._check(suggestions, row, answer, reason, edited)
        line = {
            "suggestion": suggestion,
            "customer_id": str(row["customer_id"]),
            "action": row["action"],
            "answer": answer,
            "edited": edited,
            "reason": reason.strip(),
            "who": acting_person(),
            "at": (now or datetime.now(UTC)).isoformat(),
            **{name: float(row[name]) for name in ("confidence", "value", "low")},
        }
        self._append(json.dumps(line, ensure_ascii=False))
        return line

    def _check(self, suggestions: Suggestions, row: pd.Series, answer: str, reason: str, edited: str | None) -> None:
        if answer != "accept" and not reason.strip():
            raise ParamsError(f"{answer!r} has no reason; give reason=, in a few words, so that it can be learnt from.")
        if (answer == "edit") != (edited is not None):
            raise ParamsError("edited= is the action in the suggestion's place: give it with 'edit', and only then.")
        if edited is None:
            return
        made = suggestions.decision
        if edited == row["action"]:
            raise ParamsError(f"{edited!r} is what was suggested; accept it, or name another action.")
        if edited == NONE:
            return
        if edited not in made.actions:
            raise ParamsError(unknown("Action", edited, [NONE, *made.actions], where="in the catalogue"))
        why = made.barred[suggestions.place(row["customer_id"]), made.actions.index(edited)]
        if why:
            raise DataError(f"{row['customer_id']} may not get {edited!r}: {why}.")

    def _append(self, line: str) -> None:
        """One write of one line, which the system does not split or mix with another's."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                os.write(file, (line + "\n").encode("utf-8"))
                os.fsync(file)
            finally:
                os.close(file)
        except OSError as error:
            raise StoreError(
                f"{self.path} cannot be written: {error.strerror}. Give a file in a folder of yours."
            ) from None

    def frame(self, *, last: bool = False) -> pd.DataFrame:
        """One row an answer, in the order they came; with `last`, the last of each suggestion alone.

        Raises:
            DataError: A line is no answer.
        """
        import pandas as pd

        rows = []
        text = self.path.read_bytes().decode("utf-8") if self.path.exists() else ""
        for number, line in enumerate(text.removesuffix("\n").split("\n") if text else [], 1):
            try:
                rows.append(json.loads(line))
                known = set(rows[-1]) == set(COLUMNS)
            except (ValueError, TypeError):
                known = False
            if not known:
                raise DataError(
                    f"{self.path}, line {number} is no answer: {line[:60]!r}. Take it out, or restore the file."
                )
        table = pd.DataFrame(rows, columns=list(COLUMNS))
        table["at"] = pd.to_datetime(table["at"], utc=True, format="ISO8601")
        return table.drop_duplicates("suggestion", keep="last", ignore_index=True) if last else table


@dataclass(frozen=True, repr=False, eq=False)
class Acceptance(Result):
    """By action, how often people accept what is suggested, and why not."""

    title: ClassVar[str] = "Do people accept what is suggested?"
    note: ClassVar[str] = (
        "The last answer to each suggestion counts. What is often rejected for one reason wants a rule."
    )
    table: pd.DataFrame

    def frame(self) -> pd.DataFrame:
        """One row an action: action, n, accepted, edited, rejected, share (accepted), low, high (95 %, Wilson),
        first_reason; with outcomes also outcome_accepted and outcome_others.
        """
        return self.table.copy()

    def plot(self) -> Axes:
        """The share accepted with its interval."""
        t = self.table
        if t.empty:
            return sentence(self.title, "Nobody has answered yet.")
        ax = axes(self.title, height=row_height(t))
        labels = [f"{action} ({n})" for action, n in zip(t["action"], t["n"], strict=True)]
        interval_plot(ax, labels, *(t[name].to_numpy() for name in ("share", "low", "high")))
        ax.set_xlim(0, 1)
        ax.set_xlabel("share accepted (95 % interval)")
        return ax


def acceptance(answers: pd.DataFrame, outcomes: pd.DataFrame | None = None) -> Acceptance:
    """Answers summed up by the action that was suggested.

    Args:
        answers: Of `Answers.frame`.
        outcomes: suggestion and outcome, as far as known: the mean outcome is put beside. It is a difference between
            what people chose, not an effect.
    Raises:
        DataError: A column is missing.
    """
    import pandas as pd

    for name in COLUMNS:
        if name not in answers:
            raise missing_column(name, answers.columns)
    given = answers.drop_duplicates("suggestion", keep="last")
    if outcomes is not None:
        for name in ("suggestion", "outcome"):
            if name not in outcomes:
                raise missing_column(name, outcomes.columns)
        given = given.merge(outcomes[["suggestion", "outcome"]], on="suggestion", how="left", validate="1:1")
    rows = []
    for action, part in given.groupby("action"):
        count = {name: int((part["answer"] == name).sum()) for name in get_args(Answer)}
        low, high = wilson(count["accept"], len(part))
        why = part.loc[part["answer"] != "accept", "reason"].value_counts()
        told = {"action": action, "n": len(part), "accepted": count["accept"], "edited": count["edit"]}
        told |= {
            "rejected": count["reject"],
            "share": count["accept"] / len(part),
            "low": float(low),
            "high": float(high),
        }
        told["first_reason"] = why.index[0] if len(why) else ""
        if outcomes is not None:
            accepted = part["answer"] == "accept"
            told["outcome_accepted"] = part.loc[accepted, "outcome"].mean()
            told["outcome_others"] = part.loc[~accepted, "outcome"].mean()
        rows.append(told)
    columns = ["action", "n", "accepted", "edited", "rejected", "share", "low", "high", "first_reason"]
    columns += ["outcome_accepted", "outcome_others"] if outcomes is not None else []
    return Acceptance(pd.DataFrame(rows, columns=columns))
