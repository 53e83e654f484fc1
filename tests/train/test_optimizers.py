import math
import warnings
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from rung import formats
from rung.optim import LMD, BBitMadam, LNSMadam, Madam, QuantizedUpdate, SignedMadam
from rung.tensor import CodedTensor
from rung.train import get_recipe, with_settings
from rung.train.config import BF16_WEIGHTS, INT8_WEIGHTS, OPTIMIZERS
from rung.train.optimizers import build_optimizer, store_weights
from rung.train.schedules import build_schedule, cosine, linear


def config(optimizer, *settings, **changes):
    base = replace(get_recipe("digits-cnn").configure(optimizer), **changes)
    return with_settings(base, settings)


def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 2))


def lrs(optimizer):
    return [group["lr"] for group in optimizer.param_groups]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_takes_a_step_on_a_model_with_norms(name):
    network = model()
    made = config(name)
    stored = store_weights(made, network)
    coded = ("bbit-madam", "lns-madam", "signed-madam")
    assert (stored is not None) == (name in (*coded, *BF16_WEIGHTS, INT8_WEIGHTS))
    optimizer = build_optimizer(made, network)
    assert lrs(optimizer)[0] == made.lr

    def closure():
        with torch.autocast("cpu", torch.bfloat16, enabled=name in BF16_WEIGHTS):
            network(torch.ones(3, 4)).square().mean().backward()
        return 0.0

    optimizer.step(closure)


def test_options_reach_the_optimizer():
    sgd = build_optimizer(config("sgd", "momentum=0.5", "weight_decay=0.1"), model())
    assert (sgd.defaults["momentum"], sgd.defaults["weight_decay"]) == (0.5, 0.1)
    adam = build_optimizer(config("adam", "beta2=0.9"), model())
    assert type(adam) is torch.optim.Adam
    assert adam.defaults["betas"] == (0.9, 0.9)
    madam = build_optimizer(config("madam", "state=log8", "additive_lr=0.5", lr=0.01), model())
    assert isinstance(madam, Madam)
    assert madam.param_groups[0]["state"] == "log8"
    assert lrs(madam) == [0.01, 0.5]
    network = model()
    made = config("bbit-madam", "rounding=nearest", "clip=2", format="ladder12", lr=0.01)
    store_weights(made, network)
    bbit = build_optimizer(made, network)
    assert isinstance(bbit, BBitMadam)
    assert (bbit.param_groups[0]["rounding"], bbit.param_groups[0]["clip"]) == ("nearest", 2.0)


def test_options_reach_signed_madam():
    network = model()
    options = ("scale_bound=5", "scale_axis=channel", "state=rows", "beta=0.9", "momentum=0.7")
    options += ("momentum_bits=8",)
    made = config("signed-madam", *options)
    assert store_weights(made, network).endswith("(sinh8)")
    optimizer = build_optimizer(made, network)
    assert isinstance(optimizer, SignedMadam)
    group, additive = optimizer.param_groups
    assert (group["state"], group["beta"], group["rounding"]) == ("rows", 0.9, "stochastic")
    assert (group["lr"], additive["lr"], group["momentum"]) == (0.06, 0.01, 0.7)
    assert group["momentum_bits"] == 8
    weight = next(p for p in group["params"] if p.ndim == 2)
    assert weight.scale.shape == (weight.shape[0], 1)


def test_bits_of_a_momentum_are_those_that_it_may_have():
    assert config("signed-madam").optimizer_options.momentum_bits is None
    assert config("signed-madam", "momentum_bits=none").optimizer_options.momentum_bits is None
    for bad in ("5", "four", "4.0"):
        with pytest.raises(ValueError, match=r"`momentum_bits` must be one of 4, 8 or none; got"):
            config("signed-madam", f"momentum_bits={bad}")
    with pytest.raises(ValueError, match="`state` 'fp32' stores the momentum too; got `mom.* 4"):
        config("signed-madam", "state=fp32", "momentum_bits=4")


