import numpy as np

from repurpose.detection.evaluation import ClassPrecisions


def precisions(labels: tuple[str | int, ...], ap50: np.ndarray) -> ClassPrecisions:
    n, nothing = len(labels), np.full(len(labels), np.nan)
    return ClassPrecisions(
        labels=labels,
        n_true=np.arange(n),
        n_found=np.arange(n) * 2,
        ap50=ap50,
        ap=nothing,
        voc_ap50=nothing,
        voc07_ap50=nothing,
        ap50_intervals=np.stack([ap50, ap50], axis=1),
        ap_intervals=np.full((n, 2), np.nan),
        in_training=np.arange(n) < n - 1,
    )


def test_a_row_a_class_with_a_dash_for_what_is_unknown() -> None:
    lines = repr(precisions(("cat", 7, "o\nwl"), np.array([0.25, np.nan, 0.0]))).splitlines()
    assert lines[1].split()[:3] == ["true", "found", "AP50"]
    assert lines[2].split() == ["cat", "0", "0", "0.250", "0.250", "to", "0.250", "-", "-"]
    assert lines[3].split() == ["7", "1", "2", "-", "-", "-"]
    assert lines[4].startswith(r"o\nwl (not in training)")


def test_of_many_classes_the_worst_are_shown() -> None:
    text = repr(precisions(tuple(range(30)), np.linspace(1, 0, 30)))
    assert text.startswith("the 20 classes of lowest AP50, of 30")
    assert [line.split()[0] for line in text.splitlines()[2:]] == [str(label) for label in range(29, 9, -1)]


def test_html_takes_no_markup_from_labels() -> None:
    assert "<b>" not in precisions(("<b>", "c"), np.array([0.5, 0.5]))._repr_html_()
