"""Repositories of the Hub are read from its cache at a commit, and what is not there is asked for once."""

import shutil
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

from model_handler import load_source
from model_handler.sources import SourceUnavailableError, UnknownSourceError, hub_cache
from model_handler.sources.cached_weights import missing_weights
from model_handler.sources.hub_cache import Repository
from tests.model_handler.sources.tiny import (
    COMMIT,
    TEXTS,
    put_into_cache,
    write_sentence_encoder,
    write_text_encoder,
)


def test_a_name_of_the_hub_is_loaded_from_the_cache_and_pinned_to_its_commit(cache: Path) -> None:
    write_text_encoder(put_into_cache(cache, "org/tiny"))
    source = load_source("hf/org/tiny")
    assert source.name == f"hf/org/tiny@{COMMIT}"
    again = load_source(source.name)
    assert again.name == source.name
    rows = source.transform(TEXTS)
    assert torch.equal(source.network(**rows).last_hidden_state, again.network(**rows).last_hidden_state)


def test_a_commit_stays_the_same_network_when_the_branch_moves_on(cache: Path) -> None:
    pinned = Repository("hf", "org/tiny", COMMIT)
    first = write_text_encoder(put_into_cache(cache, "org/tiny"))
    second = put_into_cache(cache, "org/tiny", commit="f" * 40)
    assert pinned.snapshot == first
    assert Repository("hf", "org/tiny").snapshot == second
    assert pinned.cached_revisions == ["main", COMMIT, "f" * 40]
    (cache / "models--org--tiny" / "refs" / "v1.0").write_text(COMMIT)
    assert Repository("hf", "org/tiny", "v1.0").snapshot == first


def test_sentence_encoders_have_an_organisation_of_their_own(cache: Path) -> None:
    write_sentence_encoder(put_into_cache(cache, "sentence-transformers/tiny"), {"pooling_mode": "mean"})
    write_sentence_encoder(put_into_cache(cache, "org/tiny"), {"pooling_mode": "mean"})
    assert load_source("sentence-transformers/tiny").name == f"sentence-transformers/tiny@{COMMIT}"
    assert load_source("sentence-transformers/org/tiny").name == f"sentence-transformers/org/tiny@{COMMIT}"
    # by the other library it is the transformer alone
    assert load_source("hf/org/tiny").layer == "encoder.layer.1.output.LayerNorm"
    write_text_encoder(put_into_cache(cache, "org/plain"))
    with pytest.raises(UnknownSourceError, match=r"has no modules.json, so .*'hf/org/plain'"):
        load_source("sentence-transformers/org/plain")


def test_what_is_missing_is_named_until_it_is_there(cache: Path) -> None:
    said = "model.safetensors of org/tiny on the Hugging Face Hub, revision main"
    assert missing_weights("hf/org/tiny") == said
    assert missing_weights("hf/org/tiny", pretrained=False) == said.replace("model.safetensors", "config.json")
    folder = write_text_encoder(put_into_cache(cache, "org/tiny"))
    assert missing_weights("hf/org/tiny") is None
    (folder / "model.safetensors").unlink()
    assert missing_weights("hf/org/tiny") == said
    assert missing_weights("hf/org/tiny", pretrained=False) is None
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}')
    (folder / "1.safetensors").touch()
    assert missing_weights("hf/org/tiny") == said
    (folder / "2.safetensors").touch()
    assert missing_weights("hf/org/tiny") is None
    for file in folder.glob("tokenizer*"):
        file.unlink()
    assert "the tokenizer or image processor of" in str(missing_weights("hf/org/tiny"))


def test_a_hub_out_of_reach_is_told_with_the_cache_and_the_command_for_elsewhere(cache: Path) -> None:
    with pytest.raises(
        SourceUnavailableError, match=r"the files of 'hf/org/tiny@v1' could not be .*no route"
    ) as caught:
        load_source("hf/org/tiny@v1")
    said = str(caught.value)
    assert "`hf download org/tiny --revision v1`" in said
    assert f"copy the folder models--org--tiny into {cache} here" in said
    assert "pretrained=False" not in said  # its files are on the Hub too
    put_into_cache(cache, "org/tiny", reference="v2")
    with pytest.raises(SourceUnavailableError, match=rf"Here are its revisions v2, {COMMIT}: name one behind @"):
        load_source("hf/org/tiny@v1")


def test_without_leave_nothing_is_asked(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", lambda *_, **__: pytest.fail("the Hub was asked"))
    of_torchvision = "torchvision/resnet18:IMAGENET1K_V1"
    names = ["hf/org/tiny", "hf/org/tiny=mine.safetensors", "sentence-transformers/tiny", "timm/lcnet_050"]
    for name in [*names, of_torchvision]:
        with pytest.raises(SourceUnavailableError, match=r"not wholly on this machine, and nothing was fetched"):
            load_source(name, download=False)


def test_weights_of_ones_own_for_an_architecture_of_the_hub_are_in_the_name(cache: Path, tmp_path: Path) -> None:
    folder, file = write_text_encoder(put_into_cache(cache, "org/tiny")), tmp_path / "mine.safetensors"
    (folder / "model.safetensors").rename(file)
    assert load_source(f"hf/org/tiny={file}", download=False).name == f"hf/org/tiny@{COMMIT}={file}"


def test_a_hub_that_never_answers_is_given_up_soon(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", lambda *_, **__: time.sleep(3))
    monkeypatch.setattr(hub_cache, "SECONDS_TO_ANSWER", -0.9)
    start = time.monotonic()
    with pytest.raises(SourceUnavailableError, match=r"no answer within 0.1 seconds"):
        load_source("hf/org/tiny")
    assert time.monotonic() - start < 2


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (RepositoryNotFoundError, "there is no model 'org/tiny' on the Hugging Face Hub, or it is private"),
        (RevisionNotFoundError, "'org/tiny' has no revision 'v9' on the Hugging Face Hub"),
    ],
)
def test_names_that_the_hub_does_not_know_are_unknown(
    cache: Path, monkeypatch: pytest.MonkeyPatch, error: type, message: str
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise error("404", response=SimpleNamespace(headers={}, request=None))

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", refuse)
    with pytest.raises(UnknownSourceError, match=message):
        load_source("hf/org/tiny@v9")


def test_what_is_fetched_is_what_loading_reads(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = write_text_encoder(tmp_path / "elsewhere")
    asked: list[str] = []
    files = [*(path.name for path in elsewhere.iterdir()), "pytorch_model.bin", "onnx/model.onnx", "tf_model.h5"]

    def fetch(repository: str, revision: str, allow_patterns: list[str]) -> str:
        asked.extend(allow_patterns)
        return shutil.copytree(elsewhere, put_into_cache(cache, repository), dirs_exist_ok=True)

    found = SimpleNamespace(siblings=[SimpleNamespace(rfilename=file) for file in files])
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", lambda *_, **__: found)
    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    assert load_source("hf/org/tiny").name == f"hf/org/tiny@{COMMIT}"
    assert sorted(asked) == ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]


@pytest.mark.parametrize(
    "name", ["hf/a/b/c", "hf/..", "hf/../x", "hf/a@", "hf/a@../../x", "hf/a b", "sentence-transformers/"]
)
def test_what_no_repository_can_be_called_is_unknown(cache: Path, name: str) -> None:
    with pytest.raises(UnknownSourceError, match="no source named"):
        load_source(name)
