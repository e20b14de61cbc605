"""Hugging Face's hub, where it cannot be reached."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit
from urllib.request import getproxies


@contextmanager
def not_waiting_for_the_hub(unless: bool = False) -> Iterator[None]:
    """Without a network, take what is on the disk at once.

    The hub's own program asks six times for each file, with pauses, and complains each time, also for a model that was
    fetched long ago. A setting that it reads at its import decides whether it asks at all. ``unless`` says that nothing
    of the hub is needed: then not even the address of its server is looked up.
    """
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not (unless or _has_an_address(constants.ENDPOINT))
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _has_an_address(endpoint: str) -> bool:
    """Whether the name of a server is known here; behind a proxy it need not be."""
    if getproxies().get("https"):
        return True
    try:
        socket.getaddrinfo(urlsplit(endpoint).hostname, None)
    except OSError:
        return False
    return True
