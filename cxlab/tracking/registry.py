"""Registered models: saved as skops, loaded only after their hash and our own list of types have been checked."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from cxlab.digest import canonical, sha256, sha256_of
from cxlab.errors import DataError, ParamsError, StoreError, listed, nearest
from cxlab.features.table import load_table
from cxlab.models.deep import FineTuned
from cxlab.models.sequence_nets import SequenceNet
from cxlab.models.subject import Subject
from cxlab.models.task import Model, encoder_of
from cxlab.models.training import Training, split_of
from cxlab.params import Params
from cxlab.tracking.artifacts import fetched
from cxlab.tracking.flavor import input_fields
from cxlab.tracking.ledger import Draft, append
from cxlab.tracking.records import OUT_OF_FOLD, PARAMS, read_scores
from cxlab.tracking.store import store

if TYPE_CHECKING:
    from mlflow import MlflowClient

CHALLENGER, CHAMPION, PREVIOUS = "challenger", "champion", "previous"
DIGEST = "cxlab.model.sha256"

# What a model of ours is made of. A file that asks for any other type is not loaded.
TRUSTED_TYPES = [
    "collections.OrderedDict",
    "cxlab.data.schema.Column",
    "cxlab.data.schema.Schema",
    "cxlab.features.encoder.SentenceEncoder",
    "cxlab.features.prefix_matrix.Matrix",
    "cxlab.features.prefixes.LogRoles",
    "cxlab.features.prefixes.PrefixSchema",
    "cxlab.features.tabular.HingeBasis",
    "cxlab.features.terms.Terms",
    "cxlab.features.text._only",
    "cxlab.models.ahead.Ahead",
    "cxlab.models.answer.Doubt",
    "cxlab.models.calibration.BetaCalibration",
    "cxlab.models.calibration.NoCalibration",
    "cxlab.models.calibration.Saturation",
    "cxlab.models.calibration.Temperature",
    "cxlab.models.deep.FineTuned",
    "cxlab.models.hazard.CalibratedTimes",
    "cxlab.models.hazard.DiscreteHazard",
    "cxlab.models.margins.LandmarkRidge",
    "cxlab.models.margins.SoftMargins",
    "cxlab.models.markov.KneserNey",
    "cxlab.models.markov.Level",
    "cxlab.models.prefix_boost.PrefixBoost",
    "cxlab.models.prefix_boost.PrefixMatrix",
    "cxlab.models.sequence_nets.SequenceNet",
    "cxlab.models.task.Model",
    "lightgbm.basic.Booster",
    "lightgbm.sklearn.LGBMClassifier",
    "numpy.dtype",
    "scipy.sparse._csr.csr_array",
    "sklearn.model_selection._split.StratifiedKFold",
]
NEEDED = ["cxlab", "numpy", "pandas", "scikit-learn", "skops"]
NEEDED_FOR_COLUMNS = ["lightgbm"]
NEEDED_FOR_GRAPHS = ["onnx", "onnxruntime", "safetensors", "tokenizers"]
NEEDED_FOR_NETS = ["onnx", "onnxruntime"]


def register(training: Training, run_id: str, report_facts: Mapping[str, Any] | None = None) -> str:
    """Saves the selected model on the run, registers it, enters it into the ledger and points `challenger` at it.

    Args:
        training: What was trained.
        run_id: Its run.
        report_facts: Of its report, whose digest goes into the ledger; without a report it can't be approved.
    Returns:
        The version.
    """
    import mlflow

    model = training.model
    signature = _signature(model)
    requirements = [f"{name}=={metadata.version(name)}" for name in _needed(model)]
    with store() as client, mlflow.start_run(run_id=run_id):
        info = mlflow.sklearn.log_model(
            model,
            name="model",
            serialization_format="skops",
            skops_trusted_types=TRUSTED_TYPES,
            signature=signature,
            pip_requirements=requirements,
            pyfunc_predict_fn="predict_proba",
        )
        digest = sha256_of(_skops_file(info.model_uri))
        if _registered(client, training.params.name) is None:
            client.create_registered_model(training.params.name, tags={"cxlab.task": training.task})
        version = client.create_model_version(
            training.params.name,
            source=info.model_uri,
            run_id=run_id,
            model_id=info.model_id,
            tags={DIGEST: digest, "cxlab.task": training.task, "cxlab.selected": training.selected},
        )
        facts = {"model_sha256": digest, "run_id": run_id}
        if report_facts is not None:
            facts["report_sha256"] = sha256(canonical(report_facts))
        entry = Draft("registered", str(version.version), f"selected: {training.selected}", facts)
        append(training.params.name, lambda _: entry)
        client.set_registered_model_alias(training.params.name, CHALLENGER, version.version)
        client.set_tag(run_id, "cxlab.version_number", str(version.version))
    return str(version.version)


def _needed(model: Model) -> list[str]:
    """The packages that a model needs to score."""
    if model.labels is None:
        return sorted(NEEDED + NEEDED_FOR_COLUMNS)
    if model.ahead is not None:
        nets = any(isinstance(each, SequenceNet) for each in model.members)
        return sorted(NEEDED + NEEDED_FOR_COLUMNS + (NEEDED_FOR_NETS if nets else []))
    graphs = any(encoder_of(each) is not None or isinstance(each[-1], FineTuned) for each in model.members)
    return sorted(NEEDED + (NEEDED_FOR_GRAPHS if graphs else []))


def load_model(name: str, version: str) -> Model:
    """A registered model.

    Args:
        name: Of the registered model.
        version: A number, or an alias such as `challenger`.
    Raises:
        ParamsError: There is no such model or version.
        StoreError: The file differs from what was registered, or holds a type that is not ours.
    """
    import skops.io

    with store() as client:
        found = find_version(client, name, version)
        path = _skops_file(found.source)
        if sha256_of(path) != found.tags.get(DIGEST):
            raise StoreError(
                f"{name} version {found.version} is not the file that was registered: its SHA-256 differs."
            )
        foreign = set(skops.io.get_untrusted_types(file=path)) - set(TRUSTED_TYPES)
        if foreign:
            raise StoreError(f"{name} version {found.version} holds foreign types: {', '.join(sorted(foreign))}.")
        return skops.io.load(path, trusted=TRUSTED_TYPES)


def open_version(name: str, version: str) -> Subject:
    """A registered model with the data it learnt from, as evidence looks at it.

    Raises:
        ParamsError: There is no such model or version.
        DataError: Its training data are gone.
        StoreError: They changed since, or the model's file did.
    """
    model = load_model(name, version)
    with store() as client:
        found = find_version(client, name, version)
        files = {key: fetched(client, found.run_id, key) for key in (PARAMS, OUT_OF_FOLD)}
        params = Params.model_validate_json(files[PARAMS].read_text(encoding="utf-8"))
        scores = pd.read_parquet(files[OUT_OF_FOLD])
        trained_on = client.get_run(found.run_id).data.tags["cxlab.data.sha256"]
    what = f"{name} version {found.version}"
    try:
        table = load_table(params)
    except DataError as error:
        raise DataError(f"The data that {what} learnt from are gone: {error}") from None
    if table.source.sha256 != trained_on:
        why = (
            "has another SHA-256 now"
            if params.events is None
            else "gives other rows now: events, consents or their age"
        )
        raise StoreError(f"The data that {what} learnt from have changed: {params.data.path} {why}.")
    return Subject(what, params, table, split_of(table, params), model, read_scores(scores, "score"))


def find_version(client: MlflowClient, name: str, version: str) -> Any:
    """The registry's entry of a version number or alias."""
    from mlflow.exceptions import MlflowException

    if _registered(client, name) is None:
        names = [model.name for model in client.search_registered_models()]
        known = listed(names) or "none yet; train one: cxlab run churn"
        raise ParamsError(f"No registered model {name!r}.{nearest(name, names)} Models: {known}.")
    try:
        by_number = str(version).isdigit()
        return (
            client.get_model_version(name, version) if by_number else client.get_model_version_by_alias(name, version)
        )
    except MlflowException:
        versions = sorted((int(item.version) for item in client.search_model_versions(f"name='{name}'")), reverse=True)
        raise ParamsError(f"{name} has no version {version!r}. Versions: {listed(versions) or 'none'}.") from None


