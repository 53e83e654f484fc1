"""What SignedMadam promises beyond the laws that every optimizer keeps."""

import pytest
import torch
from torch import nn

import rung
from rung.formats import Sinh, get
from rung.kernels.ladder import load_codes, store_codes
from rung.kernels.rung_moves import rungs_towards
from rung.optim import SignedMadam, signed_madam_update, split_parameters, state_bytes
from rung.tensor import CodedTensor

from .cases import randn


def stored(values, fmt="sinh8", scale=3.0, name="w"):
    return nn.Parameter(CodedTensor.from_float(values, fmt, scale, name=name))


def theta_of(parameter):
    fmt = parameter.format
    return (parameter.detach().decode() / (fmt.knee * parameter.scale)).double().asinh()


@pytest.mark.parametrize("fmt", ["sinh8", "sinh12", "sinh8+knee0.1"])
def test_lr_is_the_change_of_theta(fmt):
    parameter = stored(torch.tensor([1.0, -0.25, 0.0]), fmt)
    before, lr = theta_of(parameter), 12 * get(fmt).spacing
    parameter.grad = torch.tensor([1.0, 1.0, -5.0])  # u = 1, 1, -1 on the first step
    SignedMadam([parameter], lr=lr, weight_decay=0, rounding="nearest").step()
    moved = theta_of(parameter) - before
    expected = torch.tensor([-lr, -lr, lr], dtype=torch.float64)
    torch.testing.assert_close(moved, expected, atol=1e-5, rtol=0)


def test_large_weights_move_by_a_factor_and_small_ones_by_a_difference():
    weights = torch.tensor([3.0, 1.5, 0.002, -0.002])
    parameter = stored(weights, "sinh16")
    parameter.grad = torch.ones(4)
    SignedMadam([parameter], lr=0.05, weight_decay=0, rounding="nearest").step()
    moved = parameter.detach().decode()
    torch.testing.assert_close(
        moved[:2] / weights[:2], torch.tensor([0.9512, 0.9512]), rtol=1e-3, atol=0
    )
    # knee * scale * lr = 0.09 * 0.05 off either, and so across zero.
    assert moved[2] < 0
    torch.testing.assert_close(
        moved[2:] - weights[2:], torch.full((2,), -0.0045), rtol=2e-2, atol=0
    )


def test_saturation_never_wraps():
    for bits in (2, 3, 8, 9, 16):
        fmt = Sinh(bits, 0.03)
        every = torch.arange(fmt.levels, dtype=torch.int32)
        for direction, end in ((1, 0), (-1, fmt.levels - 1)):
            parameter = stored(torch.ones(fmt.levels), fmt)
            parameter.codes.copy_(store_codes(every, bits))
            parameter.grad = direction * torch.ones(fmt.levels)
            optimizer = SignedMadam([parameter], lr=1e30, weight_decay=0)
            for _ in range(3 if bits == 16 else 1):  # a step moves half of the longest ladder
                optimizer.step()
            assert load_codes(parameter.codes).tolist() == [end] * fmt.levels


def test_the_update_is_an_integer_subtraction():
    codes = torch.tensor([0, 100, 127, 254], dtype=torch.int32)
    one = torch.ones(4)
    wanted = rungs_towards(codes - 127, 1.25 * one, 2.0, 20.0, 0.0, 127)
    assert signed_madam_update(codes, wanted, 254, None).tolist() == [0, 98, 125, 252]  # 2.5: even
    pulled = rungs_towards(codes - 127, 0 * one, 2.0, 20.0, 12.7, 127)
    assert signed_madam_update(codes, pulled, 254, None).tolist() == [13, 103, 127, 241]
    draws = torch.tensor([0, 40_000, 0, 40_000], dtype=torch.int32)
    assert signed_madam_update(codes, wanted, 254, draws).tolist() == [0, 97, 125, 251]


