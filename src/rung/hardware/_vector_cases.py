"""Operands of test vectors: corner cases and random codes."""

from itertools import product

import torch
from torch import Tensor

from rung.kernels.datapath import Design

Pair = tuple[Tensor, Tensor]


def corners(design: Design, length: int) -> tuple[tuple[str, ...], list[Pair]]:
    """Dots of extreme codes, and their names.

    Returns:
        Names, and as many pairs of codes, int64 (length,).
    """
    last, sign = design.last, design.last + 1
    # Without a zero the smallest code is an ordinary number; beside its 0 stands the next one.
    extreme = {"smallest": int(design.zero), "second": int(design.zero) + 1, "largest": last}
    if design.zero:
        extreme = {"zero": 0, **extreme}
    signed = {
        f"{mark}{name}": code + (sign if mark == "-" else 0)
        for name, code in extreme.items()
        for mark in "+-"
    }
    cases = {
        f"all {one} x {other}": (_all(length, x), _all(length, y))
        for (one, x), (other, y) in product(signed.items(), repeat=2)
    }
    steps = torch.arange(length)
    flips = sign * (steps % 2)
    cases["largest, signs alternate"] = (_all(length, last), last + flips)
    cases["smallest, signs alternate"] = (
        _all(length, extreme["smallest"]),
        extreme["smallest"] + flips,
    )
    # Saturation forgets what wrapping gives back: up for a half of the sum, then down; and back.
    half = sign * (steps >= length // 2)
    cases["largest, up then down"] = (_all(length, last), last + half)
    cases["largest, down then up"] = (_all(length, last), last + sign - half)
    exponents = steps % (last + 1)
    cases["every exponent x smallest"] = (exponents, _all(length, extreme["smallest"]))
    cases["every exponent x largest"] = (_all(length, last), exponents)
    cases["every exponent squared, signs alternate"] = (exponents, exponents + flips)
    cases["exponents rise x fall"] = (exponents, last - exponents)
    return tuple(cases), list(cases.values())


def _all(length: int, code: int) -> Tensor:
    return torch.full((length,), code, dtype=torch.int64)


def random(design: Design, count: int, length: int, seed: int) -> list[Pair]:
    """Dots of codes that are equally likely, and of codes of NORMAL(0, 1) numbers, by turns."""
    generator = torch.Generator().manual_seed(seed)
    pairs = []
    for index in range(count):
        draw = _normal if index % 2 else _uniform
        pairs.append((draw(design, length, generator), draw(design, length, generator)))
    return pairs


def _uniform(design: Design, length: int, generator: torch.Generator) -> Tensor:
    return torch.randint(0, 2 * design.last + 2, (length,), generator=generator)


def _normal(design: Design, length: int, generator: torch.Generator) -> Tensor:
    """The largest of the numbers has the largest code."""
    x = torch.randn(length, generator=generator, dtype=torch.float64)
    below = (design.base_factor * (x.abs() / x.abs().max()).log2()).round()
    exponents = (design.last + below.clamp(min=-design.last)).to(torch.int64)
    return exponents + (design.last + 1) * (x < 0)
