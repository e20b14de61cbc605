"""Settings as a file holds them."""

from pathlib import PurePosixPath

import numpy as np
import pytest
import torch

from kdpl_utils.support.values import plain


@pytest.mark.parametrize(
    "given, expected",
    [
        ({"a": np.float32(0.5), 3: [np.int64(2)]}, {"a": 0.5, "3": [2]}),
        (PurePosixPath("a/b"), "a/b"),
        (np.str_("red"), "red"),
        ((torch.tensor(2), None), (2, None)),
        (np.arange(3), [0, 1, 2]),
        (True, True),
    ],
)
def test_a_setting_is_python_s_own(given, expected):
    found = plain(given, "it")
    assert found == expected and type(found) is type(expected)


@pytest.mark.parametrize("given", [object(), {"a": {1, 2}}, [b"ab"]])
def test_what_no_file_can_hold_is_refused(given):
    with pytest.raises(ValueError, match="^it is a .*, which no file can hold"):
        plain(given, "it")
