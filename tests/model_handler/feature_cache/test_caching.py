"""Features that are kept are found again, bit for bit and without a forward, and never for anything else."""

import errno
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torchvision import transforms
from transformers import PreTrainedTokenizerFast

from model_handler import FeatureExtractor, Features, ImageFolderData, ModelHandler, Source, TableData, TextTransform
from model_handler.feature_cache import caching
from tests.model_handler.networks import Convolutional, Residual, images

TO_TENSOR = transforms.Compose([transforms.Resize((8, 8)), transforms.ToTensor()])


@pytest.fixture
def forwards() -> Iterator[list[str]]:
    """The classes of the layers that ran, seen from outside of any network; tracing runs containers alone."""
    ran: list[str] = []

    def note(module: nn.Module, *_: object) -> None:
        if not list(module.children()):
            ran.append(type(module).__name__)

    hook = torch.nn.modules.module.register_module_forward_hook(note)
    yield ran
    hook.remove()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(6):
        path = tmp_path / "images" / f"class {number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        draw(path, number)
    return tmp_path / "images"


def draw(path: Path, seed: int) -> None:
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)).save(path, compress_level=0)


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return Residual()


def handle(source: nn.Module | None = None, **options: Any) -> ModelHandler:
    return ModelHandler(source or network(), **{"transform": TO_TENSOR, "batch_size": 4, "verbose": False, **options})


def same(a: Features, b: Features) -> bool:
    return (
        a.layer_names == b.layer_names
        and all(np.array_equal(a.values[name], b.values[name]) for name in a.layer_names)
        and np.array_equal(a.matrix, b.matrix)
        and (a.labels is b.labels is None or np.array_equal(a.labels, b.labels))
    )


def write_table(folder: Path) -> Path:
    table = folder.parent / "table.csv"
    lines = [f"{path.relative_to(folder.parent)},{path.stem}" for path in sorted(folder.rglob("*.png"))]
    table.write_text("\n".join(["image,kind", *lines, ""]))
    return table


KINDS = {
    "a folder by its path": lambda folder: str(folder),
    "a folder": ImageFolderData,
    "a list of paths": lambda folder: sorted(folder.rglob("*.png")),
    "paths as text with labels": lambda folder: ([str(path) for path in sorted(folder.rglob("*.png"))], list("abcabc")),
    "an array of paths": lambda folder: np.array([str(path) for path in sorted(folder.rglob("*.png"))]),
    "one image": lambda folder: folder / "class 0" / "0.png",
    "one image by text": lambda folder: str(folder / "class 0" / "0.png"),
    "a table of paths": lambda folder: TableData(write_table(folder), input="image", label="kind"),
    "pictures": lambda folder: [Image.open(path) for path in sorted(folder.rglob("*.png"))],
    "bytes": lambda folder: np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), np.uint8),
    "a tensor": lambda folder: images(5),
    "a pair": lambda folder: (images(5).numpy(), np.arange(5)),
    "a dict": lambda folder: {"x": images(5), "labels": list("abcde")},
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_kept_comes_again_bit_for_bit_and_without_a_forward(
    kind: str, folder: Path, tmp_path: Path, forwards: list[str]
) -> None:
    def extract(**options: Any) -> Features:
        return handle().extract(KINDS[kind](folder), ["layer1", "fc"], pooling="avg", **options)

    plain, first = extract(), extract(cache_dir=tmp_path / "kept")
    forwards.clear()
    second = extract(cache_dir=tmp_path / "kept")
    assert forwards == []
    assert same(plain, first)
    assert same(first, second)
    assert (first.labels is None) == (second.labels is None)


