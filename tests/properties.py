"""On how many cases each property is tried.

By default some thousands in all, the same in every run, which take seconds. ``KDPL_CASES=100000`` shares so many out
among the same properties, other ones in every run. What a failing case is, and how it is tried again, Hypothesis prints
with it.
"""

import os

from hypothesis import HealthCheck, settings

USUAL_CASES = 3030  # of all properties together
WANTED = int(os.environ.get("KDPL_CASES") or USUAL_CASES)
SHARES: list[int] = []


def cases(usual: int) -> settings:
    """The settings of a property that is usually tried on so many cases; slow machines are no failure."""
    SHARES.append(usual)
    wanted = max(1, round(usual * WANTED / USUAL_CASES))
    is_usual = "KDPL_CASES" not in os.environ
    return settings(max_examples=wanted, deadline=None, derandomize=is_usual, suppress_health_check=list(HealthCheck))
