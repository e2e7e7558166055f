"""`params/signals.yaml`: signals, the situations they combine into, the steps taken, and what always holds them back.

params, texts = load_signals("params/signals.yaml", ["guardrails.contacts_a_day=1"])
params.situations["unsolved_problem"].ladder[0].owner
texts.messages["we_are_on_it"].text["en"]
"""

from __future__ import annotations

import re
import zoneinfo
from collections.abc import Sequence
from datetime import time
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from cxlab.errors import ParamsError, nearest, unknown
from cxlab.params.events import Purpose
from cxlab.params.files import Section, load_file

Action = Literal["hint", "message", "call", "offer"]
Scalar = bool | int | float | str

LONGEST_SENTENCE = 20  # words: what plain language asks for (ISO 24495-1, 2023, names short sentences)


class Owned(Section):
    """What somebody answers for.

    Attributes:
        owner: A team or a person.
    """

    owner: str = Field("", validate_default=True)  # missing is empty, and empty is refused in words

    @field_validator("owner", mode="before")
    @classmethod
    def _somebody(cls, owner: Any) -> Any:
        if owner is None or not str(owner).strip():
            raise ValueError("an owner who answers for it; write owner: contact centre, or another team or person")
        return owner


class Comparison(Section):
    """A number held against limits, all of which must hold.

    Attributes:
        least: At least so much.
        most: At most so much.
        times_last: At least so many times what the customer's last event of the kind said; never true of the first.
    """

    least: float | None = None
    most: float | None = None
    times_last: float | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _some(self) -> Self:
        if self.least is None and self.most is None and self.times_last is None:
            raise ValueError("given a limit: least, most or times_last")
        return self


class Match(Section):
    """Which events are meant.

    Attributes:
        event: Its name in the taxonomy.
        where: What its properties must be: a value, one of several values, or a comparison.
    """

    event: str
    where: dict[str, Comparison | Scalar | tuple[Scalar, ...]] = Field({})


class SignalParams(Match):
    """Evidence that an event gives; see `cxlab.decide.strength` for the formulas.

    Attributes:
        weight: The intensity that one event adds, > 0; 0.7 is a strength of 0.5.
        half_life_h: Hours after which half of it is left.
        confidence: How sure one such event makes, in (0, 1].
    """

    weight: float = Field(gt=0, le=20)
    half_life_h: float = Field(gt=0)
    confidence: float = Field(gt=0, le=1)


class StepParams(Owned):
    """One step towards a customer.

    Attributes:
        action: A hint in the flow, a message, an offer, or a person's call.
        channels: Where it may reach the customer, in this order unless the customer prefers one of them.
        message: A key of the library of texts.
        wait_h: Hours to see whether it helped, before the next step.
        owner: Who answers for the action.
    """

    action: Action
    channels: tuple[str, ...] = Field(min_length=1)
    message: str
    wait_h: float = Field(48, gt=0)


class SegmentParams(Section):
    """What is other for some customers.

    Attributes:
        column: Of the table of customers.
        value: As text.
        threshold: In place of the situation's.
        start: The step that comes first, from 0.
    """

    column: str
    value: str
    threshold: float | None = Field(None, gt=0, lt=1)
    start: int = Field(0, ge=0)

    @field_validator("value", mode="before")
    @classmethod
    def _text(cls, value: Any) -> Any:
        return (
            str(value).lower() if isinstance(value, bool) else str(value) if isinstance(value, int | float) else value
        )


