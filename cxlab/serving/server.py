"""A bundle behind HTTP: our own form, the Open Inference Protocol, metrics, and a page that says how to ask.

    cxlab serve release/churn-3 --log answered.csv
    curl http://127.0.0.1:8000/score -d '{"row": {"tenure": 3, "plan": "basic"}}' -H 'Content-Type: application/json'

Without a token only this machine may ask. No request makes the server fail, and none is answered that its log does not
hold.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import re
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from cxlab.errors import ParamsError, unknown
from cxlab.release.folder import AnyBundle
from cxlab.release.scorer import load_bundle
from cxlab.serving.describe import TOKEN, address_of, described, docs_page, infer_form, policy, score_form, url
from cxlab.serving.payload import Refused
from cxlab.serving.request_log import RequestLog
from cxlab.serving.service import USUAL, Counts, Guard, Limits, Service, answered

__all__ = ["TOKEN", "Limits", "RequestLog", "application", "serve"]

LOOPBACK = frozenset({b"localhost", b"127.0.0.1", b"[::1]"})
MODEL = "/v2/models/{name}"
VERSION = f"{MODEL}/versions/{{version}}"
QUIET = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}


def application(
    bundle: AnyBundle,
    *,
    limits: Limits = USUAL,
    token: str | None = None,
    log: RequestLog | None = None,
    hosts: frozenset[bytes] | None = None,
) -> FastAPI:
    """The server of one model, for any ASGI server.

    Args:
        bundle: The model.
        limits: What requests may take.
        token: What every request but `/health` must show.
        log: Where every scored row is written before it is answered.
        hosts: The names, in lower case, under which a browser may know this server; any if None.
    """
    counts = Counts(str(bundle.manifest["model"]), str(bundle.manifest["version"]), bundle.outcomes)
    service = Service(bundle, limits, log, counts)
    app = FastAPI(
        title=bundle.name,
        version=service.version,
        description=bundle.about,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        telemetry=QUIET,  # type: ignore[arg-type]
    )
    app.add_middleware(Guard, token=token, hosts=hosts, counts=counts)
    app.add_exception_handler(Refused, service.refused)
    app.add_exception_handler(HTTPException, _nowhere)

    async def docs(request: Request) -> Response:
        page = docs_page(app, bundle, address=address_of(request), token=token is not None)
        return Response(page, media_type="text/html", headers={"Content-Security-Policy": policy(page)})

    def get(path: str, handler: Any, summary: str, answer: dict[str, Any]) -> None:
        app.add_api_route(path, handler, **described(path, summary, answer))

    def post(path: str, handler: Any, summary: str, request: dict[str, Any], answer: dict[str, Any]) -> None:
        app.add_api_route(path, handler, methods=["POST"], **described(path, summary, answer, request))

    post("/score", service.score, "Answers and reasons for raw rows.", *score_form(bundle, limits))
    get("/health", service.health, "Whether the server is alive, and which model it serves.", {"status": "alive"})
    app.add_api_route(
        "/metrics", service.metrics, summary="Counts and times for Prometheus.", response_class=PlainTextResponse
    )
    get("/v2", service.server, "The protocol: what this server is.", {"name": "cxlab", "extensions": []})
    app.add_api_route("/v2/", service.server, include_in_schema=False)
    get("/v2/health/live", service.live, "The protocol: whether the server is alive.", {"live": True})
    get("/v2/health/ready", service.live, "The protocol: whether the server is ready.", {"ready": True})
    for path in (MODEL, VERSION):
        get(path, service.described, "The protocol: what the model reads and answers.", {"name": service.model})
        get(f"{path}/ready", service.ready, "The protocol: whether the model is ready.", {"ready": True})
        post(f"{path}/infer", service.infer, "The protocol: one tensor a column in.", *infer_form(bundle))
    app.add_api_route("/docs", docs, include_in_schema=False)
    return app


def serve(
    folder: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    log: Path | None = None,
    log_ids: bool = False,
    limits: Limits = USUAL,
) -> None:
    """Serves a bundle until it is interrupted or terminated.

    Args:
        folder: The bundle; every file of it is hashed first.
        host: Where to listen. Another than this machine's loopback needs a token in `CXLAB_SERVE_TOKEN`.
        port: Where to listen; 0 for any free one.
        log: A CSV file for every scored row.
        log_ids: Whether the log names the customers.
        limits: What requests may take.
    Raises:
        BundleError: The bundle is not what was exported.
        ParamsError: The address, the token or the log cannot be used.
    """
    token = os.environ.get(TOKEN) or None
    if token and not re.fullmatch(r"[!-~]+", token):
        raise ParamsError(f"{TOKEN} must be visible ASCII characters without spaces.")
    if log is None and log_ids:
        raise ParamsError("log_ids needs a log. Name one: --log FILE")
    bundle = load_bundle(folder)
    with closing(_listening(host, port, token)) as listener, _log(log, bundle, log_ids) as kept:
        bound = listener.getsockname()
        local = ipaddress.ip_address(bound[0]).is_loopback
        hosts = LOOPBACK | {host.lower().encode()} if local and token is None else None
        config = uvicorn.Config(
            application(bundle, limits=limits, token=token, log=kept, hosts=hosts),
            http=_connection(limits),
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="critical",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=limits.connections,
            timeout_keep_alive=limits.idle_seconds,
            timeout_graceful_shutdown=5,
            h11_max_incomplete_event_size=limits.head_bytes,
        )
        server = uvicorn.Server(config)
        with _ending(server):
            print(f"{bundle.name} on {url(bound)} (Ctrl-C ends it); how to ask: {url(bound)}/docs", flush=True)
            server.run([listener])


def _listening(host: str, port: int, token: str | None) -> socket.socket:
    if not 0 <= port <= 65535:
        raise ParamsError(f"port == {port}, must be from 0 to 65535. Try --port 8000")
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError):
        raise ParamsError(f"{host}:{port} is no address to listen on. Try --host 127.0.0.1 --port 8000") from None
    if token is None and not ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback:
        raise ParamsError(
            f"host == {host!r} can be reached from other machines, so a token is needed: set {TOKEN}, "
            "or listen on 127.0.0.1."
        )
    try:
        return socket.create_server(address[:2], family=family, backlog=512)
    except OSError as error:
        raise ParamsError(
            f"Port {port} of {host} cannot be listened on: {error.strerror}. Name another: --port {port % 65535 + 1}"
        ) from None


@contextmanager
def _log(path: Path | None, bundle: AnyBundle, ids: bool) -> Iterator[RequestLog | None]:
    with nullcontext() if path is None else closing(RequestLog(path, bundle, ids=ids)) as log:
        yield log


@contextmanager
def _ending(server: uvicorn.Server) -> Iterator[None]:
    """Ctrl-C and SIGTERM end the server and are no failure, whenever they come."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(*_: object) -> None:
        server.should_exit = True

    before = {each: signal.signal(each, end) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _connection(limits: Limits) -> type[asyncio.Protocol]:
    class Connection(AutoHTTPProtocol):
        """A connection that must say in time, and in few bytes, what it wants: uvicorn waits for ever."""

        head = 0
        timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            if len(self.connections) > 2 * limits.connections:
                self.transport.abort()
            self.wait()

        def data_received(self, data: bytes) -> None:
            before = self.cycle
            idle = before is None or before.response_complete
            super().data_received(data)
            if self.cycle is not before:
                self.head = 0
                self.stop()
            elif idle:
                self.head += len(data)
                if self.head > limits.head_bytes:
                    self.transport.abort()
                elif self.timer is None:
                    self.wait()

        def connection_lost(self, exc: Exception | None) -> None:
            self.stop()
            super().connection_lost(exc)

        def wait(self) -> None:
            self.timer = asyncio.get_running_loop().call_later(limits.seconds, self.transport.abort)

        def stop(self) -> None:
            if self.timer is not None:
                self.timer.cancel()
                self.timer = None

    return Connection


async def _nowhere(request: Request, error: Exception) -> Response:
    """What no route takes."""
    assert isinstance(error, HTTPException)
    path = request.scope["path"][:100]
    known = [str(route.path) for route in request.app.routes if hasattr(route, "path")]
    said = {
        404: unknown("Path", path, known, where="served here"),
        405: f"{request.method[:20]} is not for {path}. How to ask: GET /docs",
    }.get(error.status_code, str(error.detail))
    return answered(Refused(error.status_code, said, headers=error.headers))
