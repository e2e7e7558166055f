"""Is this folder what was exported? Every byte of it, and nothing else.

    found = verify("release/churn-3", key="project.pub.pem")
    found.ok, found.problems

Without a signature every change is found that does not rewrite the manifest as well; with one, every change.
"""

from __future__ import annotations

import io
import json
import pickletools
import re
import warnings
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from cxlab.digest import canonical
from cxlab.display import PALETTE, Result, axes
from cxlab.errors import BundleError, CxlabError
from cxlab.release import scorer, sequence_scorer, signing, text_scorer
from cxlab.release.bundle import CODE, GOLDEN, GUARD, LIBRARY, TRAVELS, score_column
from cxlab.release.folder import MANIFEST, REASONS, SCHEMA, SIGNATURE, THRESHOLD, differences, read_manifest
from cxlab.release.scorer import load_bundle

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CARRIED = {f"{LIBRARY}/{module}.py" for module in TRAVELS}
CARRIED |= {str(Path(name).with_name("__init__.py")) for name in (*CARRIED, f"{LIBRARY}/x")}
MODELS = {scorer.MODEL, text_scorer.MODEL, text_scorer.ENCODER, text_scorer.FINE_TUNED}
MODELS |= {text_scorer.TOKENIZER, text_scorer.OWN_TOKENIZER}
MODELS |= {*sequence_scorer.GRAPHS, sequence_scorer.PARTS, sequence_scorer.TABLES}
OURS = {*MODELS, SCHEMA, THRESHOLD, REASONS, GOLDEN, CODE, GUARD, *CARRIED}
MLFLOW = {"MLmodel", "conda.yaml", "python_env.yaml", "requirements.txt"}
ARRAYS = (b"PAR1", b"\x93NUMPY")  # how Parquet and NumPy begin: read as a pickle, the first instruction already fails
EVIDENCE = re.compile(r"evidence/[a-z_]+\.(json|html|md)")


@dataclass(frozen=True, repr=False)
class Verified(Result):
    """What was found.

    Attributes:
        name: The bundle.
        problems: What differs, in words; empty where nothing does.
        signed: Whether a signature was checked, with whose key.
    """

    name: str
    problems: tuple[str, ...]
    signed: str

    title: ClassVar[str] = "Verified"

    @property
    def ok(self) -> bool:
        return not self.problems

    @property
    def note(self) -> str:  # type: ignore[override]
        whole = "Every file is what was exported, and golden rows score alike. " if self.ok else ""
        return f"{whole}{self.signed}"

    def frame(self) -> pd.DataFrame:
        """One row a problem."""
        return pd.DataFrame({"problem": list(self.problems)})

    def plot(self) -> Axes:
        ax = axes(self.name, height=1.2)
        ax.barh(0, 1, color=PALETTE[2] if self.ok else PALETTE[1])
        ax.set_yticks([0], ["whole" if self.ok else f"{len(self.problems)} problems"])
        ax.set_xticks([])
        return ax


def verify(folder: str | Path, *, key: str | Path | None = None) -> Verified:
    """Checks a bundle: the hash of every file, files that do not belong, pickles, golden scores, the signature.

    Args:
        folder: The bundle.
        key: The public key it should be signed with; `CXLAB_VERIFY_KEY` by default.
    Raises:
        ParamsError: The key is none.
        BundleError: There is no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise BundleError(f"{folder} is no folder. Give the one that cxlab export wrote.")
    public = Path(key) if key is not None else signing.verify_key()
    problems = [] if public is None else signing.problems(folder, public)
    try:
        manifest = read_manifest(folder)
    except BundleError as error:
        return Verified(folder.name, (*problems, str(error)), _said(folder, public))
    if (folder / MANIFEST).read_bytes() != canonical(manifest):
        problems.append(f"{MANIFEST} is not written as an export writes it.")
    problems += [f"{text}." for text in differences(folder, manifest)]
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            problems += _foreign(path.relative_to(folder).as_posix(), path.read_bytes())
    if not problems:
        problems += _golden(folder)
    return Verified(folder.name, tuple(problems), _said(folder, public))


def _said(folder: Path, public: Path | None) -> str:
    if public is not None:
        return f"The signature was checked with {public.name}."
    if (folder / SIGNATURE).exists():
        return "It is signed, but the signature was not checked: give --key, or set CXLAB_VERIFY_KEY."
    return "It is not signed: who rewrites every hash of it is not found."


def _foreign(name: str, content: bytes) -> list[str]:
    """What a file holds that has no place in a bundle."""
    found = []
    if name not in {*OURS, *MLFLOW, MANIFEST, SIGNATURE} and not EVIDENCE.fullmatch(name):
        found.append(f"{name} has no place in a bundle.")
    if holds_pickle(content):
        found.append(f"{name} holds a pickle, which can run anything when it is loaded.")
    if name.endswith(".json"):
        try:
            json.loads(content)
        except (ValueError, RecursionError):
            found.append(f"{name} is not JSON.")
    return found


def holds_pickle(content: bytes) -> bool:
    """Whether bytes are a pickle of any protocol, or an archive with one inside; nothing is loaded."""
    if zipfile.is_zipfile(io.BytesIO(content)):
        try:
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                return any(holds_pickle(archive.read(item)) for item in archive.infolist())
        except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, OSError, EOFError, ValueError):
            return True  # an archive that can't be looked into is taken for the worst
    if content.startswith(ARRAYS):
        return False
    count = 0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of escapes in what is taken for a string
            for count, (operation, _, place) in enumerate(pickletools.genops(content)):
                if operation.name == "STOP":
                    return count > 0 and place is not None
    except (ValueError, UnicodeDecodeError, IndexError, OverflowError):
        return False
    return False


def _golden(folder: Path) -> list[str]:
    """Golden rows, scored anew."""
    try:
        bundle = load_bundle(folder)
    except CxlabError as error:
        return [str(error)]
    try:
        rows = pd.read_parquet(folder / GOLDEN)
        expected = np.stack(rows[score_column(bundle.schema)].to_list()).astype(np.float64)
        apart = np.abs(expected - bundle.golden(rows))
    except CxlabError as error:
        return [str(error)]
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        return [f"The golden rows can't be scored: {str(error)[:200]}"]
    apart = apart if apart.ndim == 1 else np.max(apart, axis=1)
    off = int((~(apart <= bundle.tolerance)).sum())
    if not off:
        return []
    return [f"{off} of {len(rows)} golden rows score otherwise, by up to {np.nanmax(apart):.3g}."]


def as_json(found: Verified) -> dict[str, Any]:
    """What `cxlab verify --json` prints."""
    return {"ok": found.ok, "problems": list(found.problems), "signature": found.signed}
