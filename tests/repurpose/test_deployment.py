"""The code of `docs/deploy.md` runs as it stands."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.repurpose.deployment.models import of_images, pictures

PAGE = (Path(__file__).parents[2] / "docs" / "deploy.md").read_text()


def test_the_file_of_the_page_is_run_without_this_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.chdir(tmp_path)
    with_library, without = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[:2]
    assert "repurpose" not in without
    made: dict[str, object] = {}
    exec(with_library, made)
    images, repurposer = made["images"], made["repurposer"]
    image = images[700]  # type: ignore[index]
    Image.fromarray(image).save("new.png")
    capsys.readouterr()
    found: dict[str, object] = {}
    exec(without, found)
    printed = capsys.readouterr().out
    probabilities = repurposer.predict_probability([image])  # type: ignore[attr-defined]
    np.testing.assert_allclose(found["probabilities"], probabilities, atol=1e-5)  # type: ignore[arg-type]
    assert printed.splitlines()[1].startswith(str(repurposer.predict_label([image])[0]))  # type: ignore[attr-defined]


def test_the_predictor_of_the_page_adds_its_columns(capsys: pytest.CaptureFixture[str]) -> None:
    images, _ = pictures(2, seed=1)
    (code,) = re.findall(r"```python\n(predictor = .*?\nprint.*?)```", PAGE, re.DOTALL)
    names: dict[str, object] = {"repurposer": of_images(), "images": list(images)}
    exec(code, names)
    told, columns = capsys.readouterr().out.splitlines()
    assert "MB a copy; adds species, probability, set, p_value" in told
    assert columns == "['id', 'image', 'species', 'probability', 'set', 'p_value']"


def test_the_page_tells_of_every_status_that_the_service_has() -> None:
    pytest.importorskip("fastapi")
    from repurpose.deployment.server import service_app

    statuses = service_app(of_images()).openapi()["paths"]["/predict"]["post"]["responses"]
    assert re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE) == sorted(statuses)
