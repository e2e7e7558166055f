"""The ledger of a model: who did what to which version, when and why; entries are added, never changed.

It lives in the tracking store, so that everyone on a server reads one history: an experiment `ledger of <model>`
with one run, whose parameter `000003` is the third entry, as canonical JSON. One row decides. The database's
primary key of parameters is (run, key), and MLflow refuses another value for one that is there: of two writers
of entry 3 one wins, the other reads anew and tries entry 4; a random word makes every offer another value.

Each entry carries the hash of the one before. Witnesses, tags on the registered model and its versions, name the
newest entry; one that lags is right. So an edit, a gap, another order and a missing tail are seen. What an
unsigned chain cannot show: whoever can write to the database can rewrite the whole chain together with all its
witnesses, and no reader will know. And `who` is a claim (`CXLAB_USER`), not a proof.

What was tried on customers has a ledger of its own, `of_experiment(NAME)` in the place of a model: its entries are
about plans instead of versions, and its one witness is a tag on the ledger's own experiment in MLflow.
"""

from __future__ import annotations

import json
import random
import re
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar

import pandas as pd

from cxlab.digest import canonical, sha256
from cxlab.display import PALETTE, Result, as_html, axes
from cxlab.errors import ParamsError, StoreError, listed, unknown
from cxlab.places import acting_person
from cxlab.tracking.store import artifact_root, store

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from mlflow import MlflowClient

GENESIS = "0" * 64  # `previous` of the first entry
HEAD = "cxlab.ledger.head"  # a witness: the number and hash of an entry, as "3:<hash>"
OF_MODEL = "cxlab.ledger"  # the experiment's tag: whose ledger it is
OF_EXPERIMENT = "experiment: "  # before its name; no model can be called so, for MLflow refuses the colon
KINDS = (
    *("registered", "gated", "waived", "approved", "rejected", "exported", "rolled_back"),
    *("planned", "looked", "decided"),  # of experiments
)
LONGEST_REASON, LONGEST_ENTRY = 2000, 6000  # characters; MLflow cuts longer parameters without a word
TRIES, LOCKED_TRIES = 50, 10
UNREADABLE = (ValueError, TypeError, OverflowError, RecursionError)  # what comes of JSON that is no entry
WAIT = 10.0  # seconds for whoever made the experiment to make its run
THE_MODEL = "The registered model"
THE_EXPERIMENT = "The experiment in MLflow"


@dataclass(frozen=True)
class Draft:
    """What is to be added. `approved` has the gates `waived`; `rolled_back` the version left, as `from`."""

    what: str
    version: str
    reason: str
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Entry:
    """One line of a ledger, numbered from 1; `hash` is the SHA-256 of the canonical JSON of all the rest."""

    n: int
    time: str  # UTC, never before the previous entry's, like 2026-11-22T08:00:00.123456Z
    who: str
    what: str
    version: str
    reason: str
    facts: dict[str, Any]
    previous: str
    hash: str
    nonce: str = ""  # random, so that no two writers offer the same entry


@dataclass(frozen=True, repr=False)
class Ledger(Result):
    """A model's history: its entries, and what is wrong with their chain, in words (nothing if it is whole)."""

    model: str
    entries: tuple[Entry, ...] = ()
    problems: tuple[str, ...] = ()

    title: ClassVar[str] = "Ledger"
    note: ClassVar[str] = "The chain is whole; it is not signed, so who can write to the database could rewrite it."

    @property
    def head(self) -> str:
        """The hash of the newest entry."""
        return self.entries[-1].hash if self.entries else GENESIS

    @property
    def length(self) -> int:
        return len(self.entries)

    def live(self, at: datetime | None = None) -> str | None:
        """The version that was champion at a time (that moment included; UTC if naive), or is now."""
        until = None if at is None else _stamp(at)
        stack, _ = _replay(entry for entry in self.entries if until is None or entry.time <= until)
        return stack[-1] if stack else None

    def approval(self, version: str) -> Entry | None:
        """The approval that stands: none if the version was rejected since, or rolled back from."""
        return _replay(self.entries)[1].get(str(version))

    def before(self) -> str | None:
        """The version that a rollback would bring back; those whose approval does not stand are passed over."""
        stack, approvals = _replay(self.entries)
        return next((item for item in reversed(stack) if item != stack[-1] and item in approvals), None)

    def of(self, version: str) -> tuple[Entry, ...]:
        """The entries about a version."""
        return tuple(entry for entry in self.entries if entry.version == str(version))

    def waivers(self) -> tuple[int, int]:
        """How many approvals there are, and how many of them waived a gate."""
        approved = [entry for entry in self.entries if entry.what == "approved"]
        return len(approved), sum(bool(entry.facts.get("waived")) for entry in approved)

    def frame(self) -> pd.DataFrame:
        columns = ["n", "time", "who", "what", "version", "reason", "hash", "previous"]
        return pd.DataFrame([asdict(entry) for entry in self.entries], columns=columns)

    def plot(self) -> Axes:
        """Which version was live, over time."""
        live = [_replay(self.entries[: n + 1])[0][-1:] for n in range(self.length)]
        names = sorted({name for item in live for name in item}, key=lambda name: (len(name), name))
        ax = axes(f"Which version of {self.model} was live")
        moments: list[Any] = [datetime.fromisoformat(entry.time) for entry in self.entries]
        heights = [names.index(item[0]) if item else float("nan") for item in live]
        ax.step(moments, heights, "o-", where="post", color=PALETTE[0])
        ax.set_yticks(range(len(names)), [f"version {name}" for name in names])
        ax.tick_params(axis="x", rotation=30)
        return ax

    def _repr_html_(self) -> str:
        return as_html(self.title, self.frame(), " ".join(self.problems) or self.note)


