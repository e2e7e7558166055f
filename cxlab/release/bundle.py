"""A model as a folder that anyone can verify and serve without us.

The folder is made beside its destination, hashed, and moved there in one step: what stands at the destination is whole.
`scorer.py` and `text_scorer.py` say how it is read again, `verify.py` how it is checked.
"""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from cxlab.data.schema import Schema
from cxlab.digest import canonical, sha256_of
from cxlab.errors import BundleError
from cxlab.evidence.reasons import wording_of
from cxlab.evidence.wording import Distribution, Phrase, alike
from cxlab.models.subject import Subject
from cxlab.places import is_gone, this_process
from cxlab.release import scorer, sequence_scorer, text_scorer
from cxlab.release.agreement import agreement
from cxlab.release.folder import FORMAT, MANIFEST, REASONS, SCHEMA, THRESHOLD, AnyBundle
from cxlab.release.golden import golden_rows, golden_texts
from cxlab.release.onnx import to_onnx
from cxlab.release.sequence_bundle import apart as cases_apart
from cxlab.release.sequence_bundle import golden_log, sequence_contents
from cxlab.release.text_bundle import GRAPHS, apart, text_contents
from cxlab.tracking.flavor import add_flavor

if TYPE_CHECKING:
    from collections.abc import Iterator

PARITY = 1e-5  # the largest difference to the trained model, in probability
GOLDEN, CODE, LIBRARY, GUARD = "golden.parquet", "model.py", "lib", "__pycache__"
TRAVELS = (
    *("errors", "digest", "data/schema", "data/personal", "data/times", "evidence/wording"),
    *("features/terms", "features/holders", "features/text_graph", "features/prefixes", "features/prefix_matrix"),
    *("models/answer", "release/folder", "release/scorer", "release/text_scorer", "release/sequence_scorer"),
)
NEEDED = ("numpy", "pandas")
TEXTS = 2_000  # test rows of words on which the export is held against the model, at most
GUARDED = (
    "This file keeps Python from making a folder of its name for its cache: every file of a bundle is hashed, and "
    "loading writes none.\n"
)
PART = ".part"


class Parity(NamedTuple):
    """How far the export is from the trained model.

    Attributes:
        largest: The largest difference in probability, of times the relative one; infinite where one of the two has
            none.
        rows: How many rows were compared.
        column: The column that makes a difference beyond the limit, if one alone does.
    """

    largest: float
    rows: int
    column: str | None


