"""Where a function comes from: its own code, the names around it, its signature."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from functools import partial
from inspect import getattr_static
from types import CodeType, FunctionType, MethodType
from typing import Any

__all__ = ["definition_scope", "innermost", "place_of", "signature_of"]


def innermost(fn: Any) -> Any:
    """Give the function behind partials, wrappers, methods and callable objects."""
    for _ in range(100):  # a wrapper chain may be a loop
        if isinstance(fn, partial):
            fn = fn.func
        elif isinstance(fn, MethodType):
            fn = fn.__func__
        elif isinstance(fn, staticmethod) or hasattr(fn, "__wrapped__"):
            fn = fn.__wrapped__
        else:
            call: Any = getattr_static(fn.__class__, "__call__", None)
            if isinstance(fn, FunctionType | type) or not isinstance(call, FunctionType):
                return fn
            fn = call
    return fn


def signature_of(fn: Callable[..., Any]) -> inspect.Signature:
    """Give a function's signature, with the annotations that cannot be evaluated left as they are.

    Raises:
        TypeError, ValueError: if it has none, as some built-in functions.
    """
    if sys.version_info >= (3, 14):
        from annotationlib import Format  # noqa: PLC0415 - the module is new in 3.14

        return inspect.signature(fn, annotation_format=Format.FORWARDREF)
    return inspect.signature(fn)


def place_of(fn: Any) -> tuple[str, str, str, int]:
    """Give (module, qualified name, file, first line) of a function, as far as it has them."""
    inner = innermost(fn)
    code = getattr(inner, "__code__", None)
    return (
        getattr(inner, "__module__", None) or "",
        getattr(inner, "__qualname__", None) or type(inner).__qualname__,
        code.co_filename if code is not None else "",
        code.co_firstlineno if code is not None else 0,
    )


def definition_scope(fn: Any) -> dict[str, Any]:
    """Give the local names where a function is being defined, found on the stack of the decorator's call.

    A postponed annotation may name a class that is local to the defining function; nothing but that function's frame
    knows it. The frames are told by their code: it holds the code of what they define.
    """
    code = getattr(fn, "__code__", None)
    names: dict[str, Any] = {}
    for name, cell in zip(getattr(code, "co_freevars", ()), getattr(fn, "__closure__", None) or (), strict=False):
        try:
            names[name] = cell.cell_contents
        except ValueError:  # assigned only later
            continue
    frame = inspect.currentframe()
    while frame is not None and code is not None:
        if _holds(frame.f_code, code):
            names = {**frame.f_locals, **names}
            code = frame.f_code
        frame = frame.f_back
    return names


def _holds(outer: CodeType, inner: CodeType) -> bool:
    constants = [each for each in outer.co_consts if isinstance(each, CodeType)]
    return any(each is inner for each in constants) or any(_holds(each, inner) for each in constants)
