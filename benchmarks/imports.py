"""What `import repurpose` costs beside the two imports that it cannot do without."""

import statistics
import subprocess
import sys

from benchmarks.timing import interleaved, median_ratio, print_table


def run(runs: int = 9) -> None:
    """Print both medians and their ratio; each run is a new interpreter."""
    base, ours = "import torch, sklearn.base", "import repurpose"
    seconds = interleaved({text: lambda text=text: _interpreter(text) for text in (base, ours)}, runs)
    rows = [[text, f"{statistics.median(times):.2f}"] for text, times in seconds.items()]
    print_table(["statement", "seconds"], rows)
    print(f"ratio: {median_ratio(seconds[ours], seconds[base]):.3f}")


def _interpreter(statement: str) -> None:
    subprocess.run([sys.executable, "-c", statement], check=True)
