from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from rung.optim import BBitMadam, Madam
from rung.train import get_recipe, with_settings
from rung.train.config import OPTIMIZERS
from rung.train.optimizers import build_optimizer, build_schedule, cosine, store_weights


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
    assert (stored is not None) == (name == "bbit-madam")
    optimizer = build_optimizer(made, network)
    assert lrs(optimizer)[0] == made.lr
    network(torch.ones(3, 4)).square().mean().backward()
    optimizer.step()


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


def test_the_cosine_goes_from_one_to_zero_but_not_below_its_floor():
    assert [cosine(10, 0.0)(step) for step in (0, 5, 10, 12)] == pytest.approx([1, 0.5, 0, 0])
    assert cosine(10, 0.25)(10) == 0.25


def test_all_groups_keep_their_ratio_under_every_schedule():
    for schedule in ("cosine", "plateau", "constant"):
        made = config("madam", "additive_lr=0.002", schedule=schedule, lr=0.01)
        optimizer = build_optimizer(made, model())
        moving = build_schedule(made, optimizer, 10)
        for _ in range(8):
            optimizer.step()
            moving.step(1.0) if isinstance(moving, ReduceLROnPlateau) else moving.step()
        first, second = lrs(optimizer)
        assert second == pytest.approx(first / 5)
        assert (first == 0.01) == (schedule == "constant")


@pytest.mark.parametrize("schedule", ["plateau", "cosine"])
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
