"""Rows of the linear layer whose weights are 8-bit codes."""

from collections.abc import Callable

import torch
from torch.nn import functional

from rung.bench import peers
from rung.bench.measure import Step
from rung.bench.row import Case, TimedRow
from rung.bench.setting import Setting
from rung.bench.steps import stored

BATCHES = (2, 4, 8, 16, 32, 64)
Make = Callable[[Setting], Step]


def from_codes(fmt: str, batch: int, dtype: torch.dtype = torch.float32) -> Make:
    """``functional.linear(x, weight)`` with a weight in codes, without gradients."""

    def build(setting: Setting) -> Step:
        plain = setting.normal(setting.width, setting.width, std=0.02).to(dtype)
        weight = stored(plain, (fmt, "packed"), "weight")
        x = setting.normal(batch, setting.width).to(dtype)

        @torch.no_grad()
        def step() -> None:
            functional.linear(x, weight)

        return step

    return build


def from_floats(dtype: torch.dtype, batch: int) -> Make:
    """Torch's own, weights and inputs of one dtype."""

    def build(setting: Setting) -> Step:
        weight = setting.normal(setting.width, setting.width, std=0.02).to(dtype)
        x = setting.normal(batch, setting.width).to(dtype)

        @torch.no_grad()
        def step() -> None:
            functional.linear(x, weight)

        return step

    return build


def int8(batch: int) -> Make:
    """Torch's dynamic int8 linear."""

    def build(setting: Setting) -> Step:
        weight = setting.normal(setting.width, setting.width, std=0.02)
        return peers.int8_linear(weight, setting.normal(batch, setting.width))

    return build


def linear_rows() -> list[TimedRow]:
    """Batch 1 with targets, larger batches for information."""
    float32, bfloat16 = (
        Case(f"F.linear {name}", from_floats(dtype, 1))
        for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16))
    )
    rows = []
    for fmt in ("lns8", "ladder8"):
        ours = Case(f"linear from {fmt} codes", from_codes(fmt, 1))
        title = f"Batch-1 linear 4096 x 4096 from {fmt} codes"
        rows += [
            TimedRow(
                f"linear-{fmt}",
                f"{title} / F.linear float32",
                (ours, float32, Case("dynamic int8 linear of torch", int8(1))),
                0.8,
                0.4,
            ),
            TimedRow(
                f"linear-{fmt}-bfloat16", f"{title} / F.linear bfloat16", (ours, bfloat16), 1.0, 0.5
            ),
        ]
    return [*rows, *(_batch_row(batch) for batch in BATCHES)]


def _batch_row(batch: int) -> TimedRow:
    cases = (
        Case("linear from lns8 codes", from_codes("lns8", batch)),
        Case("F.linear float32", from_floats(torch.float32, batch)),
        Case("linear from ladder8 codes", from_codes("ladder8", batch)),
        Case("F.linear bfloat16", from_floats(torch.bfloat16, batch)),
        Case("dynamic int8 linear of torch", int8(batch)),
    )
    return TimedRow(
        f"linear-batch{batch}",
        f"Batch-{batch} linear 4096 x 4096 from lns8 codes / F.linear float32",
        cases,
    )
