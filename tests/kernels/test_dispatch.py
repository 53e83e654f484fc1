import os
import subprocess
import sys

import pytest
import torch
from kernels.moments import momenta_of
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._pytree import tree_map_only

from rung.formats import get
from rung.kernels import dispatch, finite, linear
from rung.kernels.coded_madam import PAIR
from rung.kernels.dispatch import Choice, info
from rung.kernels.linear import Code

SHAPES = [(5,), (3, 7)]
LNS8, LADDER8 = Code(8, 8, 0.0), Code(8, 0, 0.016)


def normal(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def codes_of(*shape):
    draw = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, shape, generator=draw).to(torch.uint8)


def weight_of(code, signs=0):
    """Codes of shape (13, 21), scale, `signs` bytes of signs, key."""
    return codes_of(13, 21), torch.tensor(0.7), codes_of(signs), torch.tensor(5)


def step_arguments(written, moments, *others):
    """What both steps begin with: lists of tensors, of `SHAPES`."""
    moments = [torch.zeros(shape, dtype=moments) for shape in SHAPES]
    scales = [torch.tensor(1.0) for _ in SHAPES] if moments[0].dtype == torch.uint8 else []
    return (written, moments, scales, [normal(*shape) for shape in SHAPES], *others)


def float_arguments(moments):
    keys = [] if moments == torch.float32 else [torch.tensor(5), torch.tensor(6)]
    numbers = torch.tensor([0.99, 8.0, 0.1, 0.01], dtype=torch.float64)
    weights, bounds = [normal(*shape) for shape in SHAPES], [torch.tensor(3.0)] * 2
    return step_arguments(weights, moments, bounds, keys, torch.ones(2), numbers, False)


def coded_arguments(system, moments, momentum=None):
    keys = [torch.tensor(5), torch.tensor(6)]
    signs = [codes_of(0), codes_of(0 if system else 3)]
    numbers = torch.tensor([0.99, 8.0, 0.1, 0.9], dtype=torch.float64)
    written = step_arguments(
        [codes_of(*shape) for shape in SHAPES], moments, signs, keys, torch.ones(2), numbers,
        torch.tensor([3.0, 4.0], dtype=torch.float64), [8, 8], system, True, False,
    )  # fmt: skip
    momenta = momenta_of(momentum, SHAPES, 0)
    return (*written[:3], momenta, *written[3:])


def test_info_says_who_serves_every_operation_on_every_device():
    choices = info()
    assert [(c.operation, c.device) for c in choices] == [
        (name, device)
        for name in sorted(dispatch.OPERATIONS)
        for device in ("cpu", "cuda", "other")
    ]
    names = {choice.operation for choice in choices}
    assert {"linear_codes", "all_finite", "madam_step", "coded_madam_step"} <= names
    for choice in choices:
        allowed = {"cpu": "numba", "cuda": "triton", "other": "reference"}[choice.device]
        assert choice.implementation in (allowed, "reference")
        assert choice.reason
        if choice.implementation != "reference":
            assert choice.reason == "fastest"
    served = [c for c in choices if c.device == "cpu"]
    assert {c.implementation for c in served} == {"numba"}
    assert all("cpu and cuda only" in c.reason for c in choices if c.device == "other")


def test_info_of_one_device():
    assert {choice.device for choice in info(["cpu"])} == {"cpu"}
    assert Choice("madam_step", "cpu", "numba", "fastest") in info(["cpu"])
    assert info(["mps"])[0].device == "other"


def test_what_is_missing_is_a_reason(monkeypatch):
    monkeypatch.setattr(dispatch.importlib.util, "find_spec", lambda name: None)
    choose = dispatch.Operation.choose.__wrapped__  # without its cache
    choice = choose(finite.all_finite, "cpu")
    assert (choice.implementation, choice.reason) == ("reference", "numba is not installed")
    monkeypatch.setitem(finite.all_finite.sources, "cpu", None)
    assert choose(finite.all_finite, "cpu").reason == "no kernel is written for it"


REFERENCE = """
import sys, torch
from rung import optim, store_weights_
from rung.kernels.dispatch import info
assert {(c.implementation, c.reason) for c in info()} == {("reference", "RUNG_KERNELS=reference")}
model = torch.nn.Linear(200, 200)
store_weights_(model, "lns8")
optimizer = optim.LNSMadam([model.weight])
model(torch.ones(3, 200)).sum().backward()
optimizer.step()
assert "numba" not in sys.modules
"""


def test_the_environment_forces_the_reference_without_numba():
    environment = {**os.environ, "RUNG_KERNELS": "reference"}
    subprocess.run([sys.executable, "-c", REFERENCE], check=True, env=environment, timeout=120)


def test_an_unknown_choice_is_refused_with_those_there_are(monkeypatch):
    choice = dispatch.choice.__wrapped__
    monkeypatch.setenv("RUNG_KERNELS", "fast")
    with pytest.raises(ValueError, match="RUNG_KERNELS must be one of auto, reference; got 'fast'"):
        choice()
    for value in ("", "auto"):
        monkeypatch.setenv("RUNG_KERNELS", value)
        assert choice() == "auto"