def test_a_least_scale_reaches_every_weight_of_signed_madam():
    network = model()
    store_weights(config("signed-madam", "min_scale=7.5"), network)
    assert {float(p.scale) for p in network.parameters() if isinstance(p, CodedTensor)} == {7.5}
    with pytest.raises(ValueError, match="`min_scale` must be"):
        config("signed-madam", "min_scale=-1")


def test_weights_left_in_float_go_to_adamw():
    network = model()
    made = config("signed-madam", "float_weights=0.weight")
    store_weights(made, network)
    assert not isinstance(network[0].weight, CodedTensor)
    optimizer = build_optimizer(made, network)
    own, additive = (group["params"] for group in optimizer.param_groups)
    assert any(p is network[0].weight for p in additive)
    assert own
    assert all(isinstance(p, CodedTensor) for p in own)
    with pytest.raises(
        ValueError, match=r"must match a weight; got '\*head\*'. The weights are: 0"
    ):
        store_weights(config("signed-madam", "float_weights=0.weight, *head*"), model())


def test_the_schedule_of_nearest_moves_stays_above_half_a_rung():
    made = config("signed-madam", "rounding=nearest", format="sinh8", lr=0.1, schedule="cosine")
    network = model()
    store_weights(made, network)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimizer = build_optimizer(made, network)
        schedule = build_schedule(made, optimizer, 10)
        for _ in range(12):
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    parameter.grad = torch.ones(parameter.shape)
            optimizer.step()
            schedule.step()
    assert lrs(optimizer)[0] == pytest.approx(0.01654, rel=1e-3)


def test_options_reach_lns_madam():
    network = model()
    made = config("lns-madam", "update_format=lns12", "rounding=stochastic", "clip=4", lr=0.01)
    assert store_weights(made, network).endswith("(lns12)")
    lns = build_optimizer(made, network)
    assert isinstance(lns, LNSMadam)
    assert lrs(lns) == [0.01, made.optimizer_options.additive_lr]
    assert (lns.param_groups[0]["rounding"], lns.param_groups[0]["clip"]) == ("stochastic", 4.0)
    weight = network[0].weight
    assert isinstance(weight, CodedTensor)
    assert weight.format == formats.get("lns12")
    root_mean_square = model()[0].weight.square().mean().sqrt()
    torch.testing.assert_close(weight.scale, made.optimizer_options.scale_bound * root_mean_square)


@pytest.mark.parametrize("name", ["bbit-madam", "lns-madam"])
def test_a_scale_for_each_output_channel_on_request(name):
    network, plain = model(), model()
    store_weights(config(name, "scale_axis=channel", "scale_bound=2"), network)
    store_weights(config(name, "scale_bound=2"), plain)
    root_mean_square = model()[0].weight.detach().square().mean(1, keepdim=True).sqrt()
    torch.testing.assert_close(network[0].weight.scale, 2 * root_mean_square)
    assert plain[0].weight.scale.ndim == 0


def test_a_range_narrows_the_ladder():
    network = model()
    store_weights(config("bbit-madam", format="ladder8+range5"), network)
    sizes = network[0].weight.detach().decode().abs()
    assert float(sizes.min()) >= float(network[0].weight.scale) / 5 * 0.9999


def test_options_reach_lmd():
    given = {
        "sigma": "0.2",
        "prior": "exponential",
        "regularization": "0.3",
        "reach": "0.7",
        "offset": "0.05",
        "entropy": "true",
        "update": "rms",
        "clip": "2.5",
        "samples": "3",
        "evaluate": "median",
        "state": "bf16",
        "parts_format": "mxfp4",
    }
    settings = [f"{name}={value}" for name, value in given.items()]
    made = config("lmd", *settings, "beta1=0.4", "beta2=0.6", "additive_lr=0.5", lr=0.02, seed=4)
    lmd = build_optimizer(made, model())
    assert isinstance(lmd, LMD)
    assert lrs(lmd) == [0.02, 0.5]
    group = lmd.param_groups[0]
    assert group["betas"] == (0.4, 0.6)
    assert group["seed"] == 4
    assert {str(group[name]).lower() for name in given} == {value for value in given.values()}
    assert build_optimizer(config("lmd"), model()).param_groups[0]["betas"] is None


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "madam"])
def test_an_update_format_rounds_weights_after_every_step_and_nothing_else(name):
    network = model()
    made = config(name, "update_format=lns6")
    assert store_weights(made, network) is None
    optimizer = build_optimizer(made, network)
    assert isinstance(optimizer, QuantizedUpdate)
    assert lrs(optimizer)[0] == made.lr
    for _ in range(2):
        optimizer.zero_grad()
        network(torch.ones(3, 4)).square().mean().backward()
        optimizer.step()
    plain = model()
    unrounded = build_optimizer(config(name), plain)
    plain(torch.ones(3, 4)).square().mean().backward()
    unrounded.step()
    for layer in (0, 2):
        assert network[layer].weight.abs().unique().numel() <= formats.get("lns6").levels
    assert plain[0].weight.abs().unique().numel() == plain[0].weight.numel()
    assert network[0].bias.abs().unique().numel() == network[0].bias.numel()


