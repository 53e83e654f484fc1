import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from rung.optim import split_parameters
from rung.tensor import CodedTensor
from rung.train import get_recipe, run, with_settings
from rung.train.checkpoint import load_checkpoint
from rung.train.optimizers import build_optimizer, store_weights
from rung.train.others import STD


def config(optimizer, *settings, **changes):
    base = replace(get_recipe("digits-cnn").configure(optimizer), **changes)
    return with_settings(base, settings)


def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 2))


def trained(made, network, steps=3):
    store_weights(made, network)
    optimizer = build_optimizer(made, network)
    for _ in range(steps):
        optimizer.zero_grad()
        network(torch.linspace(-1, 1, 12).reshape(3, 4)).square().mean().backward()
        optimizer.step()
    return optimizer


def values(network):
    return {
        name: (p.decode() if isinstance(p, CodedTensor) else p).clone()
        for name, p in ((name, p.detach()) for name, p in network.named_parameters())
    }


@pytest.mark.parametrize("name", ["madam", "bbit-madam"])
def test_biases_and_gains_are_trained_by_the_same_rule_on_request(name):
    network = model()
    made = config(name, "others=multiplicative", lr=0.02)
    store_weights(made, network)
    assert 0.2 * STD < float(network[1].bias.detach().abs().mean()) < 3 * STD
    before = values(network)
    optimizer = trained_on(made, network)
    assert len(optimizer.param_groups) == 1
    for key, value in values(network).items():
        assert torch.equal(value.sign(), before[key].sign()), key
        # A first step is one lr up or down: in whole rungs, of which an eight-bit one is 0.016.
        step = (value.abs() / before[key].abs()).log().abs()
        assert float(step.max()) <= (0.0200001 if name == "madam" else 0.0322), key
        assert float(step.max()) > 0.015, key
    coded = [isinstance(p, CodedTensor) for p in network.parameters()]
    assert set(coded) == {name == "bbit-madam"}


def trained_on(made, network):
    optimizer = build_optimizer(made, network)
    network(torch.linspace(-1, 1, 12).reshape(3, 4)).square().mean().backward()
    optimizer.step()
    return optimizer


@pytest.mark.parametrize("name", ["madam", "bbit-madam"])
def test_biases_and_gains_stay_as_they_are_on_request(name):
    network, plain = model(), model()
    optimizer = trained(config(name, "others=none", lr=0.02), network)
    assert len(optimizer.param_groups) == 1
    before, after = values(plain), values(network)
    for key in before:
        assert torch.equal(before[key], after[key]) == (not key.endswith("weight") or key[0] == "1")
    assert network[0].bias.grad is None


@pytest.mark.parametrize("name", ["madam", "bbit-madam"])
def test_biases_and_gains_go_to_adamw_unless_said(name):
    optimizer = trained(config(name, lr=0.02), model())
    assert [group["algorithm"] for group in optimizer.param_groups][1] == "adamw"


def test_codes_of_biases_are_multiplicative():
    network = model()
    store_weights(config("bbit-madam", "others=multiplicative"), network)
    assert split_parameters(network).additive == []
    with pytest.raises(ValueError, match="0.bias is stored in codes, which an additive rule can"):
        split_parameters(network, additive=["0.bias"])


@pytest.mark.parametrize("others", ["multiplicative", "none"])
@pytest.mark.parametrize("name", ["madam", "bbit-madam"])
def test_runs_say_and_resume(tiny, recorder, tmp_path, name, others):
    made = tiny(name, f"others={others}")
    summary = run(made, tmp_path / "whole")
    assert summary["status"] == "finished"

    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(made, tmp_path / "broken", display=recorder(at=8, act=stop))
    run(made, tmp_path / "broken", resume=True)
    ours, theirs = (
        load_checkpoint(tmp_path / folder / "checkpoint" / "last.safetensors")[0]["model"]
        for folder in ("whole", "broken")
    )
    for key, value in ours.items():
        assert torch.equal(torch.as_tensor(value), torch.as_tensor(theirs[key])), key
    found = json.loads((tmp_path / "whole" / "diagnostics.json").read_text())
    assert found["depth"] == sum(len(layer["shape"]) > 1 for layer in found["layers"])
    with pytest.raises(ValueError, match=f"others is '{others}' in the checkpoint and None here"):
        run(tiny(name), tmp_path / "whole", resume=True)


def test_wrong_words_are_refused():
    with pytest.raises(ValueError, match="`others` must be one of additive, multiplicative, none;"):
        config("bbit-madam", "others=sgd")
