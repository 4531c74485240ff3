"""The service answers what the library answers, whoever asks at the same time, and refuses the rest plainly."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from repurpose.deployment.server.limits import Limits
from repurpose.serving.guarded_repurposer import GuardedRepurposer
from tests.repurpose.deployment.models import X, as_file, of_images, of_numbers, of_texts, pictures
from tests.repurpose.deployment.server.served import served
from tests.repurpose.examples import CentroidRepurposer, blobs, identity_network

NEW = blobs(20, seed=1)[0].astype(float)
JSON = {"Content-Type": "application/json"}
LIMITS = Limits(max_bytes=50_000, max_rows=30, max_pixels=10_000)
IMAGES = pictures(4, seed=1)[0]


def assert_is_answered(answered: Any, repurposer: Any, inputs: Any, coverage: float = 0.9) -> None:
    """Compare the rows of an answer with what the library says of the same inputs."""
    rows, probabilities = answered["rows"], repurposer.predict_probability(inputs)
    assert answered["classes"] == repurposer.classes_.tolist()
    assert [row["label"] for row in rows] == repurposer.predict_label(inputs).tolist()
    assert np.array_equal([row["probabilities"] for row in rows], probabilities)
    assert np.array_equal([row["probability"] for row in rows], probabilities.max(axis=1))
    assert [row["set"] for row in rows] == [labels.tolist() for labels in repurposer.predict_set(inputs, coverage)]
    assert np.array_equal([row["p_value"] for row in rows], repurposer.unfamiliarity_p_value(inputs))


@pytest.fixture(scope="module")
def of_rows() -> Any:
    return of_numbers()


@pytest.fixture(scope="module")
def numbers(of_rows: Any) -> Iterator[httpx.Client]:
    with served(of_rows, LIMITS) as client:
        yield client


@pytest.fixture(scope="module")
def images() -> Iterator[httpx.Client]:
    with served(of_images(), LIMITS, coverage=0.8) as client:
        yield client


def test_rows_of_numbers_are_answered_as_by_the_library(numbers: httpx.Client, of_rows: Any) -> None:
    for body in ({"rows": NEW.tolist()}, NEW.tolist()):
        answer = numbers.post("/predict", json=body)
        assert answer.status_code == 200
        assert_is_answered(answer.json(), of_rows, NEW)
        assert {row["accepted"] for row in answer.json()["rows"]} == {True}


def test_images_are_answered_as_a_body_and_as_files_of_a_form(images: httpx.Client) -> None:
    repurposer, files = of_images(), [as_file(image) for image in IMAGES]
    for media_type in ("image/png", "application/octet-stream"):
        answer = images.post("/predict", content=files[0], headers={"Content-Type": media_type})
        assert_is_answered(answer.json(), repurposer, IMAGES[:1], 0.8)
    answer = images.post("/predict", files=[(f"image{n}", ("x.png", contents)) for n, contents in enumerate(files)])
    assert_is_answered(answer.json(), repurposer, IMAGES, 0.8)


def test_texts_are_answered_and_are_no_paths() -> None:
    repurposer, texts = of_texts(), ["a good film", "/etc/passwd", "bad.png"]
    with served(repurposer, coverage=0.7) as client:
        assert_is_answered(client.post("/predict", json={"rows": texts}).json(), repurposer, texts, 0.7)
        rows = client.post("/predict", content=b'["good", 3, null, "\\ud800"]', headers=JSON).json()["rows"]
        assert [row["reason"] for row in rows] == [None, *["unreadable"] * 3]
        assert rows[1]["detail"] == "a text is expected, got 3"


def test_rows_are_judged_by_the_guard_one_by_one(of_rows: Any) -> None:
    familiar = of_rows.unfamiliarity_p_value(NEW) > 0.1
    unsure = np.where(familiar, of_rows.predict_probability(NEW).max(axis=1), 1).argmin()
    with served(of_rows, min_confidence=0.6, max_unfamiliarity=0.95) as client:
        rows = [NEW[0], [1.0, 2.0], [1e3] * 4, NEW[unsure], "text", [None] * 4, [[1.0], [2.0, 3.0]]]
        answer = client.post("/predict", content=json.dumps({"rows": rows}, default=list), headers=JSON)
        assert answer.status_code == 200
        found = answer.json()["rows"]
        reasons = [None, "shape", "unfamiliar", "uncertain", "unreadable", "unreadable", "unreadable"]
        assert [row["reason"] for row in found] == reasons
        assert [row["label"] for row in found] == [of_rows.predict_label(NEW[:1])[0], *[None] * 6]
        assert [row["p_value"] is None for row in found] == [False, True, False, False, True, True, True]
        assert found[2]["p_value"] == of_rows.unfamiliarity_p_value([[1e3] * 4])[0]
        assert found[3]["probabilities"] == of_rows.predict_probability(NEW[unsure : unsure + 1])[0].tolist()
        assert found[4]["detail"] == 'a row is a list of numbers, got "text"'
        told = client.get("/metrics").text
        assert 'repurpose_rows_total{verdict="accepted"} 1' in told
        assert 'repurpose_rows_total{verdict="unreadable"} 3' in told


@pytest.mark.parametrize(
    ("content", "status", "said"),
    [
        (b"{", 400, "the body is no JSON"),
        (b"\xff\xfe\x00", 400, "the body is no JSON"),
        (b"[[NaN, 1, 2, 3]]", 400, "NaN is no number that JSON has"),
        (b"[[1, 2, 3, Infinity]]", 400, "Infinity is no number"),
        (b"[" * 20_000, 400, "nested too deeply"),
        (b'{"row": [[1]]}', 400, 'must be {"rows": [...]}, and has {"row": [[1]]}'),
        (b"7", 400, "has 7"),
        (b"", 400, "the body is empty"),
        (b"[]", 400, "there are no rows"),
        (b"[[1, 2, 3]]", 422, "row 0: a row of shape (3,), where (4,) is expected"),
        (b"[[1, 2, 3, 1e999]]", 422, "NaN or infinite"),
        (b"[[1, 2, 3, null]]", 422, "a row is a list of numbers"),
        (b'["pixel.png"]', 422, "a row is a list of numbers"),
        (b"[" + b"[1],".join([b""] * 32) + b"[1]]", 413, "has 32 rows, and at most 30"),
        (b" " * 60_000, 413, "more than 50,000 bytes"),
        (b" " * 600_000, 413, "more than 50,000 bytes"),
    ],
)
def test_broken_and_oversized_rows_are_refused_plainly(
    numbers: httpx.Client, content: bytes, status: int, said: str
) -> None:
    answer = numbers.post("/predict", content=content, headers=JSON)
    assert (answer.status_code, said in answer.json()["detail"]) == (status, True), answer.text
    assert "Traceback" not in answer.text


def test_a_body_without_a_length_is_counted_too(numbers: httpx.Client) -> None:
    answer = numbers.post("/predict", content=iter([b" " * 20_000] * 4), headers=JSON)
    assert (answer.status_code, answer.json()["detail"][:14]) == (413, "the body has m")


def test_other_types_of_bodies_are_refused_with_those_that_are_read(
    numbers: httpx.Client, images: httpx.Client
) -> None:
    answer = numbers.post("/predict", content=b"1,2", headers={"Content-Type": "text/csv"})
    assert answer.status_code == 415
    assert "this model reads numbers" in answer.json()["detail"]
    answer = images.post("/predict", json={"rows": ["x.png"]})
    assert answer.status_code == 415
    assert "image/jpeg" in answer.json()["detail"]
    answer = numbers.post("/predict", content=b"x", headers={**JSON, "Content-Encoding": "gzip"})
    assert answer.status_code == 415


def test_broken_and_huge_images_are_refused_plainly(images: httpx.Client) -> None:
    whole = as_file(IMAGES[0])
    huge = as_file(np.zeros((101, 100, 3), dtype=np.uint8))
    for contents, said in (
        (b"no image", "its 8 bytes are of no format"),
        (whole[:-80], "cannot be read"),
        (huge, "100 x 101 pixels, and at most 10,000"),
        (as_file(np.zeros((101, 1, 3), np.uint8)), "1 x 101 pixels, and a side may be at most 100 times the other"),
    ):
        answer = images.post("/predict", content=contents, headers={"Content-Type": "image/png"})
        assert (answer.status_code, said in answer.json()["detail"]) == (422, True), answer.text
        assert "0x" not in answer.text
    slender = images.post(
        "/predict", content=as_file(np.zeros((1, 100, 3), np.uint8)), headers={"Content-Type": "image/png"}
    )
    assert slender.status_code == 200
    together = images.post("/predict", files=[("a", (f"{n}", as_file(np.zeros((60, 90, 3), np.uint8)))) for n in "ab"])
    assert [row["accepted"] for row in together.json()["rows"]] == [True, False]
    mixed = images.post("/predict", files=[("a", ("a", whole)), ("b", ("b", b"")), ("c", ("c", whole))])
    assert mixed.status_code == 200
    assert [row["accepted"] for row in mixed.json()["rows"]] == [True, False, True]
    form = {"Content-Type": "multipart/form-data; boundary=x"}
    assert images.post("/predict", content=b"--y", headers=form).status_code == 400
    no_boundary = images.post("/predict", content=b"--y", headers={"Content-Type": "multipart/form-data"})
    assert no_boundary.status_code == 400
    no_file = images.post("/predict", files=[("a", (None, b"b"))])
    assert (no_file.status_code, "the form has no files" in no_file.json()["detail"]) == (400, True)
    many = images.post("/predict", files=[("a", (f"{n}", whole)) for n in range(31)])
    assert many.status_code == 413


def test_a_slow_body_and_slow_headers_are_refused_while_others_are_answered(of_rows: Any) -> None:
    with served(of_rows, Limits(seconds_to_receive=0.5)) as client:

        async def send(lines: bytes) -> bytes:
            reader, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
            writer.write(lines)
            sending = asyncio.create_task(_drip(writer))
            answer = await asyncio.wait_for(reader.read(), 5)
            sending.cancel()
            writer.close()
            return answer

        async def _drip(writer: Any) -> None:
            while True:  # a byte each tenth of a second
                await asyncio.sleep(0.1)
                writer.write(b" ")

        async def all_of_them() -> list[Any]:
            head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            async with httpx.AsyncClient(base_url=client.base_url) as quick:
                slow = [send(head + b"Content-Length: 90\r\n\r\n"), send(head + b"X: ")] * 1
                return await asyncio.gather(*slow, quick.post("/predict", json=NEW.tolist()))

        body, headers, quick = asyncio.run(all_of_them())
        assert body.startswith(b"HTTP/1.1 408")
        assert b'{"detail":"the body was not there in 0.5 seconds"}' in body
        assert headers.startswith(b"HTTP/1.1 408")
        assert_is_answered(quick.json(), of_rows, NEW)


def test_too_many_that_wait_are_told_to_come_back(of_rows: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with served(of_rows, Limits(max_waiting=2, seconds_to_answer=0.4)) as client:
        monkeypatch.setattr(GuardedRepurposer, "judge", lambda *given: time.sleep(1.0))

        async def ask(n: int) -> list[httpx.Response]:
            async with httpx.AsyncClient(base_url=client.base_url) as other:
                return await asyncio.gather(*[other.post("/predict", json=NEW.tolist()) for _ in range(n)])

        answers = asyncio.run(ask(4))
        assert [answer.status_code for answer in answers] == [503] * 4
        told = [answer.json()["detail"] for answer in answers]
        assert sum("no answer in 0.4 seconds" in said for said in told) == 2
        assert sum("2 requests are waiting" in said for said in told) == 2
        assert {answer.headers["Retry-After"] for answer in answers} == {"1"}


def test_bodies_that_wait_take_no_more_room_than_there_is(of_rows: Any) -> None:
    with served(of_rows, Limits(max_bytes=1000, max_bytes_waiting=1500, seconds_to_receive=1.0)) as client:

        async def half_a_body() -> bytes:
            reader, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
            head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n"
            writer.write(head + b" " * 800)
            answer = await reader.read()
            writer.close()
            return answer

        async def two_of_them() -> list[bytes]:
            return await asyncio.gather(half_a_body(), half_a_body())

        assert sorted(answer[:12] for answer in asyncio.run(two_of_them())) == [b"HTTP/1.1 408", b"HTTP/1.1 503"]
        assert_is_answered(client.post("/predict", json=NEW[:5].tolist()).json(), of_rows, NEW[:5])


def test_a_failure_inside_is_told_without_its_traceback(
    of_rows: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*given: Any) -> Any:
        raise RuntimeError("a secret")

    with served(of_rows) as client:
        monkeypatch.setattr(GuardedRepurposer, "judge", fails)
        answer = client.post("/predict", json=NEW.tolist())
        assert (answer.status_code, answer.json()["detail"]) == (
            500,
            "the service failed at this request; its log says why",
        )
        assert 'repurpose_requests_total{status="500"} 1' in client.get("/metrics").text
        assert client.get("/health").status_code == 200
    assert "a secret" in caplog.text


def test_health_metrics_and_pages_need_nothing_from_elsewhere(numbers: httpx.Client) -> None:
    assert numbers.get("/health").json() == {
        "status": "ok",
        "model": "LrRepurposer",
        "reads": "numbers",
        "n_classes": 3,
        "answers": ["label", "probability", "set", "p_value"],
        "cannot": {},
    }
    numbers.post("/predict", json=NEW.tolist())
    metrics = numbers.get("/metrics")
    assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert 'repurpose_requests_total{status="200"}' in metrics.text
    described = numbers.get("/openapi.json").json()
    assert sorted(described["paths"]) == ["/health", "/metrics", "/predict"]
    row = described["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert row["properties"]["rows"]["items"]["type"] == "array"
    for path in ("/", "/docs"):
        page = numbers.get(path)
        assert page.headers["content-type"].startswith("text/html")
        assert "POST /predict" in page.text
        assert "http://" not in page.text
        assert "https://" not in page.text
    for path in ("/health", "/metrics", "/", "/docs"):  # as balancers of load ask
        asked = numbers.head(path)
        assert (asked.status_code, asked.content) == (200, b"")
    assert numbers.get("/nothing").status_code == 404
    assert numbers.get("/predict").status_code == 405


def test_what_a_model_cannot_say_is_null_and_health_tells_why() -> None:
    repurposer = CentroidRepurposer(identity_network(), ["0"]).repurpose((X, X[:, 0] > 0))
    with served(repurposer) as client:
        health = client.get("/health").json()
        assert health["answers"] == ["label", "p_value"]
        assert "has no probabilities" in health["cannot"]["set"]
        (row, *_) = client.post("/predict", json=NEW.tolist()).json()["rows"]
        assert row["label"] is bool(repurposer.predict_label(NEW[:1])[0])
        assert row["set"] is row["probability"] is row["probabilities"] is None


def resident_megabytes(process: int | str = "self") -> float:
    with open(f"/proc/{process}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE") / 1e6


async def ask_for(
    seconds: float, base_url: httpx.URL, repurposer: Any, n_clients: int, process: int | str
) -> list[float]:
    """Let clients ask again and again, hold each answer against the library's, and return the memory over time."""
    batches = [NEW[n : n + 1 + n % 5] for n in range(15)]
    expected = [repurposer.predict_probability(batch) for batch in batches]
    sets = [[labels.tolist() for labels in repurposer.predict_set(batch)] for batch in batches]
    loop, memory, n_asked = asyncio.get_running_loop(), [], 0
    end = loop.time() + seconds

    async def client(first: int) -> None:
        nonlocal n_asked
        # Without certificates, which each client would read for a tenth of a second.
        async with httpx.AsyncClient(base_url=base_url, timeout=30, verify=False) as asking:
            number = first
            while loop.time() < end:
                number = (number + 1) % len(batches)
                answer = await asking.post("/predict", json=batches[number].tolist())
                assert answer.status_code == 200, answer.text
                rows = answer.json()["rows"]
                assert np.array_equal([row["probabilities"] for row in rows], expected[number])
                assert [row["set"] for row in rows] == sets[number]
                n_asked += 1

    async def watch() -> None:
        while loop.time() < end:
            await asyncio.sleep(seconds / 20)
            memory.append(resident_megabytes(process))

    await asyncio.gather(watch(), *map(client, range(n_clients)))
    assert n_asked >= n_clients  # how many is a matter of the machine
    return memory


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="memory is read from /proc")
def test_fifty_clients_at_once_get_the_library_s_answers_and_memory_stays_flat(of_rows: Any) -> None:
    with served(of_rows) as client:
        memory = asyncio.run(ask_for(5, client.base_url, of_rows, 50, "self"))
        assert max(memory[-5:]) - max(memory[:5]) < 15
        told = client.get("/metrics").text
        assert "repurpose_requests_waiting 0" in told
        assert told.count("repurpose_requests_total{status=") == 1


_PROGRAM = """
import sys, uvicorn
from torch import nn
from repurpose import load
from repurpose.deployment.server import service_app
repurposer = load("saved", source_model=nn.Sequential(nn.Identity()))
uvicorn.run(service_app(repurposer), port=int(sys.argv[1]), log_level="warning")
"""


@pytest.mark.slow  # a minute of questions to a process of its own
def test_fifty_clients_ask_another_process_for_a_minute(of_rows: Any, tmp_path: Path) -> None:
    of_rows.save_repurposer(tmp_path / "saved")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = httpx.URL(f"http://127.0.0.1:{port}")
    with subprocess.Popen([sys.executable, "-c", _PROGRAM, str(port)], cwd=tmp_path) as process:
        try:
            for _ in range(600):
                try:
                    assert httpx.get(f"{url}/health").json()["status"] == "ok"
                    break
                except httpx.ConnectError:
                    time.sleep(0.1)
            memory = asyncio.run(ask_for(60, url, of_rows, 50, process.pid))
        finally:
            process.send_signal(signal.SIGINT)
    assert process.returncode == 0
    assert max(memory[-5:]) - max(memory[:5]) < 15
