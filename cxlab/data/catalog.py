"""The catalogue of public data sets: what they are, whose they are, and their exact bytes.

    Catalogue()                       # what there is, and what lies here already
    get("ibm_telco")                  # fetched, verified, kept
    local_path("banking77/test.csv")  # where it lies

Files lie in `folder()` as NAME/FILE. `CXLAB_DATA_MIRROR`, a folder laid out the same way or an address, is
asked first. Bytes whose SHA-256 is not the catalogue's are refused and not kept.
"""

from __future__ import annotations

import functools
import io
import logging
import os
import shutil
import sys
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal
from urllib.parse import urlsplit
from urllib.request import url2pathname

import yaml

from cxlab.digest import sha256_of
from cxlab.display import GREY, PALETTE, Result, axes
from cxlab.errors import DataError, ParamsError, listed, unknown
from cxlab.params import CATALOG

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

FOLDER = "CXLAB_DATA"  # where fetched data lie, if not in the user's cache
MIRROR = "CXLAB_DATA_MIRROR"
TIMEOUT_S = 30  # without a byte; after that a host counts as out of reach

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class File:
    """One file of a data set.

    Attributes:
        name: As a mirror names it.
        url: The public address: the file, or a zip that holds it.
        sha256: Of the bytes that a mirror keeps.
        member: The way to the file inside the zip, zips in zips first; empty if `url` is the file itself.
        original: Name and SHA-256 of what the public address serves, where that is the same rows as other bytes.
    """

    name: str
    url: str
    sha256: str
    member: tuple[str, ...] = ()
    original: tuple[str, str] | None = None

    @property
    def forms(self) -> tuple[tuple[str, str], ...]:
        """The names and SHA-256s under which these rows may lie here."""
        return ((self.name, self.sha256), *([self.original] if self.original else []))


@dataclass(frozen=True)
class Entry:
    """A public data set.

    Attributes:
        rows: Over all files, header lines aside.
        kind: What the rows record: `real` events, a `simulated` world, or a `fictional` company.
        source: The page that describes it.
        known_after: Columns known only after the outcome, so never features.
    """

    name: str
    title: str
    files: tuple[File, ...]
    licence: str
    rows: int
    kind: Literal["real", "simulated", "fictional"]
    citation: str
    source: str
    known_after: tuple[str, ...] = ()
    note: str = ""


@functools.cache
def entries() -> tuple[Entry, ...]:
    """All that is catalogued, in reading order."""
    tree = yaml.safe_load(Path(__file__).with_name("catalog.yaml").read_text(encoding="utf-8"))
    return tuple(_entry(item) for item in tree)


def _entry(item: dict[str, Any]) -> Entry:
    files = [
        File(
            file["name"],
            file["url"],
            file["sha256"],
            tuple(file.get("member", ())),
            (file["original"]["name"], file["original"]["sha256"]) if "original" in file else None,
        )
        for file in item["files"]
    ]
    return Entry(**{**item, "files": tuple(files), "known_after": tuple(item.get("known_after", ()))})


def entry(name: str) -> Entry:
    """One data set, by name.

    Raises:
        ParamsError: There is none of that name.
    """
    for item in entries():
        if item.name == name:
            return item
    raise ParamsError(unknown("Data set", name, [item.name for item in entries()], where="in the catalogue"))


def by_sha256(digest: str) -> Entry | None:
    """The data set that has a file of these bytes, whatever the file is called."""
    for item in entries():
        if any(digest == known for file in item.files for _, known in file.forms):
            return item
    return None


def folder() -> Path:
    """Where fetched data lie: `CXLAB_DATA`, else the user's cache."""
    chosen = os.environ.get(FOLDER)
    if chosen:
        return Path(chosen).expanduser().absolute()
    import pooch

    return Path(pooch.os_cache("cxlab"))


def local_path(spec: str) -> Path:
    """Where a fetched file lies, its bytes verified.

    Args:
        spec: `NAME`, its first file, or `NAME/FILE`.
    Raises:
        ParamsError: No data set, or no file of it, has that name.
        DataError: It has not been fetched, or was changed since.
    """
    name, _, wanted = spec.removeprefix(CATALOG).partition("/")
    chosen = entry(name)
    files = {known: file for file in chosen.files for known, _ in file.forms}
    if wanted and wanted not in files:
        raise ParamsError(unknown("File", wanted, files, where=f"in data set {name}"))
    file = files[wanted] if wanted else chosen.files[0]
    found = _kept(folder() / name, file)
    if found is None:
        changed = [item for item, _ in file.forms if (folder() / name / item).exists()]
        state = f"{folder() / name / changed[0]} is not what was published" if changed else f"{spec} is not here yet"
        raise DataError(f"{state}. Fetch it: cxlab data get {name}.")
    return found


def _kept(place: Path, file: File) -> Path | None:
    for name, digest in file.forms:
        if (place / name).is_file() and sha256_of(place / name) == digest:
            return place / name
    return None


