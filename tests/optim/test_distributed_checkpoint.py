"""torch's distributed checkpointing materialises optimizer state by a step of its own."""

import copy

import pytest
import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)

import rung
from rung.optim import LMD, BBitMadam, LNSMadam, Madam, QuantizedUpdate, split_parameters

from .cases import values_of


def make(kind):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(30, 40), nn.ReLU(), nn.Linear(40, 3))
    # Gaussian weights reach beyond three times their RMS, where a step would clamp them.
    for layer in (net[0], net[2]):
        nn.init.normal_(layer.weight)
    if kind == "float":
        return net, Madam(split_parameters(net))
    if kind.startswith("lmd"):
        return net, LMD(split_parameters(net), state=kind.removeprefix("lmd-"))
    if kind == "quantized":
        adamw = torch.optim.AdamW(net.parameters())
        return net, QuantizedUpdate(adamw, "lns10", rounding="stochastic")
    rung.store_weights_(net, kind)
    optimizer = BBitMadam if kind == "ladder8" else LNSMadam
    return net, optimizer(split_parameters(net), rounding="stochastic")


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "kind", ["float", "ladder8", "lns16", "quantized", "lmd-fp32", "lmd-lns16"]
)
def test_asking_for_state_changes_no_weight_and_a_loaded_run_continues_alike(kind):
    net, optimizer = make(kind)
    before = [values_of(p) for p in net.parameters()]
    get_optimizer_state_dict(net, optimizer)
    for param, values in zip(net.parameters(), before, strict=True):
        assert torch.equal(values_of(param), values)

    def train(net, optimizer, steps):
        x = torch.randn(16, 30, generator=torch.Generator().manual_seed(1))

        def closure():
            optimizer.zero_grad()
            loss = net(x).square().mean()
            loss.backward()
            return loss

        for _ in range(steps):
            optimizer.step(closure)

    train(net, optimizer, 3)
    twin, twin_optimizer = make(kind)
    twin.load_state_dict(net.state_dict())
    # A copy, as through a file: torch's AdamW would share its step counters with the twin.
    saved = copy.deepcopy(get_optimizer_state_dict(net, optimizer))
    set_optimizer_state_dict(twin, twin_optimizer, saved)
    train(net, optimizer, 3)
    train(twin, twin_optimizer, 3)
    for a, b in zip(net.parameters(), twin.parameters(), strict=True):
        assert torch.equal(values_of(a), values_of(b))
