"""A compiled step against the eager one: the same bits, and no new graph for a new lr."""

import warnings
from contextlib import nullcontext

import pytest
import torch
from torch import nn

from rung import store_weights_
from rung.optim import LMD, BBitMadam, LNSMadam, Madam, SignedMadam, split_parameters
from rung.tensor import CodedTensor

from .cases import randn, values_of

# torch's own, at the first graph of a process.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

STEPS = 50
SHAPES = [(5, 7), (33,)]
CASES = {
    "madam": (Madam, {}, None),
    "madam-log8": (Madam, {"state": "log8", "weight_decay": 0.1}, None),
    "madam-capturable": (Madam, {"capturable": True}, None),
    "bbit8": (BBitMadam, {"rounding": "stochastic"}, "ladder8"),
    "bbit12": (BBitMadam, {}, "ladder12"),
    "lns16": (LNSMadam, {}, "lns16"),
    "signed8": (SignedMadam, {"state": "bf16"}, "sinh8"),
    "signed8-capturable": (SignedMadam, {"capturable": True, "weight_decay": 0.1}, "sinh8"),
    "lns10": (LNSMadam, {"rounding": "stochastic", "state": "fp32"}, "lns10"),
}


@pytest.fixture(autouse=True)
def fresh_dynamo():
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    yield
    torch._dynamo.reset()


def make(case, lr):
    cls, options, fmt = CASES[case]
    params = []
    for i, shape in enumerate(SHAPES):
        values = 0.1 * randn(*shape, seed=i)
        if fmt is not None:
            values = CodedTensor.from_float(values, fmt, 0.4, name=str(i))
        params.append(nn.Parameter(values))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a small lr beside rounding to nearest
        return params, cls(params, lr=lr, **options)


def give_gradients(twins, seed):
    for i, (param, twin) in enumerate(zip(*twins, strict=True)):
        param.grad = randn(*param.shape, seed=100 * seed + i)
        twin.grad = param.grad.clone()


def contents(params, optimizer):
    """Everything that a step writes."""
    written = [values_of(param) for param in params]
    for param in params:
        state = optimizer.state[param].values()
        written += [value.clone() for value in state if isinstance(value, torch.Tensor)]
    return written


def set_lr(optimizer, lr):
    for group in optimizer.param_groups:
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(lr)
        else:
            group["lr"] = lr


def no_recompilation():
    return torch._dynamo.config.patch(error_on_recompile=True)


NUMBERS = [(case, float) for case in ("madam", "bbit8", "lns16")]


@pytest.mark.parametrize(("case", "kind"), [*NUMBERS, *((case, torch.tensor) for case in CASES)])
def test_a_compiled_step_is_the_eager_one_and_takes_every_lr(case, kind):
    params, optimizer = make(case, kind(0.01))
    twins, eager = make(case, kind(0.01))
    step = torch.compile(optimizer.step, fullgraph=True, backend="aot_eager")
    for i in range(STEPS):
        lr = 0.03 * (1 - i / STEPS) + 1e-4
        set_lr(optimizer, lr)
        set_lr(eager, lr)
        give_gradients((params, twins), i)
        # The second step sees that lr, and the count of skipped steps, are not constants.
        with no_recompilation() if i >= 2 else nullcontext():
            step()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            eager.step()
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 2
    ours, theirs = contents(params, optimizer), contents(twins, eager)
    assert len(ours) == len(theirs)
    for left, right in zip(ours, theirs, strict=True):
        assert torch.equal(left, right)
    assert not torch.equal(ours[0], values_of(make(case, 0.01)[0][0]))


@pytest.mark.parametrize("case", ["madam", "bbit8", "lns16"])
def test_a_compiled_step_skips_gradients_that_are_not_finite(case):
    params, optimizer = make(case, torch.tensor(0.01))
    step = torch.compile(optimizer.step, fullgraph=True, backend="aot_eager")
    for i in range(4):
        give_gradients((params, params), i)
        before = contents(params, optimizer)
        if i in (1, 3):
            params[1].grad[4] = float("nan")
        step()
        pairs = zip(before, contents(params, optimizer), strict=True)
        assert all(torch.equal(*pair) for pair in pairs) == (i in (1, 3))
    assert optimizer.skipped_steps == 2


def split_model(lr):
    torch.manual_seed(0)
    model = nn.Linear(20, 7)
    store_weights_(model, "ladder8")
    optimizer = BBitMadam(split_parameters(model), lr=lr, rounding="stochastic")
    return list(model.parameters()), optimizer


def test_a_compiled_step_of_both_sides_moves_codes_as_the_eager_one():
    params, optimizer = split_model(torch.tensor(0.02))
    twins, eager = split_model(torch.tensor(0.02))
    step = torch.compile(optimizer.step, fullgraph=True, backend="aot_eager")
    for i in range(5):
        give_gradients((params, twins), i)
        with no_recompilation() if i >= 2 else nullcontext():
            step()
        eager.step()
    assert torch.equal(params[0].codes, twins[0].codes)
    torch.testing.assert_close(params[1], twins[1])  # AdamW's bias: torch's, compiled by torch


# torch's compiler looks at the gradient of whatever tensor passes by, the loss included.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize(("sigma", "state"), [(0.05, "fp32"), (0.0, "bf16")])
def test_lmd_steps_eagerly_inside_a_compiled_function(sigma, state):
    def make_lmd():
        params = [nn.Parameter(0.1 * randn(*shape, seed=i)) for i, shape in enumerate(SHAPES)]
        optimizer = LMD(params, lr=0.01, sigma=sigma, state=state)

        def closure():
            optimizer.zero_grad()
            loss = sum((p * p.sin()).sum() for p in params)
            loss.backward()
            return loss

        return params, optimizer, closure

    params, optimizer, closure = make_lmd()
    twins, eager, closure_of_twins = make_lmd()
    step = torch.compile(optimizer.step, backend="aot_eager")
    for i in range(STEPS):
        set_lr(optimizer, 0.03 * (1 - i / STEPS))
        set_lr(eager, 0.03 * (1 - i / STEPS))
        with no_recompilation() if i >= 1 else nullcontext():
            loss = step(closure)
        assert torch.equal(loss, eager.step(closure_of_twins))
    for left, right in zip(contents(params, optimizer), contents(twins, eager), strict=True):
        assert torch.equal(left, right)
