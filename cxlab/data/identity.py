"""Who is one customer: identifiers that occur together are one, every merge says why, and any link can be undone.

    events = pseudonymise(events, key=secret_key())    # at the door: no identifier comes in as it is
    who = resolve(events, without=read_decisions("identity.yaml"))
    who.apply(events)                                  # customer_id filled
    who.explain("c~3fa9...")                           # its keys, and what each one joined
    who.flagged()                                      # shared keys that joined nobody; customers too large to believe
    undo("identity.yaml", ("device", "d~91..."), why="a tablet in the shop")

Only exact keys join. Kinds are taken from the strongest to the weakest (`KINDS`); a key joins the customers whom
stronger keys told apart, unless they are more than `Caps.linked`: then it is shared and joins nobody, and an event that
has no other key has no customer. A customer is named by its smallest key of the strongest kind it has.
"""

from __future__ import annotations

import hmac
import os
import re
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
import yaml
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from cxlab.data.schema import text_of
from cxlab.display import PALETTE, Result, axes
from cxlab.errors import DataError, ParamsError, StoreError, missing_column, unknown
from cxlab.places import acting_person, private_folder

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Link = tuple[str, str]  # a kind and a key, or "event" and an event_id
KINDS = ("customer_id", "account", "email", "phone", "device")  # the strongest first
EVENT = "event"
KEY_FILE = "CXLAB_PSEUDONYM_KEY"
KEY_BYTES, SHORTEST_KEY = 32, 16
PSEUDONYM = re.compile(r"[caepd]~[0-9a-f]{32}")  # the kind's first letter; 128 bits of the digest
# fmt: off
NO_KEYS = frozenset({
    "unknown", "n/a", "na", "none", "null", "nil", "nan", "nat", "<na>", "undefined", "missing", "empty", "anonymous",
    "anon", "guest", "test", "tbd", "private", "withheld", "no", "not_set", "(not_set)", "not_available",
    "not_provided", "noemail", "no-email", "no_email", "nomail", "no_phone"
})
# fmt: on
_NOTHING = "0.,:;-_/@+()#*?'\""  # a text of these alone names nobody
_PLACEHOLDERS = "cxlab.placeholders"  # in a frame's attrs: what `pseudonymise` emptied, by kind


@dataclass(frozen=True)
class Caps:
    """What is plausible.

    Attributes:
        linked: Customers told apart by stronger keys whom one key may join, >= 1; beyond, the key is shared.
        device: The same for a device, which a household often shares: 1 joins only who is known by nothing stronger.
        keys: Keys of one kind that a customer may have, >= 1; beyond, the customer is flagged, not taken apart.
    """

    linked: int = 3
    device: int = 1
    keys: int = 20

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 1:
                raise ParamsError(f"Caps.{name} == {value}, must be >= 1.")

    def most(self, kind: str) -> int:
        """Customers whom one key of a kind may join."""
        return min(self.device, self.linked) if kind == "device" else self.linked


def secret_key() -> bytes:
    """The key of all pseudonyms: all bytes of the file that `CXLAB_PSEUDONYM_KEY` names, else of
    `pseudonym.key` beside the tracking store, made for its owner alone on first use.

    Raises:
        ParamsError: The named file cannot be read, or the key is shorter than 16 bytes.
        StoreError: The key cannot be made.
    """
    named = os.environ.get(KEY_FILE)
    path = Path(named) if named else private_folder() / "pseudonym.key"
    if not named and not path.exists():
        part = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:  # noqa: PTH123
                file.write(secrets.token_bytes(KEY_BYTES))
                os.fsync(file.fileno())
            path.hardlink_to(part)  # whole, and only if no other process was first
        except FileExistsError:
            pass
        except OSError as error:
            raise StoreError(f"No key for pseudonyms can be made at {path}: {error}. Name one in {KEY_FILE}.") from None
        finally:
            part.unlink(missing_ok=True)
    try:
        return _checked(path.read_bytes())
    except OSError as error:
        raise ParamsError(f"{path}, the key of pseudonyms, cannot be read: {error.strerror}. Set {KEY_FILE}.") from None


