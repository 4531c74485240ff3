"""A killed training resumes as if nothing had happened; a damaged checkpoint, or another training's, is refused."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader, Dataset, TensorDataset

from repurpose import NeuralNetworkFineTuneRepurposer
from repurpose.training.checkpoints import checkpoints
from repurpose.training.checkpoints.checkpoints import Checkpoints, OtherTrainingError
from tests.repurpose.examples import blobs, small_network
from tests.repurpose.training.examples import assert_same, plan, trained

ROOT = Path(__file__).parents[4]
STATE = {"weights": torch.arange(3.0), "step": 4, "momenta": {0: torch.zeros(2, dtype=torch.bfloat16)}}


class Interruption(Exception):
    pass


def interrupted_after(epoch: int) -> Any:
    def interrupt(state: Any, record: dict[str, Any]) -> None:
        if record["epoch"] == epoch:
            raise Interruption

    return interrupt


def trained_in_parts(folder: Path, **options: Any) -> nn.Module:
    """Interrupted in epochs 1 and 2, each time before its end was written down, and begun again."""
    data = options.pop("data", None)
    for epoch in (1, 2):
        with pytest.raises(Interruption):
            trained(plan(**options, callbacks=(interrupted_after(epoch),)), data=data, checkpoints=Checkpoints(folder))
    return trained(plan(**options), data=data, checkpoints=Checkpoints(folder))


def repurposer(folder: Any, **options: Any) -> NeuralNetworkFineTuneRepurposer:
    given = {"num_epochs": 3, "random_state": 0, **options}
    return NeuralNetworkFineTuneRepurposer(small_network(), "2", checkpoint_dir=folder, **given)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_checkpoint_may_be_read_by_all_whom_the_umask_allows(tmp_path):
    before = os.umask(0o022)
    try:
        repurposer(tmp_path / "runs", num_epochs=1).repurpose(*blobs())
    finally:
        os.umask(before)
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "runs").iterdir()}
    assert modes == {0o644}


def test_killed_at_any_moment_the_same_call_gives_the_same_bits(tmp_path):
    command = [sys.executable, "-m", "tests.repurpose.training.killed", tmp_path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    signals = done.stdout.split("signals:")[1].split()
    assert signals.count("9") >= 5, signals
    whole = load_file(tmp_path / "uninterrupted.safetensors")
    for name in ("at random", "in a write"):
        parts = load_file(tmp_path / f"{name}.safetensors")
        assert parts.keys() == whole.keys()
        assert all(torch.equal(parts[key], whole[key]) for key in whole), name
        assert not [path for path in (tmp_path / name).iterdir() if path.name.startswith(".writing")]


@pytest.mark.parametrize(
    "optimizer", ["SGD", "AdamW", "NAdam", "RMSprop", "Rprop", "Adagrad", "Adadelta", "ASGD", "RAdam", "Adafactor"]
)
def test_every_optimiser_goes_on_with_the_same_bits(tmp_path, optimizer):
    params = {"momentum": 0.9} if optimizer == "SGD" else {}
    options = {"optimizer": optimizer, "optimizer_params": params, "learning_rates": {"*": 0.01}, "num_epochs": 4}
    assert_same(trained_in_parts(tmp_path, **options), trained(plan(**options)))


@pytest.mark.parametrize(
    ("scheduler", "params"),
    [
        ("warmup_cosine", {}),
        ("StepLR", {"step_size": 1}),
        ("MultiStepLR", {"milestones": [1, 3]}),
        ("OneCycleLR", {}),
        ("CyclicLR", {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 3}),
        ("CosineAnnealingLR", {}),
        ("CosineAnnealingWarmRestarts", {"T_0": 2}),
        ("ReduceLROnPlateau", {"patience": 0, "threshold": 0.5}),
        ("ExponentialLR", {"gamma": 0.5}),
        ("LinearLR", {}),
        ("PolynomialLR", {}),
        (lambda optimizer: lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.5**epoch), {}),
    ],
)
def test_every_scheduler_goes_on_with_the_same_bits(tmp_path, scheduler, params):
    options = {"scheduler": scheduler, "scheduler_params": params, "num_epochs": 4}
    assert_same(trained_in_parts(tmp_path, **options), trained(plan(**options)))


@pytest.mark.parametrize(
    "options",
    [
        {"ema": 0.9},
        {"unfreeze": {"body": 2}, "optimizer": "AdamW", "ema": 0.5},
        {"l2_sp": 0.1, "layer_decay": 0.5},
        {"accumulation": 3, "clip_norm": 0.5, "label_smoothing": 0.1},
    ],
)
def test_what_else_a_plan_has_goes_on_too(tmp_path, options):
    options = {"num_epochs": 4, "learning_rates": None, **options}
    parts, whole = trained_in_parts(tmp_path, **options), trained(plan(**options))
    assert_same(parts, whole)
    assert [weight.requires_grad for weight in parts.parameters()] == [
        weight.requires_grad for weight in whole.parameters()
    ]


def test_the_same_call_after_the_end_gives_the_finished_network_without_training(tmp_path):
    X, y = blobs()
    options = {"early_stopping": 1, "validation_fraction": 0.3, "num_epochs": 40}
    options["optimizer_params"] = {"learning_rate": 0.5}
    first = repurposer(tmp_path, **options).repurpose(X, y)
    seen = []
    again = repurposer(tmp_path, **options, callbacks=[seen.append]).repurpose(X, y)
    assert seen == []
    assert_same(again.target_model_, first.target_model_)
    assert vars(again.history_) == vars(first.history_)
    assert len(first.history_) < 40


def test_without_a_seed_what_was_begun_is_gone_on_with(tmp_path):
    X, y = blobs()
    with pytest.raises(Interruption):
        repurposer(tmp_path, random_state=None, callbacks=[interrupted_after(1)]).repurpose(X, y)
    finished = repurposer(tmp_path, random_state=None).repurpose(X, y)
    assert [record["epoch"] for record in finished.history_] == [0, 1, 2]


def test_a_log_keeps_the_epochs_before_the_interruption(tmp_path):
    from repurpose.training.callbacks import CsvLog

    X, y = blobs()
    log = tmp_path / "log.csv"
    with pytest.raises(Interruption):
        repurposer(tmp_path / "c", callbacks=[CsvLog(log), interrupted_after(1)]).repurpose(X, y)
    repurposer(tmp_path / "c", callbacks=[CsvLog(log)]).repurpose(X, y)
    assert [line.split(",")[0] for line in log.read_text().splitlines()] == ["epoch", "0", "1", "2"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_epochs": 4}, "- num_epochs: 3 in the checkpoint, 4 now"),
        ({"random_state": 1}, "- seed: "),
        ({"batch_size": 7}, "- batches: 4 an epoch, of up to 32 rows in the checkpoint, 17 an epoch, of up to 7"),
        ({"learning_rates": {"*": 0.5}}, "- learning_rates: None in the checkpoint, {'*': 0.5} now"),
        ({"class_weight": "balanced"}, "- class weights: None in the checkpoint, ["),
        ({"validation_fraction": 0.2}, "- validation rows: None in the checkpoint, "),
        ({"optimizer": torch.optim.SGD}, "- optimizer: 'AdamW' in the checkpoint, torch.optim.sgd.SGD now"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused_with_what_differs(tmp_path, options, message):
    X, y = blobs(n_samples=120)
    repurposer(tmp_path).repurpose(X, y)
    before = names(tmp_path)
    with pytest.raises(OtherTrainingError) as caught:
        repurposer(tmp_path, **options).repurpose(X, y)
    assert message in str(caught.value)
    assert "give another checkpoint_dir" in str(caught.value)
    assert names(tmp_path) == before


@pytest.mark.parametrize("kind", ["arrays", "dataset", "loader"])
def test_other_inputs_with_the_same_labels_are_refused(tmp_path, kind):
    X, y = blobs()
    tensors = TensorDataset(torch.from_numpy(X), torch.from_numpy(y))
    other = TensorDataset(torch.from_numpy(X + 1e-3), torch.from_numpy(y))
    kinds = {
        "arrays": ((X, y), (X + np.float32(1e-3), y)),
        "dataset": (tensors, other),
        "loader": (DataLoader(tensors, batch_size=20), DataLoader(other, batch_size=20)),
    }
    original, others = kinds[kind]
    repurposer(tmp_path).repurpose(original)
    with pytest.raises(OtherTrainingError, match=r"- inputs: SHA-256 \w+ in the checkpoint, SHA-256 \w+ now"):
        repurposer(tmp_path).repurpose(others)
    with pytest.raises(OtherTrainingError, match="- validation inputs"):
        repurposer(tmp_path).repurpose(original, validation_data=others)
    repurposer(tmp_path).repurpose(original)


def test_rows_that_differ_each_time_do_not_hinder_going_on(tmp_path):
    class Noisy(Dataset):
        def __init__(self) -> None:
            self.rng = np.random.RandomState(0)

        def __len__(self) -> int:
            return 60

        def __getitem__(self, row: int) -> tuple[Any, int]:
            return blobs(60)[0][row] + np.float32(self.rng.rand()), row % 3

    data = Noisy()
    repurposer(tmp_path).repurpose(data)
    assert len(repurposer(tmp_path).repurpose(data).history_) == 3


def test_other_labels_and_another_network_are_refused_too(tmp_path):
    X, y = blobs()
    repurposer(tmp_path).repurpose(X, y)
    other = y.copy()
    other[:2] = other[:2][::-1] if other[0] != other[1] else (other[:2] + 1) % 3
    with pytest.raises(OtherTrainingError, match=r"- labels: SHA-256 \w+ in the checkpoint"):
        repurposer(tmp_path).repurpose(X, other)
    changed = small_network()
    with torch.no_grad():
        next(changed.parameters()).add_(1e-6)
    with pytest.raises(OtherTrainingError, match="- network: Sequential of SHA-256"):
        NeuralNetworkFineTuneRepurposer(changed, "2", checkpoint_dir=tmp_path, num_epochs=3, random_state=0).repurpose(
            X, y
        )


def test_a_directory_that_cannot_be_written_to_fails_before_the_data_are_read(tmp_path, monkeypatch):
    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    class Unread(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return 3

        def __getitem__(self, index: int) -> Any:
            raise AssertionError("the data were read")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"checkpoint_dir='.*new' cannot be written to: .*No space left"):
        repurposer(str(tmp_path / "new")).repurpose(Unread())
    monkeypatch.undo()
    (tmp_path / "file").write_text("")
    for inside in ("file", "file/below"):
        with pytest.raises(OSError, match="cannot be written to"):
            repurposer(tmp_path / inside).repurpose(Unread())


def test_a_full_disk_later_says_so_and_leaves_what_was_written(tmp_path, monkeypatch):
    original, n_calls = os.replace, 0

    def full(*arguments: Any) -> None:
        nonlocal n_calls
        n_calls += 1
        if n_calls == 4:  # the trial, the beginning, epoch 0, epoch 1
            raise OSError(28, "No space left on device")
        original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(OSError, match="the same call goes on from the last one"):
            trained(plan(), checkpoints=Checkpoints(tmp_path))
    assert names(tmp_path) == ["epoch-00000.safetensors", "epoch-00001.safetensors"]
    assert_same(trained(plan(), checkpoints=Checkpoints(tmp_path)), trained(plan()))


def test_the_folders_above_the_directory_are_made_too(tmp_path):
    Checkpoints(tmp_path / "runs" / "monday" / "1").save(STATE, 1, {})
    assert names(tmp_path / "runs" / "monday" / "1") == ["epoch-00001.safetensors"]


def test_two_are_kept_and_other_files_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    trained(plan(), checkpoints=Checkpoints(tmp_path))
    assert names(tmp_path) == ["epoch-00002.safetensors", "epoch-00003.safetensors", "notes.txt"]


def test_what_a_killed_process_left_half_written_is_removed(tmp_path):
    (tmp_path / ".writing-checkpoint-123").write_bytes(b"half")
    assert Checkpoints(tmp_path).load({}) is None
    assert names(tmp_path) == []


def damage(path: Path, how: str) -> None:
    data = bytearray(path.read_bytes())
    where = {"in a weight": len(data) - 3, "in the text": data.index(b"configuration") + 2}.get(how, 0)
    data[where] ^= 1
    path.write_bytes({"cut off": data[:-20], "empty": b"", "begun": data[:6]}.get(how, data))


@pytest.mark.parametrize("how", ["in a weight", "in the text", "in the first byte", "cut off", "empty", "begun"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path, how):
    whole = trained(plan(), checkpoints=Checkpoints(tmp_path))
    damage(tmp_path / "epoch-00003.safetensors", how)
    with pytest.warns(UserWarning, match=r"epoch-00003.* cannot be read: .*\n.*goes on from epoch-00002"):
        again = trained(plan(), checkpoints=Checkpoints(tmp_path))
    assert_same(again, whole)
    damage(tmp_path / "epoch-00002.safetensors", how)
    damage(tmp_path / "epoch-00003.safetensors", how)
    with pytest.raises(ValueError, match="no checkpoint is left: remove these files to start over"):
        trained(plan(), checkpoints=Checkpoints(tmp_path))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_what_is_no_file_in_the_place_of_a_checkpoint_is_passed_over(tmp_path):
    X, y = blobs()
    repurposer(tmp_path).repurpose(X, y)
    os.mkfifo(tmp_path / "epoch-00008.safetensors")
    (tmp_path / "epoch-00007.safetensors").mkdir()
    with pytest.warns(UserWarning, match="epoch-00008.safetensors is a named pipe"):
        repurposer(tmp_path).repurpose(X, y)


def test_what_a_killed_writer_left_goes(tmp_path):
    (tmp_path / ".epoch-00004.safetensors.writing-0123456789ab").touch()
    Checkpoints(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_of_a_later_format_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "FORMAT", 2)
    Checkpoints(tmp_path).save(STATE, 1, {})
    monkeypatch.undo()
    with pytest.raises(ValueError, match="it has the format 2, and this version of the library reads 1"):
        Checkpoints(tmp_path).load({})


def test_what_is_written_comes_back_and_equal_weights_are_written_once(tmp_path):
    large = torch.randn(1000)
    Checkpoints(tmp_path).save({**STATE, "a": large, "b": large.clone(), "c": large.clone()}, 1, {"a": "1"})
    found = Checkpoints(tmp_path).load({"a": "1"})
    assert torch.equal(found["a"], large)
    assert torch.equal(found["c"], large)
    assert found["step"] == 4
    assert found["momenta"][0].dtype == torch.bfloat16
    assert (tmp_path / "epoch-00001.safetensors").stat().st_size < 2 * 4 * 1000


def test_no_pickle_is_written(tmp_path):
    trained(plan(optimizer="AdamW"), checkpoints=Checkpoints(tmp_path))
    assert all(path.suffix == ".safetensors" for path in tmp_path.iterdir())
    assert load_file(tmp_path / "epoch-00003.safetensors")


@pytest.mark.parametrize("value", [3, "", True])
def test_a_directory_that_is_none_is_refused(value):
    with pytest.raises(ValueError, match="checkpoint_dir must be the path of a directory or None"):
        repurposer(value).repurpose(*blobs())


def test_a_link_in_the_place_of_a_checkpoint_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "epoch-00001.safetensors").symlink_to(tmp_path / "mine")
    Checkpoints(tmp_path / "runs").save(STATE, 1, {})
    assert (tmp_path / "mine").read_text() == "mine"
    assert not (tmp_path / "runs" / "epoch-00001.safetensors").is_symlink()