CASES = {
    "linear of an LNS": ("linear_codes", (normal(3, 21), *weight_of(LNS8), *LNS8)),
    "linear of a ladder": ("linear_codes", (normal(2, 1, 21), *weight_of(LADDER8, 35), *LADDER8)),
    "linear of seeded signs": ("linear_codes", (normal(21), *weight_of(LADDER8), *LADDER8)),
    "gradient of linear": ("linear_codes_grad", (normal(3, 13), *weight_of(LNS8), *LNS8)),
    "all finite": ("all_finite", ([normal(3), normal(2, 2)],)),
    "Madam": ("madam_step", float_arguments(torch.float32)),
    "Madam with log codes": ("madam_step", float_arguments(torch.uint8)),
    "ladder Madam": ("coded_madam_step", coded_arguments(False, torch.bfloat16)),
    "LNS Madam": ("coded_madam_step", coded_arguments(True, torch.uint8)),
    "Madam of pairs": (
        "coded_madam_step",
        coded_arguments(PAIR, torch.uint8, momentum="four bits"),
    ),
    "ladder Madam with a momentum": (
        "coded_madam_step",
        coded_arguments(False, torch.uint8, momentum="log8"),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_operators_pass_torchs_own_checks(case):
    name, arguments = CASES[case]
    arguments = tree_map_only(torch.Tensor, torch.clone, arguments)
    torch.library.opcheck(getattr(torch.ops.rung, name).default, arguments)


class Logged(torch.Tensor):
    """A subclass that notes the operators that reach it, and runs them on what it wraps."""

    @staticmethod
    def __new__(cls, inner, seen):
        return torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)

    def __init__(self, inner, seen):
        self.inner, self.seen = inner, seen

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        def unwrap(tensor):
            tensor.seen.append(func)
            return tensor.inner

        args, kwargs = tree_map_only(cls, unwrap, (args, kwargs or {}))
        return func(*args, **kwargs)


def test_subclasses_in_lists_and_out_of_them_reach_the_operators():
    seen, x = [], normal(3, 21)
    assert bool(finite.all_finite([normal(4), Logged(x, seen)]))
    assert seen == [torch.ops.rung.all_finite.default]
    y = linear.linear_codes(Logged(x, seen), *weight_of(LNS8), LNS8)
    assert seen[1:] == [torch.ops.rung.linear_codes.default]
    assert torch.equal(y, linear.linear_codes(x, *weight_of(LNS8), LNS8))


def test_plain_tensors_and_parameters_do_not_pass_torchs_dispatcher(monkeypatch):
    monkeypatch.setattr(torch.ops.rung, "all_finite", None)
    assert bool(finite.all_finite([normal(4), torch.nn.Parameter(normal(3))]))
    with pytest.raises(TypeError, match="not callable"):
        finite.all_finite([Logged(normal(4), [])])


def test_transforms_of_torch_func_pass_torchs_dispatcher(monkeypatch):
    called, operator = [], torch.ops.rung.all_finite
    monkeypatch.setattr(torch.ops.rung, "all_finite", lambda g: called.append(1) or operator(g))

    def loss(x):
        finite.all_finite([x])
        return x.sin().sum()

    x = normal(3)
    assert torch.equal(torch.func.grad(loss)(x), x.cos())
    assert called == [1]


def test_transforms_of_torch_func_differentiate_a_product_with_codes():
    x, weight = normal(3, 21), weight_of(LNS8)

    def loss(x):
        return linear.linear_codes(x, *weight, LNS8).sin().sum()

    gradient = torch.func.grad(loss)(x)
    rows = torch.func.vmap(torch.func.grad(loss))(x)
    loss(x.requires_grad_()).backward()
    torch.testing.assert_close(gradient, x.grad)
    torch.testing.assert_close(rows, x.grad)


@pytest.mark.parametrize("case", CASES)
def test_fake_tensors_have_shapes_and_no_memory(case):
    name, arguments = CASES[case]
    with FakeTensorMode() as mode:
        faked = tree_map_only(torch.Tensor, mode.from_tensor, arguments)
        result = dispatch.OPERATIONS[name](*faked)
    expected = dispatch.OPERATIONS[name](*tree_map_only(torch.Tensor, torch.clone, arguments))
    if expected is None:
        assert result is None
    else:
        assert isinstance(result, FakeTensor)
        assert (result.shape, result.dtype) == (expected.shape, expected.dtype)


def test_traced_calls_are_one_node():
    def call(x, grads):
        return finite.all_finite([x, *grads])

    graph = make_fx(call, tracing_mode="fake")(normal(3), [normal(4)])
    targets = [node.target for node in graph.graph.nodes if node.op == "call_function"]
    assert targets == [torch.ops.rung.all_finite.default]


def test_what_runs_once_on_few_elements_is_not_compiled_for(monkeypatch):
    fast = []

    def watched(self, device):
        fast.append(self.name)
        return self.reference

    monkeypatch.setattr(dispatch.Operation, "fast", watched)
    x, ladder = torch.randn(8), get("ladder8")
    with dispatch.used_once(8):
        ladder.encode(x, scale=1.0)
        assert fast == []
        ladder.encode(torch.randn(9), scale=1.0)
        assert fast == ["ladder_round"]
    ladder.encode(x, scale=1.0)
    with dispatch.used_once(None):
        ladder.encode(x, scale=1.0)
    assert fast == ["ladder_round"] * 3
