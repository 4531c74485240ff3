"""Plots show what predictions are worth, each on a matplotlib `Axes` that is returned: ``pip install '.[plot]'``.

They take arrays, such as `predict_probability` and `unfamiliarity` return, so that they serve any classifier.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from repurpose.axes import axes_or_new
from repurpose.data.labels import label_array, label_codes
from repurpose.detection.data.detections import Detections
from repurpose.detection.drawing import as_pil, colour_of, text_of
from repurpose.parameters import is_whole
from repurpose.training.history import plot_history
from repurpose.training.rate_search import plot_rate_search
from repurpose.uncertainty.metrics import N_BINS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "attention",
    "detections",
    "plot_history",
    "plot_probabilities",
    "plot_rate_search",
    "plot_reliability",
    "plot_risk_coverage",
    "plot_unfamiliarity",
]


def plot_reliability(
    labels: Any, probabilities: np.ndarray, classes: Any, *, n_bins: int = N_BINS, ax: "Axes | None" = None
) -> "Axes":
    """Plot how often predictions are right by how certain they are; a grey bar is as high as its share of rows.

    Where the line lies below the diagonal, the classifier is too certain. `labels` are the true ones (n_samples,),
    `probabilities` (n_samples, n_classes) with columns as in `classes`.

    >>> import numpy as np
    >>> from repurpose.plots import plot_reliability
    >>> ax = plot_reliability([0, 1, 1], np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]), classes=[0, 1])
    >>> ax.get_xlabel(), ax.get_ylabel()
    ('largest probability', 'accuracy')
    """
    _check_bins(n_bins)
    codes, probabilities = _checked(labels, probabilities, classes)
    confidences, hits = probabilities.max(axis=1), probabilities.argmax(axis=1) == codes
    bins = np.minimum((confidences * n_bins).astype(int), n_bins - 1)
    counts = np.bincount(bins, minlength=n_bins)
    filled = np.flatnonzero(counts)
    mean_confidence = np.bincount(bins, confidences, n_bins)[filled] / counts[filled]
    accuracy = np.bincount(bins, hits, n_bins)[filled] / counts[filled]
    ax = axes_or_new(ax)
    left = np.arange(n_bins) / n_bins
    ax.bar(left, counts / len(codes), width=1 / n_bins, align="edge", color="0.85", label="share of rows")
    for bin_ in filled:
        place = (left[bin_] + 0.5 / n_bins, counts[bin_] / len(codes) + 0.01)
        ax.annotate(str(counts[bin_]), place, ha="center", va="bottom", fontsize=7, color="0.4")
    ax.plot([0, 1], [0, 1], linestyle=":", color="0.5")
    ax.plot(mean_confidence, accuracy, marker="o", label="accuracy", clip_on=False)
    ax.set(xlabel="largest probability", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1), box_aspect=1)
    ax.legend(loc="upper left")
    return ax


def plot_risk_coverage(labels: Any, probabilities: np.ndarray, classes: Any, *, ax: "Axes | None" = None) -> "Axes":
    """Plot the error rate among the rows one would answer, by their share, the most certain first.

    Arguments as in `plot_reliability`. The area below the curve is the AURC of an `Evaluation`.

    >>> import numpy as np
    >>> from repurpose.plots import plot_risk_coverage
    >>> ax = plot_risk_coverage([0, 1, 1], np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]), classes=[0, 1])
    >>> ax.lines[0].get_ydata().round(2)  # the last of the three, and least certain, is wrong
    array([0.  , 0.  , 0.33])
    """
    codes, probabilities = _checked(labels, probabilities, classes)
    surest_first = np.argsort(-probabilities.max(axis=1), kind="stable")
    errors = (probabilities.argmax(axis=1) != codes)[surest_first]
    n_answered = np.arange(1, len(codes) + 1)
    ax = axes_or_new(ax)
    ax.plot(n_answered / len(codes), np.cumsum(errors) / n_answered)
    ax.set(xlabel="share of rows answered", ylabel="error rate among them", xlim=(0, 1))
    ax.set_ylim(bottom=0)
    return ax


def plot_unfamiliarity(
    familiar: np.ndarray, unfamiliar: np.ndarray, *, n_bins: int = 40, ax: "Axes | None" = None
) -> "Axes":
    """Plot histograms of the scores (n_samples,) of familiar and of unfamiliar inputs, as `unfamiliarity` gives them.

    On a logarithmic axis where all scores are positive and the largest is more than ten times the smallest.

    >>> import numpy as np
    >>> from repurpose.plots import plot_unfamiliarity
    >>> ax = plot_unfamiliarity(np.array([1.0, 2.0, 3.0]), np.array([5.0, 50.0]))
    >>> [text.get_text() for text in ax.get_legend().get_texts()], ax.get_xscale()
    (['familiar (3)', 'unfamiliar (2)'], 'log')
    """
    _check_bins(n_bins)
    scores = [np.asarray(given, dtype=np.float64).ravel() for given in (familiar, unfamiliar)]
    for name, given in zip(("familiar", "unfamiliar"), scores):
        if not len(given) or not np.isfinite(given).all():
            raise ValueError(f"the {name} scores must be finite numbers, at least one, got {given[:5]}")
    both = np.concatenate(scores)
    logarithmic = both.max() > 10 * both.min() > 0
    edges = np.histogram_bin_edges(np.log10(both) if logarithmic else both, n_bins)
    edges = (10**edges if logarithmic else edges).tolist()
    ax = axes_or_new(ax)
    for name, given in zip(("familiar", "unfamiliar"), scores):
        ax.hist(given, edges, weights=[1 / len(given)] * len(given), alpha=0.6, label=f"{name} ({len(given)})")
    ax.set(xlabel="unfamiliarity", ylabel="share of inputs", xscale="log" if logarithmic else "linear")
    ax.legend()
    return ax


def plot_probabilities(
    image: Any, probabilities: np.ndarray, classes: Sequence[Any], *, n_shown: int = 5, ax: "Axes | None" = None
) -> "Axes":
    """Plot an image, with the probabilities (n_classes,) of its likeliest classes as bars below it.

    `classes` are what is written on the bars, such as `class_names_`. `image` is what `matplotlib.axes.Axes.imshow`
    takes: a PIL image, or an array (height, width) or (height, width, 3). It is drawn on `ax`, from which room for the
    bars is taken; returns the axes of the bars.

    >>> import numpy as np
    >>> from repurpose.plots import plot_probabilities
    >>> bars = plot_probabilities(np.zeros((8, 8)), np.array([0.2, 0.7, 0.1]), classes=["cat", "dog", "owl"], n_shown=2)
    >>> [text.get_text() for text in bars.texts]  # from below
    ['20%', '70%']
    """
    probabilities = np.asarray(probabilities, dtype=np.float64)
    if probabilities.shape != (len(classes),):
        raise ValueError(
            f"probabilities must hold one number for each of the {len(classes)} classes, got {probabilities.shape}"
        )
    from mpl_toolkits.axes_grid1 import make_axes_locatable

    likeliest = np.argsort(-probabilities, kind="stable")[:n_shown][::-1]
    above = axes_or_new(ax)
    above.imshow(image, cmap="gray" if np.ndim(image) == 2 else None)
    above.axis("off")
    bars = make_axes_locatable(above).append_axes("bottom", size=f"{10 * len(likeliest)}%", pad=0.05)
    places = np.arange(len(likeliest))
    bars.barh(places, probabilities[likeliest], color="lightskyblue")
    # Names stand on the bars, where long ones reach into no other image.
    bars.set_yticks(places, [str(classes[code]) for code in likeliest], ha="left")
    bars.tick_params(axis="y", length=0, pad=-4, labelsize=8)
    for place, probability in zip(places, probabilities[likeliest]):
        bars.annotate(f"{probability:.0%}", (0.98, place), ha="right", va="center", fontsize=8)
    bars.set(xlim=(0, 1), xticks=[])
    bars.spines[:].set_visible(False)
    return bars


def attention(
    images: Any, maps: np.ndarray, before: np.ndarray | None = None, *, axes: "np.ndarray | None" = None
) -> "np.ndarray":
    """Plot each image, and over it what the network looks at: a row an image, as in the first figure of TOAST's paper.

    `images` are (n_images, channels, height, width), one or three channels of any range, or images that
    `matplotlib.axes.Axes.imshow` takes; `maps` (n_images, map_height, map_width), as
    `ToastRepurposer.attention_maps(images)` gives them, and `before` those of before steering, which get a column of
    their own. Draws on `axes` (n_images, n_columns), of two columns, with `before` of three, or on those of a new
    figure, and returns them.

    >>> import numpy as np
    >>> from repurpose import plots
    >>> images, maps = np.random.rand(2, 3, 16, 16), np.random.rand(2, 4, 4)
    >>> plots.attention(images, maps, before=np.ones((2, 4, 4))).shape
    (2, 3)
    """
    columns = [maps] if before is None else [before, maps]
    of_network = getattr(images, "ndim", None) == 4 and images.shape[1] in (1, 3)
    shown = [_as_image(image, channels_first=of_network) for image in images]
    for given in columns:
        if np.ndim(given) != 3 or len(given) != len(shown) or not len(shown):
            raise ValueError(
                f"attention is laid over images, (n_images, height, width): got {np.shape(given)} for {len(shown)} "
                "images. Maps of texts are (n_texts, n_tokens), to be shown as a table"
            )
    titles = ["image", "attention"] if before is None else ["image", "before steering", "after steering"]
    if axes is None:
        from matplotlib import pyplot

        size = (2 * len(titles), 2 * len(shown))
        axes = pyplot.subplots(len(shown), len(titles), figsize=size, squeeze=False, layout="constrained")[1]
    axes = np.reshape(np.asarray(axes, dtype=object), (len(shown), len(titles)))
    for row, image in enumerate(shown):
        extent = (0, image.shape[1], image.shape[0], 0)
        for column, ax in enumerate(axes[row]):
            ax.imshow(image, cmap="gray" if image.ndim == 2 else None, extent=extent)
            if column:
                over = columns[column - 1][row]
                ax.imshow(over, cmap="jet", alpha=0.5, extent=extent, interpolation="bilinear")
            ax.set(xticks=[], yticks=[], title=titles[column] if row == 0 else "")
    return axes


def detections(image: Any, found: Detections, *, min_score: float = 0.0, ax: "Axes | None" = None) -> "Axes":
    """Plot an image, and on it the boxes found of at least `min_score`, with labels and scores, a colour a class.

    `image` is a path, a PIL image, an array (height, width, 3) of uint8, or a tensor (3, height, width) of uint8 or of
    floats from 0 to 1. `repurpose.detection.draw` makes an image of the same.

    >>> from PIL import Image
    >>> from repurpose import plots
    >>> from repurpose.detection import Detections
    >>> ax = plots.detections(Image.new("RGB", (64, 48)), Detections([[8, 8, 40, 40]], ["cat"], [0.9]))
    >>> len(ax.patches), ax.texts[0].get_text()
    (1, 'cat 0.90')
    """
    from matplotlib.patches import Rectangle

    ax = axes_or_new(ax)
    ax.imshow(as_pil(image))
    shown = found.at_least(min_score)
    for (x1, y1, x2, y2), label, score in zip(shown.boxes.tolist(), shown.labels.tolist(), shown.scores.tolist()):
        colour = tuple(part / 255 for part in colour_of(label))
        # The centre of the first pixel is 0 in a plot, and its edge -.5.
        ax.add_patch(Rectangle((x1 - 0.5, y1 - 0.5), x2 - x1, y2 - y1, fill=False, edgecolor=colour, linewidth=1.5))
        style = {"facecolor": colour, "edgecolor": "none", "pad": 1}
        text = text_of(label, score).replace("$", r"\$")  # which would begin a formula
        ax.text(x1 - 0.5, y1 - 0.5, text, color="white", fontsize=8, va="bottom", bbox=style, clip_on=True)
    ax.axis("off")
    return ax


def _as_image(image: Any, *, channels_first: bool) -> np.ndarray:
    """Return (height, width) or (height, width, 3) from 0 to 1 of an image."""
    array = np.asarray(image, dtype=np.float64)
    array = np.moveaxis(array, 0, -1) if channels_first else array
    array = array[..., 0] if array.ndim == 3 and array.shape[-1] == 1 else array
    low, high = array.min(), array.max()  # images that are normalised for a network have other ranges
    return (array - low) / (high - low or 1)


def _checked(labels: Any, probabilities: np.ndarray, classes: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return codes and probabilities. Raises ValueError for other shapes or values, and for labels of no class."""
    truth, array = label_array(labels), np.asarray(probabilities, dtype=np.float64)
    if array.shape != (len(truth), len(classes)) or not len(truth):
        raise ValueError(
            f"{len(truth)} labels and {len(classes)} classes need probabilities of shape "
            f"{(len(truth), len(classes))}, with at least one row, got {array.shape}"
        )
    wrong = ~(np.isfinite(array).all(axis=1) & (array >= -1e-6).all(axis=1) & (np.abs(array.sum(axis=1) - 1) < 1e-2))
    if wrong.any():
        raise ValueError(
            "probabilities must be at least 0 and sum to 1 in each row, as predict_probability gives them; "
            f"{wrong.sum()} of {len(array)} rows do not, such as row {wrong.argmax()}: {array[wrong.argmax()][:5]}"
        )
    codes, unknown = label_codes(truth, np.asarray(classes))
    if unknown:
        raise ValueError(f"labels that are not among the classes: {', '.join(map(repr, list(unknown)[:5]))}")
    return codes, array


def _check_bins(n_bins: Any) -> None:
    if not is_whole(n_bins, 1):
        raise ValueError(f"n_bins must be a whole number of at least 1, got {n_bins!r}")