def test_a_pull_takes_theta_towards_zero_in_proportion_to_it():
    weights = torch.tensor([3.0, 0.3, 0.0, -0.03])
    parameter = stored(weights, "sinh16")
    before = theta_of(parameter)
    parameter.grad = torch.zeros(4)
    SignedMadam([parameter], lr=0.1, weight_decay=0.5, rounding="nearest").step()
    top = float(torch.tensor(1 / 0.03).asinh())
    expected = before * (1 - 0.1 * 0.5 / top)
    torch.testing.assert_close(theta_of(parameter), expected, atol=3e-4, rtol=0)
    # The largest weight shrinks by exp(-lr * lambda).
    assert float(parameter.detach().decode()[0]) == pytest.approx(3 * 0.9512, rel=1e-3)


def test_stochastic_rounding_of_moves_keeps_the_mean():
    n, lr = 100_000, 0.01
    parameter = stored(torch.ones(n))
    before = load_codes(parameter.codes)
    parameter.grad = torch.ones(n)
    SignedMadam([parameter], lr=lr, weight_decay=0).step()
    moved = (before - load_codes(parameter.codes)).double()
    expected = lr / get("sinh8").spacing
    assert set(moved.tolist()) == {0.0, 1.0}
    assert abs(float(moved.mean()) - expected) < 3 * (expected * (1 - expected) / n) ** 0.5


@pytest.mark.parametrize(
    ("state", "bits", "bytes_", "carried"),
    [
        ("log8", None, 1.0, 0.5),
        ("log8", 8, 1.0, 1.0),
        ("bf16", None, 2.0, 2.0),
        ("fp32", None, 4.0, 4.0),
        ("rows", 4, 4 / 64, 0.5),
    ],
)
def test_weights_and_state_take_the_documented_bytes(state, bits, bytes_, carried):
    for momentum in (0.0, 0.9):
        model = nn.Linear(64, 64, bias=False)
        rung.store_weights_(model, "sinh8")
        optimizer = SignedMadam(
            model.parameters(), state=state, momentum=momentum, momentum_bits=bits
        )
        model(torch.ones(2, 64)).square().mean().backward()
        optimizer.step()
        assert model.weight.stored_bytes == 64 * 64 + 12
        expected = bytes_ + (carried if momentum else 0)
        assert abs(state_bytes(optimizer) / 64**2 - expected) < 0.01


def test_a_momentum_goes_on_where_gradients_end():
    parameter = stored(torch.zeros(2), "sinh16")
    optimizer = SignedMadam([parameter], 0.1, momentum=0.5, rounding="nearest", state="fp32")
    thetas = [theta_of(parameter)]
    for grad in (torch.tensor([1.0, -1.0]), torch.zeros(2)):
        parameter.grad = grad
        optimizer.step()
        thetas.append(theta_of(parameter))
    # m / (1 - 0.5^t) is 1, then 0.25 / 0.75.
    for step, part in ((0, 1.0), (1, 1 / 3)):
        expected = 0.1 * part * torch.tensor([-1.0, 1.0], dtype=torch.float64)
        moved = thetas[step + 1] - thetas[step]
        torch.testing.assert_close(moved, expected, atol=2e-4, rtol=0)


