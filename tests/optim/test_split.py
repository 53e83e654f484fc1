import pytest
import torch
from torch import nn

import rung
from rung.optim import BBitMadam, LNSMadam, Madam, init_zeros_, split_parameters, state_bytes
from rung.tensor import CodedTensor, stored_bytes


class HandWrittenNorm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return x * self.weight


def model():
    torch.manual_seed(0)
    return nn.ModuleDict(
        {
            "linear": nn.Linear(8, 8),
            "batch": nn.BatchNorm1d(8),
            "layer": nn.LayerNorm([8, 8]),
            "group": nn.GroupNorm(2, 8),
            "rms": nn.RMSNorm(8),
            "hand": HandWrittenNorm(8),
            "conv": nn.Conv2d(8, 8, 3),
            "attention": nn.MultiheadAttention(8, 2),
            "frozen": nn.Linear(8, 8, bias=False).requires_grad_(False),
        }
    )


def names(net, params):
    by_id = {id(p): name for name, p in net.named_parameters()}
    return [by_id[id(p)] for p in params]


@pytest.mark.parametrize("stored", [False, True])
def test_weights_are_multiplicative_and_norms_and_biases_additive(stored):
    net = model()
    if stored:
        rung.store_weights_(net, "ladder8")
    split = split_parameters(net)
    assert names(net, split.multiplicative) == [
        "linear.weight",
        "conv.weight",
        "attention.in_proj_weight",
        "attention.out_proj.weight",
    ]
    rest = [n for n, p in net.named_parameters() if p.requires_grad]
    rest = [n for n in rest if n not in names(net, split.multiplicative)]
    assert sorted(names(net, split.additive)) == sorted(rest)
    assert "layer.weight" in rest  # 2-d, but a norm's
    multiplicative, additive = split
    assert multiplicative is split.multiplicative
    assert additive is split.additive


def test_further_parameters_can_be_named_additive():
    net = model()
    split = split_parameters(net, additive=["conv.weight"])
    assert "conv.weight" in names(net, split.additive)
    with pytest.raises(ValueError, match="`additive` must name parameters of the model; got nope"):
        split_parameters(net, additive=["nope"])
    rung.store_weights_(net, "ladder8")
    with pytest.raises(ValueError, match="conv.weight is stored in codes, which an additive rule"):
        split_parameters(net, additive=["conv.weight"])


def test_weights_left_in_floats_are_additive_once_the_model_is_stored():
    net = nn.Sequential(nn.Embedding(10, 4, padding_idx=0), nn.Linear(4, 4))
    rung.store_weights_(net, "ladder12")
    split = split_parameters(net)
    assert names(net, split.multiplicative) == ["1.weight"]
    assert names(net, split.additive) == ["0.weight", "1.bias"]
    optimizer = BBitMadam(split)
    net(torch.tensor([0, 1])).sum().backward()
    optimizer.step()


def test_init_zeros_leaves_frozen_parameters():
    net = nn.Linear(4, 3)
    nn.init.zeros_(net.bias).requires_grad_(False)
    assert init_zeros_(net) == []


def test_a_tied_weight_is_in_the_split_once():
    net = nn.ModuleList([nn.Embedding(5, 4), nn.Linear(4, 5, bias=False)])
    net[1].weight = net[0].weight
    assert len(split_parameters(net).multiplicative) == 1


def train(net, optimizer, steps=60):
    torch.manual_seed(1)
    x = torch.randn(64, 4)
    y = (x[:, :1] * x[:, 1:2]).sin()
    for _ in range(steps):
        optimizer.zero_grad()
        loss = (net(x) - y).square().mean()
        loss.backward()
        optimizer.step()
    return float(loss.detach())


def perceptron():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 64), nn.LayerNorm(64), nn.ReLU(), nn.Linear(64, 1))


def test_the_additive_side_is_exactly_torchs_adamw():
    one, two = perceptron(), perceptron()
    together = Madam(split_parameters(one), additive_lr=0.002, additive_weight_decay=0.01)
    split = split_parameters(two)
    apart = [
        Madam(split.multiplicative),
        torch.optim.AdamW(split.additive, lr=0.002, weight_decay=0.01, fused=True),
    ]
    x = torch.randn(16, 4, generator=torch.Generator().manual_seed(0))
    for _ in range(10):
        for net, optimizers in ((one, [together]), (two, apart)):
            net.zero_grad()
            net(x).square().mean().backward()
            for optimizer in optimizers:
                optimizer.step()
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        assert torch.equal(a, b)
    assert [group["algorithm"] for group in together.param_groups] == ["madam", "adamw"]
    assert "beta" not in together.param_groups[1]


ADDITIVE = {
    "plain": lambda p: p,
    "float64": lambda p: p.double(),
    "half": lambda p: p.bfloat16(),
    "empty": lambda p: p[:0],
    "strided": lambda p: p.repeat(2, 1).t()[:, 0],
}


