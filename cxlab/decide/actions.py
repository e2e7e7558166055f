"""The next best action: for each customer what to do, or nothing, within budget, capacity, caps and guardrails.

    params = load_actions("params/actions.yaml")
    found = suggest(customers, uplift.effects(customers), params, uplift=uplift, history=actions, now="2025-06-30")
    found.frame()                       # what, how sure, why, what would change it
    what_if_limits(customers, effects, params, budget=[1000, 5000, 20000]).plot()

Candidates are ranked by the lower bound of their value: worth x effect - cost. To do nothing is always a candidate, of
value 0. A share of the customers, the same ones each time, is held out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cxlab.decide.assignment import held_out
from cxlab.decide.average_effects import AverageEffects
from cxlab.decide.trials import Array, Codes
from cxlab.decide.uplift import Effects, Uplift
from cxlab.digest import canonical, sha256
from cxlab.display import GREY, PALETTE, Result, axes, interval_plot, row_height
from cxlab.errors import DataError, ParamsError, listed, missing_column, unknown
from cxlab.params.actions import NONE, Action, ActionsParams, Frequency

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

ID = "customer_id"
FACTS = 2  # named in a reason
PLANES = 200  # cutting planes at most
TOLD = 0.1  # of an effect: what a fact must make to be named


class Allocation(NamedTuple):
    """Who gets what.

    Attributes:
        choice: Place of the action, 0 for nothing, shape (n,).
        total: Sum of the gains chosen.
        bound: What no choice within the limits can exceed.
        price: Of one more unit of budget, in gain.
        prices: Of one more of each action, in gain, shape (k,).
    """

    choice: Codes
    total: float
    bound: float
    price: float
    prices: Array


def allocate(gain: Array, cost: Array, *, budget: float | None, capacity: Sequence[int | None]) -> Allocation:
    """At most one action each, the most gain in all, within a budget and capacities.

    A multiple-choice knapsack (Kellerer, Pferschy and Pisinger 2004, chapter 11), by the prices of its Lagrangian
    dual: each customer takes what nets most, who is too many goes without, what is left over goes to the best who fit.
    No choice can exceed the dual's bound.

    Args:
        gain: Of each action for each customer, shape (n, k); what is not above 0 is no candidate.
        cost: Of each action, shape (k,), >= 0.
        budget: What they may cost together; None: no limit.
        capacity: How many of each action at most, k of them; None: no limit.
    """
    k = gain.shape[1]
    alone = np.where(gain.max(axis=1, initial=0) > 0, gain.argmax(axis=1) + 1 if k else 0, 0)
    room = np.array([np.inf if most is None else float(most) for most in capacity])
    purse = np.inf if budget is None else float(budget)
    if _fits(alone, cost, purse, room):
        total = _total(gain, alone)
        return Allocation(alone.astype(np.intp), total, total, 0.0, np.zeros(k))
    price, prices, bound = _prices(gain, cost, purse, room)
    net = gain - price * cost - prices
    choice = np.where(net.max(axis=1) > 0, net.argmax(axis=1) + 1, 0).astype(np.intp)
    _drop(choice, net, cost, purse, room)
    _fill(choice, net, gain, cost, purse, room)
    return Allocation(choice, _total(gain, choice), max(bound, _total(gain, choice)), price, prices)


def _value(gain: Array, choice: Codes) -> Array:
    return np.where(choice > 0, gain[np.arange(len(choice)), choice - 1], 0.0)


def _total(gain: Array, choice: Codes) -> float:
    return float(_value(gain, choice).sum()) if gain.size else 0.0


def _fits(choice: Codes, cost: Array, purse: float, room: Array) -> bool:
    count = np.bincount(choice, minlength=len(cost) + 1)[1:]
    return bool((count <= room).all() and count @ cost <= purse + 1e-9)


def _prices(gain: Array, cost: Array, purse: float, room: Array) -> tuple[float, Array, float]:
    """The prices of budget and capacities at which customers, each taking what nets most, fit the limits best; and the
    bound they give. Cutting planes (Kelley 1960) on the Lagrangian dual, convex and of as many variables as limits.
    """
    from scipy.optimize import linprog

    limited = np.flatnonzero(np.isfinite(room))
    paid = np.column_stack(
        [cost[:, None] if np.isfinite(purse) else np.zeros((len(cost), 0)), np.eye(len(cost))[:, limited]]
    )
    limit = np.concatenate([[purse] if np.isfinite(purse) else [], room[limited]])
    positive = np.where(gain > 0, gain, 0.0)
    some = gain[(gain > 0).any(axis=1)]
    steepest = np.max(positive / np.maximum(cost, 1e-9), initial=0.0)
    top = [min(steepest, positive.max() / max(cost.min(), 1e-9))] if np.isfinite(purse) else []
    box = [(0.0, float(edge)) for edge in [*top, *np.full(len(limited), positive.max())]]
    at, cuts, ends, best, bound = np.zeros(len(limit)), [], [], np.zeros(len(limit)), np.inf
    for _ in range(PLANES):
        net = np.where(some > 0, some - paid @ at, 0.0)
        taken = net.argmax(axis=1)
        gets = net[np.arange(len(some)), taken]
        value = float(limit @ at + np.maximum(gets, 0).sum())
        slope = limit - np.bincount(taken[gets > 0], minlength=len(cost)) @ paid
        if value < bound:
            best, bound = at, value
        cuts.append([*slope, -1.0])
        ends.append(slope @ at - value)
        found = linprog([*np.zeros(len(limit)), 1.0], A_ub=cuts, b_ub=ends, bounds=[*box, (None, None)], method="highs")
        if not found.success or bound - found.fun <= 1e-6 * bound:
            break
        at = found.x[:-1]
    prices = np.zeros(len(cost))
    prices[limited] = best[len(top) :]
    return float(best[0]) if top else 0.0, prices, bound


def _drop(choice: Codes, net: Array, cost: Array, purse: float, room: Array) -> None:
    """Takes away what nets least until all fits."""
    worth = _value(net, choice)
    for place, most in enumerate(room):
        rows = np.flatnonzero(choice == place + 1)
        if len(rows) > most:
            choice[rows[np.argsort(-worth[rows], kind="stable")[int(most) :]]] = 0
    rows = np.flatnonzero(choice)
    rows = rows[np.argsort(-worth[rows], kind="stable")]
    choice[rows[np.cumsum(cost[choice[rows] - 1]) > purse + 1e-9]] = 0


def _fill(  # noqa: PLR0917
    choice: Codes, net: Array, gain: Array, cost: Array, purse: float, room: Array
) -> None:
    """Gives what is left over, the best net of its price first, to those who have nothing yet."""
    left = room - np.bincount(choice, minlength=len(cost) + 1)[1:]
    purse = purse - float(cost[choice[choice > 0] - 1].sum())
    open_to = (gain > 0) & (choice == 0)[:, None]
    row, action = np.nonzero(open_to)
    for place in np.lexsort((row, action, -net[row, action])):
        who, what = row[place], action[place]
        if choice[who] == 0 and left[what] >= 1 and cost[what] <= purse:
            choice[who] = what + 1
            left[what] -= 1
            purse -= float(cost[what])
        if not (left >= 1).any() or purse < cost.min():
            break


@dataclass(frozen=True, eq=False)
class Decision:
    """What is chosen for each of n customers among k actions, in numbers.

    Attributes:
        actions: Names, k of them; place 0 in `choice` is to do nothing, place 1 the first of them.
        choice: Shape (n,).
        held: Who is held out, shape (n,).
        barred: Why an action is out of the question, "" where it is not, shape (n, k).
        value: Worth x effect - cost, shape (n, k).
        low: Its lower bound at the guardrail's level, shape (n, k).
        high: Its upper bound, shape (n, k).
        sure: How likely an action is worth its cost, shape (n, k).
        harm: How likely it does harm, shape (n, k).
        candidate: Where nothing speaks against it, shape (n, k).
        allocation: How budget and capacities were shared out.
    """

    actions: tuple[str, ...]
    choice: Codes
    held: NDArray[np.bool_]
    barred: NDArray[np.object_]
    value: Array
    low: Array
    high: Array
    sure: Array
    harm: Array
    candidate: NDArray[np.bool_]
    allocation: Allocation


def decide(
    customers: pd.DataFrame,
    effects: Effects,
    params: ActionsParams,
    *,
    history: pd.DataFrame | None = None,
    now: Any = None,
) -> Decision:
    """Chooses for each customer; the arguments are those of `suggest`."""
    names = tuple(params.actions)
    for name in names:
        if name not in effects.arms:
            raise ParamsError(
                f"Action {name!r} has no learnt effect; learnt are {listed(effects.arms)}. Take it out of the "
                "catalogue, or give it to some customers by lot and learn from that."
            )
    if len(customers) != len(effects):
        raise DataError(f"{len(customers):,} customers and effects on {len(effects):,}, must be as many.")
    if ID not in customers:
        raise missing_column(ID, customers.columns)
    if customers[ID].isna().any() or customers[ID].duplicated().any():
        raise DataError(f"{ID} is missing or repeated in some rows; give one row a customer.")
    from scipy.special import ndtr

    worth, rules = _worth(customers, params), params.guardrails
    places = [effects.arms.index(name) for name in names]
    effect, error = effects.effect[:, places], np.maximum(effects.error[:, places], 1e-12)
    cost = np.array([action.cost for action in params.actions.values()])
    value, spread = worth[:, None] * effect - cost, worth[:, None] * error
    z = NormalDist().inv_cdf(rules.level)
    low, high = value - z * spread, value + z * spread
    sure, harm = ndtr(value / spread), ndtr(-effect / error)
    barred = _barred(customers, params, history, now)
    held = held_out(customers[ID].tolist(), share=params.holdout.share, salt=params.holdout.salt)
    needed = np.array([rules.sure[action.risk] for action in params.actions.values()])
    candidate = (barred == "") & ~held[:, None] & (low > 0) & (sure >= needed) & (harm <= rules.harm)
    capacity = [action.capacity for action in params.actions.values()]
    found = allocate(np.where(candidate, low, 0.0), cost, budget=params.budget, capacity=capacity)
    return Decision(names, found.choice, held, barred, value, low, high, sure, harm, candidate, found)


def _worth(customers: pd.DataFrame, params: ActionsParams) -> Array:
    if params.worth_column is None:
        return np.full(len(customers), params.worth)
    if params.worth_column not in customers:
        raise missing_column(params.worth_column, customers.columns)
    values = customers[params.worth_column].to_numpy(np.float64)
    if not (np.isfinite(values) & (values >= 0)).all():
        raise DataError(f"Some {params.worth_column!r} are missing or below 0; give what each customer is worth.")
    return values


def _barred(
    customers: pd.DataFrame, params: ActionsParams, history: pd.DataFrame | None, now: Any
) -> NDArray[np.object_]:
    out = np.full((len(customers), len(params.actions)), "", dtype=object)
    past = _past(history, now)
    often = _often(customers, past, params.guardrails.contacts, None)
    for place, (name, action) in enumerate(params.actions.items()):
        rules = action.eligible
        column = out[:, place]
        for wanted in rules.where:
            if wanted not in customers:
                raise missing_column(wanted, customers.columns)
            inside = customers[wanted].isin(rules.where[wanted]).to_numpy()
            column[~inside] = f"{wanted} is not {listed(rules.where[wanted])}"
        for wanted in rules.exclude:
            column[~_is(customers, wanted, False)] = f"{wanted}, or not known"
        for wanted in rules.require:
            column[~_is(customers, wanted, True)] = f"no {wanted}"
        most = action.frequency
        column[_often(customers, past, most, name)] = f"had {action.title} lately" if most else ""
        column[often & (column == "")] = "was contacted often enough lately"
    return out


def _is(customers: pd.DataFrame, name: str, wanted: bool) -> NDArray[np.bool_]:
    """Whether a column is known to be true, or false."""
    if name not in customers:
        raise missing_column(name, customers.columns)
    column = customers[name]
    if not column.dropna().isin([True, False]).all():
        raise DataError(f"Column {name!r} holds {column.dropna().iloc[0]}, must be true or false.")
    return np.asarray((column == wanted).fillna(False).to_numpy(dtype=bool) & column.notna().to_numpy())


def _past(history: pd.DataFrame | None, now: Any) -> pd.DataFrame | None:
    import pandas as pd

    if history is None:
        return None
    for name in (ID, "action", "at"):
        if name not in history:
            raise missing_column(name, history.columns)
    if now is None:
        raise ParamsError("A history is given but not when it is decided; pass now=, a time.")
    when = pd.to_datetime(history["at"], utc=True)
    moment = pd.Timestamp(now)
    moment = moment.tz_localize("UTC") if moment.tzinfo is None else moment.tz_convert("UTC")
    days = (moment - when).dt.total_seconds() / 86_400
    return history.assign(days=days)[(days > 0) & (history["action"] != NONE)]


def _often(
    customers: pd.DataFrame, past: pd.DataFrame | None, limit: Frequency | None, action: str | None
) -> NDArray[np.bool_]:
    if past is None or limit is None:
        return np.zeros(len(customers), dtype=bool)
    counted = past[past["days"] <= limit.days].astype({ID: str})
    if action is not None:
        counted = counted[counted["action"] == action]
    count = counted[ID].value_counts()
    return np.asarray(customers[ID].astype(str).map(count).fillna(0).to_numpy() >= limit.most)


@dataclass(frozen=True, repr=False, eq=False)
class Suggestions(Result):
    """For each customer what to do, how sure, why, and what would change it.

    Attributes:
        table: As `frame` says.
        decision: The numbers behind it.
        spent: What the suggestions cost.
        budget: What they may cost; None where there is no limit.
        gap: How much more the best choice might be worth at most, in lower bounds of value.
        places: Of each customer in `decision`.
    """

    title: ClassVar[str] = "The next best action"
    note: ClassVar[str] = (
        "Values are worth x effect - cost with their interval; ranked by the lower end. What needs approval is not "
        "done until a person says so; held out are those who show what all of this is worth."
    )
    table: pd.DataFrame
    decision: Decision
    spent: float
    budget: float | None
    gap: float
    places: dict[Any, int]

    @property
    def policy(self) -> NDArray[np.object_]:
        """What is suggested to each customer, in the order in which they were given, shape (n,): for `policy_value`."""
        return np.array([NONE, *self.decision.actions], dtype=object)[self.decision.choice]

    def place(self, customer: Any) -> int:
        """A customer's row in `decision`."""
        return self.places[customer]

    def frame(self) -> pd.DataFrame:
        """One row a customer: suggestion, customer_id, action, status, owner, channel, confidence, value, low, high,
        effect, cost, reason, what_would_change. What is suggested comes first, the highest lower end first.
        """
        return self.table.copy()

    def plot(self) -> Axes:
        """How many customers get what, and why the others get nothing."""
        said = self.table["action"].where(self.table["action"] != NONE, "none: " + self.table["status"])
        count = said.value_counts()
        ax = axes(self.title)
        ax.barh(count.index, count, color=[GREY if str(name).startswith(NONE) else PALETTE[0] for name in count.index])
        ax.set_xlabel("customers")
        ax.invert_yaxis()
        return ax