def of_experiment(name: str) -> str:
    """What stands in the place of a model where the ledger is that of an experiment with customers."""
    return OF_EXPERIMENT + name


def read_ledger(model: str) -> Ledger:
    """A model's ledger, verified; empty where nothing was added yet. If it is broken, its `problems` say how."""
    with store() as client:
        return _read(client, model)[0]


def append(model: str, draft: Callable[[Ledger], Draft], *, who: str | None = None) -> Ledger:
    """Adds the entry that `draft` makes of the ledger, which is asked anew where another was added meanwhile.

    Returns:
        The ledger whose last entry is the new one.
    Raises:
        ParamsError: There is no such version, or the draft does not fit. What `draft` raises passes through.
        StoreError: The ledger is broken, or the store cannot be written.
    """
    with store() as client:
        for _ in range(TRIES):
            ledger, run_id, versions = _read(client, model)
            if ledger.problems:
                said = " ".join(ledger.problems)
                raise StoreError(f"The ledger of {model} is broken; restore it from a backup to go on. {said}")
            entry, text = _written(ledger, draft(ledger), who or acting_person())
            if entry.version not in versions and not _is_experiment(model):
                known = listed(versions) or "none yet; train one: cxlab run churn"
                raise ParamsError(f"Model {model!r} has no version {entry.version!r}. Versions: {known}.")
            run_id = run_id or _open(client, model)
            if entry.n == 1:
                _remember(client, model, 0, GENESIS)  # so that a ledger with entries always has a witness
            if _won(client, run_id, f"{entry.n:06d}", text):
                if not _is_experiment(model):
                    _patiently(client.set_model_version_tag, model, entry.version, HEAD, f"{entry.n}:{entry.hash}")
                _remember(client, model, entry.n, entry.hash)
                return Ledger(model, (*ledger.entries, entry))
            time.sleep(random.uniform(0, 0.05))
    raise StoreError(f"{TRIES} times somebody else added to the ledger of {model} first. Try again.")


def _read(client: MlflowClient, model: str, looks: int = 2) -> tuple[Ledger, str | None, list[str]]:
    """The ledger, its run (None if still to be made), and the model's versions."""
    from mlflow.entities import ViewType

    # The witnesses come before the entries, which may become more meanwhile.
    tags, found = ({}, []) if _is_experiment(model) else _registered(client, model)
    name = f"ledger of {model}"
    held = [item for item in [_patiently(client.get_experiment_by_name, name)] if item is not None]
    if _is_experiment(model):
        tags = {THE_EXPERIMENT: held[0].tags} if held else {}
    witnesses = {holder: own[HEAD] for holder, own in tags.items() if HEAD in own}
    holder = THE_EXPERIMENT if _is_experiment(model) else THE_MODEL
    how = {"run_view_type": ViewType.ALL, "order_by": ["attributes.start_time ASC"]}
    runs = _patiently(client.search_runs, [item.experiment_id for item in held], **how) if held else []
    entries, problems = _verify(runs[0].data.params if runs else {}, witnesses)
    deleted = any(item.lifecycle_stage == "deleted" for item in [*held, *[run.info for run in runs]])
    foreign = any(item.tags.get(OF_MODEL) != model for item in held)
    cases = [
        (deleted, f"Experiment {name!r} or its run is deleted in MLflow; restore it there."),
        (foreign, f"Experiment {name!r} is no ledger of ours: its tag {OF_MODEL} is not {model!r}."),
        (len(runs) > 1, f"Experiment {name!r} has {len(runs)} runs, must have one; the oldest was read."),
        (witnesses and not runs, f"The ledger is gone: there is no run in experiment {name!r}, but witnesses remain."),
        (entries and holder not in witnesses, f"{holder} is gone or lost its tag {HEAD}, the ledger's witness."),
    ]
    said = (*[text for wrong, text in cases if wrong], *problems)
    if said and looks > 1:  # a first entry and its witness may have come between our two looks
        return _read(client, model, looks - 1)
    return Ledger(model, entries, said), runs[0].info.run_id if runs else None, [str(item.version) for item in found]


