"""Packages that only some of the suite needs."""

from __future__ import annotations

import importlib
from types import ModuleType


def optional(module: str, extra: str) -> ModuleType:
    """A package that only some worlds need.

    Raises:
        ModuleNotFoundError: it is not installed; says how to.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.split(".")[0]
        message = f"This needs {package}: pip install {package}, or 'kdpl-notebooks[{extra}]'."
        raise ModuleNotFoundError(message, name=package) from error
