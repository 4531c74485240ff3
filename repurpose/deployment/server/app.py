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

from repurpose.deployment.server.bodies import check_type, received, uploads
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
    predict = _timed(partial(_predict, service, metrics, ThreadPoolExecutor(1, "network")), metrics)
    responses: dict[int | str, dict[str, Any]] = {
        status: {"model": Problem, "description": said} for status, said in _REFUSALS.items()
    }
    app.post("/predict", response_model=Answer, responses=responses, openapi_extra=_body_of(service.kind))(predict)

    @app.get("/health")
    async def health() -> dict[str, Any]:
        """Tell that the service is up, and what it answers."""
        return {"status": "ok", **service.facts}

    @app.get("/metrics", response_class=PlainTextResponse)
    async def counts() -> Response:
        """Counts for Prometheus."""
        return Response(metrics.text(service.guarded.counts), media_type=CONTENT_TYPE)

    @app.get("/", include_in_schema=False)
    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return HTMLResponse(page(app.openapi(), service.kind))

    return app


async def _predict(service: ModelService, metrics: Metrics, network: ThreadPoolExecutor, request: Request) -> Response:
    """Receive a body, and answer it in the thread of the network."""
    limits = service.limits
    media_type = check_type(request, service.kind)
    if metrics.waiting >= limits.max_waiting:
        raise Refusal(503, f"{metrics.waiting} requests are waiting; come back later")
    metrics.waiting += 1
    try:
        body = await received(request, limits)
        if service.kind == "images":
            files = await uploads(body, request.headers, limits) if media_type.startswith("multipart/") else [body]
            job = partial(service.answer_images, files)
        else:
            job = partial(service.answer_json, body)
        loop = asyncio.get_running_loop()
        answer = loop.run_in_executor(network, job)  # what waits there is taken back where this is cancelled
        status, content = await asyncio.wait_for(answer, limits.seconds_to_answer)
    except TimeoutError:
        raise Refusal(503, f"there was no answer in {limits.seconds_to_answer:g} seconds; come back later") from None
    finally:
        metrics.waiting -= 1
    return JSONResponse(content, status)


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