def _is_experiment(model: str) -> bool:
    return model.startswith(OF_EXPERIMENT)


def _registered(client: MlflowClient, model: str) -> tuple[dict[str, Any], list[Any]]:
    """The tags of the registered model and of its versions, by what holds them; and the versions in order."""
    registered = _patiently(client.get_registered_model, model, none_if="RESOURCE_DOES_NOT_EXIST")
    clause = None if re.search(r"['\\]", model) else f"name='{model}'"  # MLflow cannot escape within quotes
    found = [item for item in _patiently(client.search_model_versions, clause) if item.name == model]
    found.sort(key=lambda item: int(item.version))
    tags = {THE_MODEL: registered.tags} if registered else {}
    return tags | {f"Version {item.version}": item.tags for item in found}, found


def _verify(raw: Mapping[str, str], witnesses: Mapping[str, str]) -> tuple[tuple[Entry, ...], tuple[str, ...]]:
    """The entries that can be read, and what is wrong, given the stored values by key and the witnesses."""
    keys = {int(key): key for key in raw if re.fullmatch(r"[0-9]{6}|[1-9][0-9]{6,17}", key) and int(key)}
    said = [f"Parameter {key!r} is no entry of a ledger." for key in sorted(set(raw) - set(keys.values()))]
    entries: dict[int, Entry] = {}
    last = 0
    for n, key in sorted(keys.items()):
        if n > last + 1:
            which = f"Entry {n - 1} is" if n == last + 2 else f"Entries {last + 1} to {n - 1} are"
            said.append(f"{which} missing.")
        last = n
        try:
            entry = entries[n] = Entry(**json.loads(raw[key]))
            said += [f"Entry {n} {fault}" for fault in _faults(n, entry, raw[key], entries.get(n - 1))]
        except UNREADABLE:
            entries.pop(n, None)
            said.append(f"Entry {n} was edited: it cannot be read as an entry.")
    for holder, witness in witnesses.items():
        number, _, digest = witness.partition(":")
        if not re.fullmatch(r"(0|[1-9][0-9]{0,17}):[0-9a-f]{64}", witness):
            said.append(f"{holder} has a tag {HEAD} that is no witness: {witness[:80]!r}.")
        elif int(number) > last:
            said.append(f"{holder} remembers entry {number}, but the ledger ends at {last}: its end was removed.")
        elif digest != (GENESIS if number == "0" else getattr(entries.get(int(number)), "hash", None)):
            said.append(f"{holder} remembers another entry {number}: the ledger was rewritten.")
    return tuple(entry for _, entry in sorted(entries.items())), tuple(said)


def _faults(n: int, entry: Entry, text: str, before: Entry | None) -> list[str]:
    """What is wrong with an entry, given the one before if that is there; one of `UNREADABLE` if it is no entry."""
    fits = [type(value) for value in vars(entry).values()] == [int, *[str] * 5, dict, *[str] * 3]
    if not fits or _stamp(datetime.fromisoformat(entry.time)) != entry.time:
        raise TypeError(text)
    whole = entry.hash == _digest(entry)
    linked = entry.previous == (before.hash if before else GENESIS) or (n > 1 and not before)
    cases = [
        (not whole, "was edited: its hash does not match its content."),
        (whole and text != canonical(asdict(entry)).decode(), "was edited: it is not written as the ledger writes."),
        (entry.n != n, f"says that it is entry {entry.n}: the entries were renumbered or reordered."),
        (not linked, f"does not follow entry {n - 1}: it names another hash as the previous one."),
        (before and entry.time < before.time, f"is dated before entry {n - 1}: time runs backwards."),
        (entry.what not in KINDS, f"says that {entry.what!r} was done, must be one of {', '.join(KINDS)}."),
    ]
    return [text for wrong, text in cases if wrong]