class SituationParams(Owned):
    """Signals that mean the same trouble or wish, and what is done about it.

    Attributes:
        combine: Signals that count.
        purpose: What the contact is for; the customer must permit it.
        threshold: Strength from which a case is opened.
        segments: Other thresholds; the first that fits holds.
        stay: Share of the threshold below which an open case has faded.
        min_confidence: Below, the step is not taken.
        unsure: What is done instead: ask the customer, hand it to a person of ours, or wait for more.
        ask: How the customer is asked.
        helped_by: Events that say that the customer acted elsewhere, or that it is solved: evidence before counts no
            more.
        ladder: Steps, each taken if the one before did not help.
        cool_down_h: Hours from the last contact of a case to the first of the next.
        in_incident: Whether a new incident pauses it.
        minors: Whether it may concern minors at all.
        owner: Who answers for it, and gets what is handed to a person.
    """

    combine: tuple[str, ...] = Field(min_length=1)
    purpose: Purpose
    threshold: float = Field(gt=0, lt=1)
    segments: tuple[SegmentParams, ...] = ()
    stay: float = Field(0.5, ge=0, le=1)
    min_confidence: float = Field(0.5, ge=0, le=1)
    unsure: Literal["ask", "escalate", "wait"] = "wait"
    ask: StepParams | None = None
    helped_by: tuple[Match, ...] = ()
    ladder: tuple[StepParams, ...] = Field(min_length=1)
    cool_down_h: float = Field(336, ge=0)
    in_incident: Literal["pause", "go"] = "pause"
    minors: bool = False

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.unsure == "ask" and self.ask is None:
            raise ValueError("given an ask: section, as unsure is ask; or set unsure to escalate or wait")
        for segment in self.segments:
            if segment.start >= len(self.ladder):
                raise ValueError(
                    f"given steps that are there: segment {segment.column} starts at {segment.start}, the ladder's "
                    f"last is {len(self.ladder) - 1}"
                )
        return self


class HarmParams(Section):
    """The rates that pause a trigger: opt-outs and complaints soon after its contacts.

    Attributes:
        within_h: Hours after a contact in which an opt-out or a complaint counts against it.
        window_days: Days of contacts that are looked at.
        opt_outs: Most of them a contact; the trigger pauses where the lower end of the interval is above.
        complaints: The same for complaints.
        least: Contacts below which nothing is judged.
        level: Of the interval.
        pause_days: How long the trigger pauses.
    """

    within_h: float = Field(72, gt=0)
    window_days: float = Field(28, gt=0)
    opt_outs: float = Field(0.02, ge=0, lt=1)
    complaints: float = Field(0.02, ge=0, lt=1)
    least: int = Field(50, ge=1)
    level: float = Field(0.95, gt=0, lt=1)
    pause_days: float = Field(14, gt=0)


class GuardrailParams(Section):
    """What no trigger may do, whatever the signals say.

    Attributes:
        quiet: From and until, in the customer's own time; the first is quiet, the second is not.
        zones: Of customers whose zone is not known: it must suit all of these.
        cool_down_h: Hours between two contacts of one customer, whatever they are for.
        contacts_a_day: Most contacts of one customer in a local day.
        capacity: Most steps a UTC day by action; `escalate` is what is handed to people.
        hold_h: Hours that a step may be held back; then it is dropped.
        incident_pause_h: Hours after a customer is told of an incident.
        decline_days: Days for which a declined situation is left alone.
        snooze_days: Days of a snooze that does not say how long.
        legitimate_interest: Purposes that are allowed until they are withdrawn; service always is.
        compatible: Other purposes that events of a purpose may be evidence for.
        harm: What pauses a trigger.
    """

    quiet: tuple[time, time] = (time(21), time(8))
    zones: tuple[str, ...] = Field(("UTC",), min_length=1)
    cool_down_h: float = Field(24, ge=0)
    contacts_a_day: int = Field(1, ge=0)
    capacity: dict[Literal["hint", "message", "call", "offer", "ask", "escalate"], int] = Field({})
    hold_h: float = Field(48, gt=0)
    incident_pause_h: float = Field(24, ge=0)
    decline_days: float = Field(90, gt=0)
    snooze_days: float = Field(7, gt=0)
    legitimate_interest: tuple[Purpose, ...] = ()
    compatible: dict[Purpose, tuple[Purpose, ...]] = Field({})
    harm: HarmParams = HarmParams()

    @field_validator("quiet", mode="before")
    @classmethod
    def _clock(cls, value: Any) -> Any:
        """YAML 1.1 reads 21:00 as 1260, in base 60."""
        if not isinstance(value, list | tuple):
            return value
        return [f"{v // 60:02}:{v % 60:02}" if isinstance(v, int) and 0 <= v < 1440 else v for v in value]

    @field_validator("zones")
    @classmethod
    def _known(cls, zones: tuple[str, ...]) -> tuple[str, ...]:
        for zone in zones:
            if zone not in zoneinfo.available_timezones():
                raise ValueError(f"known time zones; {zone!r} is none.{nearest(zone, zoneinfo.available_timezones())}")
        return zones


