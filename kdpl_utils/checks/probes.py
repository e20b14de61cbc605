"""Small data on which answers are compared."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..vlm import VLM


def draw(seed: int, *shape: int) -> Tensor:
    """Standard normal numbers, the same on every machine."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class ToyTower(nn.Module):
    """A text tower in two lines: a weighted sum of its bytes' vectors, of any length but one."""

    def __init__(self):
        super().__init__()
        self.logit_scale = nn.Parameter(torch.tensor(1.5))
        self.table = nn.Parameter(draw(0, 256, 8), requires_grad=False)

    def encode_text(self, tokens: Tensor) -> Tensor:
        weights = 1 / torch.arange(1, tokens.shape[1] + 1)
        return (self.table[tokens] * weights[:, None]).sum(1)


def bytes_of(texts: Sequence[str]) -> Tensor:
    """A tokenizer: (N, 48) bytes, padded with spaces."""
    return torch.tensor([list(text.ljust(48)[:48].encode("latin-1", "replace")) for text in texts])


def toy_vlm() -> VLM:
    return VLM(ToyTower(), preprocess=lambda image: image, tokenizer=bytes_of, name="toy")
