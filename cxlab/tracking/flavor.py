"""A folder made a valid MLflow model by code that lies in it (models-from-code): no pickle, no path of this machine."""

from __future__ import annotations

import re
import shutil
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

from cxlab.data.schema import TRUTH, Column, Schema
from cxlab.features.prefixes import PrefixSchema
from cxlab.tracking.store import quiet

REASONS = "reasons"


def add_flavor(
    folder: Path, code: str, schema: Schema, outputs: Mapping[str, str], requirements: Sequence[str]
) -> None:
    """Adds `MLmodel` and the files that describe an environment.

    Args:
        folder: The model's, holding all that its code needs.
        code: The name of the file in it that sets the MLflow model.
        schema: What the model reads.
        outputs: What it answers, by name: `number`, `text` or `truth`.
        requirements: `name==version` each.
    """
    quiet()
    import mlflow
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec
    from mlflow.types import Schema as Fields

    types = {"number": DataType.double, "text": DataType.string, "truth": DataType.boolean}
    answers = Fields([ColSpec(types[kind], name) for name, kind in outputs.items()])
    told = ParamSchema([ParamSpec(REASONS, DataType.long, 0)])
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*input example", category=UserWarning)
        made = Path(scratch) / "model"
        mlflow.pyfunc.save_model(
            made,
            python_model=str(folder / code),
            signature=ModelSignature(inputs=input_fields(schema), outputs=answers, params=told),
            pip_requirements=list(requirements),
        )
        for path in made.iterdir():
            if path.name != code:
                shutil.move(path, folder / path.name)
    described = folder / "MLmodel"
    text = described.read_text(encoding="utf-8")
    described.write_text(re.sub(r"(model_code_path: ).*", rf"\g<1>{code}", text), encoding="utf-8")


def input_fields(schema: Schema) -> object:
    """A schema as MLflow writes it: every column must be there, its values may be missing.

    Numbers are of any type, for MLflow refuses whole numbers where it was told of floating ones, and so are columns of
    true and false; the schema's own casts read them all. Of a log the case, the event and times may be of any type.
    """
    from mlflow.types import ColSpec, DataType
    from mlflow.types import Schema as Fields
    from mlflow.types.schema import AnyType

    event = schema.roles.event if isinstance(schema, PrefixSchema) else None

    def kind(column: Column) -> object:
        free = column.kind == "number" or TRUTH.issuperset(column.categories) or column.name == event
        return AnyType() if free else DataType.string

    columns = schema.raw.columns if isinstance(schema, PrefixSchema) else schema.columns
    return Fields([ColSpec(kind(column), column.name) for column in columns])
