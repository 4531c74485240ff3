"""Identities: a SHA-256 of all that a value is made of, so that what was computed with it can be found again.

Code of installed packages counts by its name and the version of the package, code of the user's own by its bytecode,
with the globals and closures that it reads. What cannot be taken apart has no identity, and raises `UnknownIdentity`: a
false one would give wrong results later.
"""

import dis
import logging
import platform
import re
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from functools import cache, cached_property, partial
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from model_handler.network.tensors import tensor_bytes

__all__ = ["Identity", "UnknownIdentity", "installed_version"]

_PLAIN = (type(None), bool, int, float, complex, str, bytes)
_SPELT_OUT = (torch.dtype, torch.device, torch.layout, torch.memory_format, range, slice, type(...), np.dtype)
_OURS = ("model_handler", "repurpose")
_SAID_ELSEWHERE = {
    "__dict__",
    "__weakref__",
    "__doc__",
    "__module__",
    "__annotations__",
    "__firstlineno__",
    "_abc_impl",
}
_ROOM_OF_ATTRIBUTES = 32  # bytes of an object of Python's own that has a `__dict__`, and no state beside it


class UnknownIdentity(Exception):
    """What has no identity, in words for the log."""


class Identity:
    """Takes values in, one after the other; `digest` is the same where they are.

    With `own_code`, code of the user's own is taken apart too; without, it has no identity: what it reads beside its
    arguments, such as a clock or random numbers, cannot be seen.
    """

    def __init__(self, *, own_code: bool = False) -> None:
        self._own_code = own_code
        self._hash = sha256()
        self._seen: dict[int, tuple[int, object]] = {}  # what was seen is held, or another thing could have its id

    @property
    def digest(self) -> str:
        """The SHA-256, in hexadecimal digits, of all that was taken in so far."""
        return self._hash.hexdigest()

    def say(self, *words: str | bytes | memoryview) -> None:
        """Take in words as they are, each with its length."""
        for word in words:
            data = word.encode(errors="surrogatepass") if isinstance(word, str) else word
            self._hash.update(f"{len(data)}:".encode())
            self._hash.update(data)

    def take(self, value: Any) -> None:
        """Take in a value, whatever it is made of. Raises UnknownIdentity where that cannot be told."""
        if type(value) in _PLAIN:
            self.say(type(value).__name__, repr(value))
        elif id(value) in self._seen:
            self.say("again", str(self._seen[id(value)][0]))
        else:
            self._seen[id(value)] = (len(self._seen), value)
            try:
                next((rule for kind, rule in self._rules() if isinstance(value, kind)), type(self)._object)(self, value)
            except RecursionError as error:
                raise UnknownIdentity(f"a {type(value).__name__} that lies too deep") from error

    _RULES: ClassVar[list[tuple[Any, Callable[[Any, Any], None]]]] = []

    def _rules(self) -> list[tuple[Any, Callable[[Any, Any], None]]]:
        return self._RULES

    def _sequence(self, value: Any) -> None:
        self.say(type(value).__qualname__, str(len(value)))
        for part in value:
            self.take(part)

    def _mapping(self, value: Mapping[Any, Any]) -> None:
        self.say(type(value).__qualname__, str(len(value)))
        for name, part in value.items():
            self.take(name)
            self.take(part)

    def _set(self, value: Any) -> None:
        def of(part: object) -> str:
            alone = type(self)(own_code=self._own_code)
            alone.take(part)
            return alone.digest

        self.say(type(value).__qualname__, *sorted(map(of, value)))

    def _tensor(self, value: Tensor) -> None:
        try:
            numbers = tensor_bytes(value)
        except (RuntimeError, NotImplementedError, TypeError) as error:
            raise UnknownIdentity(f"a tensor of {value.dtype} on {value.device}, whose bytes are not told") from error
        self.say("tensor", str(value.dtype), str(tuple(value.shape)), numbers)

    def _array(self, value: np.ndarray) -> None:
        if value.dtype.hasobject:
            self._sequence(value.reshape(-1).tolist())
        self.say("array", value.dtype.str, str(value.shape))
        if not value.dtype.hasobject and value.nbytes:
            self.say(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data)

    def _spelt_out(self, value: object) -> None:
        self.say(type(value).__qualname__, repr(value))

    def _enum(self, value: Enum) -> None:
        self.take(type(value))
        self.say(value.name)

    def _module(self, value: ModuleType) -> None:
        if (number := installed_version(value.__name__)) is None:
            raise UnknownIdentity(f"the module {value.__name__!r}, which is of no installed package")
        self.say("module", value.__name__, number)

    def _pattern(self, value: re.Pattern) -> None:
        self.say("pattern", repr(value.pattern), str(value.flags))

    def _logger(self, value: logging.Logger) -> None:
        self.say("logger")  # computes nothing

    def _partial(self, value: partial) -> None:
        self.say("partial")
        self._sequence((value.func, value.args, value.keywords))

    def _method(self, value: MethodType) -> None:
        self.say("method")
        self._sequence((value.__func__, value.__self__))

    def _builtin(self, value: BuiltinFunctionType) -> None:
        self.say("builtin", value.__qualname__, str(value.__module__))
        if not isinstance(value.__self__, ModuleType | None):
            self.take(value.__self__)

    def _function(self, value: FunctionType) -> None:
        self._name(value, "function")
        self._sequence((value.__defaults__, value.__kwdefaults__))
        for cell in value.__closure__ or ():
            try:
                self.take(cell.cell_contents)
            except ValueError:
                self.say("an empty cell")
        self._code(value.__code__)
        if installed_version(value.__module__ or "") is None:
            for module in _names_in(value.__code__, "IMPORT_NAME"):  # it is not among the globals
                if installed_version(module) is None:
                    raise UnknownIdentity(f"the module {module!r}, which {value.__qualname__!r} imports when it runs")
            for name in sorted({*_names_in(value.__code__, "LOAD_GLOBAL", "LOAD_NAME")} & set(value.__globals__)):
                self.say(name)
                self.take(value.__globals__[name])

    def _code(self, code: CodeType) -> None:
        self.say(code.co_code, repr(code.co_names), repr(code.co_varnames), repr(code.co_freevars))
        for constant in code.co_consts:
            self._code(constant) if isinstance(constant, CodeType) else self.take(constant)

    def _wrapped(self, value: Any) -> None:
        self.say(type(value).__qualname__)
        inside = (getattr(value, name, None) for name in ("__func__", "func", "fget", "fset"))
        self._sequence([part for part in inside if part is not None])

    def _class(self, value: type) -> None:
        self._name(value, "class")
        if installed_version(value.__module__) is None:
            self._sequence(value.__mro__[1:])
            for name in sorted(set(vars(value)) - _SAID_ELSEWHERE):
                self.say(name)
                self.take(vars(value)[name])

    def _name(self, value: Any, kind: str) -> None:
        number = installed_version(value.__module__ or "")
        if number is None and not self._own_code:
            raise UnknownIdentity(f"the {kind} {value.__qualname__!r}, which is of no installed package")
        self.say(kind, str(value.__module__), value.__qualname__, number or "")

    def _object(self, value: Any) -> None:
        kind = type(value)
        self.take(kind)
        if hasattr(value, "backend_tokenizer"):
            self.say(*_tokenizer(value))
        elif hasattr(value, "__dict__") and kind.__basicsize__ <= _ROOM_OF_ATTRIBUTES:
            self._mapping(vars(value))
        else:
            self._sequence(_reduced(value))


