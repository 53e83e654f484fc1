"""The table of a GPU: bytes moved against the bandwidth of a copy, and times against torch's own.

The bytes of a row are the fewest that its operation can move: every operand read or written once
from memory (twice where a scale of the whole tensor has to be known first).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from rung.bench import eager, peers
from rung.bench.linear import from_codes, from_floats
from rung.bench.measure import Step, digits, interleave, spread
from rung.bench.quantizers import (
    DECODERS,
    LNS8,
    MXFP6,
    copying_in_place,
    on_numbers,
)
from rung.bench.row import Case, Row, TimedRow, judge, made
from rung.bench.setting import Setting
from rung.bench.steps import ADAMW, RULES, square_case
from rung.nn import convert_
from rung.train.layers import LayerOptions, policy
from rung.train.models import GPT
from rung.train.task import token_loss

MUST, REACH = 0.85, 0.92
BATCHES = (1, 2, 4, 8, 16)
COPY = Case("copy_ of float32", copying_in_place)
_WINDOWS, _CONTEXT = 8, 1024


@dataclass(frozen=True, slots=True)
class BandwidthRow:
    """Bytes that have to move over the time taken, against the same of a copy.

    Attributes:
        name: What the command line takes.
        title: What is compared with what.
        case: What is timed.
        bytes_each: The fewest bytes moved for each number.
        must: At least so much of the copy's bandwidth.
        reach: What is hoped for.
    """

    name: str
    title: str
    case: Case
    bytes_each: float
    must: float | None = MUST
    reach: float | None = REACH

    def measure(self, setting: Setting) -> dict[str, Any]:
        """Wall time, the device waited for."""
        steps, cases = made((self.case, COPY), setting)
        record: dict[str, Any] = {"bytes_each": self.bytes_each, "cases": cases}
        for case in cases:
            if "error" in case:
                return record | {"error": f"{case['label']}: {case['error']}"}
        times = interleave(
            steps, "wall", seconds=setting.seconds, rounds=setting.rounds, device=setting.device
        )
        pairs = zip(times[self.case.label], times[COPY.label], strict=True)
        shares = [self.bytes_each / 8 * copy / max(ours, 1e-9) for ours, copy in pairs]
        for case, bytes_each in zip(cases, (self.bytes_each, 8.0), strict=True):
            seconds = spread(times[case["label"]]).median
            case["ms"] = digits(1000 * seconds)
            case["gigabytes_a_second"] = digits(bytes_each * setting.elements / seconds / 1e9)
        record |= {"rounds": len(shares), "share": spread(shares).record()}
        return record | judge(spread(shares).median, self.must, self.reach, at_least=True)


def gpt(format: str | None, *, autocast: bool, float8: bool = False) -> Callable[[Setting], Step]:
    """A training step of GPT-2 with 124 M weights on made-up tokens, by AdamW fused.

    Args:
        format: In which products are computed, all four places; None for none.
        autocast: Whether products run in bfloat16.
        float8: Whether torchao's float8 training takes over the linear layers.
    """

    def build(setting: Setting) -> Step:
        tiny: dict[str, Any] = {"layers": 1, "width": 16, "heads": 2, "context": 8}
        vocabulary, windows, context = 50_304, _WINDOWS, _CONTEXT
        if setting.quick:
            vocabulary, windows, context = 64, 2, 8
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(setting.seed)
            model: nn.Module = (
                GPT(vocabulary, **tiny) if setting.quick else GPT.preset("gpt2", vocabulary)
            )
        model.to(setting.device)
        if format is not None:
            convert_(model, policy(format, LayerOptions()))
        if float8:
            peers.load("torchao.float8").convert_to_float8_training(model)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
        tokens = torch.randint(
            vocabulary,
            (windows, context + 1),
            generator=setting.generator(),
            device=setting.device,
        )

        def step() -> None:
            optimizer.zero_grad()
            with torch.autocast(setting.device.type, torch.bfloat16, enabled=autocast):
                loss = token_loss(model(tokens[:, :-1]), tokens[:, 1:])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()

        return step

    return build


def gpu_rows() -> list[Row]:
    """Bandwidth, steps, the linear layer, training."""
    rows: list[Row] = [
        BandwidthRow(
            f"{name}-bandwidth", f"{rule[0]}, step, share of copy", square_case(name), each
        )
        for name, rule in RULES.items()
        for each in (float(rule[4]),)
    ]
    quantizers = [("quantize-lns8", LNS8, 12.0), ("quantize-mxfp6", MXFP6, 8.0)]
    quantizers += [(name, case, 5.0) for name, case in DECODERS.items()]
    rows += [
        BandwidthRow(f"{name}-bandwidth", f"{case.label}, share of copy", case, each)
        for name, case, each in quantizers
    ]
    rows += [
        TimedRow(name, f"{rule[0]}, step / AdamW fused", (square_case(name), ADAMW))
        for name, rule in RULES.items()
    ]
    rows += [_linear_row(batch) for batch in BATCHES]
    float8 = Case("float8_e4m3 round trip", on_numbers(eager.float8_round_trip))
    rows.append(
        TimedRow("quantize-lns8-float8", "LNS8 quantize / float8_e4m3 round trip", (LNS8, float8))
    )
    return [*rows, _training_row()]


def _linear_row(batch: int) -> TimedRow:
    cases = (
        Case("linear from lns8 codes", from_codes("lns8", batch, torch.bfloat16)),
        Case("F.linear bfloat16", from_floats(torch.bfloat16, batch)),
        Case("linear from ladder8 codes", from_codes("ladder8", batch, torch.bfloat16)),
    )
    title = f"Batch-{batch} linear 4096 x 4096 from lns8 codes / bfloat16 cuBLAS"
    return TimedRow(f"linear-batch{batch}", title, cases, 0.6, adjust=_latency)


def _latency(setting: Setting) -> Setting:
    # Ten microseconds each: many rounds cost nothing.
    return replace(setting, rounds=setting.rounds if setting.quick else (50, 1000))


def _training_row() -> TimedRow:
    cases = (
        Case("LNS8 in all four places, bf16", gpt("lns8", autocast=True)),
        Case("bf16", gpt(None, autocast=True)),
        Case("torchao float8", gpt(None, autocast=True, float8=True), "torchao"),
    )
    return TimedRow("train-gpt2", "Training step of a 124 M GPT, LNS8 / bf16", cases, 1.25)