@pytest.mark.parametrize("schedule", ["plateau", "cosine", "linear"])
def test_schedules_move_a_quantized_update(schedule):
    made = config("adamw", "update_format=lns10", schedule=schedule)
    optimizer = build_optimizer(made, model())
    moving = build_schedule(made, optimizer, 8)
    for _ in range(8):
        optimizer.step()
        moving.step(1.0) if schedule == "plateau" else moving.step()
    assert lrs(optimizer)[0] < 0.2 * made.lr


def test_the_cosine_goes_from_one_to_zero_but_not_below_its_floor():
    assert [cosine(10, 0.0)(step) for step in (0, 5, 10, 12)] == pytest.approx([1, 0.5, 0, 0])
    assert cosine(10, 0.25)(10) == 0.25


def test_a_warm_up_rises_linearly_and_the_cosine_ends_at_its_share():
    share = cosine(14, 0.0, warmup=4, last=0.1)
    assert [share(step) for step in range(4)] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert [share(step) for step in (4, 9, 14, 20)] == pytest.approx([1, 0.55, 0.1, 0.1])
    assert cosine(14, 0.3, warmup=4, last=0.1)(0) == 0.3
    assert cosine(14, 0.3, warmup=4, last=0.1)(14) == 0.3
    plain = [0.5 * (1.0 + math.cos(math.pi * step / 7)) for step in range(8)]
    assert [cosine(7, 0.0)(step) for step in range(8)] == plain


def test_a_straight_line_goes_from_one_to_its_share_but_not_below_its_floor():
    assert [linear(10, 0.0)(step) for step in (0, 2, 5, 10, 12)] == pytest.approx(
        [1, 0.8, 0.5, 0, 0]
    )
    share = linear(14, 0.0, warmup=4, last=0.1)
    assert [share(step) for step in range(4)] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert [share(step) for step in (4, 9, 14, 20)] == pytest.approx([1, 0.55, 0.1, 0.1])
    assert linear(14, 0.3, warmup=4, last=0.1)(14) == 0.3


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_warm_up_reaches_every_optimizer(name, schedule):
    network = model()
    settings = ("warmup_steps=3", "warmup_share=0.2", "final_lr_share=0.5")
    made = config(name, *settings, lr=0.05, schedule=schedule)
    store_weights(made, network)
    optimizer = build_optimizer(made, network)
    moving = build_schedule(made, optimizer, 10)
    seen = []
    for _ in range(11):
        seen.append(lrs(optimizer)[0] / 0.05)
        optimizer._opt_called = True  # the order of steps is not what this is about
        moving.step()
    assert seen[:4] == pytest.approx([0.25, 0.5, 0.75, 1])
    assert seen[-1] == pytest.approx(0.5)
    assert max(seen) == seen[3]


