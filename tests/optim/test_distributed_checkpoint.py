"""torch's distributed checkpointing materialises optimizer state by a step of its own."""

import pytest
import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)

import rung
from rung.optim import BBitMadam, Madam, split_parameters

from .cases import values_of


def make(stored):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(30, 40), nn.ReLU(), nn.Linear(40, 3))
    # Gaussian weights reach beyond three times their RMS, where a step would clamp them.
    for layer in (net[0], net[2]):
        nn.init.normal_(layer.weight)
    if stored:
        rung.store_weights_(net, "ladder8")
        return net, BBitMadam(split_parameters(net), rounding="stochastic")
    return net, Madam(split_parameters(net))


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("stored", [False, True])
def test_asking_for_state_changes_no_weight_and_a_loaded_run_continues_alike(stored):
    net, optimizer = make(stored)
    before = [values_of(p) for p in net.parameters()]
    get_optimizer_state_dict(net, optimizer)
    for param, values in zip(net.parameters(), before, strict=True):
        assert torch.equal(values_of(param), values)

    def train(net, optimizer, steps):
        x = torch.randn(16, 30, generator=torch.Generator().manual_seed(1))
        for _ in range(steps):
            optimizer.zero_grad()
            net(x).square().mean().backward()
            optimizer.step()

    train(net, optimizer, 3)
    twin, twin_optimizer = make(stored)
    twin.load_state_dict(net.state_dict())
    set_optimizer_state_dict(twin, twin_optimizer, get_optimizer_state_dict(net, optimizer))
    train(net, optimizer, 3)
    train(twin, twin_optimizer, 3)
    for a, b in zip(net.parameters(), twin.parameters(), strict=True):
        assert torch.equal(values_of(a), values_of(b))
