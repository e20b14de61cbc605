"""The paper's experiments: ``plan`` lists runs, ``runner`` does one, ``run`` does many, ``tables`` summarises them."""


class RunsFailedError(Exception):
    """Some runs failed; the others are complete."""
