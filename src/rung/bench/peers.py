"""Other people's packages, imported when their turn comes; what they raise is their result.

``pip install 'rung[bench]'`` brings torchao, bitsandbytes, torch-optimi and qtorch. xlnstorch is an
sdist whose build fetches a torch of its own, so the extra leaves it out; see docs/performance.md.
"""

import importlib
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from rung.bench.measure import Step
from rung.bench.row import Case
from rung.bench.setting import Setting


def load(module: str) -> Any:
    """Import a module; its warnings are its own affair."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(module)


def parameters(setting: Setting) -> list[nn.Parameter]:
    """Float weights with gradients that stay."""
    made = []
    grads = setting.tensors(std=1e-3)
    for weight, grad in zip(setting.tensors(), grads, strict=True):
        param = nn.Parameter(weight)
        param.grad = grad
        made.append(param)
    return made


def _torchao(setting: Setting) -> Step:
    optim = load("torchao.optim")
    step: Step = optim.AdamW8bit(parameters(setting)).step
    return step


def _bitsandbytes(setting: Setting) -> Step:
    optim = load("bitsandbytes.optim")
    step: Step = optim.AdamW8bit(parameters(setting)).step
    return step


def _optimi(setting: Setting) -> Step:
    step: Step = load("optimi").AdamW(parameters(setting), lr=1e-3).step
    return step


ADAMS = (
    Case("torchao AdamW8bit", _torchao, "torchao"),
    Case("bitsandbytes AdamW8bit", _bitsandbytes, "bitsandbytes"),
    Case("torch-optimi AdamW", _optimi, "torch-optimi"),
)


def _xlnstorch(setting: Setting) -> Step:
    lns, layers, optim = load("xlnstorch"), load("xlnstorch.nn"), load("xlnstorch.optim")
    layer = layers.LNSLinear(setting.side, setting.side, bias=False)
    groups = list(layer.lns_parameters())
    param = groups[0]["params"]  # one, not a list of them
    param.grad = lns.lnstensor(setting.normal(*param.shape, std=1e-3))._lns
    step: Step = optim.LNSMadam(groups).step
    before = param.detach().clone()
    step()
    if torch.equal(param.detach(), before):
        raise RuntimeError("its step has moved no weight")
    return step


XLNSTORCH = Case("xlnstorch LNSMadam", _xlnstorch, "xlnstorch")


def _qtorch(setting: Setting) -> Step:
    quantize = load("qtorch.quant").float_quantize
    x = setting.normal(setting.count, setting.side, setting.side)
    return lambda: quantize(x, exp=4, man=3, rounding="nearest")


QTORCH = Case("QPyTorch float_quantize, 4 + 3 bits", _qtorch, "qtorch")


def int8_linear(weight: Tensor, x: Tensor) -> Step:
    """Torch's dynamic int8 linear: weights in int8, activations quantized at every call."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    with torch.no_grad():
        layer.weight.copy_(weight)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls its own function deprecated
        quantized = torch.ao.quantization.quantize_dynamic(  # type: ignore[no-untyped-call]
            nn.Sequential(layer), {nn.Linear}
        )
    return lambda: quantized(x)
