"""`repurpose demo` repurposes an ImageNet network to real handwritten digits, start to end and without internet.

The digits are the 8 x 8 scans of the UCI collection that scikit-learn carries (Alpaydin and Kaynak, 1998).
"""

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from repurpose.cli.output.mistakes import UsageMistake
from repurpose.cli.output.outputs import Output, told_when_interrupted
from repurpose.cli.output.screen import confusion_table, console, scores, shown

if TYPE_CHECKING:
    from repurpose import Features, LrRepurposer

__all__ = ["demo"]

_SOURCE, _LAYER = "efficientnet-lite0", "_avg_pooling"
_SECONDS = 50  # that training and prediction together may take where the number of digits is left open
_N_FROM_IMAGES = 32  # one batch of images goes through the loaded network again; all are compared by their features


def demo(
    train: Annotated[int, typer.Option(min=20, help="How many digits to learn from.")] = 300,
    test: Annotated[
        int | None, typer.Option(min=10, help="How many others to predict; by default as many as the time allows.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Which digits are drawn for which.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Where to save the result; by default a temporary folder.")] = None,
) -> None:
    """Learn handwritten digits from a few hundred examples, in less than a minute and a half on two cores."""
    from repurpose.persistence.saving import check_target

    if out is not None:
        check_target(out)
    with told_when_interrupted(None if out is None else Output.at(out)):
        _demonstrate(train, test, seed, out)


def _demonstrate(train: int, test: int | None, seed: int, out: Path | None) -> None:
    from repurpose import LrRepurposer

    started = time.perf_counter()
    train_images, other_images, train_labels, other_labels = _digits(train, test, seed)
    console.print(f"EfficientNet-Lite0, trained on photographs, learns digits from {train} examples.")
    repurposer = LrRepurposer(_SOURCE, [_LAYER], random_state=seed, verbose=True)
    repurposer.repurpose((train_images, train_labels))
    console.print(f"Trained: a logistic regression on {repurposer.n_features_in_} features, C = {repurposer.c_:g}.")
    n_test = test or _affordable(time.perf_counter() - started, train, len(other_images))
    test_images, test_labels = other_images[:n_test], other_labels[:n_test]
    features = repurposer.get_features_from_source_model(test_images)
    probabilities = repurposer.predict_probability(features)
    predicted = repurposer.classes_[probabilities.argmax(axis=1)]
    console.print(confusion_table(test_labels, predicted, repurposer.classes_.tolist()))
    measured = scores(test_labels, probabilities, repurposer.classes_)
    console.print(f"[bold]{n_test} other digits: {measured}[/]")
    folder = out or Path(tempfile.mkdtemp(prefix="repurpose-demo-")) / "digits"
    repurposer.save_repurposer(folder)
    console.print(_comparison(folder, repurposer, features, test_images), style="bold", soft_wrap=True)
    console.print(f"All of it took {time.perf_counter() - started:.0f} s.\n\n{_next_commands(folder)}", soft_wrap=True)


def _digits(n_train: int, n_test: int | None, seed: int) -> list[np.ndarray]:
    """Load training images, all other images, and the labels of both; images are uint8 (n, 8, 8), stratified.

    Raises UsageMistake if there are not as many digits.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    images = (digits.images * (255 / 16)).round().astype(np.uint8)  # from 0..16
    max_train = len(images) - (n_test or 10)
    if n_train > max_train:
        beside = f" beside --test {n_test}" if n_test else ""
        raise UsageMistake(
            f"there are {len(images)} digits: --train must be at most {max_train}{beside}, got {n_train}"
        )
    return train_test_split(images, digits.target, train_size=n_train, stratify=digits.target, random_state=seed)


def _affordable(seconds: float, n_done: int, n_left: int) -> int:
    """Return how many digits fit into the time left, in hundreds and at least one, if `n_done` took so many seconds."""
    n_rows = int((_SECONDS - seconds) * n_done / seconds)
    return min(n_left, max(100, n_rows // 100 * 100))


def _comparison(folder: Path, repurposer: "LrRepurposer", features: "Features", images: np.ndarray) -> str:
    """Load what was saved and say whether it predicts the very same numbers, from features and from images."""
    from repurpose import load

    loaded = load(folder)
    few, few_features = images[:_N_FROM_IMAGES], features[:_N_FROM_IMAGES]
    pairs = [(features, features), (few_features, few)]
    agree = all(
        np.array_equal(repurposer.predict_probability(before), loaded.predict_probability(after))
        for before, after in pairs
    )
    return f"Saved to {shown(folder)}, loaded again: the predictions {'agree exactly' if agree else 'DIFFER'}."


def _next_commands(folder: Path) -> str:
    return shown(
        "Next, with images of your own in PHOTOS, one sub-folder a class:\n"
        "  repurpose train PHOTOS --out my-repurposer\n"
        "  repurpose predict my-repurposer OTHER-PHOTOS\n"
        f"and what the network is made of:\n  repurpose layers {_SOURCE}\n"
        f"The digits are in {folder}, for repurpose.load."
    )
