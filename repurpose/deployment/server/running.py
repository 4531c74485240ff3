"""Running a service by uvicorn: on one socket, in one process, until it is interrupted."""

import asyncio
import socket
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from repurpose.deployment.server.limits import Limits

__all__ = ["bound_socket", "server_of"]

_SECONDS_TO_END = 5  # for requests that are being answered when the service ends
_MOST_CONNECTIONS = 1000
_TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


def bound_socket(host: str, port: int) -> socket.socket:
    """Return a socket that listens; with port 0 at one that is free. Raises OSError, saying where it was to be."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise OSError(f"the service cannot listen at {host}, port {port}: {error}") from error


def server_of(app: Any, limits: Limits) -> uvicorn.Server:
    """Return the server; ``run(sockets=[...])`` serves until SIGINT or SIGTERM, and ends what is begun."""

    class Protocol(_PatientForAWhile):
        seconds = limits.seconds_to_receive

    config = uvicorn.Config(
        app,
        http=Protocol,
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
        limit_concurrency=_MOST_CONNECTIONS,
        timeout_graceful_shutdown=_SECONDS_TO_END,
    )
    return uvicorn.Server(config)


class _PatientForAWhile(H11Protocol):
    """HTTP by uvicorn, which by itself waits for ever for the headers of a request; this closes after some seconds."""

    seconds: float
    _too_slow: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        self._wait()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:  # the headers are there
            self._wait_no_more()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.cycle is None or self.cycle.response_complete:  # and no further request was sent behind the last
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._wait_no_more()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._wait_no_more()
        self._too_slow = self.loop.call_later(self.seconds, self._give_up)

    def _wait_no_more(self) -> None:
        if self._too_slow is not None:
            self._too_slow.cancel()
            self._too_slow = None

    def _give_up(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(_TOO_SLOW)
            self.transport.close()