def suggest(
    customers: pd.DataFrame,
    effects: Effects,
    params: ActionsParams,
    *,
    uplift: Uplift | None = None,
    history: pd.DataFrame | None = None,
    now: Any = None,
) -> Suggestions:
    """One suggestion a customer, to do nothing among them.

    Args:
        customers: A row each: customer_id, the columns that eligibility asks for, and what `uplift` learnt from.
        effects: Of the catalogue's actions on these customers, in their order.
        params: The catalogue and its limits.
        uplift: What made the effects; then reasons name the facts that make a customer's effect.
        history: What was done before: customer_id, action, at.
        now: When it is decided; needed with a history.
    Raises:
        DataError: A column is missing or does not hold what it should.
        ParamsError: An action of the catalogue has no learnt effect.
    """
    import pandas as pd

    made = decide(customers, effects, params, history=history, now=now)
    n, chosen = len(customers), made.choice
    cost = np.array([action.cost for action in params.actions.values()])
    facts = _facts(customers, made, uplift)
    rows = []
    ids = customers[ID].tolist()
    for i in range(n):
        place = int(chosen[i]) - 1
        name = made.actions[place] if place >= 0 else NONE
        status = _status(made, i, params)
        told = {
            "suggestion": sha256(canonical([str(ids[i]), name, str(now), params.holdout.salt]))[:16],
            ID: ids[i],
            "action": name,
            "status": status,
        }
        if place >= 0:
            action = params.actions[name]
            effect = effects.effect[i, effects.arms.index(name)]
            told |= {"owner": action.owner, "channel": action.channel, "confidence": made.sure[i, place]}
            told |= {"value": made.value[i, place], "low": made.low[i, place], "high": made.high[i, place]}
            told |= {"effect": effect, "cost": action.cost}
            change = f"add {effect:.3g} to what the customer {params.outcome}"
            if effects.binary:
                change = f"add {100 * effect:.1f} points to the chance that the customer {params.outcome}"
            told["reason"] = _reason(action, params, change, made, i, place, facts.get(i, ()))
        else:
            told |= {"owner": "", "channel": "", "value": 0.0, "low": 0.0, "high": 0.0, "effect": 0.0, "cost": 0.0}
            eligible = made.barred[i] == ""
            told["confidence"] = 1 - made.sure[i][eligible].max() if eligible.any() and not made.held[i] else np.nan
            told["reason"] = _why_nothing(status, made, i, params)
        told["what_would_change"] = _what_would_change(status, made, i, params, cost)
        rows.append(told)
    columns = [
        *("suggestion", ID, "action", "status", "owner", "channel", "confidence", "value", "low", "high"),
        *("effect", "cost", "reason", "what_would_change"),
    ]
    table = pd.DataFrame(rows, columns=columns)
    table = table.iloc[np.lexsort((np.arange(n), -table["low"].to_numpy(), chosen == 0))].reset_index(drop=True)
    found = made.allocation
    places = {name: place for place, name in enumerate(ids)}
    return Suggestions(table, made, float(table["cost"].sum()), params.budget, found.bound - found.total, places)


