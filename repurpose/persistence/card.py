"""The card of a saved repurposer: a README for who finds the directory; no program reads it.

It says what the file knows for certain: of what it was made, what it learned from, and what was measured in training.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from numbers import Real
from typing import Any

import numpy as np

from model_handler.errors import first_few

__all__ = ["card"]

_MOST_CLASSES = 10
# What an epoch's record measures, and what the card calls it.
_MEASURED = {
    "loss": "training loss",
    "accuracy": "training accuracy",
    "validation_loss": "validation loss",
    "validation_accuracy": "validation accuracy",
}


def card(plan: Mapping[str, Any], learned: Mapping[str, Any]) -> str:
    """Return the text of the card, by what the manifest says and what was learned."""
    source, libraries = plan["source"], plan["libraries"]
    lines = {
        "Made by": f"{plan['class'].partition(':')[2]} of {plan['library']['name']} {plan['library']['version']}",
        "Date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "With": ", ".join(f"{name} {version}" for name, version in libraries.items()),
        "Source network": source.get("name") or f"{source['network']}, given as a module",
        "Fingerprint of its weights": source.get("fingerprint"),
        "Layers": learned.get("feature_layer_names_"),
        "Features": learned.get("n_features_in_"),
        "Classes": _classes(learned),
        "Rows in training": _rows(learned),
        "Measured in training": "; ".join(_measured(learned)) or None,
    }
    said = "\n".join(f"- {name}: {value}" for name, value in lines.items() if value is not None)
    return (
        f'# A repurposed network\n\n{said}\n\n`repurpose.load("this directory")` gives it back. The other files are '
        "for programs: manifest.json names them, with a hash of each.\n"
    )


def _classes(learned: Mapping[str, Any]) -> str:
    classes = learned.get("classes_")
    names = [] if classes is None else [str(name) for name in np.asarray(classes).tolist()]
    return f"{len(names)}: {first_few(names)}"


def _rows(learned: Mapping[str, Any]) -> str | None:
    """Count the rows of each class, as often as their weights say, where what was learned tells of them."""
    names, counts = learned.get("class_names_"), learned.get("class_counts_")
    if counts is None and isinstance(codes := learned.get("training_codes_"), np.ndarray) and names is not None:
        counts = np.bincount(codes, weights=learned.get("training_weights_"), minlength=len(names))
    if counts is None or names is None:
        return None
    of_each = [f"{count:g} of {name}" for name, count in zip(names, counts)]
    return f"{np.sum(counts):g}: {first_few(of_each, _MOST_CLASSES)}"


def _measured(learned: Mapping[str, Any]) -> Iterator[str]:
    """Yield what was measured in training, as far as it was kept; a class of a user's may keep other things there."""
    if epochs := _epochs(learned.get("history_")):
        best = getattr(learned["history_"], "best_epoch", None)
        record = epochs[-1 if best is None else best]
        found = [f"{said} {record[name]:.4g}" for name, said in _MEASURED.items() if _is_number(record.get(name))]
        if found:
            of = "the last" if best is None else f"the best, number {best + 1},"
            yield f"{', '.join(found)} ({of} of {len(epochs)} epochs)"
    scores, c = learned.get("c_scores_"), learned.get("c_")
    if isinstance(scores, dict) and _is_number(c) and _is_number(scores.get(c)):
        yield f"log loss of left-out rows {scores[c]:.4g} (with C {c:.4g})"
    scores = learned.get("layer_scores_")
    if isinstance(scores, dict) and scores and all(map(_is_number, scores.values())):
        yield f"log loss of left-out rows {min(scores.values()):.4g} (with the layers that were chosen)"
    if _is_number(learned.get("log_evidence_")):
        yield f"log evidence {learned['log_evidence_']:.4g}"
    temperature = getattr(learned.get("calibration_"), "temperature", None)
    if _is_number(temperature):
        yield f"calibrated, by the temperature {temperature:.4g}"


def _epochs(history: object) -> list[Mapping[str, Any]]:
    """Return the records of each epoch of a `History`, or of a dict of arrays, the history of a Bayesian network."""
    if isinstance(history, dict) and all(isinstance(values, np.ndarray) for values in history.values()):
        return [dict(zip(history, values)) for values in zip(*history.values())]
    records = getattr(history, "records", None)
    return list(records) if isinstance(records, list) else []


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
