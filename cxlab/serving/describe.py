"""What a server says of itself: its OpenAPI document, and the page made of it that needs no network."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shlex
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request

from cxlab.data.schema import Column
from cxlab.features.terms import LONGEST
from cxlab.release.folder import AnyBundle, Kind
from cxlab.serving.service import DATATYPES, Limits, tensor

TOKEN = "CXLAB_SERVE_TOKEN"


def described(path: str, summary: str, answer: dict[str, Any], request: dict[str, Any] | None = None) -> dict[str, Any]:
    """What OpenAPI says of a route."""
    error = {"application/json": {"schema": {"type": "object", "properties": {"error": {"type": "string"}}}}}
    statuses = {
        400: "No JSON.",
        413: "Too large.",
        422: "Something does not fit: what, and in which row.",
        503: "Busy.",
    }
    unknown_model = {404: "Another model."} if "{" in path else {}
    wrong = {**unknown_model, **(statuses if request else {}), 401: "The token is missing."}
    names = re.findall(r"{(\w+)}", path)
    extra: dict[str, Any] = {
        "parameters": [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]
    }
    if request:
        extra["requestBody"] = {"required": True, "content": {"application/json": request}}
    good = {"description": "Done.", "content": {"application/json": {"schema": {"type": "object"}, "example": answer}}}
    return {
        "summary": summary,
        "operation_id": re.sub(r"\W+", "_", path).strip("_"),
        "responses": {200: good, **{status: {"description": why, "content": error} for status, why in wrong.items()}},
        "openapi_extra": extra,
    }


SAID = "Where is my card? It has not arrived."
ANSWERS: dict[Kind, Any] = {"number": 0.25, "text": "...", "truth": False}


def _example(column: Column) -> Any:
    if column.kind == "text":
        return SAID
    return column.low if column.kind == "number" else next(iter(column.categories), None)


def _value_form(column: Column, example: Any = None) -> dict[str, Any]:
    if example is not None:
        return {"type": ["string", "number", "null"], "description": f"Such as {example}."}
    if column.kind == "number":
        seen = "" if column.low is None else f" In training from {column.low:g} to {column.high:g}."
        return {"type": ["number", "null"], "description": f"A number; null where it is missing.{seen}"}
    if column.kind == "text":
        return {
            "type": ["string", "number", "boolean", "null"],
            "description": f"What a customer said; null where it is missing. {LONGEST:,} characters are read.",
        }
    seen = ", ".join(column.categories[:10])
    return {
        "type": ["string", "number", "boolean", "null"],
        "description": f"A category; null where it is missing. In training: {seen}; others are no errors.",
    }


def score_form(bundle: AnyBundle, limits: Limits) -> tuple[dict[str, Any], dict[str, Any]]:
    """The request and the answer of `/score`."""
    columns = bundle.schema.columns
    row = {
        "type": "object",
        "required": bundle.schema.names,
        "properties": {column.name: _value_form(column, bundle.examples.get(column.name)) for column in columns},
    }
    schema = {
        "type": "object",
        "properties": {
            "rows": {"type": "array", "items": row, "maxItems": limits.rows},
            "row": row,
            "reasons": {"type": "integer", "minimum": 0, "maximum": limits.reasons, "default": 0},
        },
        "oneOf": [{"required": ["rows"]}, {"required": ["row"]}],
        "additionalProperties": False,
    }
    shown = {column.name: _example(column) for column in columns} | dict(bundle.examples)
    example = {"rows": [shown], "reasons": min(3, limits.reasons)}
    scored = {name: ANSWERS[kind] for name, kind in bundle.outputs.items()} | {"reasons": ["..."]}
    answer = {"model": bundle.manifest["model"], "version": bundle.manifest["version"], "scores": [scored]}
    return {"schema": schema, "example": example}, answer


def infer_form(bundle: AnyBundle) -> tuple[dict[str, Any], dict[str, Any]]:
    """The request and the answer of the protocol."""
    inputs = [
        {
            "name": column.name,
            "datatype": "FP64" if column.kind == "number" else "BYTES",
            "shape": [1],
            "data": [bundle.examples.get(column.name, _example(column))],
        }
        for column in bundle.schema.columns
    ]
    answer = {
        "model_name": bundle.manifest["model"],
        "model_version": bundle.manifest["version"],
        "id": "1",
        "outputs": [tensor(name, DATATYPES[kind]) for name, kind in bundle.outputs.items()],
    }
    schema = {"type": "object", "required": ["inputs"], "properties": {"inputs": {"type": "array"}}}
    return {"schema": schema, "example": {"id": "1", "inputs": inputs}}, answer


def docs_page(app: FastAPI, bundle: AnyBundle, *, address: str, token: bool) -> str:
    """The page that says how to ask, made of the OpenAPI document."""
    from jinja2 import Environment, StrictUndefined

    template = Path(__file__).with_name("docs.html").read_text(encoding="utf-8")
    document = app.openapi()
    routes = [
        {"method": method.upper(), "path": path, "summary": said["summary"]}
        for path, methods in document["paths"].items()
        for method, said in methods.items()
    ]
    form = document["paths"]["/score"]["post"]["requestBody"]["content"]["application/json"]
    header = f' -H "Authorization: Bearer ${TOKEN}"' if token else ""
    return (
        Environment(autoescape=True, trim_blocks=True, undefined=StrictUndefined)
        .from_string(template)
        .render(
            title=document["info"]["title"],
            description=document["info"]["description"],
            rule=bundle.rule,
            id=bundle.id,
            routes=routes,
            columns=form["schema"]["properties"]["row"]["properties"],
            example=json.dumps(form["example"], indent=2, ensure_ascii=False),
            curl=f"curl {address}/score -H 'Content-Type: application/json'{header} -d "
            + shlex.quote(json.dumps(form["example"])),
        )
    )


def policy(page: str) -> str:
    """Nothing loads from anywhere, and no other script runs than the page's own."""
    script = page.partition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def url(address: Any) -> str:
    name, port = address[:2]
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"


def address_of(request: Request) -> str:
    """Where this request arrived; its Host header is the client's word, so it is not asked."""
    return url(request.scope.get("server") or ("127.0.0.1", 8000))