def _status(made: Decision, i: int, params: ActionsParams) -> str:
    if made.choice[i]:
        return "needs approval" if params.actions[made.actions[made.choice[i] - 1]].approve else "suggested"
    if made.held[i]:
        return "held out"
    if (made.barred[i] != "").all():
        return "not eligible"
    return "over budget" if made.candidate[i].any() else "not worth it"


def _facts(customers: pd.DataFrame, made: Decision, uplift: Uplift | None) -> dict[int, tuple[str, ...]]:
    """In words, what makes the effect of what is suggested, by the customer's place."""
    rows = np.flatnonzero(made.choice)
    if uplift is None or not len(rows):
        return {}
    part = customers.iloc[rows]
    action = np.array([uplift.arms.index(made.actions[k - 1]) for k in made.choice[rows]])
    driven = uplift.driven_by(part, action)
    names, out = uplift.encoder.names, {}
    whole = np.abs(driven).sum(axis=1)
    for place, row in enumerate(rows):
        order = np.argsort(-driven[place], kind="stable")[:FACTS]
        kept = [k for k in order if driven[place, k] > TOLD * max(whole[place], 1e-12)]
        out[int(row)] = tuple(f"{names[k]} is {_shown(part.iloc[place][names[k]])}" for k in kept)
    return out


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _shown(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float | np.floating) else str(value)


