"""What MLflow runs of a bundle: its scores as a pyfunc. All that it needs lies beside it."""

import importlib
import importlib.util
import sys
import uuid
from pathlib import Path

import mlflow
import pandas as pd

FOLDER = Path(__file__).parent


def scorer():
    """The bundle's own scoring code, under a name that no other module has, without a cache in the folder."""
    name, writes = f"bundle_{uuid.uuid4().hex}", sys.dont_write_bytecode
    place = FOLDER / "lib"
    spec = importlib.util.spec_from_file_location(name, place / "__init__.py", submodule_search_locations=[str(place)])
    module = importlib.util.module_from_spec(spec)
    sys.modules[name], sys.dont_write_bytecode = module, True
    try:
        spec.loader.exec_module(module)
        return importlib.import_module(f"{name}.release.scorer")
    finally:
        sys.dont_write_bytecode = writes


class Scorer(mlflow.pyfunc.PythonModel):
    """Raw rows in; answers out, of events one a case, and with the parameter `reasons` as many reasons."""

    def load_context(self, context):  # noqa: ARG002 - MLflow's signature
        self.bundle = scorer().load_bundle(FOLDER)

    def predict(self, context, model_input: pd.DataFrame, params=None) -> pd.DataFrame:  # noqa: ARG002
        found = self.bundle.score(model_input, reasons=int((params or {}).get("reasons", 0)))
        return found.frame().drop(columns="id", errors="ignore")


mlflow.models.set_model(Scorer())
