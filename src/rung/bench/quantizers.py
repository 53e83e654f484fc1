"""Rows of the quantizers and decoders."""

from collections.abc import Callable

import torch
from torch import Tensor

from rung.bench import eager, peers
from rung.bench.measure import Step
from rung.bench.row import Case, TimedRow
from rung.bench.setting import Setting
from rung.bench.steps import Stored, stored
from rung.formats import get


def on_numbers(quantize: Callable[[Tensor], Tensor]) -> Callable[[Setting], Step]:
    """A function of one tensor with all the numbers."""

    def build(setting: Setting) -> Step:
        x = setting.normal(setting.count, setting.side, setting.side)
        return lambda: quantize(x)

    return build


def rung_quantize(name: str) -> Callable[[Setting], Step]:
    """`quantize` of a named format, new memory for the result as everywhere here."""
    return on_numbers(get(name).quantize)


def decoding(how: Stored) -> Callable[[Setting], Step]:
    """All weights of a list from codes to floats, into new memory."""

    def build(setting: Setting) -> Step:
        weights = [
            stored(weight, how, str(index)) for index, weight in enumerate(setting.tensors())
        ]

        def step() -> None:
            for weight in weights:  # one at a time, as layers do
                weight.decode()  # type: ignore[attr-defined]

        return step

    return build


def copying(setting: Setting) -> Step:
    """As many floats copied to new memory, which decoding too has to get."""
    weights = setting.tensors()

    def step() -> None:
        for weight in weights:
            torch.empty_like(weight).copy_(weight)

    return step


def copying_in_place(setting: Setting) -> Step:
    """As many floats copied to memory that is there."""
    weights, copies = setting.tensors(), setting.tensors()

    def step() -> None:
        for copy, weight in zip(copies, weights, strict=True):
            copy.copy_(weight)

    return step


LNS8 = Case("LNS8 quantize", rung_quantize("lns8+zero"))
MXFP6 = Case("MXFP6 quantize", rung_quantize("mxfp6_e3m2"))
COPY = Case("copy to new memory", copying)
COPY_IN_PLACE = Case("copy_ to memory that is there", copying_in_place)
DECODERS = {
    "decode-lns8": Case("decode lns8", decoding(("lns8", "packed"))),
    "decode-ladder8": Case("decode ladder8, packed signs", decoding(("ladder8", "packed"))),
    "decode-ladder8-seed": Case("decode ladder8, seeded signs", decoding(("ladder8", "seed"))),
}


def quantizer_rows() -> list[TimedRow]:
    """Quantizers against what torch's operations make of it, decoders against a copy."""
    composed = "the eager composition of torch operations"
    rows = [
        TimedRow(
            "quantize-lns8",
            f"LNS8 quantize / {composed}",
            (LNS8, Case("eager LNS8", on_numbers(eager.lns8)), peers.QTORCH),
            0.10,
            0.06,
        ),
        TimedRow(
            "quantize-lns8-float8",
            "LNS8 quantize / float8_e4m3 round trip",
            (LNS8, Case("float8_e4m3 round trip", on_numbers(eager.float8_round_trip))),
            0.3,
            0.2,
        ),
        TimedRow(
            "quantize-mxfp6",
            f"MXFP6 quantize / {composed}",
            (MXFP6, Case("eager MXFP6", on_numbers(eager.mxfp6_e3m2))),
            0.10,
            0.06,
        ),
    ]
    rows += [
        TimedRow(
            name, f"{case.label} / copy of as many float32", (case, COPY_IN_PLACE, COPY), 1.0, 0.6
        )
        for name, case in DECODERS.items()
    ]
    return rows
