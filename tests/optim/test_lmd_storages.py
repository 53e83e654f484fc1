"""LMD's medians and momenta in float32, bfloat16 and LNS codes: bytes, means, resuming."""

import copy
import io
import math

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR

from rung import formats
from rung.optim import LMD, split_parameters, state_bytes

from .cases import randn

STATES = ["fp32", "bf16", "lns16", "lns8"]
DTYPES = {
    "fp32": (torch.float32, torch.float32),
    "bf16": (torch.bfloat16, torch.bfloat16),
    "lns16": (formats.get("lns16").code_dtype, torch.bfloat16),
    "lns8": (formats.get("lns8").code_dtype, torch.bfloat16),
}


@pytest.mark.parametrize(
    ("state", "bytes_a_weight"), [("fp32", 16), ("bf16", 8), ("lns16", 8), ("lns8", 6)]
)
def test_a_weight_costs_the_documented_bytes(state, bytes_a_weight):
    params = [nn.Parameter(randn(100, 30)), nn.Parameter(randn(40))]
    optimizer = LMD(params, state=state)
    for param in params:
        overhead = sum(
            value.numel() * value.element_size()
            for value in optimizer.state[param].values()
            if isinstance(value, torch.Tensor) and not value.ndim
        )
        assert overhead <= 16
    optimizer.step(lambda: sum((p * p).sum() for p in params).backward() or 0.0)
    weights = sum(p.numel() for p in params)
    assert bytes_a_weight * weights <= state_bytes(optimizer) <= bytes_a_weight * weights + 32
    median, momentum = DTYPES[state]
    for param in params:
        stored = optimizer.state[param]
        assert stored["median_pos"].dtype == stored["median_neg"].dtype == median
        assert stored["momentum_pos"].dtype == stored["momentum_neg"].dtype == momentum


def test_float64_parameters_keep_their_precision_in_full_storage():
    param = nn.Parameter(randn(4, 3).double())
    optimizer = LMD([param], sigma=0.0)
    param.grad = torch.ones_like(param)
    optimizer.step()
    stored = optimizer.state[param]
    for name in ("median_pos", "median_neg", "momentum_pos", "momentum_neg"):
        assert stored[name].dtype == torch.float64
    assert all(m.dtype == torch.float64 for m in optimizer.medians(param))


def walk(state, lr, steps, count=40_000, **options):
    """Moves of ln m+ and ln m- under a constant gradient of all weights, with lr tiny."""
    param = nn.Parameter(randn(count, seed=1))
    optimizer = LMD(
        [param], lr=lr, sigma=0.0, regularization=0.0, offset=0.5, state=state, **options
    )
    before = optimizer.medians(param)
    for _ in range(steps):
        param.grad = torch.ones(count)
        optimizer.step()
    after = optimizer.medians(param)
    return [torch.log(b.double() / a.double()) for a, b in zip(before, after, strict=True)]


@pytest.mark.parametrize("state", ["bf16", "lns16", "lns8"])
def test_moves_far_below_the_spacing_keep_their_mean(state):
    # bfloat16's spacing is 0.4-0.8 %, lns8's 8.3 %: to nearest, no such move would ever happen.
    lr, steps = 4e-4, 25
    exact = walk("fp32", lr, steps, count=2)
    for move, expected in zip(walk(state, lr, steps), exact, strict=True):
        assert abs(float(expected.mean())) == pytest.approx(lr * steps, rel=1e-3)
        if state == "bf16":  # unbiased in m itself
            move, expected = move.exp(), expected.exp()
        error = float(move.std()) / math.sqrt(move.numel())
        assert abs(float(move.mean() - expected.mean())) < 3 * error
        assert float(move.std()) > 0