def _written(ledger: Ledger, draft: Draft, who: str) -> tuple[Entry, str]:
    """The next entry, and its JSON."""
    if draft.what not in KINDS:
        raise ParamsError(unknown("Kind", draft.what, KINDS))
    now = max([_stamp(datetime.now(UTC)), *[entry.time for entry in ledger.entries[-1:]]])
    try:
        facts = json.loads(canonical(draft.facts))
        fixed = (ledger.length + 1, now, who, draft.what, str(draft.version), draft.reason, facts, ledger.head)
        nonce = secrets.token_hex(8)
        entry = Entry(*fixed, hash=_digest(Entry(*fixed, hash="", nonce=nonce)), nonce=nonce)
        text = canonical(asdict(entry)).decode()
    except UNREADABLE as error:
        raise ParamsError(f"facts == {str(draft.facts)[:60]}, must be plain JSON in UTF-8: {error}.") from None
    for what, size, most in [("reason", len(draft.reason), LONGEST_REASON), ("entry", len(text), LONGEST_ENTRY)]:
        if size > most:
            raise ParamsError(
                f"The {what} has {size} characters, must have at most {most}. Shorten it; name a document."
            )
    return entry, text


def _won(client: MlflowClient, run_id: str, key: str, text: str) -> bool:
    """Offers an entry. The row that is there afterwards decides, not the answer we got."""
    _patiently(client.log_param, run_id, key, text, none_if="INVALID_PARAMETER_VALUE")  # as the loser is told
    stored = _patiently(client.get_run, run_id).data.params.get(key)
    if stored is None:
        raise StoreError(f"The store did not keep entry {key} of run {run_id}. Is that run deleted? Restore it.")
    return bool(stored == text)


def _open(client: MlflowClient, model: str) -> str:
    """Makes the ledger's experiment and run, or waits for the run of whoever made the experiment first."""
    name = f"ledger of {model}"
    options = {"artifact_location": artifact_root(name), "tags": {OF_MODEL: model}}
    made = _patiently(client.create_experiment, name, none_if="RESOURCE_ALREADY_EXISTS", **options)
    if made is not None:
        run_id = str(_patiently(client.create_run, made, tags={"mlflow.runName": name}).info.run_id)
        _patiently(client.update_run, run_id, "FINISHED")  # set_terminated would print
        return run_id
    for _ in range(100):
        time.sleep(WAIT / 100)
        if (found := _read(client, model)[1]) is not None:
            return found
    remedy = "Rename that empty experiment in MLflow (mlflow experiments rename), and try again."
    raise StoreError(f"Experiment {name!r} has no run after {WAIT:g} s: whoever made it was stopped. {remedy}")


def _remember(client: MlflowClient, model: str, n: int, digest: str) -> None:
    """Leaves the witness on the registered model, or the experiment, unless it remembers a later entry already."""
    if _is_experiment(model):
        holder = _patiently(client.get_experiment_by_name, f"ledger of {model}")
        put, key = client.set_experiment_tag, holder.experiment_id
    else:
        holder = _patiently(client.get_registered_model, model)
        put, key = client.set_registered_model_tag, model
    held = holder.tags.get(HEAD, "").partition(":")[0]
    if not held.isdecimal() or int(held) < n:
        _patiently(put, key, HEAD, f"{n}:{digest}")


def _patiently(call: Callable[..., Any], *args: Any, none_if: str = "", **options: Any) -> Any:
    """Calls again while another writer is in the way; None for the one MLflow error that is an answer."""
    from mlflow.exceptions import MlflowException

    for left in reversed(range(LOCKED_TRIES)):
        try:
            return call(*args, **options)
        except MlflowException as error:
            if error.error_code == none_if:
                return None
            # BAD_REQUEST: two writers made a row that neither had seen, a tag's for example.
            if not left or not ("database is locked" in str(error) or error.error_code == "BAD_REQUEST"):
                raise
        time.sleep(random.uniform(0.02, 0.2))
    return None


def _replay(entries: Iterable[Entry]) -> tuple[list[str], dict[str, Entry]]:
    """The versions that were live, the present one last, and the approvals that stand."""
    stack: list[str] = []
    approvals: dict[str, Entry] = {}
    for entry in entries:
        version = entry.version
        if entry.what == "approved":
            approvals[version] = entry
            stack += [version] if stack[-1:] != [version] else []
        elif entry.what == "rejected":
            approvals.pop(version, None)
        elif entry.what == "rolled_back":
            approvals.pop(str(entry.facts.get("from")), None)
            below = [n for n, item in enumerate(stack[:-1], 1) if item == version]
            stack = stack[: below[-1]] if below else [version]
    return stack, approvals


def _digest(entry: Entry) -> str:
    rest = {key: value for key, value in asdict(entry).items() if key != "hash"}
    return sha256(canonical(rest))


def _stamp(moment: datetime) -> str:
    """2026-11-22T08:00:00.123456Z; a naive time is taken as UTC."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return aware.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