def test_images_are_not_even_decoded(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = handle().extract(folder, ["fc"], cache_dir=tmp_path / "kept")
    monkeypatch.setattr(Image, "open", None)
    assert same(first, handle().extract(folder, ["fc"], cache_dir=tmp_path / "kept"))


def with_attribute(source: nn.Module, path: str, name: str, value: Any) -> nn.Module:
    setattr(source.get_submodule(path), name, value)
    return source


def trained(source: nn.Module) -> nn.Module:
    with torch.no_grad():
        next(source.parameters()).data.view(-1)[0] += 1e-6
    return source


def moved(source: nn.Module) -> nn.Module:
    source.bn1.running_mean[0] += 1e-3
    return source


def hooked(source: nn.Module) -> nn.Module:
    source.conv1.register_forward_hook(lambda module, arguments, output: 2 * output)
    return source


X = images(5)
OTHERS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "one weight": (lambda: trained(network()), X, {}),
    "one statistic": (lambda: moved(network()), X, {}),
    "a hook": (lambda: hooked(network()), X, {}),
    "a setting": (lambda: with_attribute(network(), "bn1", "eps", 0.5), X, {}),
    "a class with the same weights": (lambda: with_attribute(network(), "", "__class__", Halved), X, {}),
    "other rows": (network, X.flip(0), {}),
    "one number": (network, X + torch.nn.functional.one_hot(torch.tensor(0), 8) * 1e-6, {}),
    "another dtype": (network, X.double(), {}),
    "more rows": (network, torch.cat([X, X[:1]]), {}),
    "a pooling": (network, X, {"pooling": "max"}),
    "layers": (network, X, {"layer_names": ["fc", "layer1"]}),
    "a batch size": (lambda: handle(batch_size=2), X, {}),
    "a precision": (lambda: handle(precision="bfloat16"), X, {}),
}


class Halved(Residual):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x / 2)


@pytest.mark.parametrize("other", OTHERS)
def test_anything_else_is_computed(other: str, tmp_path: Path, forwards: list[str]) -> None:
    make, data, options = OTHERS[other]
    options = {"layer_names": ["layer1", "fc"], "pooling": "avg", **options}
    handle().extract(X, ["layer1", "fc"], pooling="avg", cache_dir=tmp_path)
    made = make()
    handler = made if isinstance(made, ModelHandler) else handle(made)
    forwards.clear()
    kept = handler.extract(data, **options, cache_dir=tmp_path)
    assert forwards
    assert same(kept, handler.extract(data, **options))


def test_an_edited_network_is_another_one_and_is_found_again(tmp_path: Path, forwards: list[str]) -> None:
    torch.manual_seed(0)
    source = Convolutional()

    def edited() -> ModelHandler:
        return handle(source).drop_layer_top(1)

    first = edited().extract(images(5), ["conv_2"], cache_dir=tmp_path)
    forwards.clear()
    assert same(edited().extract(images(5), ["conv_2"], cache_dir=tmp_path), first)
    assert forwards == []
    inserted = handle(source).insert_after("conv_1", [("twice", nn.ReLU())])
    inserted.extract(images(5), ["conv_2"], cache_dir=tmp_path)
    assert forwards


def test_another_image_of_the_same_size_and_time_is_another_one(folder: Path, tmp_path: Path) -> None:
    kept, path = tmp_path / "kept", folder / "class 0" / "0.png"
    first, before = handle().extract(folder, ["fc"], cache_dir=kept), path.stat()
    draw(path, 99)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    second = handle().extract(folder, ["fc"], cache_dir=kept)
    assert not np.array_equal(first.matrix, second.matrix)
    assert same(second, handle().extract(folder, ["fc"]))


@pytest.mark.parametrize(
    "kind", ["a folder", "a list of paths", "paths as text with labels", "an array of paths", "one image by text"]
)
def test_a_file_that_was_changed_is_read_again_whatever_names_it(kind: str, folder: Path, tmp_path: Path) -> None:
    for seed in (50, 51):
        draw(folder / "class 0" / "0.png", seed)
        kept = handle().extract(KINDS[kind](folder), ["fc"], cache_dir=tmp_path / "kept")
        assert same(kept, handle().extract(KINDS[kind](folder), ["fc"]))


def test_a_file_of_a_table_that_was_changed_is_read_again(folder: Path, tmp_path: Path) -> None:
    table = TableData(write_table(folder), input="image")
    for seed in (50, 51):
        draw(folder / "class 0" / "0.png", seed)
        kept = handle().extract(table, ["fc"], cache_dir=tmp_path / "kept")
        assert same(kept, handle().extract(table, ["fc"]))


def text_source() -> Source:
    vocabulary = {"[PAD]": 0, "[UNK]": 1, "good": 2, "film": 3}
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]")
    return Source(Tokens(), TextTransform(tokenizer, max_length=8))