def test_a_momentum_that_comes_later_begins_at_zero_and_checkpoints_keep_it():
    parameter = stored(randn(40, seed=2))
    optimizer = SignedMadam([parameter], momentum=0)
    parameter.grad = randn(40, seed=3)
    optimizer.step()
    assert "exp_avg" not in optimizer.state[parameter]
    optimizer.param_groups[0]["momentum"] = 0.9
    optimizer.step()
    momentum = optimizer.state[parameter]["exp_avg"]
    assert (momentum.dtype, momentum.shape) == (torch.int8, (32,))  # two blocks of 32 elements
    other = stored(parameter.detach().decode())
    again = SignedMadam([other])
    again.load_state_dict(optimizer.state_dict())
    loaded = again.state[other]["exp_avg"]
    assert bool((momentum != 0).any())
    assert torch.equal(momentum, loaded)
    assert loaded.dtype == torch.int8
    again.state[other]["exp_avg"] = torch.zeros(40, dtype=torch.int8)
    other.grad = parameter.grad
    must = r"must be of shape \(32,\), two elements a byte; got \(40,\)"
    with pytest.raises(ValueError, match=r"has shape \(40,\), and its state 'exp_avg' " + must):
        again.step()
    for bad in (1.0, -0.1, float("nan")):
        with pytest.raises(
            ValueError, match=rf"`momentum` must be in \[0, 1\); got momentum={bad}"
        ):
            SignedMadam([stored(randn(4))], momentum=bad)


def test_a_momentum_that_comes_later_may_come_to_one_parameter_after_another():
    first, second = stored(randn(40, seed=2)), stored(randn(5, seed=3))
    optimizer = SignedMadam([first, second], momentum=0)
    for having in ((first, second), (second,), (first, second)):
        first.grad = second.grad = None
        for parameter in having:
            parameter.grad = torch.ones(parameter.shape)
        optimizer.step()
        optimizer.param_groups[0]["momentum"] = 0.9
    assert all("exp_avg" in optimizer.state[p] for p in (first, second))
    optimizer.state[first].pop("exp_avg")  # the first of a group may lack what others have
    optimizer.state[second]["exp_avg"] = torch.zeros(5, dtype=torch.int8)
    with pytest.raises(ValueError, match=r"'exp_avg' must be of shape \(16,\).*; got \(5,\)"):
        optimizer.step()


def test_groups_from_before_there_was_a_momentum_have_none():
    parameter = stored(randn(40, seed=2))
    optimizer = SignedMadam([parameter], momentum=0)
    parameter.grad = randn(40, seed=3)
    optimizer.step()
    state = optimizer.state_dict()
    for group in state["param_groups"]:
        del group["momentum"], group["momentum_bits"]
    again = SignedMadam([parameter])
    again.load_state_dict(state)
    again.step()
    assert again.param_groups[0]["momentum"] == 0
    assert "exp_avg" not in again.state[parameter]


def test_rules_without_a_momentum_have_no_such_hyper_parameter():
    weight = nn.Parameter(CodedTensor.from_float(randn(4, 3), "ladder12", 3.0))
    optimizer = rung.optim.BBitMadam([weight])
    assert "momentum" not in optimizer.defaults
    with pytest.raises(ValueError, match="momentum"):
        torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=12)


@pytest.mark.parametrize("state", ["log8", "rows", "factored"])
def test_weights_in_float64_move_like_those_in_float32(state):
    moved = []
    for dtype in (torch.float32, torch.float64):
        parameter = stored(randn(6, 5, seed=2).to(dtype))
        optimizer = SignedMadam([parameter], state=state, rounding="nearest", lr=0.1)
        for seed in range(4):
            parameter.grad = randn(6, 5, seed=seed).to(dtype)
            optimizer.step()
        moved.append(load_codes(parameter.codes))
    assert int((moved[0] - moved[1]).abs().max()) <= 1


def test_a_momentum_in_eight_bits_has_an_element_a_byte():
    parameter = stored(randn(40, seed=2))
    optimizer = SignedMadam([parameter], momentum_bits=8)
    parameter.grad = randn(40, seed=3)
    optimizer.step()
    momentum = optimizer.state[parameter]["exp_avg"]
    assert (momentum.dtype, momentum.shape) == (torch.uint8, (40,))
    # A tenth of a normalised gradient that is 1 or -1 on the first step, of three bits' precision.
    values = momentum.view(torch.float8_e4m3fn).float()
    assert torch.equal(values.sign(), parameter.grad.sign())
    torch.testing.assert_close(values.abs(), torch.full((40,), 0.1), rtol=0.13, atol=0)
    optimizer.state[parameter]["exp_avg"] = torch.zeros(41, dtype=torch.uint8)
    with pytest.raises(
        ValueError, match=r"has shape \(40,\), and its state 'exp_avg' must have it"
    ):
        optimizer.step()


