"""A batch that does not fit is halved, said once, and gives the same rows."""

import warnings

import pytest
import torch

from kdpl_utils.support.memory import Halving


class Gpu:
    """Doubles numbers, with room for so many at once; remembers the sizes it was asked for."""

    def __init__(self, room):
        self.room, self.asked = room, []

    def __call__(self, batch):
        self.asked.append(len(batch))
        if len(batch) > self.room:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        return 2 * torch.as_tensor(batch)


@pytest.mark.parametrize("batch", [torch.arange(10), list(range(10))])
def test_halved_until_it_fits_and_remembered(batch):
    gpu = Gpu(room=3)
    compute = Halving(gpu, "pictures")
    with pytest.warns(UserWarning, match="no room for pictures: [52] at a time from here on") as said:
        made = compute(batch)
    assert made.tolist() == list(range(0, 20, 2)) and len(said) == 2 and gpu.asked[:2] == [10, 5]
    gpu.asked.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert compute(batch[:7]).tolist() == list(range(0, 14, 2)) and gpu.asked == [2, 2, 2, 1]


def test_what_fits_is_passed_as_it_is():
    seen = []
    batch = torch.arange(4)
    Halving(lambda given: seen.append(given) or given, "pictures")(batch)
    assert len(seen) == 1 and seen[0] is batch


def test_no_room_for_one_is_a_sentence():
    with pytest.warns(UserWarning), pytest.raises(MemoryError, match="no room for pictures, one at a time: .*bf16"):
        Halving(Gpu(room=0), "pictures")(torch.arange(4))


def test_other_errors_pass():
    with pytest.raises(RuntimeError, match="sizes differ"):
        Halving(lambda batch: (_ for _ in ()).throw(RuntimeError("sizes differ")), "pictures")(torch.arange(4))
