"""The differences between the descriptions of two trainings, as a refusal lists them."""

from collections.abc import Mapping

__all__ = ["differences"]


def differences(first: Mapping[str, str], second: Mapping[str, str], where: str, elsewhere: str) -> list[str]:
    """Write a line for each entry that is not the same in two configurations."""
    missing = "nothing"
    return [
        f"{name}: {first.get(name, missing)} {where}, {second.get(name, missing)} {elsewhere}"
        for name in dict.fromkeys([*first, *second])
        if first.get(name, missing) != second.get(name, missing)
    ]
