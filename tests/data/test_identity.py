from __future__ import annotations

import hmac
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxlab.data.identity import (
    KINDS,
    Caps,
    Link,
    normal,
    pseudonym,
    pseudonymise,
    read_decisions,
    resolve,
    secret_key,
    undo,
)
from cxlab.errors import DataError, ParamsError

KEY = b"k" * 32


def events(*rows: dict[str, str | None]) -> pd.DataFrame:
    """One event a row of keys, an hour after the other."""
    frame = pd.DataFrame([dict.fromkeys(KINDS) | row for row in rows], columns=list(KINDS)).astype("string")
    frame.insert(0, "event_id", [f"e{i:03d}" for i in range(len(rows))])
    start = pd.Timestamp("2026-01-01", tz="UTC")
    times = [start + pd.Timedelta(hours=i) for i in range(len(rows))]
    return frame.assign(occurred_at=pd.Series(times, dtype="datetime64[us, UTC]"))


@st.composite
def some_events(draw: st.DrawFn) -> pd.DataFrame:
    """Few keys of each kind, so that much is shared and joined."""
    key = {kind: st.none() | st.sampled_from([f"{kind[0]}{i}1" for i in range(1, 9)]) for kind in KINDS}
    return events(*draw(st.lists(st.fixed_dictionaries(key), min_size=1, max_size=30)))


CAPS = st.builds(Caps, linked=st.integers(1, 4), keys=st.integers(1, 4))
LINKS = st.lists(st.sampled_from([("device", "d11"), ("email", "e21"), ("customer_id", "c31"), ("event", "e003")]))


@given(some_events(), CAPS, LINKS, st.randoms())
def test_the_order_of_rows_changes_nothing(frame: pd.DataFrame, caps: Caps, links: list[Link], random) -> None:
    rows = list(range(len(frame)))
    random.shuffle(rows)
    one, other = (resolve(item, caps=caps, without=links) for item in (frame, frame.iloc[rows]))
    assert other.customer_of.sort_index().equals(one.customer_of.sort_index())
    pd.testing.assert_frame_equal(one.merges(), other.merges())
    pd.testing.assert_frame_equal(one.flagged(), other.flagged())
    pd.testing.assert_frame_equal(one.frame(), other.frame())


@given(some_events(), CAPS, LINKS, st.booleans())
def test_resolving_twice_is_resolving_once(frame: pd.DataFrame, caps: Caps, links: list[Link], hidden: bool) -> None:
    if hidden:
        frame = pseudonymise(frame, key=KEY)
    once = resolve(frame, caps=caps, without=links)
    twice = resolve(once.apply(frame), caps=caps, without=links)
    assert twice.customer_of.equals(once.customer_of)


@given(some_events())
def test_without_caps_customers_are_what_a_walk_along_the_keys_finds(frame: pd.DataFrame) -> None:
    found = resolve(frame, caps=Caps(linked=999, device=999)).customer_of
    groups: list[set[tuple[str, str]]] = []
    sets = [
        {(kind, normal(kind, row[kind])) for kind in KINDS if pd.notna(row[kind])} for row in frame.to_dict("records")
    ]
    for keys in sets:
        joined = [group for group in groups if group & keys]
        groups = [group for group in groups if not group & keys] + [keys.union(*joined)]
    for row, keys in enumerate(sets):
        group = next((group for group in groups if group & keys), None)
        if group is None:
            assert pd.isna(found.iloc[row])
        else:
            kind, key = min(group, key=lambda item: (KINDS.index(item[0]), item[1]))
            assert found.iloc[row] == (key if kind == "customer_id" else f"{kind}:{key}")