def _reason(  # noqa: PLR0917
    action: Action, params: ActionsParams, change: str, made: Decision, i: int, place: int, facts: Sequence[str]
) -> str:
    why = f" Mostly because {' and '.join(facts)}." if facts else ""
    return (
        f"{_capital(action.title)} is expected to {change}.{why} After its cost of {action.cost:g} that is worth "
        f"{made.value[i, place]:.0f}, and {params.guardrails.level:.0%} surely {made.low[i, place]:.0f} or more."
    )


def _why_nothing(status: str, made: Decision, i: int, params: ActionsParams) -> str:
    if status == "held out":
        return "Held out: nothing is done, so that it shows what all actions together are worth."
    if status == "not eligible":
        return f"Not eligible: {listed(dict.fromkeys(made.barred[i]))}."
    if status == "over budget":
        return "Worth it, but budget or capacity does more for others."
    place = _best(made, i)
    action, rules = params.actions[made.actions[place]], params.guardrails
    if made.value[i, place] <= 0:
        return (
            f"No action is expected to be worth its cost; the nearest is {action.title} ({made.value[i, place]:.0f})."
        )
    if made.harm[i, place] > rules.harm:
        harm = f"{made.harm[i, place]:.0%} likely, allowed is {rules.harm:.0%}"
        return f"{_capital(action.title)} may do harm ({harm})."
    return (
        f"Not sure enough: {action.title} is expected to be worth {made.value[i, place]:.0f}, but it is worth its cost "
        f"with a probability of {made.sure[i, place]:.0%} only."
    )


