"""Rows of the optimizers: everything that one call of `step` does, checks of gradients included."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from rung.bench import peers
from rung.bench.measure import Step
from rung.bench.row import Case, TimedRow
from rung.bench.setting import Setting
from rung.optim import LMD, BBitMadam, LNSMadam, Madam, SignedMadam, split_parameters
from rung.tensor import CodedTensor, store_weights_
from rung.train.models import GPT, resnet18

Stored = tuple[str, str] | None
"""Format of stored weights and where their signs come from; None: float32."""


def madam(params: Any) -> torch.optim.Optimizer:
    """Madam in float32."""
    return Madam(params)


def madam8(params: Any) -> torch.optim.Optimizer:
    """8-bit Madam, stochastic, moment in bfloat16."""
    return BBitMadam(params, rounding="stochastic")


def madam12(params: Any) -> torch.optim.Optimizer:
    """12-bit Madam, nearest, moment in bfloat16."""
    return BBitMadam(params)


def lns_madam(params: Any) -> torch.optim.Optimizer:
    """LNS-Madam on 16-bit codes, nearest, moment in bfloat16."""
    return LNSMadam(params)


def lmd(params: Any) -> torch.optim.Optimizer:
    """LMD with its noise: a draw and an update."""
    return LMD(params)


def signed8(params: Any) -> torch.optim.Optimizer:
    """Signed Madam at its defaults: moment in 8-bit log codes, momentum in 4-bit floats."""
    return SignedMadam(params)


Make = Callable[[Any], torch.optim.Optimizer]
# Name -> label, how weights are stored, optimizer, targets, bytes that a weight's step must move:
# codes or floats, signs, moments and momenta read and written, gradients read.
RULES: dict[str, tuple[str, Stored, Make, tuple[float, float], int]] = {
    "madam": ("Madam float32", None, madam, (1.0, 0.8), 20),
    "madam8": ("8-bit Madam, seeded signs", ("ladder8", "seed"), madam8, (0.7, 0.5), 10),
    "madam12": ("12-bit Madam, seeded signs", ("ladder12", "seed"), madam12, (0.75, 0.5), 12),
    "lns-madam": ("LNS-Madam, 16-bit codes", ("lns16", "packed"), lns_madam, (0.8, 0.6), 12),
    # Draw: two medians read, a sample written. Update: four vectors both ways, gradient read, the
    # mean written.
    "lmd": ("LMD with noise", None, lmd, (2.0, 1.4), 12 + 32 + 8),
    "signed8": ("8-bit signed Madam", ("sinh8", "packed"), signed8, (1.0, 0.7), 9),
}


def stored(weight: Tensor, how: Stored, name: str) -> Tensor:
    """A weight as it is, or in codes."""
    if how is None:
        return weight
    fmt, signs = how
    scale = 3.0 * float(weight.square().mean().sqrt())
    return CodedTensor.from_float(weight, fmt, scale, signs, name=name)


def square_case(name: str, *, trust: bool = False) -> Case:
    """A step on `count` square matrices; with `trust` none of their gradients is looked at."""
    label, how, make, _, _ = RULES[name]

    def build(setting: Setting) -> Step:
        params, grads = [], setting.tensors(std=1e-3)
        for index, weight in enumerate(setting.tensors()):
            param = nn.Parameter(stored(weight, how, f"weight{index}"))
            param.grad = grads[index]
            params.append(param)
        optimizer = make(params)
        if trust:
            for group in optimizer.param_groups:
                group["on_nonfinite"] = "trust"
        return step_of(optimizer)

    return Case(label, build)


def step_of(optimizer: torch.optim.Optimizer) -> Step:
    """A step; LMD's takes a closure, in which gradients are there already."""
    if isinstance(optimizer, LMD):
        loss = torch.zeros(())
        return lambda: optimizer.step(lambda: loss)
    return optimizer.step


def _adamw_squares(**options: Any) -> Callable[[Setting], Step]:
    return lambda setting: torch.optim.AdamW(peers.parameters(setting), **options).step


ADAMW = Case("AdamW fused", _adamw_squares(fused=True))


# -- a real list of parameters -----------------------------------------------------------------


def real_models(setting: Setting) -> nn.Module:
    """ResNet-18 for CIFAR-10 (62 tensors) and a GPT of 8 layers, width 128 (100 tensors).

    11.2 M and 1.6 M weights; only the head of one and the embedding of the other are Rung's choice.
    """
    torch.manual_seed(setting.seed)
    if setting.quick:
        gpt, resnet = GPT(32, layers=1, width=16, heads=2, context=8), resnet18(10, width=4)
    else:
        gpt, resnet = GPT(96, layers=8, width=128, heads=4, context=128), resnet18(10)
    return nn.ModuleDict({"resnet18": resnet, "gpt": gpt}).to(setting.device)


def gradients(model: nn.Module, setting: Setting) -> None:
    """Made-up gradients that stay."""
    for param in model.parameters():
        param.grad = setting.normal(*param.shape, std=1e-3)


def list_case(name: str) -> Case:
    """A step on the real list; biases and norm gains by AdamW inside the same optimizer."""
    label, how, make, _, _ = RULES[name]

    def build(setting: Setting) -> Step:
        with torch.random.fork_rng(devices=[]):
            model = real_models(setting)
        if how is not None:
            store_weights_(model, how[0], signs=how[1])
        gradients(model, setting)
        return step_of(make(split_parameters(model)))

    return Case(label, build)


def _adamw_list(setting: Setting) -> Step:
    with torch.random.fork_rng(devices=[]):
        model = real_models(setting)
    gradients(model, setting)
    return torch.optim.AdamW(model.parameters(), fused=True).step


# -- rows --------------------------------------------------------------------------------------


def step_rows() -> list[TimedRow]:
    """All on equal matrices, all on a real list, and everybody else's AdamW."""
    rows = [
        TimedRow(name, f"{rule[0]}, step / AdamW fused", (square_case(name), ADAMW), *rule[3])
        for name, rule in RULES.items()
    ]
    rows += [
        TimedRow(
            f"{name}-list",
            f"{rule[0]}, 162 tensors of ResNet-18 + GPT / AdamW fused",
            (list_case(name), Case("AdamW fused", _adamw_list)),
            round(1.1 * rule[3][0], 4),
        )
        for name, rule in RULES.items()
    ]
    rows += [
        TimedRow(
            f"{name}-trust",
            f"{RULES[name][0]}, gradients not looked at, step / AdamW fused",
            (square_case(name, trust=True), ADAMW),
        )
        for name in ("madam", "madam8", "madam12", "lns-madam")
    ]
    foreach = Case("AdamW foreach", _adamw_squares(foreach=True))
    rows.append(
        TimedRow("adamw-peers", "Other AdamW steps / AdamW fused", (foreach, ADAMW, *peers.ADAMS))
    )
    rows.append(
        TimedRow(
            "xlnstorch",
            "xlnstorch's LNSMadam, one small matrix / LNS-Madam, 16-bit codes",
            (peers.XLNSTORCH, square_case("lns-madam")),
            # A step of its takes seconds for a million weights.
            adjust=lambda setting: replace(setting, count=1, side=min(setting.side, 256)),
        )
    )
    return rows