@given(some_events(), CAPS)
def test_merges_account_for_every_customer_that_is_gone(frame: pd.DataFrame, caps: Caps) -> None:
    who = resolve(frame, caps=caps)
    merges = who.merges()
    assert merges["joined"].is_unique
    assert not set(merges["joined"]) & set(who.customer_of.dropna())
    assert set(merges["customer"]) <= set(who.customer_of.dropna())
    for merge in merges.itertuples():
        row = frame.set_index("event_id").loc[merge.event_id]
        assert normal(merge.kind, row[merge.kind]) == merge.key
        assert (merge.kind, merge.key) in set(who.explain(merge.joined)[["kind", "key"]].itertuples(index=False))
    strongest = frame["customer_id"].dropna().unique()
    assert len(strongest) - merges["joined"].isin(strongest).sum() == who.customer_of.isin(strongest).pipe(
        lambda here: who.customer_of[here].nunique()
    )


@given(some_events(), CAPS)
def test_an_event_without_keys_or_with_keys_of_its_own_changes_nothing(frame: pd.DataFrame, caps: Caps) -> None:
    more = events({}, {"customer_id": "a"}, {"email": "zz@zz.zz", "device": "b77"}, {"device": "n/a", "email": " "})
    more["event_id"] = ["m1", "m2", "m3", "m4"]
    before = resolve(frame, caps=caps).customer_of
    after = resolve(pd.concat([more, frame], ignore_index=True), caps=caps).customer_of
    assert after[before.index].equals(before)
    assert after[["m1", "m4"]].isna().all()


@given(some_events())
def test_a_merge_keeps_one_of_the_two_ids(frame: pd.DataFrame) -> None:
    before = resolve(frame, caps=Caps(linked=99, device=99)).customer_of
    known = frame[before.notna().to_numpy() & frame[list(KINDS[:4])].notna().any(axis=1)]
    first, *others = known.assign(customer=before[known["event_id"]].array).drop_duplicates("customer").index[
        :3
    ].tolist() or [0]
    for other in others:
        link = frame.loc[[first, other]].assign(event_id=["l1", "l2"], device="link")
        linked = pd.concat([frame, link], ignore_index=True)
        after = resolve(linked, caps=Caps(linked=99, device=99)).customer_of
        ids = before.loc[frame.loc[[first, other], "event_id"]].tolist()
        [kept] = set(after[before.index[before.isin(ids)]])
        assert kept in ids
        apart = resolve(linked, caps=Caps(linked=99, device=99), without=[("device", "link")]).customer_of
        assert apart[before.index].equals(before)


FAMILY = [
    {"customer_id": "c2", "email": "Ada@X.org "},
    {"email": "ada@x.ORG", "device": "d17"},
    {"customer_id": "c1", "device": "d17"},
    {"device": "d17"},
]


HOME = Caps(device=3)


def test_a_device_tells_who_uses_it_alone_and_joins_no_household() -> None:
    alone = events({"customer_id": "c1", "device": "d"}, {"device": "d"})
    assert resolve(alone).customer_of.tolist() == ["c1", "c1"]
    shared = events({"customer_id": "c1", "device": "d"}, {"customer_id": "c2", "device": "d"}, {"device": "d"})
    found = resolve(shared).customer_of
    assert found.tolist()[:2] == ["c1", "c2"]
    assert pd.isna(found.iloc[2])
    assert resolve(shared, caps=HOME).customer_of.tolist() == ["c1"] * 3


def test_every_merge_says_through_what() -> None:
    who = resolve(events(*FAMILY), caps=HOME)
    assert who.customer_of.tolist() == ["c1"] * 4
    [merge] = who.merges().to_dict("records")
    told = [merge[name] for name in ("customer", "kind", "key", "kept", "joined", "event_id")]
    assert told == ["c1", "device", "d17", "c1", "c2", "e002"]
    for name in ("c1", "c2"):
        explained = who.explain(name)
        assert explained["key"].tolist() == ["c1", "c2", "ada@x.org", "d17"]
        assert explained["joined"].tolist() == ["", "", "", "c2 to c1"]
        assert explained["event_id"].tolist() == ["e002", "e000", "e000", "e001"]
    assert "c2 to c1" in who.explain("c1")._repr_html_()
    assert "device" in who._repr_html_()
    assert who.plot().get_title(loc="left") == "Keys a customer"
    with pytest.raises(ParamsError, match="'c9' is not among the 1 resolved"):
        who.explain("c9")


