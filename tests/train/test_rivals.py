"""Optimizers of other libraries: what they store, what they round, what is refused."""

import sys
from dataclasses import replace

import pytest
import torch
from torch import nn

from rung.tensor import stored_bytes
from rung.train import get_recipe, with_settings
from rung.train.config import BF16_WEIGHTS, RIVALS
from rung.train.int8 import dequantized, is_int8
from rung.train.optimizers import build_optimizer, store_weights
from rung.train.rivals import build_rival, round_bfloat16


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 128), nn.LayerNorm(128), nn.Linear(128, 64))


def config(name, *settings):
    return with_settings(get_recipe("digits-mlp").configure(name), settings)


@pytest.mark.parametrize(
    ("name", "weights", "states"),
    [
        ("adamw-bf16", torch.bfloat16, {torch.bfloat16}),
        ("adamw-8bit", torch.float32, {torch.uint8}),
        ("adamw-8bit-bf16", torch.bfloat16, {torch.uint8}),
    ],
)
def test_what_is_stored(name, weights, states):
    model = network()
    line = store_weights(config(name), model)
    assert (line is None) == (weights == torch.float32)
    optimizer = build_optimizer(config(name), model)
    with torch.autocast("cpu", torch.bfloat16, enabled=name in BF16_WEIGHTS):
        model(torch.randn(8, 64)).float().square().mean().backward()
    optimizer.step()
    assert [p.dtype for p in model.parameters() if p.ndim == 2] == [weights] * 2
    assert {p.dtype for p in model.parameters() if p.ndim == 1} == {torch.float32}
    state = optimizer.state[model[0].weight]
    whole = {v.dtype for v in state.values() if isinstance(v, torch.Tensor) and v.ndim == 2}
    assert whole == states


def test_linear_layers_are_stored_in_int8_and_the_others_are_not():
    class Words(nn.Module):
        def __init__(self):
            super().__init__()
            self.words = nn.Embedding(16, 64)
            self.body = network()
            self.head = nn.Linear(64, 16, bias=False)
            self.head.weight = self.words.weight  # tied: rows are taken from it, so it stays

        def forward(self, tokens):
            return self.head(self.body(self.words(tokens)).transpose(0, 1))  # not contiguous

    torch.manual_seed(0)
    model = Words()
    whole = model.body[0].weight.detach().clone()
    line = store_weights(config("adamw-int8"), model)
    assert "int8 in linear layers" in line
    assert model.words.weight.dtype == torch.float32
    assert type(model.words.weight) is nn.Parameter
    stored = model.body[0].weight
    assert is_int8(stored)
    assert stored_bytes(stored) == 64 * 128 + 4 * 128
    spacing = whole.abs().amax(1, keepdim=True) / 127
    assert bool(((dequantized(stored) - whole).abs() <= 0.51 * spacing).all())
    optimizer = build_optimizer(config("adamw-int8"), model)
    before = stored.int_data.clone()
    model(torch.arange(16).view(4, 4)).square().mean().backward()
    optimizer.step()
    assert not torch.equal(stored.int_data, before)
    assert optimizer.state[stored]["state1"].dtype == torch.uint8
    assert len(optimizer.state) == len(list(model.parameters()))


def test_int8_weights_keep_small_updates_in_the_mean():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 200, bias=False))
    # One weight of a row says its scale: 1 / 127, eighty steps of 1e-4.
    model[0].weight.data = torch.full((200, 64), 0.5)
    model[0].weight.data[:, 0] = 1.0
    store_weights(config("adamw-int8"), model)
    weight = model[0].weight
    optimizer = build_rival("adamw-int8", [weight], lr=1e-4, betas=(0.9, 0.999), weight_decay=0.0)
    for _ in range(20):
        weight.grad = torch.ones(200, 64)
        weight.grad[:, 0] = 0.0
        optimizer.step()
    moved = dequantized(weight)[:, 1:].double().mean()
    assert float(moved) == pytest.approx(64 / 127 - 20e-4, abs=2e-4)


@pytest.mark.parametrize("name", sorted(BF16_WEIGHTS))
def test_updates_far_below_a_spacing_are_kept_in_the_mean(name):
    # A step of 1e-4 off 1 is a thirtieth of bfloat16's spacing below it.
    weight = nn.Parameter(torch.ones(200, 64, dtype=torch.bfloat16))
    optimizer = build_rival(name, [weight], lr=1e-4, betas=(0.9, 0.999), weight_decay=0.0)
    torch.manual_seed(0)
    for _ in range(20):
        weight.grad = torch.ones_like(weight)
        optimizer.step()
        assert weight.grad is not None
        assert weight.grad.dtype == torch.bfloat16
    assert float(weight.detach().double().mean()) == pytest.approx(1 - 20e-4, abs=2e-4)


def test_rounding_keeps_the_mean_and_the_numbers_of_bfloat16():
    torch.manual_seed(0)
    for value in (1.001, -0.3, 1e-20):
        rounded = round_bfloat16(torch.full((50_000,), value)).double()
        assert len(rounded.unique()) == 2
        assert float(rounded.mean()) == pytest.approx(value, rel=2e-4)
    whole = torch.randn(100).bfloat16()
    assert torch.equal(round_bfloat16(whole.float()), whole)


def test_what_is_refused(monkeypatch):
    for name in sorted(RIVALS):
        with pytest.raises(ValueError, match=rf"`update_format` must be none for .*{name}.*lns10"):
            config(name, "update_format=lns10")
    with pytest.raises(ValueError, match="`format` must be none for optimizer 'adamw-bf16'.*lns8"):
        replace(config("adamw-bf16"), format="lns8")
    with pytest.raises(ValueError, match="`format` must be none for optimizer 'adamw-int8'.*lns8"):
        replace(config("adamw-int8"), format="lns8")
    with pytest.raises(ValueError, match="`precision` must be 'float32' for .*int8.*got 'bf16'"):
        config("adamw-int8", "precision=bf16")
    with pytest.raises(
        ValueError, match=r"weights of nn.Linear layers, .*; got none. Use 'adamw-8"
    ):
        store_weights(config("adamw-int8"), nn.Sequential(nn.Conv2d(1, 4, 3)))
    monkeypatch.setitem(sys.modules, "torchao", None)
    with pytest.raises(ImportError, match=r"torchao's, which .* pip install 'rung\[bench\]'"):
        store_weights(config("adamw-int8"), network())
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(ImportError, match=r"bitsandbytes's, which .* pip install 'rung\[bench\]'"):
        build_rival("adamw-8bit", network().parameters(), lr=1e-3)
