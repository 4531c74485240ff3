"""A service that really listens, for tests: uvicorn in a thread, at a port that is free."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any

import httpx

from repurpose.deployment.server.app import service_app
from repurpose.deployment.server.limits import Limits
from repurpose.deployment.server.running import bound_socket, server_of


@contextmanager
def served(repurposer: Any, limits: Limits | None = None, **options: Any) -> Iterator[httpx.Client]:
    """Give a client of a service for the repurposer, and end both behind the block."""
    limits = limits or Limits()
    listening = bound_socket("127.0.0.1", 0)
    server = server_of(service_app(repurposer, limits=limits, **options), limits)
    thread = Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        with httpx.Client(base_url=f"http://127.0.0.1:{listening.getsockname()[1]}", timeout=30) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join(20)
        listening.close()
    assert not thread.is_alive()
