"""Codes of two ladders on the CPU: one look-up a number."""

import functools
from typing import Any

import torch
from torch import Tensor

from rung.kernels.cpu import decode_loops
from rung.kernels.cpu.groups import decode_groups
from rung.kernels.pair import value_table


def decode(codes: Tensor, scale: Tensor, bits: int, knee: float, block: int = 0) -> Tensor:
    """`pair.decode_reference` of a float32 scale."""
    return decode_groups(decode_loops.take, (_values(bits, knee), 0), codes, scale, block)


@functools.cache
def _values(bits: int, knee: float) -> Any:
    """float32 value of every code at scale 1."""
    return value_table(bits, knee, torch.empty(0, device="cpu")).to(torch.float32).numpy()
