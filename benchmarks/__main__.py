"""`python -m benchmarks NAME`: runs one measurement and prints its table."""

import argparse
import importlib
import sys

from benchmarks.options import positive

MEASUREMENTS = {
    "features": "images per second of extraction beside torchvision's create_feature_extractor, plain and compiled",
    "handler": "time to trace a network, and the memory that a handler adds to it",
    "loading": "images per second of a folder, read beside the computing and before it",
    "memory": "peak memory of extraction beside the size of its result",
    "demo": "accuracy and log loss of the demo's task beside scikit-learn fitted by hand",
    "scaling": "log loss of logistic regression under several scalings of the features",
    "chunks": "images per second by size of chunk and memory format",
    "coverage": "every promise of ModelHandler on the networks of torchvision, timm and Hugging Face (--library ...)",
    "choice": "log loss under several ways to choose C",
    "resize": "log loss and features with either resize of the embedded source",
    "layers": "log loss with layers chosen beside that of the last layer",
    "temperature": "log loss by temperatures, of logistic regression and of fine-tuned networks (--parts ...)",
    "heads": "time and memory of heads: GP and Laplace beside other ways, whole fits (--parts ..., --plot FILE)",
    "finetune": "training beside loops written by hand, the frozen part computed once, what it is worth (--parts ...)",
    "quality": "every head on real images: accuracy, calibration, unfamiliar inputs; writes docs/benchmarks/heads.md",
    "threads": "fits of few rows with one thread beside the user's, and with a busy neighbour (--rows ..., --out FILE)",
    "unfamiliar": "detectors of unfamiliar inputs, their p-values, energy, and sizes of sets (--parts ...)",
    "adapters": "adapters, TOAST and full tuning: four tasks, time and memory; writes docs/benchmarks/adapters.md",
    "offsite": "Offsite-Tuning on three tasks, its files, time and memory; writes docs/benchmarks/offsite.md",
    "domains": "transfer between domains and tasks, with and without labels; writes docs/benchmarks/domains.md",
    "detection": "what detectors learn, how fast, on what backbones; writes docs/benchmarks/detection.md (--parts)",
    "sources": "rankings of sources, tuning, few labels of text, groups; writes docs/benchmarks/sources.md (--parts)",
    "labels": "wrong labels, next ones, rows that come and go, an alarm; writes docs/benchmarks/labels.md (--parts)",
    "deploy": "files of ONNX, shards, a million rows, engines, a service; writes docs/benchmarks/deploy.md (--parts)",
    "compare": "every result of this checkout beside that of another one, bit for bit (OTHER, --parts ...)",
    "attacks": "damaged and hostile files, each loaded and asked: what happened, counted (--attempts, --show)",
    "readers": "two writers and four readers at one directory: errors, mixed models, loads (--minutes)",
    "soak": "threads predicting, saving and loading beside a child that is killed: losses and memory (--minutes)",
    "saving": "save and load beside torch.save of a large network and joblib.dump of small heads",
    "kills": "processes killed while they save: models lost, mixed, files left (--kills)",
    "imports": "time of `import repurpose` beside `import torch, sklearn.base`",
}


def main() -> None:
    """Parse the name and hand over."""
    listing = "\n".join(f"  {name:<11} {text}" for name, text in MEASUREMENTS.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        epilog=listing,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=sys.argv[1:2] in ([], ["-h"], ["--help"]),  # behind a name it is asked for the options of that one
    )
    parser.add_argument("name", choices=MEASUREMENTS)
    parser.add_argument("--runs", type=positive, help="how often each side runs (each measurement has its own default)")
    arguments, more = parser.parse_known_args()
    measurement = importlib.import_module(f"benchmarks.{arguments.name}")
    if hasattr(measurement, "main"):  # it has options of its own
        measurement.main(more + (["--runs", str(arguments.runs)] if arguments.runs is not None else []))
        return
    if more:
        parser.error(f"unrecognized arguments: {' '.join(more)}")
    measurement.run(*([arguments.runs] if arguments.runs is not None else []))


if __name__ == "__main__":
    main()