def _checked(key: bytes) -> bytes:
    if len(key) < SHORTEST_KEY:
        raise ParamsError(f"The key of pseudonyms has {len(key)} bytes, must have >= {SHORTEST_KEY}.")
    return key


def normal(kind: str, value: Any) -> str | None:
    """An identifier in the one form that is compared, or None where it names nobody.

    Pseudonyms stay as they are.

    Examples:
        >>> normal("email", " Ada@X.org "), normal("phone", "0049 (30) 12-34"), normal("device", "n/a")
        ('ada@x.org', '+49301234', None)
    """
    text = str(value) if type(value) is int else text_of(value) or ""
    if _is_pseudonym(kind, text):
        return text
    if kind == "email":
        text = text.casefold()
    elif kind == "phone":
        text = _phone(text)
    return None if _names_nobody(text) else text


def _is_pseudonym(kind: str, text: str) -> bool:
    """A customer may be named by a key of any kind."""
    return PSEUDONYM.fullmatch(text) is not None and (text[0] == kind[0] or kind == "customer_id")


def _phone(text: str) -> str:
    digits = "".join(str(int(mark)) for mark in text if mark.isdecimal())
    if text.lstrip(" (").startswith("+"):
        return f"+{digits}"
    return f"+{digits[2:]}" if digits.startswith("00") else digits


def _names_nobody(text: str) -> bool:
    folded = text.casefold().replace(" ", "_")
    if folded in NO_KEYS or not folded.strip(_NOTHING):
        return True
    if len(folded) >= 6 and len(set(folded) - set("+-")) == 1:  # 9999999999
        return True
    local, at, domain = folded.partition("@")
    return bool(at) and local in NO_KEYS and domain.partition(".")[0] in NO_KEYS | {"example", ""}


def pseudonym(kind: str, value: Any, key: bytes) -> str | None:
    """HMAC-SHA256 of kind and normal form under the key, or None where the value names nobody."""
    text = normal(kind, value)
    if text is None or _is_pseudonym(kind, text):
        return text
    content = f"{kind}\0{text}".encode(errors="surrogatepass")  # so that one text as two kinds gives two pseudonyms
    return f"{kind[0]}~{hmac.digest(key, content, 'sha256').hex()[:32]}"


def pseudonymise(frame: pd.DataFrame, *, key: bytes) -> pd.DataFrame:
    """The same rows with pseudonyms for identifiers; what names nobody becomes missing.

    Other columns stay: an address in `properties` or in a text is not found here.

    Args:
        frame: Any table with `customer_id` or keys; those that are pseudonyms stay.
        key: As `secret_key` gives it, >= 16 bytes.
    """
    _checked(key)
    out, emptied = frame.copy(), {}
    for kind in KINDS:
        if kind in frame:
            codes, names = _mapped(frame[kind], partial(pseudonym, kind, key=key))
            out[kind] = pd.array(names[codes], dtype="string")
            emptied[kind] = int((pd.isna(names)[codes] & frame[kind].notna().to_numpy()).sum())
    out.attrs[_PLACEHOLDERS] = {"rows": len(out), **emptied}
    return out


def _mapped(column: pd.Series, change: Callable[[Any], str | None]) -> tuple[np.ndarray, np.ndarray]:
    """Each row's place among the changed distinct values, the last of which is None for what is missing."""
    codes, values = pd.factorize(column)
    names = np.empty(len(values) + 1, dtype=object)
    names[:-1] = [change(value) for value in np.asarray(values, dtype=object)]
    return codes, names


@dataclass
class _Keys:
    """The keys of one kind: their texts in order, and each row's place among them, -1 where it has none."""

    kind: str
    texts: np.ndarray
    codes: np.ndarray
    placeholders: int
    base: int = 0  # rank of the first key among all kinds
    undone: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=bool))
    shared: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=bool))

    def status(self, code: int) -> str:
        return "undone" if self.undone[code] else "shared" if self.shared[code] else "used"

    def rows_of(self, keys: np.ndarray) -> np.ndarray:
        """Each row's key where it is among `keys`, a mask, else -1."""
        return np.where((self.codes >= 0) & np.append(keys, False)[self.codes], self.codes, -1)