class CustomerParams(Section):
    """Where the table of customers says what.

    Attributes:
        timezone: The column of the time zone, as Europe/Madrid.
        preferred: The column of the preferred channel.
        reached_by: By channel, a column that says whether a customer can be reached there.
    """

    timezone: str = "timezone"
    preferred: str = "preferred_channel"
    reached_by: dict[str, str] = Field({})


class FollowParams(Section):
    """How a growing file is followed.

    Attributes:
        late_s: Seconds for which a row waits for rows that were received before it.
        poll_s: Seconds between two looks at the file.
        clock: What makes held steps due: the newest event, or the wall clock too.
        save_s: Seconds between two notes of how far it came.
    """

    late_s: float = Field(2, ge=0)
    poll_s: float = Field(0.5, gt=0)
    clock: Literal["events", "wall"] = "events"
    save_s: float = Field(30, ge=0)


class SignalsParams(Section):
    """All that turns events into decisions.

    Attributes:
        messages: The library of texts; relative to this file.
        left_by: Events after which nobody is contacted any more.
        back_by: Events that end that.
        signals: Evidence by name.
        situations: What is done by name.
        guardrails: What holds for all.
        customers: Where the table of customers says what.
        follow: How a growing file is followed.
    """

    messages: str = "messages.yaml"
    left_by: tuple[str, ...] = ("account_closed",)
    back_by: tuple[str, ...] = ("contract_started",)
    signals: dict[str, SignalParams] = Field(min_length=1)
    situations: dict[str, SituationParams] = Field(min_length=1)
    guardrails: GuardrailParams = GuardrailParams()
    customers: CustomerParams = CustomerParams()
    follow: FollowParams = FollowParams()

    @model_validator(mode="after")
    def _named(self) -> Self:
        for name, situation in self.situations.items():
            for signal in situation.combine:
                if signal not in self.signals:
                    raise ValueError(f"situations.{name}.combine: {unknown('Signal', signal, self.signals)}")
        return self


class Message(Owned):
    """A text in plain language.

    Attributes:
        text: By language, as en: sentences of at most 20 words.
        owner: Who answers for the words.
    """

    text: dict[str, str] = Field(min_length=1)

    @field_validator("text")
    @classmethod
    def _is_plain(cls, texts: dict[str, str]) -> dict[str, str]:
        for language, text in texts.items():
            if not text.strip():
                raise ValueError(f"words to send; {language} has none")
            longest = max(re.split(r"[.!?]+\s|\n", text.strip()), key=lambda sentence: len(sentence.split()))
            if len(longest.split()) > LONGEST_SENTENCE:
                raise ValueError(
                    f"plain: a sentence in {language} has {len(longest.split())} words, at most {LONGEST_SENTENCE} may "
                    f"be; cut it in two ({longest[:60]!r}...)"
                )
        return texts


class Library(Section):
    """Texts by key.

    Attributes:
        messages: Each with its owner.
    """

    messages: dict[str, Message] = Field(min_length=1)


def load_signals(path: str | Path, overrides: Sequence[str] = ()) -> tuple[SignalsParams, Library]:
    """Signals, and the texts that they name.

    Raises:
        ParamsError: A file is not there or not YAML, a key is unknown, a value does not fit, an action has no owner, or
            a text is not in the library.
    """
    params = load_file(path, SignalsParams, overrides)
    texts = load_file(Path(path).parent / params.messages, Library)
    for name, situation in params.situations.items():
        for step in [*situation.ladder, *([situation.ask] if situation.ask else [])]:
            if step.message not in texts.messages:
                said = unknown("Message", step.message, texts.messages, where=f"in {params.messages}")
                raise ParamsError(f"{Path(path).name}: situations.{name}: {said}")
    return params, texts
