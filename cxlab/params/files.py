"""A YAML file turned into one typed, frozen object; a value that does not fit stops here, with the nearest key named.

rules = load_file("params/risk_score.yaml", RiskParams, ["columns.mos=mean_opinion"])
"""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from cxlab.errors import ParamsError, listed, nearest

Model = TypeVar("Model", bound=BaseModel)


def _moment(value: Any) -> Any:
    """YAML reads 2025-01-01 as a date."""
    return value.isoformat() if isinstance(value, date) else value


def as_text(value: Any) -> Any:
    """YAML reads yes, 1 and true as other types than text; what a file holds is compared by text."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value) if isinstance(value, int | float) else value


Moment = Annotated[str, BeforeValidator(_moment)]
Worded = Annotated[str, BeforeValidator(as_text)]


class Section(BaseModel):
    """Keys that belong together: no others are taken, and nothing changes once it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)


def load_file(path: str | Path, model: type[Model], overrides: Sequence[str] = ()) -> Model:
    """Reads a YAML file of one model's keys and lays overrides over it.

    Args:
        path: The file.
        model: What it holds.
        overrides: `a.b=value` each, the value read as YAML.
    Raises:
        ParamsError: The file is not there or not YAML, a key is unknown, or a value does not fit.
    """
    path = Path(path)
    tree = read_yaml(path)
    for override in overrides:
        lay_over(tree, override)
    return checked(tree, model, path.name)


def read_yaml(path: Path) -> dict[str, Any]:
    """The keys of a YAML file.

    Raises:
        ParamsError: It is not there, not YAML, or holds no keys.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        siblings = [item.name for item in path.parent.glob("*.yaml")] if path.parent.is_dir() else []
        raise ParamsError(f"No params file {path}.{nearest(path.name, siblings)}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ParamsError(f"{path} cannot be read as a params file: {error}.") from None
    try:
        tree = yaml.safe_load(text)
    except (ValueError, yaml.YAMLError) as error:
        raise ParamsError(f"{path.name} is not YAML: {error}") from None
    if not isinstance(tree, dict):
        raise ParamsError(f"{path.name} holds no keys; see the files in params/ for what it needs.")
    return tree


def lay_over(
    tree: dict[str, Any], override: str, given: Callable[[str, Any], Any] = lambda _dotted, value: value
) -> None:
    """Sets one `a.b=value` in a tree; `given` may change the value, told its key.

    Raises:
        ParamsError: It has no value, or that is not YAML.
    """
    dotted, equals, text = override.partition("=")
    keys = dotted.strip().split(".")
    if not equals or not all(keys):
        raise ParamsError(f"--set {override!r} has no value; write --set search.budget_s=10.")
    try:
        value = yaml.safe_load(text)
    except (ValueError, yaml.YAMLError):
        raise ParamsError(f"--set {override!r}: {text!r} is not a YAML value.") from None
    node = tree
    for key in keys[:-1]:
        if not isinstance(node.get(key), dict):
            node[key] = {}
        node = node[key]
    node[keys[-1]] = given(dotted.strip(), value)


def checked(tree: Mapping[str, Any], model: type[Model], name: str) -> Model:
    """The tree as the model's object.

    Raises:
        ParamsError: A key is unknown or missing, or a value does not fit: all of them, one a line.
    """
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        problems = [_explain(item, model) for item in error.errors()]
        raise ParamsError(f"{name}: " + "\n".join(dict.fromkeys(problems))) from None


def _inner(annotation: Any) -> type[BaseModel] | None:
    """The model within an annotation: of an option, of a list's items, of a mapping's values."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) is Annotated:
        return _inner(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType, tuple, list, dict):
        return next((found for item in get_args(annotation) if (found := _inner(item)) is not None), None)
    return None


def _section(root: type[BaseModel], keys: Sequence[str]) -> type[BaseModel]:
    """The model that holds what lies below the keys; names within a mapping are passed over."""
    model = root
    for key in keys:
        if key in model.model_fields:
            model = _inner(model.model_fields[key].annotation) or model
    return model


def _explain(item: Any, root: type[BaseModel]) -> str:
    dotted = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in item["loc"]).removeprefix(".")
    keys = [key for key in item["loc"] if isinstance(key, str)]
    value = item.get("input")
    if item["type"] == "extra_forbidden":
        known = list(_section(root, keys[:-1]).model_fields)
        return f"Key {dotted!r} is not known.{nearest(keys[-1], known)} Keys there: {listed(known)}."
    if item["type"] == "missing":
        return f"Key {dotted!r} is missing; give it in the file or with --set {dotted}=..."
    if item["type"] == "literal_error":
        options = [text.strip().strip("'") for text in item["ctx"]["expected"].replace(" or ", ", ").split(",")]
        return f"{dotted} == {value!r}, must be one of {listed(options)}.{nearest(str(value), options)}"
    rule = item["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    shown = "" if isinstance(value, Mapping | list | BaseModel) else f" == {value!r},"
    return f"{dotted}{shown} must be {rule}." if dotted else rule
