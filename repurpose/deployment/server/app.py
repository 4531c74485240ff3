"""`service_app`: the service as an ASGI application of FastAPI, which any ASGI server runs."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from time import monotonic
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse
from pydantic import BaseModel, Field

from repurpose.deployment.server.bodies import Room, check_type, received, uploads
from repurpose.deployment.server.limits import Limits, Refusal
from repurpose.deployment.server.metrics import CONTENT_TYPE, Metrics
from repurpose.deployment.server.model_service import ModelService
from repurpose.deployment.server.page import page
from repurpose.serving.row_answers import AnsweringRows, SetOptions

__all__ = ["service_app"]

_log = logging.getLogger(__name__)
_REFUSALS = {
    400: "Not JSON, no form, or empty.",
    408: "The body came too slowly.",
    413: "The body is too large, or has too many rows.",
    415: "A Content-Type that this model does not read.",
    422: "Not one row is an input of this model; `rows` says of each why.",
    503: "Too many requests wait, or the answer took too long. Come back later.",
}


class Row(BaseModel):
    """The answer to one image, text or row of numbers."""

    label: bool | int | float | str | None = Field(description="As in training; null where the row is refused.")
    class_name: str | None
    probability: float | None = Field(description="Of the label.")
    set: list[bool | int | float | str] | None = Field(description="Holds the right label as often as was asked for.")
    p_value: float | None = Field(description="Share of familiar rows that are at least as strange.")
    accepted: bool = Field(description="The verdict of the guard.")
    reason: str | None = Field(description="Why the row is refused, in a word.")
    detail: str | None = Field(description="The same for a person.")
    probabilities: list[float] | None = Field(description="Of all classes, in their order.")


class Answer(BaseModel):
    """Answers in the order of the rows."""

    classes: list[bool | int | float | str]
    class_names: list[str]
    rows: list[Row]


class Problem(BaseModel):
    """Why there is no answer."""

    detail: str


def service_app(
    repurposer: AnsweringRows,
    *,
    coverage: float | None = 0.9,
    min_confidence: float | None = None,
    max_unfamiliarity: float | None = None,
    score: str = "lac",
    method: str = "auto",
    limits: Limits | None = None,
) -> FastAPI:
    """Return an ASGI application that answers for a trained Repurposer, as `repurpose serve` runs it.

    The network runs in one thread, a request after the other; meanwhile others are received, or told to come back.

    Parameters
    ----------
    repurposer : Repurposer
    coverage, score, method : as in `predict_set` and `unfamiliarity_p_value`
    min_confidence, max_unfamiliarity : as in `guard`
    limits : Limits, optional

    Raises
    ------
    ValueError
        As `guard`, and for a network whose inputs have several parts.

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from torch import nn
    >>> from repurpose import LrRepurposer
    >>> from repurpose.deployment.server import service_app
    >>> network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 5))
    >>> repurposer = LrRepurposer(network, c=1.0).repurpose(make_blobs(30, random_state=8))
    >>> sorted(service_app(repurposer).openapi()["paths"])  # uvicorn.run(service_app(repurposer)) would serve it
    ['/health', '/metrics', '/predict']
    """
    options = SetOptions(coverage, score, method)
    service = ModelService.of(repurposer, options, min_confidence, max_unfamiliarity, limits or Limits())
    app = FastAPI(title=f"{type(repurposer).__name__} of repurpose", docs_url=None, redoc_url=None)
    metrics = Metrics()
    predict = _timed(_Predicting(service, metrics), metrics)
    responses: dict[int | str, dict[str, Any]] = {
        status: {"model": Problem, "description": said} for status, said in _REFUSALS.items()
    }
    app.post("/predict", response_model=Answer, responses=responses, openapi_extra=_body_of(service.kind))(predict)

    @app.head("/health", include_in_schema=False)
    @app.get("/health")
    async def health() -> dict[str, Any]:
        """Tell that the service is up, and what it answers."""
        return {"status": "ok", **service.facts}

    @app.head("/metrics", include_in_schema=False)
    @app.get("/metrics", response_class=PlainTextResponse)
    async def counts() -> Response:
        """Counts for Prometheus."""
        return Response(metrics.text(service.guarded.counts), media_type=CONTENT_TYPE)

    @app.head("/", include_in_schema=False)
    @app.get("/", include_in_schema=False)
    @app.head("/docs", include_in_schema=False)
    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return HTMLResponse(page(app.openapi(), service.kind))

    return app


class _Predicting:
    """Receives bodies, any number at a time, and answers them in the one thread of the network."""

    def __init__(self, service: ModelService, metrics: Metrics) -> None:
        self.service = service
        self.metrics = metrics
        self.room = Room()
        self.network = ThreadPoolExecutor(1, "network")

    async def __call__(self, request: Request) -> Response:
        """Answer a request. Raises Refusal."""
        limits, media_type = self.service.limits, check_type(request, self.service.kind)
        if self.metrics.waiting >= limits.max_waiting:
            raise Refusal(503, f"{self.metrics.waiting} requests are waiting; come back later")
        self.metrics.waiting += 1
        try:
            async with received(request, limits, self.room) as body:
                job = await self._job(request, body, media_type)
                # What waits there is taken back where this is cancelled.
                answer = asyncio.get_running_loop().run_in_executor(self.network, job)
                status, content = await self._in_time(answer)
        finally:
            self.metrics.waiting -= 1
        return JSONResponse(content, status)

    async def _job(self, request: Request, body: bytes, media_type: str) -> Callable[[], tuple[int, dict[str, Any]]]:
        """Return what the network has to do for a body."""
        if self.service.kind != "images":
            return partial(self.service.answer_json, body)
        is_form = media_type.startswith("multipart/")
        files = await uploads(body, request.headers, self.service.limits) if is_form else [body]
        return partial(self.service.answer_images, files)

    async def _in_time(self, answer: Awaitable[tuple[int, dict[str, Any]]]) -> tuple[int, dict[str, Any]]:
        seconds = self.service.limits.seconds_to_answer
        try:
            return await asyncio.wait_for(answer, seconds)
        except TimeoutError:
            raise Refusal(503, f"there was no answer in {seconds:g} seconds; come back later") from None


def _timed(predict: Callable[[Request], Awaitable[Response]], metrics: Metrics) -> Callable[..., Awaitable[Response]]:
    """Return the endpoint, which answers refusals and failures too, and counts each request with its status."""

    async def predictions(request: Request) -> Response:
        """Predict the labels of rows: with probabilities, the set of labels, the p-value and the guard's verdict."""
        began = monotonic()
        try:
            response = await predict(request)
        except Refusal as refusal:
            headers = {"Retry-After": "1"} if refusal.status == 503 else {}
            response = JSONResponse({"detail": refusal.message}, refusal.status, headers)
        except Exception:  # whatever a network raises: its sender is told nothing of what is inside
            _log.exception("a request failed")
            response = JSONResponse({"detail": "the service failed at this request; its log says why"}, 500)
        metrics.add(response.status_code, monotonic() - began)
        return response

    return predictions


def _body_of(kind: str) -> dict[str, Any]:
    """Describe the body of a request for OpenAPI."""
    image = {"schema": {"type": "string", "format": "binary"}}
    files = {"type": "object", "additionalProperties": {"type": "array", "items": image["schema"]}}
    numbers = {"type": "array", "items": {"type": "number"}, "description": "lists of lists for more axes"}
    rows = {"type": "array", "items": {"type": "string"} if kind == "texts" else numbers}
    of_rows = {"type": "object", "properties": {"rows": rows}, "required": ["rows"]}
    content = (
        {"multipart/form-data": {"schema": files}, "image/*": image, "application/octet-stream": image}
        if kind == "images"
        else {"application/json": {"schema": of_rows}}
    )
    return {"requestBody": {"required": True, "content": content}}
