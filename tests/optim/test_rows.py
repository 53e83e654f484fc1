import copy
import math

import pytest
import torch

import rung
from rung.optim import BBitMadam, LNSMadam, Madam, SignedMadam, split_parameters, state_bytes
from rung.tensor import CodedTensor


def oracle_update(v, grads, t, beta, clip):
    """One row, one number after another: the new v and every u."""
    v = beta * v + (1 - beta) * sum(g * g for g in grads) / len(grads)
    typical = math.sqrt(v / (1 - beta**t))
    updates = [0.0 if typical == 0 else max(-clip, min(clip, g / typical)) for g in grads]
    return v, updates


def gradients(shape, steps):
    generator = torch.Generator().manual_seed(1)
    sizes = torch.exp(torch.randn(shape, generator=generator))
    return [torch.randn(shape, generator=generator) * sizes for _ in range(steps)]


@pytest.mark.parametrize("maximize", [False, True])
def test_madam_is_the_formula_row_by_row(maximize):
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(5, 3, 2))
    options = {"lr": 0.03, "beta": 0.9, "clip": 1.5, "weight_decay": 0.1, "scale_bound": 2.0}
    optimizer = Madam([weight], state="rows", maximize=maximize, **options)
    bound = 2 * float(weight.detach().square().mean().sqrt())
    expected, moments = weight.detach().flatten(1).tolist(), [0.0] * 5
    for t, grad in enumerate(gradients(weight.shape, 6), 1):
        if t == 3:
            grad[1] = 0.0
        weight.grad = grad
        optimizer.step()
        for i, row in enumerate((-grad if maximize else grad).flatten(1).tolist()):
            moments[i], updates = oracle_update(moments[i], row, t, 0.9, 1.5)
            for j, u in enumerate(updates):
                w = expected[i][j]
                w *= math.exp(-0.03 * (math.copysign(1, w) * u + 0.1))
                expected[i][j] = max(-bound, min(bound, w))
    torch.testing.assert_close(weight.detach().flatten(1), torch.tensor(expected))
    state = optimizer.state[weight]["row_avg_sq"]
    torch.testing.assert_close(state, torch.tensor(moments))


@pytest.mark.parametrize("shape", [(5, 3), (4, 3, 2), (6,)])
def test_factored_moments_are_the_formula_number_by_number(shape):
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(shape))
    optimizer = Madam([weight], lr=0.03, beta=0.9, clip=1.5, state="factored", scale_bound=50.0)
    expected = weight.detach().reshape(shape[0], -1).tolist()
    columns = len(expected[0])
    r, c = [0.0] * shape[0], [0.0] * columns
    for t, grad in enumerate(gradients(shape, 6), 1):
        if t == 3:
            grad[1] = 0.0
        weight.grad = grad
        optimizer.step()
        g = grad.reshape(shape[0], -1).tolist()
        for i, row in enumerate(g):
            r[i] = 0.9 * r[i] + 0.1 * sum(x * x for x in row) / columns
        for j in range(columns):
            c[j] = 0.9 * c[j] + 0.1 * sum(row[j] ** 2 for row in g) / shape[0]
        for i, row in enumerate(g):
            for j, x in enumerate(row):
                v = r[i] * c[j] / (sum(r) / shape[0]) if len(shape) > 1 else r[i]
                u = max(-1.5, min(1.5, x / math.sqrt(v / (1 - 0.9**t)))) if v else 0.0
                expected[i][j] *= math.exp(-0.03 * math.copysign(1, expected[i][j]) * u)
    torch.testing.assert_close(weight.detach().reshape(shape[0], -1), torch.tensor(expected))
    state = optimizer.state[weight]
    assert ("col_avg_sq" in state) == (len(shape) > 1)
    if len(shape) > 1:
        torch.testing.assert_close(state["col_avg_sq"].flatten(), torch.tensor(c))


@pytest.mark.parametrize("fmt", ["ladder8", "ladder12"])
def test_bbit_madam_moves_by_the_nearest_rungs_row_by_row(fmt):
    torch.manual_seed(0)
    linear = torch.nn.Linear(6, 5)
    rung.store_weights_(linear, fmt, signs="packed")
    weight = linear.weight
    eta0, last = weight.format.base_precision, weight.format.levels - 1
    lr = 20.25 * eta0
    optimizer = BBitMadam([weight], lr=lr, beta=0.9, clip=2.0, weight_decay=0.5, state="rows")
    codes = weight.codes.long().tolist()
    signs = weight.detach().decode().sign().tolist()
    moments = [0.0] * 5
    for t, grad in enumerate(gradients(weight.shape, 6), 1):
        weight.grad = grad
        optimizer.step()
        for i, row in enumerate(grad.tolist()):
            moments[i], updates = oracle_update(moments[i], row, t, 0.9, 2.0)
            for j, u in enumerate(updates):
                moved = codes[i][j] + round((signs[i][j] * u + 0.5) * lr / eta0)
                codes[i][j] = max(0, min(last, moved))
    assert weight.codes.long().tolist() == codes
    assert weight.detach().decode().sign().tolist() == signs


