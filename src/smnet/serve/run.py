"""``smnet serve``: opens the models, listens, and drains when it is told to end."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import signal
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import uvicorn

from smnet.errors import UserError
from smnet.files import is_ours
from smnet.serve.app import make_app
from smnet.serve.camera import MOST_BYTES
from smnet.serve.limits import Limits
from smnet.serve.models import open_models
from smnet.serve.service import Service
from smnet.system import available_cores

_MOST_CONNECTIONS = 512
_BACKLOG = 128
_LEAST_TOKEN = 16  # characters
_MOST_REPORT = 64 << 20  # bytes


def serve(
    checkpoints: Sequence[str],
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    token: str | None = None,
    limits: Limits | None = None,
    workers: int | None = None,
    batch: int = 8,
    wait: float = 0.005,
    views: tuple[int, int] = (1, 1),
    device: str = "auto",
    backend: str | None = None,
    drain: float = 60.0,
    report: str | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> None:
    """Serve until SIGTERM or Ctrl-C; requests that were accepted are answered first.

    Args:
        checkpoints: checkpoints or exported files; the first one is the default.
        host, port: of the socket; port 0 is any free one.
        token: that requests need. A host that other machines reach needs one.
        limits: of a request.
        workers: decoding processes; None is one per core, at most 8.
        batch: videos per run of a network.
        wait: seconds to wait for further videos.
        views, device, backend: see :meth:`smnet.inference.recognizer.Recognizer.load`.
        drain: seconds for accepted requests at the end.
        report: a page that ``smnet evaluate`` wrote, which the page links to.
        say: receives lines for people.

    Raises:
        UserError: a model cannot be opened, the port is in use, or a token is missing.
    """
    check_token(host, token)
    page = read_report(report) if report is not None else ""
    listening = listen(host, port)
    models = open_models(checkpoints, device, views, backend)
    workers = workers or min(available_cores(), 8)
    service = Service(models, limits or Limits(), workers, batch, wait, page)
    try:
        service.warm_up()
        listening.listen(_BACKLOG)
        for model in models:
            say(f"{model.name} ({model.path}, version {model.version})")
        name = f"[{host}]" if ":" in host else host
        say(f"page and server: http://{name}:{listening.getsockname()[1]}/ (Ctrl-C ends)")
        server = Server(configuration(service, token, drain), service)
        # The end is not the default one, which uvicorn asks for once it has drained.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        server.run([listening])
    finally:
        service.close()


class Server(uvicorn.Server):
    """Tells the service when it begins to drain."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._service.draining = True
        loop = asyncio.get_running_loop()
        for listening in sockets or []:
            # The workers have copies of the socket, so closing ours would not refuse clients.
            loop.remove_reader(listening.fileno())
            with suppress(OSError):
                listening.shutdown(socket.SHUT_RDWR)
        await super().shutdown(sockets)


def configuration(service: Service, token: str | None, drain: float) -> uvicorn.Config:
    """How uvicorn serves."""
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    return uvicorn.Config(
        make_app(service, token),
        lifespan="off",
        http="h11",
        ws="websockets-sansio",
        ws_max_size=MOST_BYTES,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=_MOST_CONNECTIONS,
        timeout_keep_alive=15,
        backlog=_BACKLOG,
        timeout_graceful_shutdown=max(round(drain), 1),
    )


def check_token(host: str, token: str | None) -> None:
    """Refuse a host that other machines reach without a token, and a token that is guessed.

    Raises:
        UserError: with what to do.
    """
    if token is not None and (len(token) < _LEAST_TOKEN or not token.isascii()):
        raise UserError(
            f"--token: give at least {_LEAST_TOKEN} ASCII characters, such as those of:"
            " openssl rand -hex 16"
        )
    try:
        local = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = False
    if token is None and not local:
        raise UserError(
            f"--host {host}: other machines can reach it; set a token with --token or SMNET_TOKEN"
        )


def read_report(path: str) -> str:
    """The page of a report.

    Raises:
        UserError: no such file, or one that smnet did not write.
    """
    file = Path(path)
    if not file.is_file():
        raise UserError(
            f"--report {path}: no such file; smnet evaluate --report FILE.html writes it"
        )
    if file.stat().st_size > _MOST_REPORT or file.suffix != ".html" or not is_ours(file):
        raise UserError(f"--report {path}: is not a page that smnet evaluate wrote")
    return file.read_text(encoding="utf-8")


def listen(host: str, port: int) -> socket.socket:
    """A bound socket.

    Raises:
        UserError: the host or port cannot be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except (OSError, OverflowError) as error:
        listening.close()
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"--host {host} --port {port}: {reason}; name another") from None
    listening.set_inheritable(False)
    return listening