def test_undoing_a_link_separates_whom_it_joined_unless_another_joins_them() -> None:
    apart = resolve(events(*FAMILY), without=[("device", " d17 ")])
    assert apart.customer_of.tolist()[:3] == ["c2", "c2", "c1"]
    assert pd.isna(apart.customer_of.iloc[3])
    assert apart.frame().set_index("kind").loc["device", "undone"] == 1
    both = resolve(events(*FAMILY, {"customer_id": "c1", "email": "ada@x.org"}), without=[("device", "d17")])
    assert both.customer_of.tolist()[:3] == ["c1"] * 3
    one = resolve(events(*FAMILY), without=[("event", "e001")])  # its own device no longer joins its e-mail
    assert one.customer_of.tolist() == ["c2", "c2", "c1", "c1"]


@pytest.mark.parametrize("kind", ["account", "email", "phone", "device"])
def test_a_key_of_many_is_shared_and_joins_nobody(kind: str) -> None:
    rows = [{"customer_id": f"c{i}", kind: "12345"} for i in range(4)]
    who = resolve(events(*rows, {kind: "12345"}))
    assert who.customer_of.tolist()[:4] == ["c0", "c1", "c2", "c3"]
    assert pd.isna(who.customer_of.iloc[4])
    limit = 1 if kind == "device" else 3
    [flag] = who.flagged().to_dict("records")
    assert (flag["what"], flag["kind"], flag["key"], flag["n"], flag["limit"]) == ("shared", kind, "12345", 4, limit)
    assert who.explain("c0")["status"].tolist() == ["used", "shared"]
    assert resolve(events(*rows[:limit])).customer_of.nunique() == 1


def test_what_only_aliases_tell_apart_counts_as_well() -> None:
    rows = [{"email": f"m{i}@x.org", "phone": "0800123"} for i in range(9)]
    assert resolve(events(*rows)).flagged()["n"].tolist() == [9]


def test_a_shared_key_joins_again_once_it_links_few() -> None:
    rows = [{"customer_id": f"c{i}", "phone": "12345"} for i in range(4)]
    who = resolve(events(*rows, {"customer_id": "c0", "email": "d@x.org"}, {"customer_id": "c1", "email": "d@x.org"}))
    assert who.customer_of.nunique() == 1
    assert who.flagged().empty


def test_a_customer_too_large_to_believe_is_flagged() -> None:
    who = resolve(events(*[{"customer_id": "walk-in", "email": f"m{i}@x.org"} for i in range(21)]))
    [flag] = who.flagged().to_dict("records")
    assert (flag["what"], flag["kind"], flag["customer"], flag["n"]) == ("giant", "email", "walk-in", 21)
    assert "undo a link" in flag["reason"]


@pytest.mark.parametrize(
    "text", ["", " ", "unknown", "N/A", "0", "000-000", "None@none", "none@none.com", "+", "-", "?"]
)
def test_placeholders_are_no_keys_and_counted(text: str) -> None:
    for kind in KINDS:
        assert normal(kind, text) is None
    frame = events({"email": text}, {"email": text, "customer_id": "c1"}, {"customer_id": "c2", "email": text})
    assert resolve(frame).customer_of.tolist()[1:] == ["c1", "c2"]
    hidden = pseudonymise(frame, key=KEY)
    for item in (frame, hidden):
        assert resolve(item).frame().set_index("kind").loc["email", "placeholders"] == 3
    assert hidden["email"].isna().all()