def _best(made: Decision, i: int) -> int:
    """The action that comes nearest to being suggested, among those that are not barred."""
    return int(np.where(made.barred[i] == "", made.low[i], -np.inf).argmax())


def _what_would_change(status: str, made: Decision, i: int, params: ActionsParams, cost: Array) -> str:
    """Costs count twice: they lower the value, and they use up budget at its price."""
    if status == "held out":
        return "Nothing: a holdout is kept."
    if status == "not eligible":
        return f"Another answer to: {listed(dict.fromkeys(made.barred[i]))}."
    found, titles = made.allocation, [action.title for action in params.actions.values()]
    net = np.where(made.candidate[i], made.low[i] - found.price * cost - found.prices, -np.inf)
    chosen = int(made.choice[i]) - 1
    if chosen >= 0:
        rest = np.delete(np.append(net, 0.0), chosen)
        names = np.delete(np.array([*titles, "nothing"]), chosen)
        edge = cost[chosen] + max(0.0, float(net[chosen] - rest.max())) / (1 + found.price)
        other = _capital(str(names[rest.argmax()]))
        return f"{other} instead if {titles[chosen]} cost more than {edge:.2f}."
    if status == "over budget":
        place = int(net.argmax())
        edge = cost[place] + min(0.0, float(net[place])) / (1 + found.price)
        cheaper = f"{titles[place]} if it cost less than {edge:.2f}, or " if edge > 0 else ""
        return _capital(f"{cheaper}{'a larger budget' if found.price > 0 else 'more capacity'}.")
    place = _best(made, i)
    edge = made.low[i, place] + cost[place]  # what the effect is surely worth
    if edge > 0 and made.low[i, place] <= 0:
        return f"{_capital(titles[place])} if it cost less than {edge:.2f}."
    return (
        f"{titles[place][0].upper()}{titles[place][1:]} if more decisions showed that its effect is surely above zero."
    )


