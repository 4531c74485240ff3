"""`repurpose serve` listens at this machine alone, answers for what train saved, and ends when it is interrupted."""

import os
import pickle
import signal
import socket
import time
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest

from repurpose import load
from tests.repurpose.cli.commands import run


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


def answered(port: int, image: Path, found: list[Any], process: int) -> None:
    """Ask the service, once it is up, for an image, and press Ctrl-C."""
    with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        for _ in range(600):
            try:
                found.append(client.get("/health").json())
                break
            except httpx.ConnectError:
                time.sleep(0.05)
        found.append(client.post("/predict", files=[("image", image.read_bytes())]).json())
    os.kill(process, signal.SIGINT)


def test_it_answers_until_it_is_interrupted(saved: Path, photos: Path) -> None:
    port, found, image = free_port(), [], photos / "red" / "0.png"
    asking = Thread(target=answered, args=(port, image, found, os.getpid()))
    asking.start()
    result = run("serve", saved, "--port", port, "--coverage", 0.8)
    asking.join()
    assert result.code == 0, result.text
    assert f"from {saved} at http://127.0.0.1:{port} (Ctrl-C ends it)" in result.text
    assert result.text.strip().endswith("ended")
    health, answer = found
    assert (health["status"], health["reads"], health["n_classes"]) == ("ok", "images", 3)
    repurposer = load(saved)
    assert answer["rows"][0]["probabilities"] == repurposer.predict_probability(image)[0].tolist()
    assert answer["rows"][0]["class_name"] == "red"
    assert answer["rows"][0]["set"] == repurposer.predict_set(image, 0.8)[0].tolist()


def test_a_port_that_is_taken_is_told_before_the_model_is_loaded(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = run("serve", tmp_path / "nothing", "--port", taken.getsockname()[1])
    assert result.code == 1
    assert "the service cannot listen at 127.0.0.1, port" in result.text


def test_only_the_safe_format_is_served(tmp_path: Path, saved: Path) -> None:
    (tmp_path / "model.pkl").write_bytes(pickle.dumps({"a": print}))
    for place, said in ((tmp_path / "model.pkl", "model.pkl"), (tmp_path / "none", "no saved repurposer")):
        result = run("serve", place, "--port", 0)
        assert (result.code, said in result.text) == (1, True), result.text
    result = run("serve", saved, "--port", 0, "--expected-hash", "0" * 64)
    assert result.code == 1


def test_options_that_cannot_be_are_refused(saved: Path) -> None:
    for options in (("--coverage", 1), ("--max-megabytes", 0), ("--seconds", -1)):
        result = run("serve", saved, *options)
        assert (result.code, options[0] in result.text) == (2, True), result.text
    result = run("serve", saved, "--port", 0, "--max-unfamiliarity", 0.9999)
    assert result.code == 1
    assert "would refuse nothing" in result.text


def test_a_service_for_others_is_warned_of(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from repurpose.deployment.server import running

    monkeypatch.setattr(running.uvicorn.Server, "run", lambda *given, **options: None)
    assert "Warning" not in run("serve", saved, "--port", 0).text
    assert "whoever reaches this address may ask" in run("serve", saved, "--port", 0, "--host", "0.0.0.0").text