@pytest.mark.parametrize(
    ("kind", "text", "form"),
    [
        ("email", "  STRASSE@X.de", "strasse@x.de"),
        ("email", "straße@x.de", "strasse@x.de"),
        ("phone", "+49 (30) 12-34", "+49301234"),
        ("phone", "0049 30 1234", "+49301234"),
        ("phone", "(030) 1234", "0301234"),
        ("phone", "٠٣٠١٢٣٤", "0301234"),
        ("phone", "999999999", None),
        ("device", " D17 ", "D17"),
        ("account", 17.0, "17"),
        ("account", 2**60 + 1, "1152921504606846977"),
        ("device", "00000000-0000-0000-0000-000000000000", None),
        ("device", None, None),
    ],
)
def test_normal_forms(kind: str, text: object, form: str | None) -> None:
    assert normal(kind, text) == form
    assert form is None or normal(kind, form) == form


@given(st.text(), st.sampled_from(KINDS))
def test_one_identifier_has_one_pseudonym_a_key_and_kind(text: str, kind: str) -> None:
    name = pseudonym(kind, text, KEY)
    if name is None:
        return
    assert name == pseudonym(kind, f" {text}\t", KEY) == pseudonym(kind, name, KEY)
    assert name != pseudonym(kind, text, b"l" * 32)
    others = {pseudonym(other, text, KEY) for other in KINDS if other != kind}
    assert name not in others
    content = f"{kind}\0{normal(kind, text)}".encode(errors="surrogatepass")
    assert name[2:] == hmac.new(KEY, content, "sha256").hexdigest()[:32]


@given(some_events(), CAPS)
def test_pseudonyms_join_whom_identifiers_join(frame: pd.DataFrame, caps: Caps) -> None:
    raw = resolve(frame, caps=caps).customer_of
    hidden = pseudonymise(frame, key=KEY)
    found = resolve(hidden, caps=caps).customer_of
    assert (pd.factorize(raw)[0] == pd.factorize(found)[0]).all()
    pd.testing.assert_frame_equal(pseudonymise(hidden, key=KEY), hidden)
    names = set(hidden["customer_id"].dropna()) | set(found.dropna())
    assert all(len(name) == 34 for name in names)