@dataclass(frozen=True, repr=False, eq=False)
class Promises(Result):
    """What the owners of actions expect of them, and what was seen."""

    title: ClassVar[str] = "Do actions do what their owners expect?"
    note: ClassVar[str] = "As expected: the interval holds what was said beforehand. Nothing said: nothing to compare."
    table: pd.DataFrame

    def frame(self) -> pd.DataFrame:
        """One row an action: action, owner, n, expected, effect, low, high, verdict."""
        return self.table.copy()

    def plot(self) -> Axes:
        """Effects with their intervals, and what was expected as a cross."""
        t = self.table
        ax = axes(self.title, height=row_height(t))
        interval_plot(ax, list(t["action"]), *(t[name].to_numpy() for name in ("effect", "low", "high")), reference=0.0)
        ax.plot(t["expected"].astype(float), range(len(t)), "x", color=PALETTE[1])
        ax.set_xlabel("change of the outcome; x: as expected")
        return ax


def promises(params: ActionsParams, average: AverageEffects) -> Promises:
    """The catalogue's `expected` beside the average effects of an experiment.

    Raises:
        ParamsError: An action of the catalogue is not in the experiment.
    """
    import pandas as pd

    seen, rows = average.table.set_index("action"), []
    for name, action in params.actions.items():
        if name not in seen.index:
            raise ParamsError(unknown("Action", name, seen.index, where="in the experiment"))
        n, effect, low, high = (float(seen[column][name]) for column in ("n", "effect", "low", "high"))
        verdict = "nothing said"
        if action.expected is not None:
            verdict = "less" if high < action.expected else "more" if low > action.expected else "as expected"
        rows.append((name, action.owner, int(n), action.expected, effect, low, high, verdict))
    columns = ["action", "owner", "n", "expected", "effect", "low", "high", "verdict"]
    return Promises(pd.DataFrame(rows, columns=columns).astype({"expected": float}))