def _registered(client: MlflowClient, name: str) -> Any:
    """The registry's entry of a model, None where there is none."""
    from mlflow.exceptions import MlflowException

    try:
        return client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise


def version_of(name: str, version: str) -> tuple[str, dict[str, str]]:
    """The number and the tags of a version given by number or alias.

    Raises:
        ParamsError: There is no such model or version.
    """
    with store() as client:
        found = find_version(client, name, version)
        return str(found.version), dict(found.tags)


def model_digest(name: str, version: str) -> str:
    """SHA-256 of a version's model file as it is now.

    Raises:
        ParamsError: There is no such model or version.
    """
    with store() as client:
        return sha256_of(_skops_file(find_version(client, name, version).source))


def alias_versions(client: MlflowClient, name: str) -> dict[str, str]:
    """Alias to version number; empty where the model is not registered."""
    found = _registered(client, name)
    return {} if found is None else {alias: str(version) for alias, version in found.aliases.items()}


def point_aliases(name: str, wanted: Mapping[str, str | None]) -> list[str]:
    """Moves aliases where they should be, None removing one; says which were elsewhere."""
    moved = []
    with store() as client:
        there = alias_versions(client, name)
        for alias, version in wanted.items():
            if there.get(alias) == version:
                continue
            moved.append(f"{alias} was {there.get(alias, 'nowhere')}")
            if version is None:
                client.delete_registered_model_alias(name, alias)
            else:
                client.set_registered_model_alias(name, alias, version)
    return moved


def aliases_of(name: str) -> dict[str, str]:
    """Alias to version number."""
    with store() as client:
        return alias_versions(client, name)


def _skops_file(source: str) -> Path:
    """The model's file; where the artifacts are remote, a copy that lives as long as the process."""
    from mlflow.artifacts import download_artifacts

    return Path(download_artifacts(source)) / "model.skops"


def _signature(model: Model) -> Any:
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    outputs = Schema([TensorSpec(np.dtype("float64"), (-1, len(model.classes_)))])
    return ModelSignature(inputs=input_fields(model.schema), outputs=outputs)
