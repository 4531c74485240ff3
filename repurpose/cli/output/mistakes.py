"""Usage mistakes ask for what cannot be, whatever the files hold; they end with exit code 2."""

__all__ = ["UsageMistake", "is_usage_mistake"]


class UsageMistake(ValueError):
    """Options that do not go together, or a value that an option cannot have."""


def is_usage_mistake(error: BaseException) -> bool:
    """Tell whether the fault is in what was typed (exit code 2, as typer's own), not in data, files or network (1)."""
    from model_handler import UnknownLayerError
    from model_handler.sources import UnknownSourceError

    return isinstance(error, (UsageMistake, UnknownLayerError, UnknownSourceError))
