"""Repositories of the Hugging Face Hub: what its cache on this machine has of one, and fetching the rest once.

The cache is the one of `huggingface_hub`: `models--ORG--NAME` with `refs` (the commit of each branch and tag) and
`snapshots` (the files of each commit). A repository in it is read without asking the Hub for a newer commit.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from model_handler.sources.fetching import SECONDS_TO_ANSWER, fetching, within
from model_handler.sources.source import UnknownSourceError

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo

__all__ = [
    "MAIN",
    "SENTENCES",
    "Repository",
    "has_preprocessing",
    "has_weights",
    "hub_folder",
    "hub_is_offline",
    "hub_url",
]

SENTENCES = "sentence-transformers"  # the library, and the organisation of its own models on the Hub
MAIN = "main"
_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
_REVISION = re.compile(r"[\w.-]+(/[\w.-]+)*")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
_PREPROCESSING = (
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
    "vocab.json",
    "spiece.model",
    "sentencepiece.bpe.model",
)
_SMALL = (".json", ".txt", ".model", ".jinja")  # files of settings and vocabularies


@dataclass(frozen=True)
class Repository:
    """A repository of the Hub at a revision, as a name of a source says it.

    Attributes
    ----------
    library : "hf" or "sentence-transformers"
        How its files are read.
    id : str
        "ORG/NAME", or "NAME" for the few without an organisation.
    revision : str
        A branch, a tag or a commit.
    """

    library: str
    id: str
    revision: str = MAIN

    @classmethod
    def parse(cls, library: str, model: str) -> "Repository | None":
        """Read "ORG/NAME@REVISION"; None for what is none. Sentence encoders have a default organisation."""
        name, at, revision = model.partition("@")
        if not _NAME.fullmatch(name) or ".." in name or (at and not _REVISION.fullmatch(revision)) or ".." in revision:
            return None
        full = f"{SENTENCES}/{name}" if library == SENTENCES and "/" not in name else name
        return cls(library, full, revision or MAIN)

    @property
    def name(self) -> str:
        """The name of the source: with the revision, unless that is the main branch."""
        short = self.id.removeprefix(f"{SENTENCES}/") if self.library == SENTENCES else self.id
        return f"{self.library}/{short}" + (f"@{self.revision}" if self.revision != MAIN else "")

    @property
    def folder(self) -> Path:
        """Its folder in the cache, whether it is there or not."""
        return hub_folder() / f"models--{self.id.replace('/', '--')}"

    @property
    def snapshot(self) -> Path | None:
        """The folder of its files at the revision; None where the cache has none."""
        reference = self.folder / "refs" / self.revision
        commit = reference.read_text().strip() if reference.is_file() else self.revision
        found = self.folder / "snapshots" / commit
        return found if commit and "/" not in commit and ".." not in commit and found.is_dir() else None

    @property
    def cached_revisions(self) -> list[str]:
        """The branches, tags and commits that the cache has."""
        references, commits = self.folder / "refs", self.folder / "snapshots"
        names = [path.relative_to(references).as_posix() for path in sorted(references.rglob("*")) if path.is_file()]
        return names + [path.name for path in sorted(commits.glob("*"))]

    def pinned(self, snapshot: Path) -> "Repository":
        """Return it at the commit of a snapshot."""
        return replace(self, revision=snapshot.name)

    def missing(self, pretrained: bool = True) -> str | None:
        """Say which files would have to be fetched; None where the cache has what is needed to load it."""
        files = _missing_from(self.snapshot, pretrained)
        return f"{files} of {self.id} on the Hugging Face Hub, revision {self.revision}" if files else None

    def fetched(self, pretrained: bool = True) -> Path:
        """Return the snapshot, after one attempt to fetch what the cache has not.

        Raises SourceUnavailableError within ten seconds where the Hub does not answer, UnknownSourceError for a
        repository or revision that there is none, ImportError without huggingface_hub.
        """
        if find_spec("huggingface_hub") is None:
            raise ImportError(f"{self.name!r} needs transformers: pip install 'repurpose-torch[text]'")
        snapshot = self.snapshot
        if snapshot is not None and not _missing_from(snapshot, pretrained):
            return snapshot
        revision = "" if self.revision == MAIN else f" --revision {self.revision}"
        elsewhere = (
            f"`hf download {self.id}{revision}`, and copy the folder {self.folder.name} into {hub_folder()} here"
        )
        if snapshot is None and self.cached_revisions:
            elsewhere += f". Here are its revisions {', '.join(self.cached_revisions)}: name one behind @"
        with fetching(self.name, "the Hugging Face Hub", elsewhere, what="files"):
            return self._fetch(pretrained)

    def _fetch(self, pretrained: bool) -> Path:
        from huggingface_hub import HfApi, snapshot_download
        from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

        def ask() -> "ModelInfo":
            return HfApi().model_info(self.id, revision=self.revision, timeout=SECONDS_TO_ANSWER)

        try:
            found = within(SECONDS_TO_ANSWER + 1, ask)
        except GatedRepoError as error:
            raise UnknownSourceError(
                f"{self.id!r} on the Hugging Face Hub is open to those alone who accepted its terms: accept them on "
                "its page, and log in with `hf auth login`"
            ) from error
        except RepositoryNotFoundError as error:
            raise UnknownSourceError(
                f"there is no model {self.id!r} on the Hugging Face Hub, or it is private: log in with `hf auth login`"
            ) from error
        except RevisionNotFoundError as error:
            raise UnknownSourceError(
                f"{self.id!r} has no revision {self.revision!r} on the Hugging Face Hub"
            ) from error
        files = _files_to_fetch([sibling.rfilename for sibling in found.siblings or []], pretrained)
        return Path(snapshot_download(self.id, revision=self.revision, allow_patterns=files))


def hub_folder() -> Path:
    """Return the cache of the Hub on this machine."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def hub_url() -> str:
    """Return the address of the Hub, or of what stands in for it."""
    from huggingface_hub import constants

    return constants.ENDPOINT