class Tokens(nn.Module):
    """The embedding of each token, 0 where there is none."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding.from_pretrained(torch.arange(8.0).reshape(4, 2))

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.embedding(input_ids) * attention_mask[..., None]


def test_texts_are_known_by_their_characters(tmp_path: Path, forwards: list[str]) -> None:
    source, texts = text_source(), ["good film good", "bad", "", "film"]

    def extract(given: Any) -> Features:
        handler = ModelHandler(source, batch_size=2)
        forwards.clear()
        return handler.extract(given, ["embedding"], pooling="avg", cache_dir=tmp_path)

    first = extract((texts, [0, 1, 0, 1]))
    assert forwards
    assert same(extract((texts, [0, 1, 0, 1])), first)
    assert forwards == []
    assert np.array_equal(extract(texts).matrix, first.matrix)
    assert forwards == []
    assert not np.array_equal(extract([*texts[:3], "good"]).matrix, first.matrix)
    assert forwards
    assert FeatureExtractor(source, ["embedding"], batch_size=2).fit(texts).transform(texts).shape == (4, 2)


def test_texts_that_were_truncated_before_are_found_again(tmp_path: Path, forwards: list[str]) -> None:
    handler = ModelHandler(text_source())
    with pytest.warns(UserWarning, match="1 of 2 texts are longer than the 8 tokens"):
        first = handler.extract(["good " * 9, "film"], ["embedding"], pooling="avg", cache_dir=tmp_path)
    forwards.clear()
    assert same(handler.extract(["good " * 9, "film"], ["embedding"], pooling="avg", cache_dir=tmp_path), first)
    assert forwards == []


def test_one_text_that_is_the_name_of_a_folder_is_a_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "film").mkdir()
    monkeypatch.chdir(tmp_path)
    found = ModelHandler(text_source()).extract("film", ["embedding"], pooling="avg", cache_dir=tmp_path / "kept")
    assert found.matrix.tolist() == [[6, 7]]


def test_labels_are_those_of_the_data_now(folder: Path, tmp_path: Path, forwards: list[str]) -> None:
    kept = tmp_path / "kept"
    handle().extract(folder, ["fc"], cache_dir=kept)
    shutil.move(folder / "class 0", folder / "a class")
    forwards.clear()
    assert handle().extract(folder, ["fc"], cache_dir=kept).labels.tolist() == ["a class"] * 3 + ["class 1"] * 3
    handle().extract((X, [0, 1, 0, 1, 0]), ["fc"], cache_dir=kept)
    forwards.clear()
    assert handle().extract((X, list("vwxyz")), ["fc"], cache_dir=kept).labels.tolist() == list("vwxyz")
    assert handle().extract(X, ["fc"], cache_dir=kept).labels is None
    assert forwards == []


def test_poolings_that_are_kept_are_not_computed(tmp_path: Path, forwards: list[str]) -> None:
    handler = handle()
    avg = handler.extract(X, ["layer1"], pooling="avg", cache_dir=tmp_path)
    both = handler.extract_poolings(X, ["layer1"], ["max", "avg"], cache_dir=tmp_path)
    assert list(both) == ["max", "avg"]
    assert same(both["avg"], avg)
    assert same(both["max"], handler.extract(X, ["layer1"], pooling="max"))
    forwards.clear()
    again = handler.extract_poolings(X, ["layer1"], ["avg", "max"], cache_dir=tmp_path)
    assert forwards == []
    assert all(same(again[pooling], both[pooling]) for pooling in both)


def own_pooling(value: Tensor) -> Tensor:
    return value.flatten(1)[:, :2]


def own_transform(image: Image.Image) -> Tensor:
    return TO_TENSOR(image)


UNKNOWN: dict[str, Any] = {
    "a dataset": lambda folder: (handle(), TensorDataset(X, torch.arange(5)), {}),
    "a loader": lambda folder: (handle(), DataLoader(TensorDataset(X, torch.arange(5))), {}),
    "a random transform": lambda folder: (handle(transform=RANDOM), folder, {}),
    "a folder's random transform": lambda folder: (handle(), ImageFolderData(folder, transform=RANDOM), {}),
    "a transform of one's own": lambda folder: (handle(transform=own_transform), folder, {}),
    "a pooling of one's own": lambda folder: (handle(), X, {"pooling": own_pooling}),
    "a lambda": lambda folder: (handle(), X, {"pooling": lambda value: value.flatten(1)}),
}
RANDOM = transforms.Compose([transforms.RandomHorizontalFlip(), TO_TENSOR])


@pytest.mark.parametrize("what", UNKNOWN)
def test_what_cannot_be_known_is_kept_by_a_key_alone(
    what: str, folder: Path, tmp_path: Path, forwards: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    caching._said.clear()
    handler, data, options = UNKNOWN[what](folder)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            forwards.clear()
            handler.extract(data, ["layer1"], **options, cache_dir=tmp_path / "kept")
            assert forwards
    assert not (tmp_path / "kept").exists()
    assert [record.message.count("cache_key") for record in caplog.records] == [1]
    first = handler.extract(data, ["layer1"], **options, cache_dir=tmp_path / "kept", cache_key="mine")
    forwards.clear()
    assert same(first, handler.extract(data, ["layer1"], **options, cache_dir=tmp_path / "kept", cache_key="mine"))
    assert forwards == []
    handler.extract(data, ["layer1"], **options, cache_dir=tmp_path / "kept", cache_key="other")
    assert forwards


def test_images_that_cannot_be_read_are_not_forgotten(folder: Path, tmp_path: Path, forwards: list[str]) -> None:
    (folder / "class 0" / "2.png").write_bytes(b"no image")
    for _ in range(2):
        data = ImageFolderData(folder, on_error="skip")
        with pytest.warns(UserWarning, match="1 of 6 images"):
            first = handle().extract(data, ["fc"], cache_dir=tmp_path / "kept")
    assert len(first) == len(data) == 5
    known = handle().extract(data, ["fc"], cache_dir=tmp_path / "kept")  # by now it is known which are left
    forwards.clear()
    assert same(known, handle().extract(data, ["fc"], cache_dir=tmp_path / "kept"))
    assert forwards == []


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_directory_that_cannot_be_used_costs_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted, place = handle().extract(X, ["fc"]), tmp_path / "a file"
    place.write_text("no directory")
    with pytest.warns(UserWarning, match="features could not be kept in .*a file"):
        assert same(handle().extract(X, ["fc"], cache_dir=place), wanted)
    monkeypatch.setattr("model_handler.files.whole_files._write", full)
    with pytest.warns(UserWarning, match="could not be kept.*[Nn]o space left"):
        assert same(handle().extract(X, ["fc"], cache_dir=tmp_path / "full"), wanted)
    assert list((tmp_path / "full").iterdir()) == []
    monkeypatch.undo()
    monkeypatch.setattr("model_handler.files.whole_files.Path.open", refused)
    with pytest.warns(UserWarning, match="could not be kept.*Read-only"):
        assert same(handle().extract(X, ["fc"], cache_dir=tmp_path / "full"), wanted)


def refused(*_: object, **__: object) -> None:
    raise OSError(errno.EROFS, "Read-only file system")


@pytest.mark.parametrize("harm", ["cut", "changed", "emptied", "replaced by a folder"])
def test_a_damaged_file_is_computed_again_with_a_warning(harm: str, tmp_path: Path, forwards: list[str]) -> None:
    wanted = handle().extract(X, ["fc"], cache_dir=tmp_path)
    (file,) = tmp_path.iterdir()
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    if harm == "replaced by a folder":
        file.unlink()
        file.mkdir()
    else:
        file.write_bytes({"cut": data[:-7], "changed": data, "emptied": b""}[harm])
    forwards.clear()
    with pytest.warns(UserWarning, match="cannot be read, and are computed again"):
        assert same(handle().extract(X, ["fc"], cache_dir=tmp_path), wanted)
    assert forwards
    if harm != "replaced by a folder":
        forwards.clear()
        assert same(handle().extract(X, ["fc"], cache_dir=tmp_path), wanted)
        assert forwards == []


def test_who_judges_inputs_judges_those_that_were_not_read_again(tmp_path: Path) -> None:
    seen: list[tuple[int, ...]] = []

    def refuse(inputs: Tensor) -> None:
        raise ValueError(f"rows of {tuple(inputs.shape[1:])}")

    for _ in range(2):
        handle().extract(X, ["fc"], cache_dir=tmp_path, judge=lambda inputs: seen.append(tuple(inputs.shape[1:])))
    assert seen == [(3, 8, 8)] * 3  # of two batches, and of what was kept
    with pytest.raises(ValueError, match=r"rows of \(3, 8, 8\)"):
        handle().extract(X, ["fc"], cache_dir=tmp_path, judge=refuse)


def test_a_network_that_changes_itself_is_not_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caching._said.clear()
    with caplog.at_level(logging.WARNING):
        handle(nn.Sequential(Counting())).extract(torch.rand(3, 2), ["0"], cache_dir=tmp_path / "kept")
    assert "changes itself" in caplog.text
    assert not (tmp_path / "kept").exists()


def test_no_key_stands_for_a_network(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caching._said.clear()
    network = nn.Sequential(nn.Linear(2, 2), WithLock())
    with caplog.at_level(logging.WARNING):
        handle(network).extract(torch.rand(3, 2), ["0"], cache_dir=tmp_path / "kept", cache_key="mine")
    assert "nothing identifies" in caplog.text
    assert not (tmp_path / "kept").exists()


class WithLock(nn.Identity):
    """Holds what cannot be taken apart."""

    def __init__(self) -> None:
        super().__init__()
        self.held = Held()


class Held:
    """Copied by reference, and nothing that pickle knows."""

    __slots__ = ()

    def __deepcopy__(self, memo: object) -> "Held":
        return self

    def __reduce_ex__(self, protocol: object) -> str:
        raise TypeError("not to be pickled")


class Counting(nn.Module):
    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        Counting.calls += 1
        return x * Counting.calls


def test_paths_and_keys_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cache_dir must be the path of a directory or None, got 3"):
        handle().extract(X, ["fc"], cache_dir=3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="cache_key must be text"):
        handle().extract(X, ["fc"], cache_dir=tmp_path, cache_key=3)  # type: ignore[arg-type]


def test_a_key_does_not_stand_for_data_of_another_length(tmp_path: Path) -> None:
    handler = ModelHandler(nn.Sequential(nn.Linear(3, 2)))
    many, few = (TensorDataset(torch.rand(n, 3)) for n in (6, 4))
    for data in (many, few, many):
        assert len(handler.extract(data, ["0"], cache_dir=tmp_path, cache_key="mine")) == len(data)


@pytest.mark.parametrize("row", [0, 3, 5])
def test_a_key_does_not_stand_for_other_rows_of_the_same_length(tmp_path: Path, row: int) -> None:
    handler = ModelHandler(nn.Sequential(nn.Linear(3, 2)))
    first = torch.rand(6, 3)
    second = first.clone()
    second[row] += 1
    kept = [
        handler.extract(kind(TensorDataset(rows)), ["0"], cache_dir=tmp_path, cache_key="mine").matrix
        for rows in (first, second)
        for kind in (lambda dataset: dataset, lambda dataset: DataLoader(dataset, batch_size=4))
    ]
    assert not np.array_equal(kept[0], kept[2])
    assert not np.array_equal(kept[1], kept[3])
    np.testing.assert_allclose(kept[2], handler.extract(second, ["0"]).matrix)


class Noisy(TensorDataset):
    def __getitem__(self, number: Any) -> Any:
        return super().__getitem__(number)[0] + torch.rand(3)


def test_a_key_stands_for_rows_that_are_drawn_anew_and_looking_at_them_draws_nothing(
    tmp_path: Path, forwards: list[str]
) -> None:
    handler = ModelHandler(nn.Sequential(nn.Linear(3, 2)))
    torch.manual_seed(3)
    plain = handler.extract(Noisy(X[:, 0, 0, :3]), ["0"])
    torch.manual_seed(3)
    first = handler.extract(Noisy(X[:, 0, 0, :3]), ["0"], cache_dir=tmp_path, cache_key="mine")
    assert same(plain, first)
    forwards.clear()
    assert same(first, handler.extract(Noisy(X[:, 0, 0, :3]), ["0"], cache_dir=tmp_path, cache_key="mine"))
    assert not forwards


class Counted(TensorDataset):
    reads = 0

    def __getitem__(self, number: Any) -> Any:
        self.reads += 1
        return super().__getitem__(number)


def test_where_nothing_is_kept_each_row_is_read_once_and_no_weight_is_hashed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, handler = Counted(torch.rand(6, 3)), ModelHandler(nn.Sequential(nn.Linear(3, 2)))
    monkeypatch.setattr(caching.FeatureCache, "_of_network", None)
    handler.extract(rows, ["0"], cache_dir=tmp_path)
    assert rows.reads == 6
    assert not list(tmp_path.iterdir())