@pytest.mark.parametrize("state", ["bf16", "lns16", "lns8"])
def test_narrow_momenta_decay_to_nothing_with_the_mean_of_float32(state):
    sizes = []
    for storage in ("fp32", state):
        param = nn.Parameter(randn(4000, seed=1))
        optimizer = LMD([param], lr=0.0, betas=(0.0, 0.99), sigma=0.0, state=storage, m0=1.0)
        for step in range(80):
            param.grad = torch.ones(4000) if step == 0 else torch.full((4000,), 1e-30)
            optimizer.step()
        sizes.append(optimizer.state[param]["momentum_pos"].double())
    ratio = sizes[1] / sizes[0]
    # The medians' own rounding at the start is part of h: a few percent with lns8.
    tolerance = {"bf16": 0.002, "lns16": 0.002, "lns8": 0.02}[state]
    assert float(ratio.mean()) == pytest.approx(1, abs=tolerance)


def test_codes_hold_medians_around_m0_and_saturate_beyond():
    param = nn.Parameter(randn(4, 3))
    optimizer = LMD([param], lr=1.0, sigma=0.0, regularization=0.0, state="lns8", m0=0.5)
    octaves = formats.get("lns8").octaves
    for sign in (1.0, -1.0):
        for _ in range(20):
            param.grad = torch.full((4, 3), sign)
            optimizer.step()
        low, high = optimizer.medians(param)[:: int(sign)]
        reach = 2 ** (octaves / 2)
        torch.testing.assert_close(high, torch.full_like(high, 0.5 * reach), rtol=0.1, atol=0)
        torch.testing.assert_close(low, torch.full_like(low, 0.5 / reach), rtol=0.1, atol=0)


# -- resuming -----------------------------------------------------------------------------------

INPUTS, GOALS = randn(16, 5, seed=3), randn(16, 2, seed=4)


def make(state, samples, update, steps=12):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 2))
    optimizer = LMD(split_parameters(model), sigma=0.2, samples=samples, update=update, state=state)
    return model, optimizer, CosineAnnealingLR(optimizer, steps)


def train(model, optimizer, schedule, steps):
    def closure():
        optimizer.zero_grad()
        loss = (model(INPUTS) - GOALS).square().mean()
        loss.backward()
        return loss.detach()

    losses = []
    for _ in range(steps):
        losses.append(optimizer.step(closure))
        schedule.step()
    return losses


@pytest.mark.parametrize("update", ["sign", "rms"])
@pytest.mark.parametrize("samples", [1, 2])
@pytest.mark.parametrize("state", STATES)
def test_a_run_resumed_from_a_file_equals_the_uninterrupted_one(state, samples, update):
    whole = make(state, samples, update)
    losses = train(*whole, 12)
    first = make(state, samples, update)
    train(*first, 5)
    file = io.BytesIO()
    torch.save([part.state_dict() for part in first], file)
    file.seek(0)
    resumed = make(state, samples, update)
    for part, saved in zip(resumed, torch.load(file, weights_only=True), strict=True):
        part.load_state_dict(saved)
    assert train(*resumed, 7) == losses[5:]
    for left, right in zip(whole[0].parameters(), resumed[0].parameters(), strict=True):
        assert torch.equal(left, right)
        a, b = whole[1].state[left], resumed[1].state[right]
        assert a.keys() == b.keys()
        for name in a:
            assert torch.equal(torch.as_tensor(a[name]), torch.as_tensor(b[name])), name
            assert getattr(a[name], "dtype", None) == getattr(b[name], "dtype", None)


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_a_loaded_state_keeps_its_dtypes_whatever_the_parameters(state, dtype):
    param = nn.Parameter(randn(6, 5).to(dtype))
    optimizer = LMD([param], state=state)

    def closure():
        param.grad = randn(6, 5).to(dtype)
        return 0.0

    optimizer.step(closure)
    before = copy.deepcopy(optimizer.state[param])
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for name, value in before.items():
        loaded = optimizer.state[param][name]
        assert getattr(loaded, "dtype", None) == getattr(value, "dtype", None)
        assert torch.equal(torch.as_tensor(value), torch.as_tensor(loaded))
    optimizer.step(closure)
    assert param.dtype == dtype
