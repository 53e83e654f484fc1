"""AdamW as other libraries make it smaller: bfloat16 or int8 weights, 8-bit moments.

The libraries are those of the extra ``rung[bench]`` and are imported when a run asks for them.
"""

from collections.abc import Iterable
from functools import cache
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from rung.tensor import stored_bytes
from rung.tensor.roles import roles
from rung.train.config import BF16_WEIGHTS, INT8_WEIGHTS
from rung.train.int8 import stepping_on_copies, store_int8


def narrow_weights(name: str, model: nn.Module) -> str | None:
    """Put weights into what an optimizer keeps them in, bfloat16 or int8; biases and gains stay.

    Returns:
        One line that says what was stored, or None.

    Raises:
        ImportError: The library of int8 weights is missing.
        ValueError: int8 weights of a model without a linear layer.
    """
    if name != INT8_WEIGHTS and name not in BF16_WEIGHTS:
        return None
    before = sum(stored_bytes(p) for p in model.parameters())
    if name == INT8_WEIGHTS:
        _required("torchao")
        store_int8(model)
        after = sum(stored_bytes(p) for p in model.parameters())
        return f"{before:,} bytes of weights became {after:,} (int8 in linear layers)"
    weights = [role.parameter for role in roles(model) if role.additive_reason is None]
    for weight in weights:
        weight.data = weight.data.to(torch.bfloat16)
    after = sum(stored_bytes(p) for p in model.parameters())
    return f"{before:,} bytes of weights became {after:,} (bfloat16)"


def build_rival(name: str, params: Iterable[Tensor], **options: Any) -> Optimizer:
    """An optimizer of another library.

    Args:
        name: One of `RIVALS`.
        params: Parameters.
        options: lr, betas and weight_decay.

    Raises:
        ImportError: The library is missing.
    """
    if name == "adamw-bf16":
        kind = _eager(_required("torchao.optim")._AdamW)
        options["bf16_stochastic_round"] = True
    else:
        kind = _required("bitsandbytes").optim.AdamW8bit
        if name in BF16_WEIGHTS:
            kind = _stochastic(kind)
        elif name == INT8_WEIGHTS:
            kind = stepping_on_copies(kind)
    found: Optimizer = kind(params, **options)
    return found


def _required(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        library = name.partition(".")[0]
        raise ImportError(
            f"This optimizer is {library}'s, which isn't installed. Install it with: "
            "pip install 'rung[bench]'."
        ) from error


@cache
def _eager(kind: Any) -> Any:
    """Torchao's optimizer without torch.compile: that takes a minute, and 25 ms a tensor a step."""

    class Eager(kind):  # type: ignore[misc]
        def step(self, closure: Any = None) -> Any:
            with torch.compiler.set_stance("force_eager"):
                return super().step(closure)

    return Eager


@cache
def _stochastic(kind: Any) -> Any:
    """The optimizer of bitsandbytes with its bfloat16 weights rounded stochastically.

    bitsandbytes rounds to nearest, which loses most of the updates that AdamW makes.
    """

    class Stochastic(kind):  # type: ignore[misc]
        def update_step(self, group: Any, p: Tensor, gindex: int, pindex: int) -> None:
            if p.dtype != torch.bfloat16:
                super().update_step(group, p, gindex, pindex)
                return
            assert p.grad is not None
            grad, p.grad = p.grad, None
            p.data = p.data.float()
            p.grad = grad.float()
            super().update_step(group, p, gindex, pindex)
            p.grad = None
            p.data = round_bfloat16(p.data)
            p.grad = grad

    return Stochastic


def round_bfloat16(values: Tensor) -> Tensor:
    """Float32 to one of the two neighbouring bfloat16 values, unbiased; torch's random numbers."""
    draws = torch.randint(0, 1 << 16, values.shape, dtype=torch.int32, device=values.device)
    bits = (values.view(torch.int32) + draws) & -65536
    return bits.view(torch.float32).to(torch.bfloat16)
