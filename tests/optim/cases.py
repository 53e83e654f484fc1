"""The optimizers under contract: how to make each, and on what."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from rung.optim import LMD, BBitMadam, LNSMadam, Madam, QuantizedUpdate, SignedMadam
from rung.tensor import CodedTensor


@dataclass(frozen=True)
class Case:
    """One optimizer with its settings; `fmt` is its parameters' format, or None for floats.

    LMD stands without noise, so that it needs no closure, and without its prior, which moves
    weights of zero gradient; tests/optim/test_lmd_*.py are for what is then missing.
    """

    name: str
    make: Callable[..., torch.optim.Optimizer]
    options: dict[str, Any] = field(default_factory=dict)
    fmt: str | None = None

    @property
    def is_lmd(self) -> bool:
        """Whether the rule has a memory of gradients instead of squares, and a prior's scale."""
        return self.make is LMD

    @property
    def goes_on(self) -> bool:
        """Whether weights move where gradients have ended."""
        return self.is_lmd or (self.make is SignedMadam and self.options.get("momentum") != 0)

    def parameter(self, values: Tensor, name: str = "w") -> nn.Parameter:
        if self.fmt is None:
            return nn.Parameter(values.clone())
        scale = 3 * values.square().mean().sqrt() if values.any() else 1.0
        return nn.Parameter(CodedTensor.from_float(values, self.fmt, scale, name=name))

    def optimizer(self, params: Any, **options: Any) -> torch.optim.Optimizer:
        return self.make(params, **{**self.options, **options})


def quantized_madam(params: Any, rounding: str = "nearest", **options: Any) -> QuantizedUpdate:
    return QuantizedUpdate(Madam(params, **options), "lns12", rounding=rounding)


STILL = {"momentum": 0.0, "weight_decay": 0.0}
"""Weights that move by a step's own gradients alone."""

QUIET = {"sigma": 0.0, "regularization": 0.0}

CASES = [
    Case("madam", Madam),
    Case("madam-foreach", Madam, {"foreach": True}),
    Case("madam-capturable", Madam, {"capturable": True}),
    Case("madam-bf16-state", Madam, {"state": "bf16"}),
    Case("madam-log8-state", Madam, {"state": "log8"}),
    Case("madam-decay", Madam, {"weight_decay": 0.1}),
    Case("bbit12", BBitMadam, {}, "ladder12"),
    Case("bbit12-fp32-state", BBitMadam, {"state": "fp32"}, "ladder12"),
    Case("bbit12-log8-state", BBitMadam, {"state": "log8"}, "ladder12"),
    Case("bbit8", BBitMadam, {"lr": 0.02}, "ladder8"),
    Case("bbit8-stochastic", BBitMadam, {"rounding": "stochastic"}, "ladder8"),
    Case("bbit8-capturable", BBitMadam, {"lr": 0.02, "capturable": True}, "ladder8"),
    Case("bbit16-decay", BBitMadam, {"weight_decay": 0.1}, "ladder16"),
    Case("lns16", LNSMadam, {}, "lns16"),
    Case("lns16-fp32-state", LNSMadam, {"state": "fp32"}, "lns16"),
    Case("lns16-log8-state", LNSMadam, {"state": "log8"}, "lns16"),
    Case("lns16-capturable", LNSMadam, {"capturable": True}, "lns16"),
    Case("lns12-decay", LNSMadam, {"weight_decay": 0.1}, "lns12"),
    Case("lns10", LNSMadam, {"lr": 0.03}, "lns10"),
    Case("lns10-stochastic", LNSMadam, {"rounding": "stochastic"}, "lns10"),
    Case("signed8", SignedMadam, {**STILL, "rounding": "nearest", "lr": 0.1}, "sinh8"),
    Case("signed8-momentum", SignedMadam, {}, "sinh8"),
    Case("signed8-momentum8", SignedMadam, {"momentum_bits": 8}, "sinh8"),
    Case("signed8-stochastic", SignedMadam, STILL, "sinh8"),
    Case("signed8-bf16-state", SignedMadam, {**STILL, "state": "bf16"}, "sinh8"),
    Case("signed8-capturable", SignedMadam, {**STILL, "capturable": True}, "sinh8"),
    Case("signed8-rows", SignedMadam, {"state": "rows"}, "sinh8"),
    Case(
        "signed8-factored-capturable",
        SignedMadam,
        {"state": "factored", "capturable": True},
        "sinh8",
    ),
    Case("pair16", SignedMadam, {"rounding": "nearest"}, "pair16"),
    Case("pair16-stochastic", SignedMadam, STILL, "pair16"),
    Case("pair8-rows", SignedMadam, {**STILL, "state": "rows"}, "pair8"),
    Case("signed12-decay", SignedMadam, {"rounding": "nearest", "weight_decay": 0.1}, "sinh12"),
    Case("quantized-madam", quantized_madam),
    Case("quantized-madam-capturable", quantized_madam, {"capturable": True}),
    Case("quantized-madam-stochastic", quantized_madam, {"rounding": "stochastic"}),
    Case("lmd", LMD, QUIET),
    Case("lmd-rms", LMD, {**QUIET, "update": "rms"}),
    Case("lmd-bf16-state", LMD, {**QUIET, "state": "bf16"}),
    Case("lmd-lns16-state", LMD, {**QUIET, "state": "lns16"}),
    Case("lmd-lns8-state", LMD, {**QUIET, "state": "lns8"}),
]


def values_of(parameter: Tensor) -> Tensor:
    """The weight as plain floats."""
    plain = parameter.detach()
    return plain.decode() if isinstance(plain, CodedTensor) else plain.clone()


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
