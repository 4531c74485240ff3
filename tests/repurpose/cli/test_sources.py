"""`repurpose sources`: names to give to --source."""

import json

from tests.repurpose.cli.commands import run


def test_installed_sources_are_listed_and_the_many_others_counted() -> None:
    result = run("sources")
    assert result.code == 0, result.text
    assert "efficientnet-lite0 │ image │ installed" in result.text
    assert "minilm │ text │ installed" in result.text
    assert "timm/resnet18" not in result.text
    assert "efficientnet-lite0-bicubic" not in result.text  # which files of earlier versions name, and nobody chooses
    assert "efficientnet-lite0-bicubic" in run("sources", "bicubic").text
    assert "of torchvision and timm, to be downloaded" in result.stderr
    assert "hf/ORG/NAME" in result.stderr


def test_a_part_of_the_name_shows_those_to_be_downloaded() -> None:
    result = run("sources", "ResNeXt50")
    assert "torchvision/resnext50_32x4d │ image │ to be downloaded" in result.text
    assert "efficientnet-lite0" not in result.text
    assert "no name that is known here has 'nonsense' in it" in run("sources", "nonsense").stderr


def test_json_has_them_all() -> None:
    listed = json.loads(run("sources", "--json").stdout)
    assert listed[0] == {"name": "efficientnet-lite0", "where": "embedded", "kind": "image"}
    assert {"name": "torchvision/resnet18", "where": "known", "kind": "image"} in listed
