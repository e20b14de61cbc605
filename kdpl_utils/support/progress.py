"""Progress bars."""

from __future__ import annotations

import sys

from tqdm import tqdm


def progress_bar(*args, **settings) -> tqdm:
    """Show ``tqdm`` from 2 seconds on; in a notebook on standard output, since Jupyter shows errors on red."""
    in_notebook = type(sys.stdout).__module__.startswith("ipykernel")
    stream = sys.stdout if in_notebook else sys.stderr
    return tqdm(*args, file=stream, **{"delay": 2, "leave": False, **settings})
