"""The memory budget of activations is a quarter of what the machine, or the control group of the process, has."""

import os
from pathlib import Path

__all__ = ["memory_budget"]

_SHARE = 4  # the part of the memory that activations may take is one of so many
_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def memory_budget() -> int:
    """Return how many bytes activations may take in memory, unless the plan says so."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not on Windows
        return 2**31
    for limit in map(Path, _LIMITS):
        text = limit.read_text().strip() if limit.exists() else ""
        if text.isdigit():  # "max" where there is no limit
            total = min(total, int(text))
    return total // _SHARE