def test_stochastic_moves_are_right_on_average():
    torch.manual_seed(0)
    linear = torch.nn.Linear(400, 50, bias=False)
    rung.store_weights_(linear, "ladder8", init="uniform")
    before = linear.weight.codes.int()
    eta0 = linear.weight.format.base_precision
    options = {"lr": 0.3 * eta0, "clip": 8.0, "rounding": "stochastic", "state": "rows"}
    optimizer = BBitMadam(linear.parameters(), **options)
    linear.weight.grad = linear.weight.detach().decode().sign()
    optimizer.step()
    inside = (before > 0) & (before < 255)
    moved = (linear.weight.codes.int() - before)[inside].float()
    assert set(moved.tolist()) == {0.0, 1.0}
    assert float(moved.mean()) == pytest.approx(0.3, abs=0.02)


def test_a_row_takes_four_bytes_and_vectors_keep_one_each():
    model = torch.nn.Linear(64, 32)
    optimizer = Madam(model.parameters(), state="rows")
    held = {tuple(p.shape): optimizer.state[p]["row_avg_sq"].shape for p in model.parameters()}
    assert held == {(32, 64): (32,), (32,): (32,)}
    rung.store_weights_(stored := torch.nn.Linear(64, 32, bias=False), "ladder8")
    assert state_bytes(BBitMadam(stored.parameters(), lr=0.02, state="rows")) == 4 * 32 + 4


@pytest.mark.parametrize("state", ["rows", "factored"])
@pytest.mark.parametrize("coded", [False, True])
def test_a_copy_and_a_checkpoint_go_on_bit_for_bit(coded, state):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.LayerNorm(5), torch.nn.Linear(5, 2))
    kind, options = Madam, {}
    if coded:
        rung.store_weights_(model, "ladder8")
        kind, options = BBitMadam, {"rounding": "stochastic"}
    optimizer = kind(split_parameters(model), lr=0.01, state=state, **options)

    def train(network, rule):
        rule.zero_grad()
        network(torch.linspace(-1, 1, 18).reshape(3, 6)).square().mean().backward()
        rule.step()

    train(model, optimizer)
    twin = copy.deepcopy(model)
    other = kind(split_parameters(twin), lr=0.01, state=state, **options)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for _ in range(3):
        train(model, optimizer)
        train(twin, other)
    for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(ours.detach(), theirs.detach())


@pytest.mark.parametrize("capturable", [False, True])
@pytest.mark.parametrize("coded", [False, True])
@pytest.mark.parametrize("state", ["rows", "factored"])
def test_a_gradient_that_is_not_finite_changes_nothing(state, coded, capturable):
    torch.manual_seed(0)
    linear = torch.nn.Linear(6, 5, bias=False)
    if coded:
        rung.store_weights_(linear, "ladder8")
    kind = BBitMadam if coded else Madam
    optimizer = kind(linear.parameters(), lr=0.02, state=state, capturable=capturable)
    linear.weight.grad = torch.ones(5, 6)
    optimizer.step()
    before = copy.deepcopy(linear.weight.detach()), copy.deepcopy(optimizer.state_dict()["state"])
    linear.weight.grad = torch.full((5, 6), float("nan"))
    if capturable:
        optimizer.step()
    else:
        with pytest.warns(UserWarning, match="this step was skipped"):
            optimizer.step()
    after = linear.weight.detach(), optimizer.state_dict()["state"]
    assert isinstance(after[0], CodedTensor) == coded
    assert torch.equal(before[0], after[0])
    for name, value in before[1][0].items():
        assert torch.equal(value, after[1][0][name]), name


def test_what_does_not_fit_is_refused():
    linear = torch.nn.Linear(6, 5, bias=False)
    optimizer = Madam(linear.parameters(), state="rows")
    optimizer.state[linear.weight]["row_avg_sq"] = torch.zeros(4)
    linear.weight.grad = torch.ones(5, 6)
    with pytest.raises(
        ValueError, match=r"'row_avg_sq' must be of shape \(5,\), one .* row; got \(4,"
    ):
        optimizer.step()
    optimizer = Madam(linear.parameters(), state="factored")
    optimizer.state[linear.weight]["col_avg_sq"] = torch.zeros(4)
    with pytest.raises(ValueError, match=r"of shape \(6,\), one number a column; got \(4,"):
        optimizer.step()
    with pytest.raises(ValueError, match="`foreach=True` needs state='fp32'; got state='rows'"):
        Madam(linear.parameters(), state="rows", foreach=True)
    rung.store_weights_(linear, "lns16")
    with pytest.raises(ValueError, match="`state` must be .*; got .*rows"):
        LNSMadam(linear.parameters(), state="rows")


@pytest.mark.parametrize("state", ["rows", "factored"])
@pytest.mark.parametrize("shape", [(4, 0), (0,), (0, 3)])
def test_rows_of_nothing_have_a_moment_of_zero(shape, state):
    parameter = torch.nn.Parameter(CodedTensor.from_float(torch.ones(shape), "sinh8", 1.0))
    optimizer = SignedMadam([parameter], state=state)
    parameter.grad = torch.ones(shape)
    optimizer.step()
    assert not optimizer.state[parameter]["row_avg_sq"].any()
