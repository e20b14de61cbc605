"""Progress bars, where they are read."""

from __future__ import annotations

import sys

from tqdm import tqdm


def progress_bar(*args, **settings) -> tqdm:
    """``tqdm`` from two seconds on: on standard error in a terminal, but in a notebook among what a cell prints.

    Jupyter shows standard error on red, as if something had gone wrong.
    """
    in_notebook = type(sys.stdout).__module__.startswith("ipykernel")
    where = sys.stdout if in_notebook else sys.stderr
    return tqdm(*args, file=where, **{"delay": 2, "leave": False, **settings})