def _keys(frame: pd.DataFrame, kind: str, order: np.ndarray) -> _Keys:
    codes, names = _mapped(frame[kind], partial(normal, kind))
    to, texts = pd.factorize(names, sort=True)
    nobody = (to[codes] < 0) & frame[kind].notna().to_numpy()
    emptied = frame.attrs.get(_PLACEHOLDERS, {})
    before = emptied.get(kind, 0) if emptied.get("rows") == len(frame) else 0
    none = np.zeros(len(texts), dtype=bool)
    return _Keys(kind, texts, to[codes][order], int(nobody.sum()) + before, undone=none, shared=none.copy())


@dataclass
class _Groups:
    """Customers while they grow together: each row's group (-1: none yet), and each group's best rank."""

    of: np.ndarray
    rank: np.ndarray
    merges: list[tuple[int, int, int, int, int]] = field(default_factory=list)  # kind, key, kept, joined, row

    def linked(self, keys: _Keys, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Group, key and first row of each pair that occurs, by key."""
        codes = keys.rows_of(chosen)
        rows = np.flatnonzero((codes >= 0) & (self.of >= 0))
        pair = codes[rows].astype(np.int64) * max(len(self.rank), 1) + self.of[rows]
        distinct, first = np.unique(pair, return_index=True)
        code, group = np.divmod(distinct, max(len(self.rank), 1))
        return group, code, rows[first]

    def join(self, number: int, keys: _Keys, chosen: np.ndarray, most: int) -> None:
        """Joins through the chosen keys; those that link more than `most` groups are set aside."""
        n, size = len(self.rank), len(keys.texts)
        group, code, row = self.linked(keys, chosen)
        count = np.bincount(code, minlength=size)
        keys.shared |= count > most
        chosen = chosen & (count <= most)
        kept = chosen[code]
        self._tell(number, group[kept], code[kept], row[kept], count)
        pairs = (np.ones(int(kept.sum()), dtype=np.int8), (group[kept], n + code[kept]))
        label = connected_components(coo_array(pairs, shape=(n + size, n + size)), directed=False)[1]
        codes = keys.rows_of(chosen)
        of = np.where(self.of >= 0, np.append(label[:n], -1)[self.of], np.append(label[n:], -1)[codes])
        best = np.full(n + size, np.iinfo(np.int64).max)
        np.minimum.at(best, label, np.concatenate([self.rank, keys.base + np.arange(size)]))
        there = np.flatnonzero(np.bincount(of[of >= 0], minlength=n + size))
        to = np.full(n + size + 1, -1)
        to[there] = np.arange(len(there))
        self.of, self.rank = to[of], best[there]

    def _tell(self, number: int, group: np.ndarray, code: np.ndarray, row: np.ndarray, count: np.ndarray) -> None:
        """A merge for each group that is joined to another; one already joined by another key needs none."""
        several = count[code] > 1
        group, code, row = group[several], code[several], row[several]
        order = np.lexsort((self.rank[group], code))
        parent: dict[int, int] = {}

        def root(rank: int) -> int:
            while parent.get(rank, rank) != rank:
                parent[rank] = parent.get(parent[rank], parent[rank])
                rank = parent[rank]
            return rank

        ranks, begun, since = self.rank[group], -1, (0, 0)
        for i in order.tolist():
            rank, key, event = int(ranks[i]), int(code[i]), int(row[i])
            if key != begun:
                begun, since = key, (rank, event)
                continue
            low, high = sorted((root(since[0]), root(rank)))
            if low != high:
                parent[high] = low
                self.merges.append((number, key, low, high, max(event, since[1])))


@dataclass(frozen=True, repr=False)
class Identities(Result):
    """Who is one customer, and why.

    Attributes:
        customer_of: Customer by event_id, in the order of the events; missing where no key tells.
    """

    customer_of: pd.Series
    caps: Caps
    _kinds: list[_Keys]
    _groups: _Groups
    _events: np.ndarray  # event_id and time, in the order of time
    _times: pd.Series
    title: ClassVar[str] = "Identities"
    note: ClassVar[str] = "Shared and undone keys join nobody; .merges(), .flagged() and .explain(customer) say more."

    def _name(self, rank: int) -> str:
        keys = next(item for item in reversed(self._kinds) if item.base <= rank)
        text = str(keys.texts[rank - keys.base])
        return text if keys.kind == "customer_id" or PSEUDONYM.fullmatch(text) else f"{keys.kind}:{text}"

    def apply(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The same rows with `customer_id` filled.

        Raises:
            DataError: An event was not among those that were resolved.
        """
        events = pd.Index(frame["event_id"])
        found = self.customer_of if events.equals(self.customer_of.index) else self.customer_of.reindex(events)
        if found is not self.customer_of and not (known := events.isin(self.customer_of.index)).all():
            raise DataError(f"Event {events[~known][0]!r} was not resolved. Resolve these events first.")
        return frame.assign(customer_id=found.array)

    def merges(self) -> pd.DataFrame:
        """Each pair of customers that became one: through which key, and the event that closed the link."""
        return self._merges(self._groups.merges)

    def _merges(self, merges: Iterable[tuple[int, int, int, int, int]]) -> pd.DataFrame:
        rows = [
            {
                "customer": self._name(self._groups.rank[self._groups.of[row]]),
                "kind": self._kinds[kind].kind,
                "key": self._kinds[kind].texts[key],
                "kept": self._name(kept),
                "joined": self._name(joined),
                "event_id": self._events[row],
                "at": self._times.iloc[row],
            }
            for kind, key, kept, joined, row in merges
        ]
        return pd.DataFrame(rows, columns=["customer", "kind", "key", "kept", "joined", "event_id", "at"])

    def flagged(self) -> pd.DataFrame:
        """Keys that are shared, and customers with too many keys of a kind."""
        rows: list[dict[str, Any]] = []
        most, groups = self.caps, self._groups
        for keys in self._kinds:
            linked = np.bincount(groups.linked(keys, keys.shared)[1], minlength=len(keys.texts))
            for code in np.flatnonzero(keys.shared):
                limit = most.most(keys.kind)
                said = f"links {linked[code]:,} customers, more than {limit}: shared, so it joins nobody."
                rows.append(_flag("shared", keys.kind, keys.texts[code], "", linked[code], limit, said))
            size = np.bincount(groups.linked(keys, ~keys.shared & ~keys.undone)[0], minlength=len(groups.rank))
            for group in np.flatnonzero(size > most.keys):
                said = f"has {size[group]:,} keys of this kind, more than {most.keys}: see explain(), undo a link."
                name = self._name(groups.rank[group])
                rows.append(_flag("giant", keys.kind, "", name, size[group], most.keys, said))
        return pd.DataFrame(rows, columns=["what", "kind", "key", "customer", "n", "limit", "reason"])

    def explain(self, customer: str) -> pd.DataFrame:
        """A customer's keys: the first event of each, and what it joined.

        Args:
            customer: Its id, or one that it had before it was joined to another.
        Raises:
            ParamsError: There is none.
        """
        groups = self._groups
        group = {self._name(rank): number for number, rank in enumerate(groups.rank)}.get(customer)
        if group is None:
            joined = [merge for merge in groups.merges if self._name(merge[3]) == customer]
            if not joined:
                raise ParamsError(f"Customer {customer!r} is not among the {len(groups.rank):,} resolved ones.")
            group = int(groups.of[joined[0][4]])
        mine = np.flatnonzero(groups.of == group)
        merges = self._merges(merge for merge in groups.merges if groups.of[merge[4]] == group)
        rows = []
        for keys in self._kinds:
            codes, first, count = np.unique(keys.codes[mine], return_index=True, return_counts=True)
            for code, place, events in zip(codes, first, count, strict=True):
                if code >= 0:
                    row, key = mine[place], keys.texts[code]
                    through = merges[(merges["kind"] == keys.kind) & (merges["key"] == key)]
                    joins = "; ".join(f"{item.joined} to {item.kept}" for item in through.itertuples())
                    when = self._times.iloc[row]
                    rows.append((keys.kind, key, keys.status(code), int(events), self._events[row], when, joins))
        return pd.DataFrame(rows, columns=["kind", "key", "status", "events", "event_id", "at", "joined"])

    def frame(self) -> pd.DataFrame:
        """A row a kind of key, and one of all events: how many of each, and customers who have one."""
        rows = []
        for number, keys in enumerate(self._kinds):
            used = ~keys.shared & ~keys.undone
            rows.append(
                {
                    "kind": keys.kind,
                    "events": int((keys.codes >= 0).sum()),
                    "keys": len(keys.texts),
                    "shared": int(keys.shared.sum()),
                    "undone": int(keys.undone.sum()),
                    "placeholders": keys.placeholders,
                    "merges": sum(merge[0] == number for merge in self._groups.merges),
                    "customers": len(np.unique(self._groups.linked(keys, used)[0])),
                }
            )
        frame = pd.DataFrame(rows)
        total = frame.drop(columns="kind").sum().to_dict() | {"customers": len(self._groups.rank)}
        return pd.concat([frame, pd.DataFrame([{"kind": "all", **total, "events": len(self._events)}])])

    def plot(self) -> Axes:
        """How many customers have how many keys of each kind."""
        ax = axes("Keys a customer")
        for keys, colour in zip(self._kinds, PALETTE, strict=False):
            group = self._groups.linked(keys, ~keys.shared & ~keys.undone)[0]
            count = np.bincount(np.bincount(group, minlength=1))[1:]
            ax.plot(np.arange(1, len(count) + 1), np.where(count, count, np.nan), "o", color=colour, label=keys.kind)
        ax.axvline(self.caps.keys, color="grey", linestyle="--", linewidth=1)
        ax.set(xlabel="keys of a kind", ylabel="customers", yscale="log")
        ax.legend(frameon=False)
        return ax


def _flag(*values: Any) -> dict[str, Any]:
    names = ("what", "kind", "key", "customer", "n", "limit", "reason")
    return dict(zip(names, values, strict=True))


def resolve(frame: pd.DataFrame, *, caps: Caps | None = None, without: Iterable[Link] = ()) -> Identities:
    """Joins events into customers.

    Args:
        frame: Events with `event_id`, and any of `customer_id` and the keys; pseudonymised first, unless simulated.
        caps: What is plausible; `Caps()` if None.
        without: Links that join nothing: a kind and a key, or "event" and an event_id, of which then only the
            strongest key counts.
    Raises:
        DataError: `event_id` or every key column is missing, or an event_id is missing or there twice.
        ParamsError: A link in `without` is of no known kind.
    """
    caps, links = caps or Caps(), list(without)
    present = [kind for kind in KINDS if kind in frame]
    for name in ["event_id"] if present else ["event_id", "customer_id"]:
        if name not in frame:
            raise missing_column(name, [str(column) for column in frame])
    for kind, _ in links:
        if kind not in (*KINDS, EVENT):
            raise ParamsError(unknown("Kind", kind, (*KINDS, EVENT), where="one of a link"))
    events = frame["event_id"]
    wrong = events[events.isna() | events.duplicated()]
    if len(wrong):
        raise DataError(f"{len(wrong):,} events have an event_id that is missing or not the first; drop them first.")
    order, times = _order(frame)
    kinds = [_keys(frame, kind, order) for kind in present]
    named = events.to_numpy(object)[order]
    _undo(kinds, links, named)
    groups = _Groups(np.full(len(frame), -1), np.empty(0, dtype=np.int64))
    base = 0
    for number, keys in enumerate(kinds):
        keys.base, base = base, base + len(keys.texts)
        groups.join(number, keys, ~keys.undone, caps.most(keys.kind))
    while _readmitted(groups, kinds, caps):
        pass
    who = Identities(pd.Series(dtype="string"), caps, kinds, groups, named, times)
    names = np.array([*map(who._name, groups.rank), None], dtype=object)
    found = np.empty(len(frame), dtype=object)
    found[order] = names[groups.of]
    customer_of = pd.Series(pd.array(found, dtype="string"), index=pd.Index(events), name="customer_id")
    return Identities(customer_of, caps, kinds, groups, named, times)


def _readmitted(groups: _Groups, kinds: list[_Keys], caps: Caps) -> bool:
    """Takes back a shared key once other keys have made few customers of those it links; whether there was one."""
    back = False
    for number, keys in enumerate(kinds):
        count = np.bincount(groups.linked(keys, keys.shared)[1], minlength=len(keys.texts))
        again = keys.shared & (count <= caps.most(keys.kind))
        if again.any():
            keys.shared &= ~again
            groups.join(number, keys, again, caps.most(keys.kind))
            back = True
    return back


def _order(frame: pd.DataFrame) -> tuple[np.ndarray, pd.Series]:
    """Rows by time, then event_id; and their times."""
    import pyarrow as pa
    import pyarrow.compute as pc

    ids = pa.array(frame["event_id"].astype("string"))
    times = frame["occurred_at"] if "occurred_at" in frame else pd.Series(pd.NaT, index=frame.index)
    table = pa.table({"at": pa.array(times, from_pandas=True), "id": ids})
    order = pc.sort_indices(table, sort_keys=[("at", "ascending"), ("id", "ascending")]).to_numpy()
    return order, times.iloc[order].reset_index(drop=True)


def _undo(kinds: list[_Keys], links: Sequence[Link], events: np.ndarray) -> None:
    for keys in kinds:
        names = {normal(keys.kind, key) for kind, key in links if kind == keys.kind}
        keys.undone = np.array([text in names for text in keys.texts], dtype=bool)
    apart = np.isin(events, [key for kind, key in links if kind == EVENT])
    for keys in kinds if apart.any() else ():
        has = apart & (keys.rows_of(~keys.undone) >= 0)
        for weaker in kinds[kinds.index(keys) + 1 :]:
            weaker.codes = np.where(has, -1, weaker.codes)
        apart &= ~has


def read_decisions(path: str | Path) -> tuple[Link, ...]:
    """The links that somebody undid: a YAML or JSON list of `{undo: [kind, key], who, why, time}`.

    Raises:
        ParamsError: The file is not there, or holds something else.
    """
    path = Path(path)
    try:
        held = yaml.safe_load(path.read_text(encoding="utf-8")) or []
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ParamsError(f"{path} cannot be read as decisions on identities: {error}.") from None
    for item in held if isinstance(held, list) else [held]:
        link = item.get("undo") if isinstance(item, dict) else None
        if not (isinstance(link, list) and len(link) == 2 and item.get("who") and item.get("why")):
            raise ParamsError(f"{path.name}: {item!r} is no decision; write {{undo: [kind, key], who: ..., why: ...}}.")
        if link[0] not in (*KINDS, EVENT):
            raise ParamsError(f"{path.name}: {unknown('Kind', str(link[0]), (*KINDS, EVENT), where='one of a link')}")
    return tuple((str(item["undo"][0]), str(item["undo"][1])) for item in held)


def undo(path: str | Path, link: Link, *, why: str) -> None:
    """Adds a decision to the file; to take it back, remove it there.

    Raises:
        ParamsError: No reason is given, the kind is not known, or the file holds something else.
    """
    path = Path(path)
    held = yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() and read_decisions(path) else []
    if not why.strip():
        raise ParamsError(f"why == {why!r}, must say why {link[0]} {link[1]!r} joins nobody.")
    if link[0] not in (*KINDS, EVENT):
        raise ParamsError(unknown("Kind", link[0], (*KINDS, EVENT), where="one of a link"))
    now = datetime.now(UTC).isoformat(timespec="seconds")
    held.append({"undo": list(link), "who": acting_person(), "why": why, "time": now})
    part = path.with_name(f".{path.name}.part")
    part.write_text(yaml.safe_dump(held, sort_keys=False, allow_unicode=True), encoding="utf-8")
    part.replace(path)