def get(name: str, to: Path | None = None) -> list[Path]:
    """Fetches a data set and verifies it; what is here already with the right bytes is not fetched again.

    Args:
        name: As in the catalogue.
        to: The folder for NAME/FILE; `folder()` if None.
    Returns:
        Its files, in the catalogue's order.
    Raises:
        ParamsError: There is none of that name.
        DataError: It is out of reach, its bytes are not the published ones, or it cannot be written.
    """
    chosen = entry(name)
    root = folder() if to is None else Path(to)
    return [_kept(root / name, file) or _fetch(chosen, file, root) for file in chosen.files]


def _fetch(chosen: Entry, file: File, root: Path) -> Path:
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root, prefix=".part-") as scratch:
            part = Path(scratch) / "part"
            if _from_mirror(chosen, file, part):
                target, digest, origin = file.name, file.sha256, os.environ[MIRROR]
            else:
                _from_public(file, part)
                target, digest = file.original or (file.name, file.sha256)
                origin = file.url
            found = sha256_of(part)
            if found != digest:
                raise DataError(
                    f"{chosen.name}/{target} from {origin} has SHA-256 {found}, must be {digest}. It is not what was "
                    "published, so it was not kept. Try again, or from another mirror."
                )
            (root / chosen.name).mkdir(exist_ok=True)
            return part.replace(root / chosen.name / target)
    except OSError as error:
        raise DataError(
            f"{chosen.name} cannot be kept in {root}: {error}. Make room there, or set {FOLDER} to a folder that can "
            "be written."
        ) from None


def _from_mirror(chosen: Entry, file: File, part: Path) -> bool:
    """Whether a mirror is set and had the file."""
    mirror = os.environ.get(MIRROR)
    if not mirror:
        return False
    address = urlsplit(mirror)
    if address.scheme in ("http", "https"):
        try:
            _download(f"{mirror.rstrip('/')}/{chosen.name}/{file.name}", part)
            return True
        except ConnectionError as error:
            _log.warning("Mirror: %s Going to %s.", error, file.url)
            return False
    place = Path(url2pathname(address.path)) if address.scheme == "file" else Path(mirror).expanduser()
    if not place.is_dir():
        raise DataError(
            f"{MIRROR} == {mirror!r}, must be a folder laid out as NAME/FILE or an http address. Mend or unset it."
        )
    if not (place / chosen.name / file.name).is_file():
        _log.warning("The mirror %s has no %s/%s. Going to %s.", mirror, chosen.name, file.name, file.url)
        return False
    shutil.copyfile(place / chosen.name / file.name, part)
    return True


def _from_public(file: File, part: Path) -> None:
    try:
        _download(file.url, part)
    except ConnectionError as error:
        raise DataError(
            f"{error} Try again when it can be reached, or set {MIRROR} to a folder that holds NAME/FILE."
        ) from None
    if file.member:
        part.write_bytes(_unzipped(part.read_bytes(), file))


def _unzipped(content: bytes, file: File) -> bytes:
    for name in file.member:
        try:
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                content = archive.read(name)
        except (zipfile.BadZipFile, zlib.error, EOFError):
            raise DataError(f"{file.url} is no whole zip file, must hold {name!r}. Try again later.") from None
        except KeyError:
            held = listed(archive.namelist(), 5)
            raise DataError(f"{file.url} holds {held}, must hold {name!r}. It has changed; see its page.") from None
    return content


def _download(url: str, part: Path) -> None:
    """One file from an address, by pooch; ConnectionError with a sentence where that fails."""
    import pooch
    import requests

    pooch.get_logger().setLevel("WARNING")  # it tells every hash; we check them
    downloader = pooch.HTTPDownloader(timeout=TIMEOUT_S, progressbar=sys.stderr.isatty())
    try:
        pooch.retrieve(url, known_hash=None, fname=part.name, path=part.parent, downloader=downloader)
    except requests.HTTPError as error:
        raise ConnectionError(f"{str(error).partition(' for url')[0]} from {url}.") from None
    except requests.RequestException as error:
        raise ConnectionError(f"{url} cannot be reached ({type(error).__name__}).") from None


class Catalogue(Result):
    """What is catalogued, and which of it lies here already."""

    title: ClassVar[str] = "Public data sets"
    note: ClassVar[str] = "Fetch one with: cxlab data get NAME. Then read it as data.path: catalog:NAME."

    def frame(self) -> pd.DataFrame:
        import pandas as pd

        return pd.DataFrame([self._row(item) for item in entries()])

    def _row(self, item: Entry) -> dict[str, Any]:
        place = folder() / item.name
        return {
            "name": item.name,
            "title": item.title,
            "rows": item.rows,
            "kind": item.kind,
            "licence": item.licence,
            "files": ", ".join(file.name for file in item.files),
            "fetched": all(any((place / name).is_file() for name, _ in file.forms) for file in item.files),
            "known_after": ", ".join(item.known_after),
            "citation": item.citation,
            "source": item.source,
            "note": item.note,
            "url": " ".join(file.url for file in item.files),
            "sha256": " ".join(file.sha256 for file in item.files),
        }

    def plot(self) -> Axes:
        frame = self.frame()
        ax = axes("Rows of each data set; grey is fictional")
        colours = [PALETTE[0] if kind == "real" else GREY for kind in frame["kind"]]
        ax.barh(frame["name"], frame["rows"], color=colours)
        ax.set_xscale("log")
        ax.invert_yaxis()
        ax.set_xlabel("rows, log scale")
        return ax