@dataclass(frozen=True, repr=False, eq=False)
class WhatIf(Result):
    """What other limits would bring, as far as the effects are known.

    Attributes:
        table: As `frame` says.
        level: Of the intervals.
        varied: The limits that vary.
    """

    title: ClassVar[str] = "What if the limits were others?"
    note: ClassVar[str] = (
        "Expected from the effects learnt, with the interval that learning leaves; the choice rests on the same "
        "effects, which flatters it. Ask an off-policy estimate or a test before it goes live."
    )
    table: pd.DataFrame
    level: float
    varied: tuple[str, ...]

    def frame(self) -> pd.DataFrame:
        """One row a setting: the limits that vary, touched, of, share, spent, value, low, high."""
        return self.table.copy()

    def plot(self) -> Axes:
        """Expected value over what is spent, a point a setting."""
        t = self.table
        ax = axes(self.title)
        ax.vlines(t["spent"], t["low"], t["high"], color=PALETTE[0], linewidth=1)
        ax.plot(t["spent"], t["value"], "o", color=PALETTE[0])
        for _, row in t.iterrows():
            ax.annotate(
                ", ".join(f"{row[name]:g}" for name in self.varied),
                (row["spent"], row["value"]),
                xytext=(4, 4),
                textcoords="offset points",
                fontsize=7,
                color=GREY,
            )
        ax.set(xlabel="spent", ylabel=f"value ({100 * self.level:g} % interval); {', '.join(self.varied)} beside it")
        return ax


LIMITS = ("budget", "level", "harm", "contacts", "capacity")


def what_if_limits(
    customers: pd.DataFrame,
    effects: Effects,
    params: ActionsParams,
    *,
    history: pd.DataFrame | None = None,
    now: Any = None,
    interval_level: float = 0.95,
    **limits: Sequence[float],
) -> WhatIf:
    """The suggestions under every combination of other limits.

    Args:
        customers: As for `suggest`.
        effects: As for `suggest`.
        params: What holds where a limit does not vary.
        history: As for `suggest`.
        now: As for `suggest`.
        interval_level: Of the intervals of the value, in (0, 1).
        limits: Values of `budget`, `level`, `harm`, `contacts` (how often a customer may be reached) or `capacity`
            (a factor on that of each action).
    Raises:
        ParamsError: A limit is not known, or a value does not fit.
    """
    from itertools import product

    import pandas as pd

    for name in limits:
        if name not in LIMITS:
            raise ParamsError(unknown("Limit", name, LIMITS, where="one that can vary"))
    if not limits:
        raise ParamsError(f"No limit varies; give values for one of {listed(LIMITS)}: budget=[1000, 5000].")
    worth, rows = _worth(customers, params), []
    for values in product(*limits.values()):
        setting = dict(zip(limits, values, strict=True))
        made = decide(customers, effects, _with(params, setting), history=history, now=now)
        touched = np.flatnonzero(made.choice)
        places = np.array([effects.arms.index(name) for name in made.actions], dtype=np.intp)[made.choice[touched] - 1]
        cost = np.array([params.actions[made.actions[k - 1]].cost for k in made.choice[touched]])
        value = float((worth[touched] * effects.effect[touched, places] - cost).sum())
        draws = effects.draws[:, touched, places].astype(np.float64) @ worth[touched]
        wide = NormalDist().inv_cdf((1 + interval_level) / 2) * float(draws.std(ddof=1))
        told = {"touched": len(touched), "of": len(customers), "share": len(touched) / max(1, len(customers))}
        rows.append(setting | told | {"spent": cost.sum(), "value": value, "low": value - wide, "high": value + wide})
    return WhatIf(pd.DataFrame(rows), interval_level, tuple(limits))


def _with(params: ActionsParams, setting: dict[str, float]) -> ActionsParams:
    from cxlab.params.files import checked

    tree = params.model_dump()
    for name, value in setting.items():
        if name == "budget":
            tree["budget"] = value
        elif name == "capacity":
            for action in tree["actions"].values():
                if action["capacity"] is not None:
                    action["capacity"] = round(action["capacity"] * value)
        elif name == "contacts":
            days = (tree["guardrails"]["contacts"] or {"days": 30})["days"]
            tree["guardrails"]["contacts"] = {"most": int(value), "days": days}
        else:
            tree["guardrails"][name] = value
    return checked(tree, ActionsParams, "what if")
