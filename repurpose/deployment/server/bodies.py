"""Bodies of requests: received within limits, and taken apart into the rows that a model is asked about.

Nothing that a request holds is ever taken for a path or a name: images come as bytes, numbers are made numbers here.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from model_handler.data.decoding import UnreadableImageError, image_in_file
from repurpose.deployment.server.limits import Limits, Refusal

__all__ = ["Room", "Rows", "check_type", "received", "rows_of_images", "rows_of_json", "uploads"]

_JSON, _FORM = "application/json", "multipart/form-data"
_DISCARDED = 8  # times the limit that are received of a body too large, so that its sender reads why


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of a request: those that can be asked about, and why others cannot, by their number among all."""

    data: list[Any]
    unreadable: Mapping[int, str]

    def __len__(self) -> int:
        return len(self.data) + len(self.unreadable)


def check_type(request: Request, kind: str) -> str:
    """Return the media type of the body, in lower case. Raises Refusal for one that this kind of model cannot read."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Refusal(415, "send the body as it is, without a Content-Encoding")
    if kind == "images":
        if media_type not in (_FORM, "application/octet-stream") and not media_type.startswith("image/"):
            raise Refusal(
                415,
                f"this model reads images: send one as the body, with Content-Type: image/jpeg, image/png or "
                f"application/octet-stream, or several as files of {_FORM}; got {media_type or 'no Content-Type'}",
            )
    elif media_type != _JSON:
        raise Refusal(
            415,
            f'this model reads {kind}: send {{"rows": [...]}} with Content-Type: {_JSON}; got '
            f"{media_type or 'no Content-Type'}",
        )
    return media_type


class Room:
    """The bytes of bodies that are held at a time, counted in the thread of the event loop."""

    def __init__(self) -> None:
        self.n_bytes = 0


@asynccontextmanager
async def received(request: Request, limits: Limits, room: Room) -> AsyncIterator[bytes]:
    """Give the body, which takes room while it is used.

    Raises Refusal where it is too large, too slow, empty or broken off, and where there is no room for it now.
    """
    if (stated := request.headers.get("content-length", "")).isdigit() and int(stated) > _DISCARDED * limits.max_bytes:
        _refuse_size(limits)
    body, size = bytearray(), 0
    try:
        async with asyncio.timeout(limits.seconds_to_receive):
            async for part in request.stream():
                size += len(part)
                if size > _DISCARDED * limits.max_bytes:
                    _refuse_size(limits)
                if size <= limits.max_bytes:  # what is above it is read and not kept
                    body += part
                    room.n_bytes += len(part)
                if room.n_bytes > limits.max_bytes_waiting:
                    raise Refusal(503, f"{room.n_bytes:,} bytes of requests are waiting; come back later")
        if size > limits.max_bytes:
            _refuse_size(limits)
        if not size:
            raise Refusal(400, "the body is empty")
        yield bytes(body)
    except TimeoutError:
        raise Refusal(408, f"the body was not there in {limits.seconds_to_receive:g} seconds") from None
    except ClientDisconnect:
        raise Refusal(400, "the body broke off") from None
    finally:
        room.n_bytes -= len(body)


def _refuse_size(limits: Limits) -> NoReturn:
    raise Refusal(413, f"the body has more than {limits.max_bytes:,} bytes, the most that is taken")


async def uploads(body: bytes, headers: Headers, limits: Limits) -> list[bytes]:
    """Return the files of a form, whatever their fields are called. Raises Refusal for what is no form with files."""

    async def whole() -> AsyncIterator[bytes]:
        yield body

    parser = MultiPartParser(headers, whole(), max_files=limits.max_rows, max_fields=100)  # type: ignore[arg-type]
    parser.spool_max_size = limits.max_bytes  # nothing is written to the disk
    try:
        form = await parser.parse()
    except MultiPartException as error:
        status = 413 if error.message.startswith("Too many files") else 400
        raise Refusal(status, f"the form cannot be read: {error.message}") from None
    files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
    if not files:
        raise Refusal(400, "the form has no files: send each image as a file, such as curl -F image=@photo.jpg")
    return [await file.read() for file in files]


def rows_of_images(files: list[bytes], limits: Limits) -> Rows:
    """Open images, their pixels not yet decoded: these are counted before, as all of them are in memory at the end."""
    n_left = limits.max_pixels

    def opened(contents: object) -> Any:
        nonlocal n_left
        if not contents:
            raise UnreadableImageError("the file is empty")
        image = image_in_file(bytes(contents))  # type: ignore[call-overload]
        if max(image.size) > limits.max_aspect * min(image.size):
            raise UnreadableImageError(
                f"it has {image.width} x {image.height} pixels, and a side may be at most {limits.max_aspect:g} times "
                "the other"
            )
        if image.width * image.height > n_left:
            raise UnreadableImageError(
                f"it has {image.width} x {image.height} pixels, and at most {limits.max_pixels:,} of all images of a "
                "request are taken"
            )
        n_left -= image.width * image.height
        return image

    return _rows(files, opened, limits)


def rows_of_json(body: bytes, kind: str, limits: Limits, *, whole_numbers: bool = False) -> Rows:
    """Return the rows of ``{"rows": [...]}``, or of a list alone. Raises Refusal for anything else."""
    try:
        given = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise Refusal(400, f"the body is no JSON: {reason[:200]}") from None
    rows = given["rows"] if isinstance(given, dict) and set(given) == {"rows"} else given
    if not isinstance(rows, list):
        raise Refusal(400, 'the body must be {"rows": [...]}, and has ' + _what(given))
    return _rows(rows, _text if kind == "texts" else _whole_numbers if whole_numbers else _numbers, limits)


def _rows(given: list[Any], read: Callable[[object], Any], limits: Limits) -> Rows:
    if len(given) > limits.max_rows:
        raise Refusal(413, f"the request has {len(given):,} rows, and at most {limits.max_rows:,} are taken")
    if not given:
        raise Refusal(400, "there are no rows")
    data, unreadable = [], {}
    for number, value in enumerate(given):
        try:
            data.append(read(value))
        except UnreadableImageError as error:
            unreadable[number] = f"it cannot be read as an image: {error}"
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            unreadable[number] = str(error)
    return Rows(data, unreadable)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a text is expected, got {_what(value)}")
    return value


def _numbers(value: object) -> np.ndarray:
    return _array(value).astype(np.float64)


def _whole_numbers(value: object) -> np.ndarray:
    array = _array(value)
    if array.dtype.kind != "i":
        raise TypeError("whole numbers are expected")
    return array.astype(np.int64)


def _array(value: object) -> np.ndarray:
    """Return a list of numbers, or of lists of them, as an array; text and null are never made numbers."""
    if not isinstance(value, list):
        raise TypeError(f"a row is a list of numbers, got {_what(value)}")
    try:
        array = np.array(value)
    except ValueError:
        raise ValueError("the lists of a row differ in length") from None
    if array.dtype.kind not in "iuf" or not array.size:
        raise TypeError(f"a row is a list of numbers, got {_what(value)}")
    return array


def _what(value: object) -> str:
    """Name the JSON that was sent, by its kind and beginning."""
    text = json.dumps(value)
    return text if len(text) <= 40 else text[:40] + "..."


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number that JSON has")