@pytest.mark.parametrize("kinds", [["plain"], ["float64"], ["plain", "half", "strided", "empty"]])
@pytest.mark.parametrize("options", [{}, {"foreach": False}, {"foreach": True}, {"capturable": 1}])
def test_whatever_the_additive_side_is_it_is_trained_as_by_adamw(kinds, options):
    def params():
        torch.manual_seed(0)
        made = [ADDITIVE[kind](torch.randn(37)) for kind in kinds]
        return [nn.Parameter(p) for p in (*made, torch.randn(5, 3))]

    def step(optimizer, own, i):
        for k, p in enumerate(own):
            generator = torch.Generator().manual_seed(10 * i + k)
            p.grad = torch.randn(p.shape, generator=generator).to(p.dtype)
        own[-1].grad = own[-1].grad.t().contiguous().t()
        optimizer.step()

    ours, theirs = params(), params()
    numbers = {"lr": 0.01, "weight_decay": 0.1, "betas": (0.8, 0.9)}
    optimizer = Madam([{"params": ours, "algorithm": "adamw", **numbers, **options}])
    other = torch.optim.AdamW(theirs, **numbers, foreach=False)
    for i in range(4):
        step(optimizer, ours, i)
        step(other, theirs, i)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)
        assert optimizer.state[a]["step"] == 4
        assert optimizer.state[a].keys() == other.state[b].keys()
        torch.testing.assert_close(optimizer.state[a]["exp_avg_sq"], other.state[b]["exp_avg_sq"])


@pytest.mark.parametrize("name", ["exp_avg", "exp_avg_sq"])
def test_an_additive_moment_of_another_shape_is_refused_before_anything_is_written(name):
    weight, biases = nn.Parameter(torch.ones(3)), [nn.Parameter(torch.ones(3)) for _ in range(2)]
    optimizer = Madam([{"params": [weight]}, {"params": biases, "algorithm": "adamw"}])
    for param in (weight, *biases):
        param.grad = torch.ones(3)
    optimizer.state[biases[1]][name] = torch.zeros(2)
    message = rf"parameter 1 of group 1 has shape \(3,\), and its state '{name}' .* got \(2,\)"
    with pytest.raises(ValueError, match=message):
        optimizer.step()
    assert all(torch.equal(param, torch.ones(3)) for param in (weight, *biases))
    assert not any(optimizer.state[param]["step"] for param in (weight, *biases))


def test_both_optimizers_learn_a_real_network_with_a_split():
    net = perceptron()
    first = train(net, Madam(split_parameters(net)), 1)
    assert train(net, Madam(split_parameters(net), lr=0.03), 200) < 0.3 * first
    net = perceptron()
    rung.store_weights_(net, "ladder8")
    optimizer = BBitMadam(split_parameters(net), lr=0.03, rounding="stochastic")
    assert train(net, optimizer, 200) < 0.3 * first


def test_a_skipped_step_leaves_the_additive_side_alone_too():
    for capturable in (False, True):
        net = perceptron()
        optimizer = Madam(split_parameters(net), capturable=capturable)
        train(net, optimizer, 3)
        before = [p.detach().clone() for p in net.parameters()]
        moments = optimizer.state[net[0].bias]["exp_avg"].clone()
        for p in net.parameters():
            p.grad = torch.ones_like(p)
        net[1].bias.grad[0] = float("nan")
        if capturable:
            optimizer.step()
        else:
            with pytest.warns(UserWarning, match="skipped"):
                optimizer.step()
        for p, b in zip(net.parameters(), before, strict=True):
            assert torch.equal(p, b)
        assert torch.equal(optimizer.state[net[0].bias]["exp_avg"], moments)
        assert optimizer.skipped_steps == 1


@pytest.mark.parametrize(
    ("fmt", "state", "limit"),
    [
        ("ladder8", "bf16", 3.02),
        ("ladder8", "log8", 2.02),
        ("ladder8", "fp32", 5.02),
        ("ladder12", "bf16", 4.02),
        ("lns16", "bf16", 4.02),
        ("lns16", "log8", 3.02),
        ("lns10", "fp32", 6.02),
    ],
)
def test_bytes_a_weight_in_training(fmt, state, limit):
    net = nn.Sequential(*[nn.Linear(256, 256, bias=False) for _ in range(4)])
    report = rung.store_weights_(net, fmt)
    kind = LNSMadam if fmt.startswith("lns") else BBitMadam
    optimizer = kind(net.parameters(), lr=0.05, state=state)
    net(torch.ones(2, 256)).sum().backward()
    optimizer.step()
    weights = sum(p.numel() for p in net.parameters())
    held = sum(stored_bytes(p) for p in net.parameters()) + state_bytes(optimizer)
    assert held == report.bytes_after + state_bytes(optimizer)
    assert int(limit) <= held / weights <= limit


def test_init_zeros_moves_only_tensors_that_are_all_zero():
    net = nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3), nn.Linear(3, 2))
    with torch.no_grad():
        net[2].bias.zero_()
    kept = {n: p.detach().clone() for n, p in net.named_parameters()}
    assert init_zeros_(net, std=0.05, seed=1) == ["1.bias", "2.bias"]
    for name, p in net.named_parameters():
        if name in ("1.bias", "2.bias"):
            assert bool((p != 0).all())
            assert float(p.detach().abs().max()) < 0.3
        else:
            assert torch.equal(p, kept[name])
    Madam(net.parameters())
    assert init_zeros_(net) == []
    with pytest.raises(ValueError, match="`std` must be positive; got std=0"):
        init_zeros_(net, std=0)


def test_init_zeros_leaves_coded_weights():
    net = nn.Linear(4, 3)
    rung.store_weights_(net, "ladder8")
    with torch.no_grad():
        net.bias.zero_()
    assert init_zeros_(net) == ["bias"]
    assert isinstance(net.weight, CodedTensor)
