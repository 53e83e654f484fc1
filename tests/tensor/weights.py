"""Stored weights for the tests, one for every way to keep signs and every width of code."""

import torch

from rung.tensor import CodedTensor

# A ladder's signs beside the codes or from the seed; an LNS's inside codes of one or two bytes.
LADDERS = [("ladder8", "packed"), ("ladder8", "seed")]
KINDS = [
    *LADDERS,
    ("lns16", "packed"),
    ("lns8", "packed"),
    ("sinh8", "packed"),
    ("pair16", "packed"),
]


def coded(shape=(6, 4), fmt="ladder8", signs="packed", seed=0, dtype=torch.float32):
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)
    return CodedTensor.from_float(weight, fmt, 3.0, signs, seed, "w")


def same(a, b):
    assert type(a) is type(b) is CodedTensor
    assert a.format == b.format
    assert a.dtype == b.dtype
    for name, part in a.to_parts().items():
        assert torch.equal(part, b.to_parts()[name]), name
    return True
