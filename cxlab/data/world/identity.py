"""The keys under which a customer is seen: account, email, device, phone; and how they get mixed up, where planted."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cxlab.data.world.customers import NEVER, People, Scene
from cxlab.data.world.draws import Draws
from cxlab.data.world.text import hexed, keys, named

GIANT = "+440000000000"  # the call centre's own phone, sometimes noted as the customer's
KINDS = ("account", "email", "device", "phone")
DIGITAL = (0, 1, 2)  # web, app, chat: places in the channels of events


def _mixed_up(scene: Scene) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The week from which a second account is used; who has a second device; who shares the first with a neighbour."""
    draws, people = scene.draws, scene.people
    if "broken_identities" not in scene:
        none = np.zeros(len(people), dtype=bool)
        return np.full(len(people), NEVER), none, none
    week = people.start + 4 + draws.below("second from", 40, people.index)
    second = np.where(draws.uniform("second account", people.index) < 0.1, week, NEVER)
    devices = draws.uniform("devices", people.index) < 0.25
    return second, devices, draws.uniform("shared", people.index // 2) < 0.08


def _owned(draws: Draws, people: People, shared: np.ndarray) -> dict[str, tuple[pa.Array, pa.Array]]:
    """Each kind of key: the first and the second of every customer, shape (n,)."""

    def opaque(head: str, name: str, number: np.ndarray, tail: str = "") -> pa.Array:
        return pc.binary_join_element_wise(head, hexed(draws.bits(name, number)), tail, "")

    i = people.index
    common = pc.if_else(pa.array(shared), opaque("d", "shared device", i // 2), opaque("d", "device", i))
    email, phone = opaque("u", "email", i, "@example.org"), keys("+4477", (i * 9_876_543 + 1_234_567) % 10**7)
    return {
        "account": (opaque("a", "account", i), opaque("a", "account 2", i)),
        "email": (email, email),
        "device": (common, opaque("d", "device 2", i)),
        "phone": (phone, phone),
    }


def known_keys(
    scene: Scene, who: np.ndarray, *, number: np.ndarray, week: np.ndarray, login: np.ndarray, channel: np.ndarray
) -> dict[str, pa.Array]:
    """customer_id and the alias keys of events, shape (m,) each: what the channel shows of a customer.

    Args:
        scene: The chunk.
        who: Places among its people.
        number: Of the event, for its customer.
        week: Of the event.
        login: Which events are logins; they tie account, email and device together.
        channel: Places in the channels of events.
    """
    draws, people = scene.draws, scene.people
    from_week, devices, shared = _mixed_up(scene)
    index, broken, digital = people.index[who], "broken_identities" in scene, np.isin(channel, DIGITAL)
    second = (from_week[who] <= week) & (digital | (channel == 5))
    other = devices[who] & (draws.uniform("which device", index, number) < 0.4)
    u = draws.uniform("unknown", index, number)
    visitor = (channel == 0) & ~login & (u < 0.3) & broken
    unknown = broken & (visitor | second | ((channel == 3) & (u < 0.2)) | ((channel == 4) & (u < 0.1)))
    shown = {
        "account": np.isin(channel, (*DIGITAL, 5, 7)) & ~visitor,
        "email": np.isin(channel, (4, 6, 7)) | login,
        "device": digital,
        "phone": np.isin(channel, (3, 5)),
    }
    none = np.zeros(len(who), dtype=bool)
    table = {"customer_id": keys("c", people.index).take(pa.array(who, mask=unknown))}
    for kind, pair in _owned(draws, people, shared).items():
        later = {"account": second, "device": other}.get(kind, none)
        table[kind] = pa.concat_arrays(pair).take(pa.array(who + len(people) * later, mask=~shown[kind]))
    giant = broken & (channel == 3) & (u > 0.96)
    table["phone"] = pc.if_else(pa.array(giant), GIANT, table["phone"])
    return table


def identities(scene: Scene) -> pa.Table:
    """Which keys belong to which customer, a row each; the call centre's phone belongs to nobody and is not here."""
    draws, people = scene.draws, scene.people
    from_week, devices, shared = _mixed_up(scene)
    everyone = np.ones(len(people), dtype=bool)
    parts = []
    for kind, pair in _owned(draws, people, shared).items():
        extra = {"account": from_week < NEVER, "device": devices}.get(kind, ~everyone)
        for key, flag, common in ((pair[0], everyone, shared & (kind == "device")), (pair[1], extra, ~everyone)):
            label = named(np.zeros(len(people), np.int64), [kind])
            columns = {"customer_id": keys("c", people.index), "kind": label, "key": key, "shared": pa.array(common)}
            parts.append(pa.table(columns).filter(pa.array(flag)))
    whole = pa.concat_tables(parts)
    return whole.take(pc.sort_indices(whole, [(name, "ascending") for name in ("customer_id", "kind", "key")]))