Identity._RULES += [
    ((list, tuple), Identity._sequence),
    (Mapping, Identity._mapping),
    ((set, frozenset), Identity._set),
    (Tensor, Identity._tensor),
    ((np.ndarray, np.generic), lambda self, value: self._array(np.asarray(value))),
    (_SPELT_OUT, Identity._spelt_out),
    (Enum, Identity._enum),
    (ModuleType, Identity._module),
    (re.Pattern, Identity._pattern),
    (logging.Logger, Identity._logger),
    (partial, Identity._partial),
    (MethodType, Identity._method),
    (BuiltinFunctionType, Identity._builtin),
    (FunctionType, Identity._function),
    ((staticmethod, classmethod, property, cached_property), Identity._wrapped),
    (type, Identity._class),
]


@cache
def installed_version(module: str) -> str | None:
    """Return the version of the package, installed or of Python itself, that a module is of; None for any other."""
    root = module.partition(".")[0]
    if root in _OURS:
        return "ours"
    if root in sys.stdlib_module_names and root != "__main__":
        return platform.python_version()
    file = getattr(sys.modules.get(root), "__file__", None)
    folders = [Path(sysconfig.get_path(kind)) for kind in ("purelib", "platlib")]
    if file is None or not any(folder in Path(file).parents for folder in folders):
        return None
    try:
        return str(getattr(sys.modules[root], "__version__", None) or version(root))
    except PackageNotFoundError:
        return None


def _names_in(code: CodeType, *operations: str) -> Iterator[str]:
    """Yield the names that some operations of code have, of the functions inside it too."""
    for step in dis.get_instructions(code):
        if step.opname in operations:
            yield step.argval
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names_in(constant, *operations)


def _reduced(value: Any) -> list[Any]:
    """Return what pickle would keep of an object whose state is not Python's."""
    try:
        reduced = value.__reduce_ex__(4)
    except Exception as error:
        raise UnknownIdentity(f"a {type(value).__name__}, which cannot be taken apart ({error})") from error
    if isinstance(reduced, str):
        raise UnknownIdentity(f"the {type(value).__name__} called {reduced!r}")
    return [list(part) if isinstance(part, Iterator) else part for part in reduced]


def _tokenizer(value: Any) -> tuple[str, ...]:
    """Return what a tokenizer of transformers does, without how its last call padded and truncated."""
    import json

    parts = json.loads(value.backend_tokenizer.to_str())
    parts.pop("truncation", None), parts.pop("padding", None)
    named = ("special_tokens_map", "model_max_length", "padding_side", "truncation_side", "model_input_names")
    return (json.dumps(parts), *(repr(getattr(value, name, None)) for name in named))
