"""Packages that only some of the suite needs, or that may be too old."""

from __future__ import annotations

import importlib
import re
from importlib.metadata import version
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


def check_newer(package: str, oldest: str) -> None:
    """Refuse a package that is older than what this was tried with, as environments without pip's care may hold.

    Raises:
        ImportError: says which is there, and how to get another one.
    """
    here = version(package)
    if _numbers(here) < _numbers(oldest):
        raise ImportError(
            f"This needs {package} {oldest} or newer, and {here} is here: pip install --upgrade {package}.",
            name=package,
        )


def _numbers(of: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", of)[:3]]