def test_the_key_is_made_once_for_its_owner_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "notebooks").mkdir()
    monkeypatch.setenv("CXLAB_HOME", str(tmp_path))
    for name in ("CXLAB_PSEUDONYM_KEY", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    key = secret_key()
    path = tmp_path / "mlruns" / "pseudonym.key"
    assert (len(key), path.read_bytes(), path.stat().st_mode & 0o777) == (32, key, 0o600)
    assert secret_key() == key
    assert [item.name for item in path.parent.iterdir()] == [path.name]
    monkeypatch.setenv("CXLAB_PSEUDONYM_KEY", str(tmp_path / "other"))
    with pytest.raises(ParamsError, match="CXLAB_PSEUDONYM_KEY"):
        secret_key()
    (tmp_path / "other").write_bytes(b"short")
    with pytest.raises(ParamsError, match="5 bytes, must have >= 16"):
        secret_key()
    (tmp_path / "other").write_bytes(KEY)
    assert secret_key() == KEY


def test_decisions_say_who_and_why(tmp_path: Path) -> None:
    path = tmp_path / "identity.yaml"
    undo(path, ("device", "d17"), why="a tablet in the shop")
    undo(path, ("event", "e001"), why="mistyped")
    assert read_decisions(path) == (("device", "d17"), ("event", "e001"))
    assert "who: tester" in path.read_text()
    with pytest.raises(ParamsError, match="Did you mean 'device'"):
        undo(path, ("devise", "d17"), why="x")
    with pytest.raises(ParamsError, match="must say why"):
        undo(path, ("device", "d17"), why=" ")
    (tmp_path / "a.json").write_text('[{"undo": ["email", "x@y.z"], "who": "ada", "why": "his"}]')
    assert read_decisions(tmp_path / "a.json") == (("email", "x@y.z"),)
    for text in ("undo: x", "- {undo: [device, d]}", "- {undo: [plan, d], who: a, why: b}", "[", "- 1"):
        path.write_text(text)
        with pytest.raises(ParamsError, match=r"identity\.yaml"):
            read_decisions(path)


def test_wrong_input_is_named() -> None:
    frame = events(*FAMILY)
    with pytest.raises(DataError, match="Column 'event_id'"):
        resolve(frame.drop(columns="event_id"))
    with pytest.raises(DataError, match="Column 'customer_id'"):
        resolve(frame[["event_id"]])
    with pytest.raises(DataError, match="2 events have an event_id that is missing or not the first"):
        resolve(frame.assign(event_id=["a", "a", "b", None]))
    with pytest.raises(ParamsError, match="Kind 'plan'"):
        resolve(frame, without=[("plan", "x")])
    with pytest.raises(ParamsError, match="must be >= 1"):
        Caps(linked=0, device=0)
    with pytest.raises(DataError, match="Event 'new' was not resolved"):
        resolve(frame).apply(frame.assign(event_id=["new", "e001", "e002", "e003"]))
    assert resolve(frame, caps=HOME).apply(frame.iloc[::-1])["customer_id"].tolist() == ["c1"] * 4
    assert resolve(frame.iloc[:0]).customer_of.empty


def world(seed: int, people: int = 1500) -> tuple[pd.DataFrame, np.ndarray]:
    """Persons with one to three accounts, addresses and devices; shop tablets, call-centre phones, and mess."""
    rng = np.random.default_rng(seed)
    n = people * 12
    who = rng.integers(0, people, n)
    accounts, addresses, devices = (
        1 + rng.choice(3, people, p=p) for p in ([0.85, 0.12, 0.03], [0.7, 0.2, 0.1], [0.4, 0.4, 0.2])
    )

    def own(prefix: str, many: np.ndarray, share: float, end: str = "") -> np.ndarray:
        which = (rng.random(n) * many[who]).astype(int)
        values = np.array([f"{prefix}{w}x{k}{end}" for w, k in zip(who, which, strict=True)], dtype=object)
        values[rng.random(n) > share] = None
        return values

    frame = pd.DataFrame(
        {
            "event_id": [f"e{i}" for i in range(n)],
            "customer_id": own("c", accounts, 0.5),
            "email": own("m", addresses, 0.5, "@x.org"),
            "phone": np.where(rng.random(n) < 0.3, np.array([f"+49{10**7 + w}" for w in who], dtype=object), None),
            "device": own("d", devices, 0.6),
        }
    )
    loud = rng.random(n) < 0.3
    frame.loc[loud, "email"] = frame.loc[loud, "email"].str.upper() + " "
    for tablet in range(5):
        frame.loc[rng.random(n) < 0.005, "device"] = f"tablet{tablet}"
    frame.loc[rng.random(n) < 0.02, "phone"] = "0800 555"
    frame.loc[rng.random(n) < 0.02, "email"] = "none@none.com"
    frame["occurred_at"] = pd.Timestamp("2026-01-01", tz="UTC") + pd.to_timedelta(rng.integers(0, 10**7, n), unit="s")
    keyed = frame[["customer_id", "email", "phone", "device"]].notna().any(axis=1).to_numpy()
    return frame[keyed].reset_index(drop=True), who[keyed]


def pairs(labels: np.ndarray) -> float:
    count = np.unique(labels, return_counts=True)[1].astype(float)
    return float((count * (count - 1) / 2).sum())


def scored(seed: int) -> tuple[float, float]:
    """Precision and recall over pairs of events."""
    frame, truth = world(seed)
    found = pd.factorize(resolve(pseudonymise(frame, key=KEY)).customer_of)[0]
    found = np.where(found < 0, len(frame) + np.arange(len(frame)), found)  # each of the unknown for itself
    both = pairs(truth.astype(np.int64) * (2 * len(frame)) + found)
    return both / pairs(found), both / pairs(truth)


@pytest.mark.parametrize("seed", range(3))
def test_planted_persons_are_found(seed: int) -> None:
    precision, recall = scored(seed)
    assert precision == 1.0
    assert recall > 0.9
