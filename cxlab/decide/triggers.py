"""From evidence to decisions: a state machine over events in the order in which they were received.

    engine = Engine(params, customers)
    for happening in happenings(events.accepted, params):
        decisions += engine.step(happening)
    decisions += engine.advance(until)

A decision at a moment rests on what was received by then and on nothing else. Evidence makes a situation strong; at the
threshold a case is opened, whose ladder is climbed step by step while nothing helps: each step waits for the one
before, and before each every guardrail is asked. What a guardrail forbids for a while is held and decided again when it
ends; what it forbids for good is suppressed, with the reason. What is due at a moment is decided after all that was
received by that moment, in the order of customers and situations.

The whole state is plain values that JSON holds (`engine.state`): put into another engine, it goes on as if nothing had
happened.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from cxlab.data.consent import GRANTED, WITHDRAWN
from cxlab.data.taxonomy import PURPOSES
from cxlab.decide.guardrails import (
    DAY,
    Block,
    channel_for,
    cool_down,
    daily_cap,
    local,
    opted_out,
    permits,
    quiet_hours,
    too_much_harm,
)
from cxlab.decide.signals import (
    ALL,
    ANSWERED,
    COMPLAINED,
    DECLINED,
    IN,
    INCIDENT,
    OUT,
    PREFERRED,
    SNOOZED,
    Customers,
    Happening,
    Profile,
    check_names,
    matches,
    risen,
    stamp,
)
from cxlab.decide.strength import FORGOTTEN, HOUR, Piece, confidence, strength
from cxlab.digest import canonical, sha256
from cxlab.params.signals import SignalsParams, SituationParams, StepParams

Status = Literal["sent", "asked", "escalated", "held", "suppressed", "paused"]
STATUSES: tuple[Status, ...] = ("sent", "asked", "escalated", "held", "suppressed", "paused")
CONTACTS = ("sent", "asked")  # that reach a customer
KEPT = 8 * DAY  # for which contacts are remembered for caps, at least

Decision = dict[str, Any]


class _Case(NamedTuple):
    """A case of a customer in a situation."""

    customer: str
    name: str
    case: dict[str, Any]


class Engine:
    """Decides what to do, event by event.

    Args:
        params: Signals, situations and guardrails.
        customers: What is known of customers.
        state: That of an engine with the same params, to go on from.
    Attributes:
        state: Plain values: customers, moments that are due, contacts by situation, pauses, what was used today.
        weighed: Where a list is put, each weighing is added to it: situation, customer, moment, strength, confidence.
    Raises:
        ParamsError: The params name an event, property or channel that the taxonomy does not know.
    """

    def __init__(self, params: SignalsParams, customers: Customers, state: dict[str, Any] | None = None) -> None:
        check_names(params)
        self.params, self.customers = params, customers
        self.state = state or {"now": 0, "customers": {}, "due": [], "reach": {}, "paused": {}, "used": {}}
        self.weighed: list[tuple[str, str, int, float, float]] | None = None
        rules = params.guardrails
        self._fits = {
            name: {situation.purpose, *(p for p, others in rules.compatible.items() if situation.purpose in others)}
            for name, situation in params.situations.items()
        }
        self._by_signal = {
            signal: sorted(name for name, item in params.situations.items() if signal in item.combine)
            for signal in params.signals
        }
        keep = [situation.cool_down_h * HOUR for situation in params.situations.values()]
        self._keep = int(max(KEPT, rules.cool_down_h * HOUR, rules.harm.within_h * HOUR, *keep))
        self._out: list[Decision] = []

    def step(self, event: Happening) -> list[Decision]:
        """What one event, and all that was due before it was received, leads to.

        Args:
            event: Received no earlier than the one before.
        Raises:
            ValueError: It was received earlier.
        """
        if event.received < self.state["now"]:
            raise ValueError(f"event {event.event_id} is earlier than the last one; sort by received_at and event_id.")
        out = self.advance(event.received)
        self._take(event)
        return out + self._flushed()

    def advance(self, until: int) -> list[Decision]:
        """What was due before a moment, in microseconds; nothing received before it may come after."""
        due = self.state["due"]
        while due and due[0][0] < until:
            at, customer, name = heapq.heappop(due)
            case = self._of(customer)["cases"].get(name)
            if case is not None and case["due"] == at:  # else it was closed or moved
                self.state["now"] = max(self.state["now"], at)
                self._decide(customer, name, case)
        self.state["now"] = max(self.state["now"], until)
        return self._flushed()

    def _flushed(self) -> list[Decision]:
        out, self._out = self._out, []
        return out

    def _of(self, customer: str) -> dict[str, Any]:
        found = self.state["customers"].get(customer)
        if found is None:
            found = {"evidence": {}, "cases": {}, "contacts": [], "said": {}, "words": {}, "declined": {}}
            found |= {"resolved": {}, "last": {}, "marks": []}
            self.state["customers"][customer] = found
        return found

    # What an event tells

    def _take(self, event: Happening) -> None:
        mine, now = self._of(event.customer), event.received
        when = min(event.occurred, now)  # what is dated ahead is known now
        self._hear(mine, event, when)
        for name, situation in sorted(self.params.situations.items()):
            if any(matches(match, event.event, event.properties) for match in situation.helped_by):
                self._resolve(event.customer, name, when, f"{event.event} on {event.channel}")
        touched: set[str] = set()
        for name, signal in self.params.signals.items():
            rising = risen(signal)
            if signal.event != event.event:
                continue
            if matches(signal, event.event, event.properties, mine["last"].get(name)):
                pieces = mine["evidence"].setdefault(name, [])
                pieces.append([when, event.purpose])
                oldest = now - int(FORGOTTEN * signal.half_life_h * HOUR)
                mine["evidence"][name] = [piece for piece in pieces if piece[0] >= oldest]
                touched.update(self._by_signal[name])
            value = event.properties.get(rising) if rising else None
            if rising and isinstance(value, int | float) and not isinstance(value, bool):
                mine["last"][name] = float(value)
        for name in sorted(touched):
            self._weigh(event.customer, name)

    def _hear(self, mine: dict[str, Any], event: Happening, when: int) -> None:
        """What the customer said on being contacted, and what happened to the customer."""
        facts, kind = event.properties, event.event
        mine["marks"] += [m for m in ("minor", "vulnerable") if _yes(facts.get(m)) and m not in mine["marks"]]
        if kind in (GRANTED, WITHDRAWN):
            for purpose in PURPOSES if facts["purpose"] == ALL else (facts["purpose"],):
                _newest(mine["said"], purpose, when, kind == GRANTED)
        elif kind in (OUT, IN):
            channels = list(mine["words"]) if facts["channel"] == ALL and kind == IN else []
            for channel in {facts["channel"], *channels}:
                _newest(mine["words"], channel, when, kind == IN)
        elif kind in (SNOOZED, DECLINED, PREFERRED):
            self._wish(mine, kind, facts, when)
        elif kind == INCIDENT:
            mine["incident"] = max(mine.get("incident", 0), event.received)
        if kind in self.params.left_by:
            mine["left"] = True
        elif kind in self.params.back_by:
            mine["left"] = False
        if kind == ANSWERED:
            self._answer(event, mine)
        if kind in (OUT, COMPLAINED):
            self._blame(event, mine)

    def _wish(self, mine: dict[str, Any], kind: str, facts: Mapping[str, Any], when: int) -> None:
        """When, for what and where a customer wants to hear from us."""
        rules = self.params.guardrails
        if kind == SNOOZED:
            days = facts.get("days", rules.snooze_days)
            mine["snoozed"] = max(mine.get("snoozed", 0), when + int(max(days, 0) * DAY))
        elif kind == DECLINED:
            name = facts.get("situation", ALL)
            until = when + int(rules.decline_days * DAY)
            mine["declined"][name] = max(mine["declined"].get(name, 0), until)
        elif when >= mine.get("preferred", [0])[0]:
            mine["preferred"] = [when, facts["channel"]]

    def _answer(self, event: Happening, mine: dict[str, Any]) -> None:
        name = event.properties["situation"]
        case = mine["cases"].get(name)
        if event.properties["answer"] == "no":
            self._resolve(event.customer, name, event.received, "the customer says that it is not so")
        elif case is not None and case["asked"]:
            case["confidence"] = 1.0
            self._plan(event.customer, name, case, event.received)

    def _blame(self, event: Happening, mine: dict[str, Any]) -> None:
        """An opt-out or a complaint soon after a contact counts against the trigger that made it."""
        harm, now = self.params.guardrails.harm, event.received
        recent = [contact for contact in mine["contacts"] if now - contact[0] <= harm.within_h * HOUR]
        if not recent:
            return
        name = recent[-1][1]
        reach = self.state["reach"][name]
        reach[event.event].append([recent[-1][0], event.customer])
        since = now - int(harm.window_days * DAY)
        for key, times in reach.items():
            reach[key] = [item for item in times if item[0] >= since]
        blamed = [len({tuple(item) for item in reach[kind]}) for kind in (OUT, COMPLAINED)]
        why = too_much_harm(len(reach["contacts"]), blamed[0], blamed[1], harm)
        if why is not None:
            until = now + int(harm.pause_days * DAY)
            self.state["paused"][name] = [until, why]
            self.state["reach"][name] = {"contacts": [], OUT: [], COMPLAINED: []}
            self._say("paused", None, name, action="pause", until=until, guardrail="paused", reason=f"{why}.")

    # From evidence to a case

    def _pieces(self, mine: dict[str, Any], name: str, now: int) -> list[Piece]:
        resolved, fits = mine["resolved"].get(name, -1), self._fits[name]
        return [
            Piece(signal.weight, signal.confidence, signal.half_life_h, (now - when) / HOUR)
            for key in self.params.situations[name].combine
            for signal in (self.params.signals[key],)
            for when, purpose in mine["evidence"].get(key, ())
            if when > resolved and purpose in fits
        ]

    def _weigh(self, customer: str, name: str) -> None:
        mine, now = self._of(customer), self.state["now"]
        pieces = self._pieces(mine, name, now)
        strong, sure = strength(pieces), confidence(pieces)
        if self.weighed is not None:
            self.weighed.append((name, customer, now, strong, sure))
        situation, case = self.params.situations[name], mine["cases"].get(name)
        if case is not None:
            case["confidence"] = max(case["confidence"], sure)
            return
        threshold, start = _rule(situation, self.customers[customer])
        if strong >= threshold:
            case = {"opened": now, "step": start, "due": None, "held": None, "confidence": sure, "asked": False}
            mine["cases"][name] = case | {"sent": 0}
            self._decide(customer, name, mine["cases"][name])

    def _resolve(self, customer: str, name: str, when: int, how: str) -> None:
        """Evidence until then counts no more; what was still to come in an open case is not sent."""
        mine = self._of(customer)
        if name not in self.params.situations:
            return
        mine["resolved"][name] = max(mine["resolved"].get(name, -1), when)
        case = mine["cases"].get(name)
        if case is None or self._pieces(mine, name, self.state["now"]):
            return
        self._say("suppressed", customer, name, case=case, guardrail="acted_elsewhere", reason=f"{how}.")
        del mine["cases"][name]

    # From a case to a decision

    def _decide(self, customer: str, name: str, case: dict[str, Any]) -> None:
        mine, now, situation = self._of(customer), self.state["now"], self.params.situations[name]
        profile, pieces = self.customers[customer], self._pieces(mine, name, now)
        strong, (threshold, _) = strength(pieces), _rule(situation, profile)
        case["confidence"] = max(case["confidence"], confidence(pieces))
        why = f"strength {strong:.2f} of {len(pieces)} pieces, threshold {threshold:g}"
        if strong < situation.stay * threshold:
            self._close("suppressed", customer, name, case, guardrail="faded", reason=f"It faded: {why}.")
            return
        if case["confidence"] < situation.min_confidence:
            why = f"confidence {case['confidence']:.2f} is below {situation.min_confidence:g}; {why}"
            if situation.unsure == "wait":
                self._close("suppressed", customer, name, case, guardrail="unsure", reason=f"Too unsure: {why}.")
                return
            if situation.unsure == "escalate" or case["asked"]:
                self._hand_over(customer, name, case, f"A person looks: {why}.")
                return
            assert situation.ask is not None  # as the params check
            self._contact(_Case(customer, name, case), situation.ask, "asked", f"We ask: {why}.")
            return
        self._contact(
            _Case(customer, name, case), situation.ladder[case["step"]], "sent", f"{why[0].upper()}{why[1:]}."
        )

    def _hand_over(self, customer: str, name: str, case: dict[str, Any], reason: str) -> None:
        mine, situation = self._of(customer), self.params.situations[name]
        block = self._forbidden(mine, self.customers[customer], name, situation) or self._capacity("escalate")
        if block is not None:
            self._hold(_Case(customer, name, case), [block], "escalate", None)
            return
        self._use("escalate")
        self._close("escalated", customer, name, case, action="escalate", reason=reason)

    def _contact(self, whose: _Case, step: StepParams, status: Status, reason: str) -> None:
        customer, name, case = whose
        mine, now, situation = self._of(customer), self.state["now"], self.params.situations[name]
        profile = self.customers[customer]
        action = "ask" if status == "asked" else step.action
        preferred = mine["preferred"][1] if "preferred" in mine else profile.preferred
        channel = channel_for(step.channels, profile, preferred, mine["words"])
        forbidden = self._forbidden(mine, profile, name, situation)
        if forbidden is None and channel is None:
            refused = all(opted_out(mine["words"], item) for item in step.channels)
            said = "the customer opted out of" if refused else "the customer cannot be reached on"
            forbidden = Block("opted_out" if refused else "channel", None, f"{said} {', '.join(step.channels)}")
        blocks = [forbidden] if forbidden else self._for_now(mine, profile, name, case, action)
        if blocks:
            self._hold(whose, blocks, action, step)
            return
        self._use(action)
        mine["contacts"] = [item for item in mine["contacts"] if item[0] >= now - self._keep] + [[now, name]]
        reach = self.state["reach"].setdefault(name, {"contacts": [], OUT: [], COMPLAINED: []})
        reach["contacts"].append([now, customer])
        facts: dict[str, Any] = {"channel": channel, "step": step, "action": action, "reason": reason}
        case["held"], case["sent"] = None, case["sent"] + 1
        if status == "asked":
            case["asked"] = True
        else:
            case["step"] += 1
        if case["step"] >= len(situation.ladder):
            self._close(status, customer, name, case, **facts)
            return
        self._say(status, customer, name, case=case, **facts)
        self._plan(customer, name, case, now + int(step.wait_h * HOUR))

    def _forbidden(self, mine: dict[str, Any], profile: Profile, name: str, situation: SituationParams) -> Block | None:
        """What forbids for good, for contacts and for people's eyes alike."""
        now, rules = self.state["now"], self.params.guardrails
        marks = profile.marks | set(mine["marks"])
        allowed, why = permits(mine["said"], marks, situation.purpose, rules)
        until = max(mine["declined"].get(name, 0), mine["declined"].get(ALL, 0))
        pause = self.state["paused"].get(name)
        if mine.get("left"):
            return Block("left", None, "the customer has left")
        if pause is not None and now < pause[0]:
            return Block("paused", None, f"the trigger pauses until {stamp(pause[0])}: {pause[1]}")
        if not allowed:
            return Block("consent", None, why)
        if "minor" in marks and not situation.minors:
            return Block("minor", None, "the situation is not for minors")
        if opted_out(mine["words"], ALL):
            return Block("opted_out", None, "the customer opted out of contacts that we begin")
        if now < until:
            return Block("declined", None, f"the customer declined until {stamp(until)}")
        return None

    def _for_now(
        self, mine: dict[str, Any], profile: Profile, name: str, case: dict[str, Any], action: str
    ) -> list[Block]:
        """What forbids until a moment."""
        now, rules, situation = self.state["now"], self.params.guardrails, self.params.situations[name]
        blocks: list[Block | None] = []
        if now < mine.get("snoozed", 0):
            blocks.append(Block("snoozed", mine["snoozed"], "the customer snoozed us"))
        incident = mine.get("incident")
        pause = int(rules.incident_pause_h * HOUR)
        if situation.in_incident == "pause" and incident is not None and now < incident + pause:
            blocks.append(Block("incident", incident + pause, f"told of an incident {stamp(incident)}"))
        contacts = mine["contacts"]
        blocks.append(cool_down(now, contacts, rules.cool_down_h, "a contact"))
        if not case["sent"]:
            own = [contact for contact in contacts if contact[1] == name]
            blocks.append(cool_down(now, own, situation.cool_down_h, "a contact for the same reason"))
        blocks.append(daily_cap(now, contacts, profile, rules.contacts_a_day))
        blocks.append(self._capacity(action))
        blocks.append(quiet_hours(now, profile, rules.quiet))
        return [block for block in blocks if block is not None]

    def _hold(self, whose: _Case, blocks: list[Block], action: str, step: StepParams | None) -> None:
        """Holds until the last of the blocks ends, or suppresses where one never does or it would take too long."""
        customer, name, case = whose
        now, first = self.state["now"], blocks[0]
        since = now if case["held"] is None else case["held"]
        until = None if any(block.until is None for block in blocks) else max(block.until or 0 for block in blocks)
        why = "; ".join(block.why for block in blocks)
        facts: dict[str, Any] = {"guardrail": first.guardrail, "action": action, "step": step}
        longest = self.params.guardrails.hold_h
        if until is None or until - since > longest * HOUR:
            late = "" if until is None else f", longer than {longest:g} hours"
            self._close("suppressed", customer, name, case, reason=f"{_capital(why)}{late}.", **facts)
            return
        case["held"] = since
        self._say("held", customer, name, case=case, until=until, reason=f"{_capital(why)}.", **facts)
        self._plan(customer, name, case, until)

    def _capacity(self, action: str) -> Block | None:
        most = self.params.guardrails.capacity.get(action)  # type: ignore[call-overload]
        now = self.state["now"]
        if most is None or self.state["used"].get(action, [now // DAY, 0])[0] != now // DAY:
            return None if most != 0 else Block("capacity", None, f"no {action} is allowed on any day")
        if self.state["used"].get(action, [0, 0])[1] < most:
            return None
        return Block("capacity", (now // DAY + 1) * DAY, f"{most} of {most} a day are used for {action}")

    def _use(self, action: str) -> None:
        today, (day, count) = self.state["now"] // DAY, self.state["used"].get(action, [-1, 0])
        self.state["used"][action] = [today, count + 1 if day == today else 1]

    def _plan(self, customer: str, name: str, case: dict[str, Any], at: int) -> None:
        case["due"] = at
        heapq.heappush(self.state["due"], [at, customer, name])

    def _close(self, status: Status, customer: str, name: str, case: dict[str, Any], **facts: Any) -> None:
        self._say(status, customer, name, case=case, **facts)
        del self._of(customer)["cases"][name]

    def _say(
        self,
        status: Status,
        customer: str | None,
        name: str,
        *,
        reason: str,
        case: Mapping[str, Any] | None = None,
        action: str | None = None,
        channel: str | None = None,
        step: StepParams | None = None,
        guardrail: str | None = None,
        until: int | None = None,
    ) -> None:
        now, situation = self.state["now"], self.params.situations[name]
        facts: Decision = {
            "time": stamp(now),
            "customer": customer,
            "situation": name,
            "action": action,
            "status": status,
            "guardrail": guardrail,
            "until": None if until is None else stamp(until),
            "channel": channel,
            "message": None,
            "owner": situation.owner if step is None else step.owner,
            "purpose": situation.purpose,
            "strength": None,
            "confidence": None,
            "local_time": None,
            "opened": None,
            "reason": reason,
        }
        if step is not None:
            facts["message"] = step.message
        if customer is not None and case is not None:
            profile = self.customers[customer]
            facts["strength"] = round(strength(self._pieces(self._of(customer), name, now)), 6)
            facts["confidence"] = round(case["confidence"], 6)
            facts["opened"] = stamp(case["opened"])
            if action is None:
                facts["action"] = situation.ladder[min(case["step"], len(situation.ladder) - 1)].action
            if profile.zone_known:
                facts["local_time"] = local(now, profile.zones[0]).isoformat()
        facts["id"] = sha256(canonical(facts))[:16]
        self._out.append(facts)


def _rule(situation: SituationParams, profile: Profile) -> tuple[float, int]:
    """The threshold and the first step for a customer."""
    for segment in situation.segments:
        if (profile.values or {}).get(segment.column) == segment.value:
            return (situation.threshold if segment.threshold is None else segment.threshold), segment.start
    return situation.threshold, 0


def _newest(words: dict[str, Any], key: str, when: int, yes: bool) -> None:
    """Keeps the newest word; of one instant, the no."""
    known = words.get(key)
    if known is None or (when, not yes) >= (known[0], not known[1]):
        words[key] = [when, yes]


def _yes(value: Any) -> bool:
    return str(value).strip().casefold() in ("true", "yes", "1")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