@pytest.mark.parametrize(
    ("optimizer", "settings", "rising"),
    [
        ("signed-madam", (), 4),
        ("signed-madam", ("warmup_steps=3",), 4),
        ("signed-madam", ("warmup_steps=6",), 6),
        ("signed-madam", ("warmup_share=0",), 0),
        ("signed-madam", ("warmup_share=0.5",), 10),
        ("adamw", (), 0),
        ("adamw", ("warmup_share=0.25",), 5),
        ("adamw", ("warmup_share=0.25", "warmup_steps=7"), 7),
    ],
)
def test_signed_madam_warms_up_for_a_fifth_and_others_when_asked(optimizer, settings, rising):
    network = model()
    made = config(optimizer, *settings, lr=0.05, schedule="cosine")
    store_weights(made, network)
    built = build_optimizer(made, network)
    moving = build_schedule(made, built, 20)
    shares = [moving.lr_lambdas[0](step) for step in range(20)]
    assert shares.index(1.0) == rising
    assert shares[:rising] == pytest.approx([(k + 1) / (rising + 1) for k in range(rising)])
    constant = replace(made, schedule="constant")
    assert build_schedule(constant, built, 20).lr_lambdas[0](0) == 1.0


def test_a_share_of_warm_up_is_less_than_all():
    text = r"`warmup_share` must be a number in \[0, 1\) or none; got 1\.0"
    with pytest.raises(ValueError, match=text):
        config("adamw", "warmup_share=1")


def test_a_warm_up_must_end_before_the_run():
    made = config("adamw", "warmup_steps=10")
    with pytest.raises(ValueError, match="`warmup_steps` must be less than the steps .*got 10 of"):
        build_schedule(made, build_optimizer(made, model()), 10)
    line = replace(made, schedule="linear")
    with pytest.raises(ValueError, match="`warmup_steps` must be less than the steps .*got 10 of"):
        build_schedule(line, build_optimizer(line, model()), 10)
    constant = replace(made, schedule="constant")
    build_schedule(constant, build_optimizer(constant, model()), 10)


def test_all_groups_keep_their_ratio_under_every_schedule():
    for schedule in ("cosine", "linear", "plateau", "constant"):
        made = config("madam", "additive_lr=0.002", schedule=schedule, lr=0.01)
        optimizer = build_optimizer(made, model())
        moving = build_schedule(made, optimizer, 10)
        for _ in range(8):
            optimizer.step()
            moving.step(1.0) if isinstance(moving, ReduceLROnPlateau) else moving.step()
        first, second = lrs(optimizer)
        assert second == pytest.approx(first / 5)
        assert (first == 0.01) == (schedule == "constant")


@pytest.mark.parametrize("schedule", ["plateau", "cosine", "linear"])
def test_round_to_nearest_never_goes_below_the_base_precision(schedule):
    network = model()
    made = config("bbit-madam", "rounding=nearest", format="ladder12", schedule=schedule, lr=0.0101)
    store_weights(made, network)
    optimizer = build_optimizer(made, network)
    moving = build_schedule(made, optimizer, 20)
    for _ in range(20):
        optimizer.step()
        moving.step(1.0) if schedule == "plateau" else moving.step()
    assert 0.001 <= lrs(optimizer)[0] <= 0.001 * (1 + 1e-6)
    network(torch.ones(3, 4)).square().mean().backward()
    optimizer.step()


@pytest.mark.parametrize("schedule", ["plateau", "cosine", "linear"])
def test_lns_madam_never_goes_below_half_a_code(schedule):
    network = model()
    made = config("lns-madam", "update_format=lns12", schedule=schedule, lr=0.02)
    store_weights(made, network)
    optimizer = build_optimizer(made, network)
    moving = build_schedule(made, optimizer, 20)
    for _ in range(20):
        optimizer.step()
        moving.step(1.0) if schedule == "plateau" else moving.step()
    half = 0.5 / formats.get("lns12").base_factor
    assert half < lrs(optimizer)[0] <= half * (1 + 1e-6)
    network(torch.ones(3, 4)).square().mean().backward()
    optimizer.step()


def test_stochastic_rounding_may_go_below_the_base_precision():
    network = model()
    made = config("bbit-madam", format="ladder8", lr=0.01, schedule="plateau")
    store_weights(made, network)
    optimizer = build_optimizer(made, network)
    moving = build_schedule(made, optimizer, 20)
    for _ in range(4):
        optimizer.step()
        moving.step(1.0)
    assert lrs(optimizer)[0] == pytest.approx(0.001)