@dataclass(frozen=True)
class Prepared:
    """A model as it would be exported, in memory.

    Attributes:
        subject: The model with its data.
        contents: What scoring reads, by file name.
        bundle: It, ready to score; without a manifest.
    """

    subject: Subject
    contents: dict[str, Any] = field(repr=False)
    bundle: AnyBundle

    @classmethod
    def of(cls, subject: Subject, report: Mapping[str, Any], wording: Mapping[str, Phrase] | None = None) -> Prepared:
        """Converts a model and gathers what its reasons need.

        Args:
            subject: The model with its data.
            report: The facts of its report; a model of words or of sequences needs none of them.
            wording: Phrases by column; `wording_of(subject)` by default.
        Raises:
            ParamsError: A step of the model has no conversion.
        """
        if subject.many:
            made = sequence_contents(subject) if subject.params.task == "sequence" else text_contents(subject)
            build = sequence_scorer.build if subject.params.task == "sequence" else text_scorer.build
            files = {name: held if isinstance(held, bytes) else canonical(held) for name, held in made.items()}
            told = {"schema": made[SCHEMA], "threshold": made[THRESHOLD]}
            return cls(subject, made, build(Path(), {}, **told, files=files))
        words = wording_of(subject) if wording is None else wording
        made = _contents(subject, to_onnx(subject.model).SerializeToString(), report, words)
        told = {"schema": made[SCHEMA], "threshold": made[THRESHOLD], "reasons": made[REASONS]}
        return cls(subject, made, scorer.build(Path(), {}, **told, model=made[scorer.MODEL]))

    @functools.cached_property
    def golden(self) -> pd.DataFrame:
        """Golden inputs with their scores: of many classes a list, as the bundle's `golden` says."""
        schema, subject = self.bundle.schema, self.subject
        if isinstance(self.bundle, sequence_scorer.SequenceBundle):
            bundle = self.bundle
            rows = golden_log(bundle.prefixes, time_format=bundle.time_format, ordinal=bundle.ordinal)
            return rows.assign(**{score_column(schema): list(self._scores(rows))})
        if subject.many:
            texts = golden_texts(subject.texts(subject.train), subject.outcome_train)
            rows = pd.DataFrame({schema.names[0]: pd.Series(texts, dtype=object)})
            return rows.assign(**{score_column(schema): list(self._scores(rows))})
        rows = golden_rows(schema)
        return rows.assign(**{score_column(schema): self._scores(rows)})

    def _scores(self, frame: pd.DataFrame) -> np.ndarray:
        return self.bundle.golden(frame)

    @functools.cached_property
    def parity(self) -> Parity:
        """The trained model against its export, on golden, adversarial and test rows."""
        names = self.bundle.schema.names
        if isinstance(self.bundle, sequence_scorer.SequenceBundle):
            off = cases_apart(self.subject, self.bundle, self.golden[names])
            return Parity(float(off.max()), len(off), None)
        test = self.subject.test[names]
        if self.subject.many and len(test) > TEXTS:
            test = test.sample(TEXTS, random_state=0)
        rows = pd.concat([self.golden[names], test], ignore_index=True)
        difference = self._apart(rows)
        worst = int(np.argmax(difference))
        largest = float(difference[worst])
        if largest <= PARITY:
            return Parity(largest, len(rows), None)
        row, usual = rows.iloc[[worst]], rows.iloc[0]
        mended = [name for name in names if self._apart(row.assign(**{name: [usual[name]]}))[0] <= PARITY]
        return Parity(largest, len(rows), mended[0] if len(mended) == 1 else None)

    def _apart(self, frame: pd.DataFrame) -> np.ndarray:
        if isinstance(self.bundle, text_scorer.TextBundle):
            return apart(self.subject.model, self.bundle, frame)
        difference = np.abs(self.subject.scores(frame) - self._scores(frame))
        return np.where(np.isnan(difference), np.inf, difference)


def write_bundle(
    subject: Subject,
    to: Path,
    *,
    facts: Mapping[str, Any],
    report: Mapping[str, Any],
    evidence: Mapping[str, str],
    wording: Mapping[str, Phrase] | None = None,
    finish: Callable[[Path], object] | None = None,
) -> Path:
    """Writes a bundle.

    Args:
        subject: The model with its data.
        to: A folder that is not there yet.
        facts: What the manifest says of the model besides what is found here: model, version, run, approval, ledger.
        report: The facts of its report.
        evidence: Texts by file name, aggregates only.
        wording: Phrases by column; `wording_of(subject)` by default.
        finish: Called with the finished folder before it is moved: to sign it and to enter it into the ledger.
    Raises:
        BundleError: The destination is taken, or its scores would differ from the model's.
    """
    prepared = Prepared.of(subject, report, wording)
    found = prepared.parity
    if found.largest > PARITY:
        where = f" The difference comes from column {found.column!r}." if found.column else ""
        kind = "its plain form" if subject.many else "its ONNX graph"
        off = f"{kind} is off by {found.largest:.3g}, must be at most {PARITY:g}"
        raise BundleError(f"{subject.name} is not exported: {off}.{where}")
    with _in_one_step(to) as folder:
        for name, content in prepared.contents.items():
            (folder / name).write_bytes(canonical(content) if not isinstance(content, bytes) else content)
        prepared.golden.to_parquet(folder / GOLDEN, index=False)
        _code(folder)
        versions = {name: metadata.version(name) for name in (*NEEDED, *_running(prepared.contents), "mlflow")}
        requirements = [f"{name}=={version}" for name, version in versions.items()]
        add_flavor(folder, CODE, subject.model.schema, prepared.bundle.outputs, requirements)
        (folder / GUARD).write_text(GUARDED, encoding="utf-8")
        for name, text in evidence.items():
            (folder / "evidence").mkdir(exist_ok=True)
            (folder / "evidence" / name).write_text(text, encoding="utf-8")
        files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
        manifest = {
            "format": FORMAT,
            "files": {name: sha256_of(path) for name, path in files.items()},
            "versions": {**versions, "cxlab": metadata.version("cxlab")},
            "parity": {"largest": found.largest, "rows": found.rows, "limit": PARITY},
            "reasons": agreement(subject, prepared.bundle),
            **facts,
        }
        (folder / MANIFEST).write_bytes(canonical(manifest))
        if finish is not None:
            finish(folder)
    return to


