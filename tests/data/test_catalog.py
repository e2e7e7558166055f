"""The catalogue's law: what `get` leaves on disk has the published bytes, or nothing is left."""

from __future__ import annotations

import functools
import io
import os
import re
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

from cxlab.data import catalog
from cxlab.data.catalog import Catalogue, Entry, File
from cxlab.data.table import read_table
from cxlab.errors import DataError, ParamsError
from cxlab.params import DataParams

CONTENT = b"a,b\n1,2\n"
GOOD = sha256(CONTENT).hexdigest()


def zipped(*path: str, content: bytes = CONTENT) -> bytes:
    """Content in zips in zips, outermost name first."""
    for name in reversed(path):
        held = io.BytesIO()
        with zipfile.ZipFile(held, "w") as archive:
            archive.writestr(name, content)
        content = held.getvalue()
    return content


class Server(ThreadingHTTPServer):
    """Serves the bytes in `pages` on loopback and counts what is asked."""

    daemon_threads = True

    def __init__(self) -> None:
        self.pages: dict[str, bytes] = {}
        self.asked: list[str] = []
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        content = self.server.pages.get(self.path)
        self.send_response(404 if content is None else 200)
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()
        self.wfile.write(content or b"")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as running:
        thread = threading.Thread(target=functools.partial(running.serve_forever, poll_interval=0.01))
        thread.start()
        yield running
        running.shutdown()
        thread.join(timeout=5)


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for what is fetched, and no mirror."""
    monkeypatch.setenv("CXLAB_DATA", str(tmp_path / "kept"))
    monkeypatch.delenv("CXLAB_DATA_MIRROR", raising=False)
    return tmp_path / "kept"


@pytest.fixture
def toy(server: Server, kept: Path, monkeypatch: pytest.MonkeyPatch) -> Entry:
    """One data set of one file, published by the server at /public."""
    made = Entry(
        "toy", "A toy", (File("t.csv", f"{server.address}/public", GOOD),), "CC0", 1, "simulated", "", "", ("b",)
    )
    monkeypatch.setattr(catalog, "entries", lambda: (made,))
    return made


def publish(monkeypatch: pytest.MonkeyPatch, entry: Entry, **changes: object) -> None:
    changed = replace(entry, files=(replace(entry.files[0], **changes),))  # type: ignore[arg-type]
    monkeypatch.setattr(catalog, "entries", lambda: (changed,))


def left(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_every_entry_is_whole() -> None:
    wanted = ["ibm_telco", "iranian_churn", "bank_marketing", "banking77"]
    wanted += ["incident_log", "cdnow", "bank_calls", "hillstrom"]
    assert [item.name for item in catalog.entries()] == wanted
    for item in catalog.entries():
        assert item.title and item.licence and item.citation
        assert item.rows > 0
        assert item.kind in ("real", "simulated", "fictional")
        assert item.source.startswith("https://")
        for file in item.files:
            assert re.fullmatch(r"https?://[a-zA-Z.]+/\S+", file.url)
            assert all(re.fullmatch("[0-9a-f]{64}", digest) for _, digest in file.forms)
            assert bool(file.member) == file.url.endswith(".zip")


def test_no_bytes_belong_to_two_data_sets() -> None:
    digests = [digest for item in catalog.entries() for file in item.files for _, digest in file.forms]
    assert len(set(digests)) == len(digests)
    for item in catalog.entries():
        for file in item.files:
            assert all(catalog.by_sha256(digest) == item for _, digest in file.forms)
    assert catalog.by_sha256("0" * 64) is None


def test_what_is_known_only_afterwards() -> None:
    assert catalog.entry("bank_marketing").known_after == ("duration",)
    assert "made_sla" in catalog.entry("incident_log").known_after
    assert catalog.entry("ibm_telco").kind == "fictional"


def test_an_unknown_name_names_the_nearest() -> None:
    for ask in (catalog.entry, catalog.get, catalog.local_path):
        with pytest.raises(ParamsError, match=r"'banking7' is not in the catalogue. Did you mean 'banking77'"):
            ask("banking7")
    with pytest.raises(ParamsError, match=r"File 'tset.csv' is not in data set banking77. Did you mean 'test.csv'"):
        catalog.local_path("banking77/tset.csv")


def test_fetched_once_and_then_found(toy: Entry, server: Server, kept: Path) -> None:
    server.pages["/public"] = CONTENT
    assert catalog.get("toy") == [kept / "toy" / "t.csv"]
    assert catalog.get("toy") == [kept / "toy" / "t.csv"]
    assert server.asked == ["/public"]
    assert left(kept) == [kept / "toy" / "t.csv"]
    assert catalog.local_path("toy") == catalog.local_path("toy/t.csv") == kept / "toy" / "t.csv"


def test_fetched_to_a_folder_of_ones_own(toy: Entry, server: Server, kept: Path, tmp_path: Path) -> None:
    server.pages["/public"] = CONTENT
    assert catalog.get("toy", tmp_path / "mine") == [tmp_path / "mine" / "toy" / "t.csv"]
    assert not kept.exists()


def test_what_is_here_but_changed_is_fetched_again(toy: Entry, server: Server, kept: Path) -> None:
    server.pages["/public"] = CONTENT
    (kept / "toy").mkdir(parents=True)
    (kept / "toy" / "t.csv").write_bytes(b"other")
    with pytest.raises(DataError, match=r"is not what was published. Fetch it: cxlab data get toy"):
        catalog.local_path("toy")
    catalog.get("toy")
    assert catalog.local_path("toy").read_bytes() == CONTENT


def test_what_is_not_here_says_how_to_fetch_it(toy: Entry) -> None:
    with pytest.raises(DataError, match=r"toy is not here yet. Fetch it: cxlab data get toy"):
        catalog.local_path("toy")


@pytest.mark.parametrize("content", [b"", b"other", CONTENT[:-1], CONTENT + b"\n"])
def test_wrong_bytes_are_refused_and_not_kept(toy: Entry, server: Server, kept: Path, content: bytes) -> None:
    server.pages["/public"] = content
    with pytest.raises(DataError, match=f"has SHA-256 {sha256(content).hexdigest()}, must be {GOOD}"):
        catalog.get("toy")
    assert not left(kept)


def test_wrong_bytes_do_not_replace_what_is_here(toy: Entry, server: Server, kept: Path) -> None:
    (kept / "toy").mkdir(parents=True)
    (kept / "toy" / "t.csv").write_bytes(b"older")
    server.pages["/public"] = b"other"
    with pytest.raises(DataError, match="SHA-256"):
        catalog.get("toy")
    assert (kept / "toy" / "t.csv").read_bytes() == b"older"


def test_a_wrong_address_and_a_host_out_of_reach(toy: Entry, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"404 .*/public\. Try again .*CXLAB_DATA_MIRROR"):
        catalog.get("toy")
    publish(monkeypatch, toy, url="http://127.0.0.1:9/public")
    with pytest.raises(DataError, match="cannot be reached"):
        catalog.get("toy")
    assert not left(kept)


def test_a_file_in_a_zip_in_a_zip(toy: Entry, server: Server, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(monkeypatch, toy, member=("inner.zip", "folder/t.csv"))
    server.pages["/public"] = zipped("inner.zip", "folder/t.csv")
    assert catalog.get("toy")[0].read_bytes() == CONTENT
    assert left(kept) == [kept / "toy" / "t.csv"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no zip", "no whole zip file, must hold 't.csv'"),
        (zipped("t.csv")[:-30], "no whole zip file"),
        (zipped("u.csv"), "holds u.csv, must hold 't.csv'"),
        (zipped("t.csv", content=b"other"), "SHA-256"),
    ],
    ids=["no zip", "cut off", "another file", "other content"],  # a zip holds the time, so it names no test
)
def test_a_zip_without_the_file(
    *, toy: Entry, server: Server, kept: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, message: str
) -> None:
    publish(monkeypatch, toy, member=("t.csv",))
    server.pages["/public"] = content
    with pytest.raises(DataError, match=message):
        catalog.get("toy")
    assert not left(kept)


def test_the_public_bytes_may_be_another_form_of_the_mirrors(
    toy: Entry, server: Server, kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(monkeypatch, toy, sha256=sha256(b"packed").hexdigest(), name="t.csv.gz", original=("t.csv", GOOD))
    server.pages["/public"] = CONTENT
    assert catalog.get("toy") == [kept / "toy" / "t.csv"]
    assert catalog.get("toy") == [kept / "toy" / "t.csv"]
    assert server.asked == ["/public"]
    assert catalog.local_path("toy/t.csv.gz") == kept / "toy" / "t.csv"
    (tmp_path / "mirror" / "toy").mkdir(parents=True)
    (tmp_path / "mirror" / "toy" / "t.csv.gz").write_bytes(b"packed")
    monkeypatch.setenv("CXLAB_DATA_MIRROR", str(tmp_path / "mirror"))
    assert catalog.get("toy", tmp_path / "other") == [tmp_path / "other" / "toy" / "t.csv.gz"]


@pytest.mark.parametrize("form", ["folder", "file address", "http address"])
def test_the_mirror_is_asked_first(
    *, toy: Entry, server: Server, kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    mirror = tmp_path / "a mirror"
    (mirror / "toy").mkdir(parents=True)
    (mirror / "toy" / "t.csv").write_bytes(CONTENT)
    server.pages["/m/toy/t.csv"] = CONTENT
    addresses = {"folder": str(mirror), "file address": mirror.as_uri(), "http address": f"{server.address}/m/"}
    monkeypatch.setenv("CXLAB_DATA_MIRROR", addresses[form])
    assert catalog.get("toy")[0].read_bytes() == CONTENT
    assert "/public" not in server.asked


@pytest.mark.parametrize("form", ["folder", "http address"])
def test_a_mirror_without_the_file_is_said_and_passed_over(
    *,
    toy: Entry,
    server: Server,
    kept: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    form: str,
) -> None:
    server.pages["/public"] = CONTENT
    monkeypatch.setenv("CXLAB_DATA_MIRROR", {"folder": str(tmp_path), "http address": f"{server.address}/m"}[form])
    assert catalog.get("toy")[0].read_bytes() == CONTENT
    assert "toy/t.csv" in caplog.text
    assert f"Going to {server.address}/public" in caplog.text


def test_a_mirrors_wrong_bytes_are_refused(
    toy: Entry, server: Server, kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.pages["/public"] = CONTENT
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "t.csv").write_bytes(b"other")
    monkeypatch.setenv("CXLAB_DATA_MIRROR", str(tmp_path))
    with pytest.raises(DataError, match="SHA-256"):
        catalog.get("toy")
    assert not left(kept)
    assert not server.asked


def test_a_mirror_that_is_not_there_is_a_mistake(toy: Entry, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXLAB_DATA_MIRROR", "/no/such/folder")
    with pytest.raises(DataError, match="CXLAB_DATA_MIRROR == '/no/such/folder', must be a folder"):
        catalog.get("toy")


def test_a_folder_below_a_file_is_refused(
    toy: Entry, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.pages["/public"] = CONTENT
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CXLAB_DATA", str(tmp_path / "file" / "below"))
    with pytest.raises(DataError, match=r"toy cannot be kept in .*CXLAB_DATA"):
        catalog.get("toy")


def test_a_table_knows_its_entry_by_its_bytes(toy: Entry, server: Server, kept: Path, tmp_path: Path) -> None:
    server.pages["/public"] = CONTENT
    catalog.get("toy")
    for path in ("catalog:toy", "catalog:toy/t.csv", str(kept / "toy" / "t.csv")):
        table = read_table(DataParams(path=path))
        assert table.source.entry == "toy"
        assert table.known_after == {"b": "catalogue"}
    (tmp_path / "changed.csv").write_bytes(CONTENT + b"3,4\n")
    assert read_table(DataParams(path=str(tmp_path / "changed.csv"))).known_after == {}


def test_the_list_says_what_is_here(kept: Path) -> None:
    frame = Catalogue().frame()
    assert not frame["fetched"].any()
    (kept / "ibm_telco").mkdir(parents=True)
    (kept / "ibm_telco" / "Telco-Customer-Churn.csv").write_text("")
    fetched = Catalogue().frame().set_index("name")["fetched"]
    assert fetched[fetched].index.tolist() == ["ibm_telco"]
    assert Catalogue().plot().get_title(loc="left").startswith("Rows")
    plt.close("all")
    assert "iranian_churn" in Catalogue()._repr_html_()


@pytest.mark.skipif("CXLAB_DATA_MIRROR" not in os.environ, reason="CXLAB_DATA_MIRROR is not set: no public data here")
@pytest.mark.parametrize("name", [item.name for item in catalog.entries()])
def test_the_mirror_holds_what_the_catalogue_says(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror = Path(os.environ["CXLAB_DATA_MIRROR"])
    if not (mirror / name).is_dir():
        pytest.skip(f"the mirror has no {name}")
    monkeypatch.setenv("CXLAB_DATA", str(tmp_path))
    for path, file in zip(catalog.get(name), catalog.entry(name).files, strict=True):
        assert path == tmp_path / name / file.name
        assert catalog.local_path(f"{name}/{file.name}") == path