def test_bits_of_a_momentum_that_can_not_be_are_refused():
    for bad in (5, 16, 0, True, "4"):
        with pytest.raises(
            ValueError, match=rf"`momentum_bits` must be 4, 8, or None .*got {bad!r}"
        ):
            SignedMadam([stored(randn(4))], momentum_bits=bad)
    for state in ("fp32", "bf16"):
        with pytest.raises(
            ValueError, match=rf"state='{state}' stores the momentum like .*got momentum_bits=8"
        ):
            SignedMadam([stored(randn(4))], state=state, momentum_bits=8)


def test_a_skipped_step_on_the_device_leaves_the_momentum():
    parameter = stored(randn(40, seed=2))
    optimizer = SignedMadam([parameter], momentum=0.9, capturable=True)
    before = []
    for grad in (randn(40, seed=3), torch.full((40,), float("nan"))):
        parameter.grad = grad
        optimizer.step()
        state = optimizer.state[parameter]
        before.append([t.clone() for t in (parameter.codes, state["exp_avg"], state["step"])])
    assert all(torch.equal(a, b) for a, b in zip(*before, strict=True))


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
def test_rows_move_as_whole_moments_do_where_a_row_is_alike(rounding, momentum):
    runs = []
    for state in ("fp32", "rows"):
        parameter = stored(randn(5, 40, seed=2))
        optimizer = SignedMadam(
            [parameter], rounding=rounding, state=state, weight_decay=0.3, momentum=momentum
        )
        if momentum:  # the rows' own has four bits
            optimizer.state[parameter]["exp_avg"] = torch.zeros(5, 40)
        for step in range(5):
            parameter.grad = torch.full((5, 40), 1.0 + step) * torch.tensor(
                [[1.0], [-2], [3], [0.1], [5]]
            )
            optimizer.step()
        runs.append(load_codes(parameter.codes))
    # Rows' moments are exact where the others' inverse roots have an error of 1e-6.
    assert int((runs[0] - runs[1]).abs().max()) <= 1
    assert float((runs[0] == runs[1]).double().mean()) > 0.98


def test_what_it_cannot_train_is_refused():
    with pytest.raises(
        ValueError, match=r"must be stored in codes; .*store_weights_\(model, 'sinh8'"
    ):
        SignedMadam([nn.Parameter(randn(4, 3))])
    with pytest.raises(
        ValueError, match="must be stored as a Sinh or a Pair to be moved by SignedMadam; got l"
    ):
        SignedMadam([stored(randn(4, 3), "lns16")])
    with pytest.raises(
        ValueError, match=r"got sinh8. Use rung.optim.SignedMadam, or store the model"
    ):
        rung.optim.BBitMadam([stored(randn(4, 3))])
    with pytest.warns(
        UserWarning, match=r"lr=0.01 is under half a rung \(0.01654\) of the weights'"
    ):
        SignedMadam([stored(randn(4, 3))], lr=0.01, rounding="nearest")


def test_a_model_learns_what_needs_other_signs():
    """Weights begin on the wrong side, where a rule whose signs are frozen would be stuck."""
    torch.manual_seed(0)
    target = torch.randn(1, 32)
    model = nn.Linear(32, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(-0.3 * target)
    rung.store_weights_(model, "sinh8", scale_bound=20)  # weights are to grow by ten
    optimizer = SignedMadam(split_parameters(model), lr=0.05, momentum=0)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, total_iters=400)
    for _ in range(400):
        x = torch.randn(64, 32)
        loss = (model(x) - x @ target.t()).square().mean() / target.square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    assert float(loss.detach()) < 0.002
