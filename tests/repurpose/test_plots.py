from collections.abc import Iterator

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.axes import Axes

from repurpose import plots
from repurpose.detection import Detections
from repurpose.plots import plot_probabilities, plot_reliability, plot_risk_coverage, plot_unfamiliarity

CLASSES = np.array(["apple", "fig"])


@pytest.fixture(autouse=True)
def _no_screen() -> Iterator[None]:
    mpl.use("agg")
    yield
    pyplot.close("all")


def test_reliability_shows_accuracy_and_counts_of_each_bin() -> None:
    probabilities = np.array([[0.9, 0.1], [0.92, 0.08], [0.45, 0.55], [0.3, 0.7]])
    ax = plot_reliability(["apple", "fig", "fig", "fig"], probabilities, CLASSES, n_bins=10)
    assert isinstance(ax, Axes)
    confidence, accuracy = ax.lines[-1].get_data()
    assert np.allclose(confidence, [0.55, 0.7, 0.91])
    assert np.allclose(accuracy, [1, 1, 0.5])
    assert [text.get_text() for text in ax.texts] == ["1", "1", "2"]
    assert np.allclose([bar.get_height() for bar in ax.patches][-5:], [0.25, 0, 0.25, 0, 0.5])


def test_the_risk_at_each_coverage_is_that_of_the_surest_rows() -> None:
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6]])
    coverage, risk = plot_risk_coverage(["apple", "apple", "fig"], probabilities, CLASSES).lines[0].get_data()
    assert np.allclose(coverage, [1 / 3, 2 / 3, 1])
    assert np.allclose(risk, [0, 1 / 2, 1 / 3])


def test_histograms_share_their_bins_and_show_shares() -> None:
    ax = plot_unfamiliarity(np.arange(10.0), np.arange(5.0) + 20, n_bins=6)
    heights = np.array([bar.get_height() for bar in ax.patches])
    assert heights[:6].sum() == pytest.approx(1)
    assert heights[6:].sum() == pytest.approx(1)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["familiar (10)", "unfamiliar (5)"]


def test_scores_of_different_sizes_have_a_logarithmic_axis() -> None:
    ax = plot_unfamiliarity(np.array([1.0, 2.0]), np.array([50.0, 1000.0]), n_bins=3)
    assert ax.get_xscale() == "log"
    assert [bar.get_height() for bar in ax.patches] == [1, 0, 0, 0, 0.5, 0.5]
    assert plot_unfamiliarity(np.array([-1.0, 2.0]), np.array([50.0])).get_xscale() == "linear"


def test_an_image_has_its_likeliest_classes_below_it() -> None:
    bars = plot_probabilities(np.zeros((8, 8)), np.array([0.1, 0.2, 0.7]), ["a", "b", "c"], n_shown=2)
    assert [label.get_text() for label in bars.get_yticklabels()] == ["b", "c"]
    assert [bar.get_width() for bar in bars.patches] == [0.2, 0.7]
    assert [text.get_text() for text in bars.texts] == ["20%", "70%"]


def test_plots_draw_on_the_axes_given() -> None:
    _, ax = pyplot.subplots()
    assert plot_risk_coverage(["fig"], np.array([[0.1, 0.9]]), CLASSES, ax=ax) is ax
    assert plot_unfamiliarity([1.0], [2.0], ax=ax) is ax


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"1 labels and 2 classes need probabilities of shape \(1, 2\).*got \(2, 2\)"):
        plot_reliability(["fig"], np.eye(2), CLASSES)
    with pytest.raises(ValueError, match="not among the classes: 'pear'"):
        plot_risk_coverage(["fig", "pear"], np.eye(2), CLASSES)
    with pytest.raises(ValueError, match="unfamiliar scores must be finite"):
        plot_unfamiliarity([1.0], [np.nan])
    with pytest.raises(ValueError, match="one number for each of the 2 classes"):
        plot_probabilities(np.zeros((8, 8)), np.ones(3), CLASSES)
    for wrong in (np.eye(2) * np.nan, np.eye(2) * 4, 1 - 2 * np.eye(2)):
        with pytest.raises(ValueError, match=r"must be at least 0 and sum to 1 in each row.*; 2 of 2 rows do not"):
            plot_risk_coverage(["fig", "fig"], wrong, CLASSES)
    with pytest.raises(ValueError, match="n_bins must be a whole number of at least 1, got 0"):
        plot_reliability(["fig"], np.eye(2)[:1], CLASSES, n_bins=0)


def test_attention_is_laid_over_each_image_and_is_as_large() -> None:
    rng = np.random.default_rng(0)
    images, maps = rng.normal(size=(2, 3, 12, 8)), rng.random((2, 3, 2))
    axes = plots.attention(images, maps, before=maps / 2)
    assert axes.shape == (2, 3)
    assert [ax.get_title() for ax in axes[0]] == ["image", "before steering", "after steering"]
    image, over = axes[1, 2].images
    assert image.get_extent() == over.get_extent() == [0, 8, 12, 0]
    assert np.array_equal(over.get_array(), maps[1])
    assert np.array_equal(axes[1, 1].images[1].get_array(), maps[1] / 2)
    shown = image.get_array()
    assert shown.shape == (12, 8, 3)
    assert (shown.min(), shown.max()) == (0, 1)
    assert len(axes[0, 0].images) == 1


def test_grey_images_are_shown_and_attention_of_texts_is_not() -> None:
    axes = plots.attention(np.zeros((1, 1, 4, 4)), np.ones((1, 2, 2)))
    assert axes[0, 0].images[0].get_array().shape == (4, 4)
    with pytest.raises(ValueError, match=r"got \(1, 5\) for 1 images. Maps of texts"):
        plots.attention(np.zeros((1, 1, 4, 4)), np.ones((1, 5)))
    with pytest.raises(ValueError, match=r"got \(2, 2, 2\) for 1 images"):
        plots.attention(np.zeros((1, 1, 4, 4)), np.ones((2, 2, 2)))


def test_boxes_found_are_drawn_where_they_are_with_labels_and_scores() -> None:
    found = Detections([[0, 0, 8, 6], [2, 2, 4, 4]], ["$fig", "apple"], [0.25, 0.75])
    ax = plots.detections(np.zeros((6, 8, 3), np.uint8), found, min_score=0.2)
    assert [patch.get_bbox().bounds for patch in ax.patches] == [(1.5, 1.5, 2, 2), (-0.5, -0.5, 8, 6)]
    assert [text.get_text() for text in ax.texts] == ["apple 0.75", r"\$fig 0.25"]
    assert ax.get_xlim() == (-0.5, 7.5)
    ax.figure.canvas.draw()  # type: ignore[union-attr]
    assert len(plots.detections(np.zeros((6, 8, 3), np.uint8), found, min_score=0.5).patches) == 1