@contextmanager
def _in_one_step(to: Path) -> Iterator[Path]:
    """A folder beside `to` that takes its place when all went well; what dead processes left there is removed."""
    to = to.absolute()
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise BundleError(f"{to} exists. Name a folder that is not there yet, as --to {to}-2.")
    to.parent.mkdir(parents=True, exist_ok=True)
    for left in to.parent.glob(f".{to.name}.*{PART}"):
        if is_gone(left.name.removeprefix(f".{to.name}.").removesuffix(PART)):
            shutil.rmtree(left)
    folder = to.parent / f".{to.name}.{this_process()}{PART}"
    folder.mkdir()
    try:
        yield folder
        folder.replace(to)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _contents(subject: Subject, graph: bytes, report: Mapping[str, Any], words: Mapping[str, Phrase]) -> dict[str, Any]:
    """The files that scoring reads, by name."""
    schema, roles = subject.model.schema, subject.params.data
    columns = [item | {"unit": words.get(item["name"], Phrase()).unit} for item in schema.plain()]
    cast = schema.cast(subject.train)
    strength = [row["feature"] for row in report["importance"]]
    ordered = {name: cast[name] for name in sorted(cast, key=strength.index)}
    named = {name: values for name, values in ordered.items() if name not in roles.segments}
    return {
        scorer.MODEL: graph,
        SCHEMA: {
            "task": subject.params.task,
            "target": roles.target,
            "positive": roles.positive,
            "id": roles.id,
            "segments": list(roles.segments),
            "columns": columns,
        },
        THRESHOLD: dict(report["threshold"]),
        REASONS: {
            "groups": alike(named),
            "references": {name: _reference(values) for name, values in cast.items()},
            "distributions": {name: asdict(Distribution.of(values)) for name, values in named.items()},
            "phrases": {name: asdict(words[name]) for name in named if name in words},
        },
    }


def _running(contents: Mapping[str, Any]) -> tuple[str, ...]:
    """What runs the graphs among a bundle's files."""
    if not any(name.endswith(".onnx") for name in contents):
        return ()
    return GRAPHS if text_scorer.TOKENIZER in contents else GRAPHS[:1]


def _reference(values: np.ndarray) -> float | str | None:
    """The customer one compares with: the median of numbers, the commonest level; None where none is known."""
    if values.dtype == object:
        return str(pd.Series(values).mode()[0])
    known = values[~np.isnan(values)]
    return float(np.median(known)) if len(known) else None


def score_column(schema: Schema) -> str:
    """The name of the scores among golden rows: one that no column has."""
    return _free("score", schema)


def _free(name: str, schema: Schema) -> str:
    return name if name not in schema.names else _free(f"_{name}", schema)


def _code(folder: Path) -> None:
    """The entry that MLflow runs, and the modules that travel."""
    package = Path(__file__).parent.parent
    shutil.copyfile(Path(__file__).with_name("mlflow_model.py"), folder / CODE)
    for module in TRAVELS:
        place = folder / LIBRARY / f"{module}.py"
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(package / f"{module}.py", place)
        (place.parent / "__init__.py").touch()