def hub_is_offline() -> bool:
    """Return whether the user asked by HF_HUB_OFFLINE that the Hub be left alone; its client then says so at once."""
    from huggingface_hub import constants

    return constants.HF_HUB_OFFLINE


def has_weights(folder: Path) -> bool:
    """Return whether all files of the weights are in a folder; of several, those that the index names."""
    import json

    file = next((folder / name for name in _WEIGHTS if (folder / name).is_file()), None)
    if file is None or file.suffix != ".json":
        return file is not None
    try:
        shards = set(json.loads(file.read_text())["weight_map"].values())
    except (KeyError, TypeError, ValueError, AttributeError):
        return False
    return all((folder / str(shard)).is_file() for shard in shards)


def has_preprocessing(folder: Path) -> bool:
    """Return whether a folder has settings of an image processor, or a tokenizer."""
    return any((folder / name).is_file() for name in _PREPROCESSING)


def _missing_from(snapshot: Path | None, pretrained: bool) -> str:
    """Name the files that a snapshot lacks; "" where it can be loaded."""
    if snapshot is None:
        return _WEIGHTS[0] if pretrained else "config.json"
    # A sentence encoder may have its transformer in a sub-folder.
    folders = [folder for folder in (snapshot, snapshot / "0_Transformer") if (folder / "config.json").is_file()]
    if not folders:
        return "config.json"
    if pretrained and not has_weights(folders[0]):
        return _WEIGHTS[0]
    return "" if has_preprocessing(folders[0]) else "the tokenizer or image processor"


def _files_to_fetch(files: Iterable[str], pretrained: bool) -> list[str]:
    """Return the files that loading reads: settings, vocabularies, and one set of weights, the safetensors if any."""
    chosen: list[str] = []
    weights: dict[str, list[str]] = {}
    for file in files:
        path = PurePosixPath(file)
        folder = path.parent.as_posix()
        if folder != "." and not re.match(r"\d+_[A-Z]\w*$", folder):  # other formats lie in folders of their own
            continue
        if path.suffix in _SMALL:
            chosen.append(file)
        elif re.match(r"(model|pytorch_model).*\.(safetensors|bin)$", path.name):
            weights.setdefault(folder, []).append(file)
    for here in weights.values() if pretrained else ():
        chosen += [file for file in here if file.endswith(".safetensors")] or here
    return chosen
