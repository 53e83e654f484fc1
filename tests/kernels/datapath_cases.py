"""Designs and codes that every implementation of the datapath is held against."""

import torch

from rung.kernels.datapath import Design

DESIGNS = [
    Design(8, 8, 8, 8, 24, 0, False, False),
    Design(8, 8, 8, 8, 24, 9, False, False),
    Design(8, 8, 8, 8, 24, 9, True, True),
    Design(8, 8, 4, 8, 24, 12, False, False),
    Design(8, 8, 2, 8, 28, 8, True, False),
    Design(8, 8, 1, 8, 24, 9, False, True),
    Design(8, 8, 1, 8, 36, 0, False, False),
    Design(8, 8, 8, 12, 40, 0, False, False),
    Design(8, 8, 8, 8, 16, 17, False, True),
    Design(8, 8, 8, 8, 29, 4, True, False),
    Design(6, 4, 4, 6, 18, 0, False, False),
    Design(6, 4, 2, 6, 16, 3, True, True),
    Design(4, 2, 2, 4, 10, 0, False, False),
    Design(5, 1, 1, 0, 30, 1, False, False),
    Design(8, 16, 16, 8, 20, 0, False, False),
    Design(8, 32, 32, 8, 20, 0, True, False),
    Design(8, 1, 1, 8, 26, 12, False, False),
]


def name(design):
    return "-".join(str(int(number)) for number in design)


def keywords(design):
    """The oracle's arguments."""
    names = ("bits", "gamma", "size", "fraction", "width", "dropped", "wrap", "zero")
    return dict(zip(names, design, strict=True))


def codes(shape, design, kind, seed=0):
    """Codes of all exponents, of the lower half of them, of the largest, of a Gaussian's."""
    generator = torch.Generator().manual_seed(seed)
    last = design.last

    def integers(low, high):
        return torch.randint(low, high, shape, generator=generator)

    if kind == "gaussian":
        size = torch.randn(shape, generator=generator).abs().clamp(1e-6, 4) / 4
        exponents = (last + design.base_factor * size.log2()).round().long().clamp(0, last)
    else:
        ranges = {"all": (0, last + 1), "low": (0, last // 2 + 1), "top": (last - 1, last + 1)}
        exponents = integers(*ranges[kind])
    whole = exponents + integers(0, 2) * (last + 1)
    return whole.to(torch.uint8 if design.bits <= 8 else torch.int16)


KINDS = ("all", "low", "top", "gaussian")
