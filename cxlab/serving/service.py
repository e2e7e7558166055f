"""Behind a server's door: who may ask, what is counted, and how a request becomes scores."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from fastapi import Request, Response
from prometheus_client import CollectorRegistry, Counter, Histogram, Info, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cxlab.errors import CxlabError, unknown
from cxlab.release.folder import Answered, AnyBundle
from cxlab.serving.payload import Asked, Reader, Refused, unreadable
from cxlab.serving.request_log import RequestLog

AT_ONCE = 64  # rows' worth of effort that takes less time than a thread to hand them to
DATATYPES = {"number": "FP64", "text": "BYTES", "truth": "BOOL"}  # of the Open Inference Protocol, for answers
DRAINED = 8  # times the largest body that is read and dropped, so that the refusal reaches whoever sends it
READ = frozenset({200, 422})  # answers after which the body was read to its end, so that the connection may stay
SAFE = [(b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff")]
LOGGER = logging.getLogger("cxlab.serve")


@dataclass(frozen=True)
class Limits:
    """What one request, one connection and all of them may take.

    Attributes:
        body_bytes: Size of a request's body.
        rows: Rows a request.
        seconds: For a request to arrive, and then for it to be scored.
        reasons: Reasons a row.
        surplus: Values a row may hold besides the model's.
        threads: Larger requests that are scored at the same time.
        waiting: Larger requests that are scored or wait for it.
        connections: Open connections.
        head_bytes: Size of a request's head.
        idle_seconds: How long a connection may stay open between two requests.
    """

    body_bytes: int = 1_000_000
    rows: int = 1000
    seconds: float = 10.0
    reasons: int = 10
    surplus: int = 1000
    threads: int = 2
    waiting: int = 32
    connections: int = 256
    head_bytes: int = 65_536
    idle_seconds: int = 20


USUAL = Limits()


class Counts:
    """What `/metrics` tells."""

    def __init__(self, model: str, version: str, outcomes: Sequence[str]) -> None:
        kept = self.registry = CollectorRegistry()
        Info("cxlab_model", "The model that answers.", registry=kept).info({"model": model, "version": version})
        self.requests = Counter("cxlab_requests", "Requests answered.", ["route", "status"], registry=kept)
        self.seconds = Histogram(
            "cxlab_request_seconds",
            "From a request's head to its answer.",
            ["route"],
            registry=kept,
            buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
        )
        self.rows = Counter("cxlab_rows_scored", "Rows scored and answered.", registry=kept)
        decisions = Counter("cxlab_decisions", "Rows by decision.", ["decision"], registry=kept)
        self.decisions = {name: decisions.labels(name) for name in outcomes}
        self.refused = Counter("cxlab_rows_refused", "Rows that could not be read.", registry=kept)
        self.log_failures = Counter("cxlab_log_failures", "Requests not answered: not logged.", registry=kept)
        self.bugs = Counter("cxlab_errors", "Requests that met a bug of the server.", registry=kept)

    def scored(self, answers: Answered) -> None:
        self.rows.inc(len(answers))
        for outcome in answers.outcome:
            self.decisions[outcome].inc()


class Guard:
    """The door: who may ask; how long it took and what became of it; and that something always is answered."""

    def __init__(self, app: ASGIApp, *, token: str | None, hosts: frozenset[bytes] | None, counts: Counts) -> None:
        self.app, self.hosts, self.counts = app, hosts, counts
        self.token = token.encode() if token else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = time.perf_counter(), 0

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                ends = [] if status in READ else [(b"connection", b"close")]
                message["headers"] = [*message.get("headers", ()), *SAFE, *ends]
            await send(message)

        try:
            refused = self.refusal(scope)
            await (answered(refused) if refused else self.app)(scope, receive, noted)
        except Exception:
            LOGGER.exception("A request met a bug of the server.")
            self.counts.bugs.inc()
            if not status:
                await said(500, {"error": "The server failed. Its own log says why."})(scope, receive, noted)
        finally:
            route = getattr(scope.get("route"), "path", "none")
            self.counts.requests.labels(route, status).inc()
            self.counts.seconds.labels(route).observe(time.perf_counter() - started)

    def refusal(self, scope: Scope) -> Refused | None:
        headers = dict(scope["headers"])
        host = headers.get(b"host", b"")
        if self.hosts is not None and without_port(host) not in self.hosts:
            return Refused(400, "The Host header names another machine. Ask for 127.0.0.1 or localhost.")
        origin = headers.get(b"origin")
        if origin is not None and scope["method"] != "GET" and origin.partition(b"://")[2] != host:
            return Refused(403, "Pages of other sites may not ask here.")
        if self.token is None or scope["path"] == "/health":
            return None
        scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() == b"bearer" and hmac.compare_digest(given.strip(), self.token):
            return None
        asked = {"WWW-Authenticate": "Bearer"}
        return Refused(401, "A token is needed: send the header Authorization: Bearer TOKEN.", headers=asked)


class Service:
    """What stands behind the routes."""

    def __init__(self, bundle: AnyBundle, limits: Limits, log: RequestLog | None, counts: Counts) -> None:
        self.bundle, self.limits, self.log, self.counts = bundle, limits, log, counts
        self.model, self.version = str(bundle.manifest["model"]), str(bundle.manifest["version"])
        self.reader = Reader(
            bundle.schema.names, bundle.id, tuple(bundle.outputs), limits.rows, limits.reasons, limits.surplus
        )
        self.pool = ThreadPoolExecutor(limits.threads, thread_name_prefix="score")
        self.places = threading.BoundedSemaphore(limits.waiting)

    async def score(self, request: Request) -> Response:
        asked = self.reader.asked(await self.body(request))
        found = await self.scored(asked)
        columns = {} if found.ids is None else {"id": found.ids}
        columns |= found.plain() | {"reasons": found.reasons or [()] * len(found)}
        told = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        return said(200, {"model": self.model, "version": self.version, "scores": told})

    async def infer(self, request: Request) -> Response:
        self.known(request)
        asked = self.reader.inferred(await self.body(request))
        found = await self.scored(asked)
        kinds = self.bundle.outputs
        tensors = {
            name: {"name": name, "datatype": DATATYPES[kinds[name]], "shape": [len(found)], "data": values}
            for name, values in found.plain().items()
        }
        answer = {"model_name": self.model, "model_version": self.version}
        named = {} if asked.id is None else {"id": asked.id}
        return said(200, {**answer, **named, "outputs": [tensors[name] for name in asked.outputs]})

    async def refused(self, _: Request, error: Exception) -> Response:
        assert isinstance(error, Refused)
        self.counts.refused.inc(len(error.problems))
        return answered(error)

    async def scored(self, asked: Asked) -> Answered:
        """Scores, on this thread where that takes less than to hand them to another; logged before they are told."""
        if self.bundle.effort(asked.rows, asked.reasons) <= AT_ONCE:
            return self.score_now(asked, float("inf"))
        busy = {"Retry-After": "1"}
        if not self.places.acquire(blocking=False):
            raise Refused(503, f"{self.limits.waiting} requests wait already. Ask again in a second.", headers=busy)
        task: Future[Answered] = self.pool.submit(self.score_now, asked, time.monotonic() + self.limits.seconds)
        task.add_done_callback(lambda _: self.places.release())
        try:
            return await asyncio.wait_for(asyncio.wrap_future(task), self.limits.seconds)
        except TimeoutError:
            late = f"Not scored within {self.limits.seconds:g} s. Ask again, or for fewer rows."
            raise Refused(503, late, headers=busy) from None

    def score_now(self, asked: Asked, until: float) -> Answered:
        try:
            found = self.bundle.score(asked.rows, reasons=asked.reasons)
        except CxlabError as error:
            raise Refused(422, str(error)) from None
        if found.problems:
            problems = [{"row": row, "message": found.problems[row]} for row in sorted(found.problems)]
            raise unreadable(problems, len(asked.rows))
        if time.monotonic() > until:
            raise TimeoutError
        if self.log is not None:
            try:
                self.log.write(asked.rows, found)
            except OSError as error:
                self.counts.log_failures.inc()
                LOGGER.error("The log %s cannot be written: %s", self.log.path, error)
                why = f"The request can't be logged, so it is not answered: {error.strerror}."
                raise Refused(503, why) from None
        self.counts.scored(found)
        return found

    async def body(self, request: Request) -> bytes:
        """The body, bounded in size and in time."""
        kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
        if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
            raise Refused(415, "Content-Type must be application/json.")
        if request.headers.get("content-encoding", "identity").lower() != "identity":
            raise Refused(415, "The body must not be compressed.")
        size_said = request.headers.get("content-length", "")
        most, size = self.limits.body_bytes, 0
        large = size_said.isascii() and size_said.isdigit() and (len(size_said) > 18 or int(size_said) > most)
        if large and request.headers.get("expect"):
            raise self.too_large()
        parts: list[bytes] = []
        try:
            async with asyncio.timeout(min(1.0, self.limits.seconds) if large else self.limits.seconds):
                more = True
                while more:
                    message = await request.receive()
                    if message["type"] != "http.request":
                        raise Refused(400, "The request ended before its body did.")
                    part, more = message.get("body", b""), message.get("more_body", False)
                    size += len(part)
                    if size > most:
                        parts.clear()
                    elif not large:
                        parts.append(part)
                    if size > DRAINED * most:
                        break
        except TimeoutError:
            if large or size > most:
                raise self.too_large() from None
            raise Refused(408, f"The body did not arrive within {self.limits.seconds:g} s.") from None
        if large or size > most:
            raise self.too_large()
        return b"".join(parts)

    def too_large(self) -> Refused:
        return Refused(413, f"The body must have at most {self.limits.body_bytes:,} bytes. Send the rows in parts.")

    def known(self, request: Request) -> None:
        """Refuses another model than ours."""
        name, version = request.path_params["name"], request.path_params.get("version", self.version)
        if name != self.model:
            raise Refused(404, unknown("Model", name[:100], [self.model], where="served here"))
        if version != self.version:
            raise Refused(404, unknown("Version", version[:100], [self.version], where="served here"))

    async def health(self, _: Request) -> Response:
        return said(200, {"status": "alive", "model": self.model, "version": self.version})

    async def metrics(self, _: Request) -> Response:
        return Response(generate_latest(self.counts.registry), media_type="text/plain; version=1.0.0; charset=utf-8")

    async def server(self, _: Request) -> Response:
        return said(200, {"name": "cxlab", "version": metadata.version("cxlab"), "extensions": []})

    async def live(self, _: Request) -> Response:
        return said(200, {"live": True, "ready": True})

    async def ready(self, request: Request) -> Response:
        self.known(request)
        return said(200, {"name": self.model, "ready": True})

    async def described(self, request: Request) -> Response:
        self.known(request)
        inputs = [tensor(c.name, "FP64" if c.kind == "number" else "BYTES") for c in self.bundle.schema.columns]
        outputs = [tensor(name, DATATYPES[kind]) for name, kind in self.bundle.outputs.items()]
        facts = {"name": self.model, "versions": [self.version], "platform": self.bundle.platform}
        return said(200, {**facts, "inputs": inputs, "outputs": outputs})


def tensor(name: str, datatype: str) -> dict[str, Any]:
    """What the protocol says of one input or output."""
    return {"name": name, "datatype": datatype, "shape": [-1]}


def said(status: int, content: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Response:
    """An answer in JSON."""
    text = json.dumps(content, allow_nan=False, separators=(",", ":"))
    return Response(text, status, headers, media_type="application/json")


def answered(refused: Refused) -> Response:
    """A refusal as an answer: one sentence, and where single rows are meant, which."""
    rows = {"problems": refused.problems} if refused.problems else {}
    return said(refused.status, {"error": refused.message, **rows}, refused.headers)


def without_port(host: bytes) -> bytes:
    """The name in a Host header."""
    name, colon, port = host.rpartition(b":")
    return (name if colon and port.isdigit() else host).lower()
