"""What interception finds inside the forward pass of classes from elsewhere."""

import pytest
import torch
import torch.nn.functional as F
from nn.spies import values
from torch import nn
from torch.func import functional_call, grad
from torch.nn.utils import parametrize
from torch.utils.checkpoint import checkpoint

from rung.nn import Policy, Quantizer, Rule, audit, convert_, functional
from rung.nn.recomputation import Checkpoints

COARSE = Policy("lns4", "lns5+zero", "lns5_b4+zero", "lns4_b2+zero")


class Function(nn.Module):
    """A weight, and a forward pass of one function of it and of the input."""

    def __init__(self, function, *shape):
        super().__init__()
        self.w = nn.Parameter(values(*shape, seed=5).detach())
        self.function = function

    def forward(self, x):
        return self.function(self, x)

    def twice(self, x):
        return torch.tanh(x @ self.w) @ self.w


# -- checkpoints -----------------------------------------------------------------------------


CHECKPOINTED = {
    "method": lambda m, x: checkpoint(m.twice, x, use_reentrant=False),
    "closure": lambda m, x: checkpoint(lambda y: m.twice(y) @ m.w, x, use_reentrant=False) * 2,
    "two": lambda m, x: checkpoint(
        m.twice, checkpoint(m.twice, x, use_reentrant=False) @ m.w, use_reentrant=False
    ),
    "nested": lambda m, x: checkpoint(
        lambda y: checkpoint(m.twice, y, use_reentrant=False) @ m.w, x, use_reentrant=False
    ),
    "inside only": lambda m, x: checkpoint(
        lambda y: checkpoint(m.twice, y, use_reentrant=False) * 2, x, use_reentrant=False
    ),
}


@pytest.mark.parametrize("function", CHECKPOINTED.values(), ids=CHECKPOINTED.keys())
def test_a_checkpointed_function_is_computed_again_in_the_same_formats(function, monkeypatch):
    def gradients():
        model = Function(function, 4, 4)
        convert_(model, COARSE)
        x = values(3, 4)
        y = model(x)
        y.square().sum().backward()
        return y, x.grad, model.w.grad

    ours = gradients()
    monkeypatch.setitem(globals(), "checkpoint", lambda f, x, use_reentrant: f(x))
    for a, b in zip(ours, gradients(), strict=True):
        assert torch.equal(a, b)


def test_hooks_of_saved_tensors_stay_in_their_order():
    calls = []

    def hooks(name):
        def pack(x):
            calls.append(name)
            return x

        return torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x)

    def forward(module, x):
        with hooks("inner"):
            y = x @ module.w
        return y @ module.w

    model = Function(forward, 4, 4)
    convert_(model, COARSE)
    with hooks("outer"):
        model(values(3, 4)).sum().backward()
    assert calls == ["inner"] * 2 + ["outer"] * 2
    assert torch._C._autograd._top_saved_tensors_default_hooks(False) is None


def test_a_checkpoint_that_cannot_be_followed_is_refused():
    def pack(x):
        return x

    pack.__qualname__ = "_checkpoint_hook.__init__.<locals>.pack_hook"
    checkpoints = Checkpoints(lambda: None)
    with (
        torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x),
        pytest.raises(RuntimeError, match=r"can't be followed. Put the function into the forward"),
    ):
        checkpoints.follow()


# -- recurrent layers ------------------------------------------------------------------------


@pytest.mark.parametrize("base", [nn.LSTM, nn.GRU, nn.RNN, nn.LSTMCell, nn.GRUCell, nn.RNNCell])
def test_a_subclass_of_a_recurrent_layer_computes_in_formats(base):
    class Own(base):
        def forward(self, input):
            return super().forward(2 * input)

    torch.manual_seed(0)
    own, plain = Own(4, 5), base(4, 5)
    plain.load_state_dict(own.state_dict())
    for module in (own, plain):
        convert_(module, COARSE)
    x = values(3, 4, grad=False)
    a, b = own(x), plain(2 * x)
    a, b = (y[0] if isinstance(y, tuple) else y for y in (a, b))
    assert torch.equal(a, b)
    assert isinstance(own, Own)
    assert audit(own, x).complete
    assert own(x) is not None


def test_a_recurrent_subclass_is_left_where_the_policy_leaves_it():
    class Own(nn.LSTM):
        def forward(self, input):
            return super().forward(input)[0]

    own = Own(4, 5)
    x = values(3, 4, grad=False)
    expected = own(x)
    convert_(own, Policy(rules=[Rule.skip(kinds="recurrent")]))
    assert torch.equal(own(x), expected)


# -- roles of factors ------------------------------------------------------------------------


@pytest.mark.parametrize("spelling", ["x @ w", "x @ w.t()", "inner"])
def test_tensors_in_the_place_of_parameters_are_weights(spelling):
    function = {
        "x @ w": lambda m, x: x @ m.w,
        "x @ w.t()": lambda m, x: x @ m.w.t(),
        "inner": lambda m, x: m.inner(x) @ m.inner.w.mT,
    }[spelling]
    model = Function(function, 4, 4)
    model.inner = Function(lambda m, x: x @ m.w, 4, 4)
    convert_(model, COARSE)
    x = values(3, 4, grad=False)
    expected = model(x)
    expected.square().sum().backward()
    plain = {k: p.detach().clone().requires_grad_() for k, p in model.named_parameters()}
    y = functional_call(model, plain, (x,))
    y.square().sum().backward()
    assert torch.equal(y, expected)
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            assert torch.equal(plain[name].grad, parameter.grad), name


def test_torch_func_differentiates_a_converted_model():
    model = Function(lambda m, x: x @ m.w, 4, 4)
    convert_(model, COARSE)
    x = values(3, 4, grad=False)
    model(x).square().sum().backward()
    plain = {"w": model.w.detach()}
    found = grad(lambda p: functional_call(model, p, (x,)).square().sum())(plain)
    assert torch.equal(found["w"], model.w.grad)


def test_a_weight_that_is_computed_is_an_activation_and_its_gradient_shows_in_float():
    model = Function(lambda m, x: x @ (m.w * 2), 4, 4)
    convert_(model, COARSE)
    x = values(3, 4, grad=False)
    policy = COARSE.resolve("", "matmul")
    assert torch.equal(model(x), functional.matmul(x, model.w * 2, quantizers=policy))
    (of_weight,) = [e for e in audit(model, x).entries if e.phase == "weight gradient"]
    assert of_weight.result_format == "float32"


@pytest.mark.parametrize("holder", ["list", "dict", "parametrized"])
def test_weights_that_other_modules_hold_for_a_class_are_enough_to_convert(holder):
    class Holder(nn.Module):
        def __init__(self):
            super().__init__()
            weight = nn.Parameter(values(4, 4).detach())
            if holder == "list":
                self.held = nn.ParameterList([weight])
            elif holder == "dict":
                self.held = nn.ParameterDict({"0": weight})
            else:
                self.w = weight
                parametrize.register_parametrization(self, "w", nn.Identity())

        def forward(self, x):
            weight = (
                self.w if holder == "parametrized" else self.held["0" if holder == "dict" else 0]
            )
            return F.linear(x, weight)

    model = Holder()
    report = convert_(model, Policy("lns4", None, None, None))
    x = values(3, 4, grad=False)
    with torch.no_grad():
        weight = values(4, 4).detach()
        assert torch.equal(model(x), F.linear(x, Quantizer("lns4", "channel").q(weight)))
    if holder != "parametrized":
        (left,) = report.left
        assert (left.name, left.reason) == ("held", "weights of the module that holds it")


# -- products that sum nothing ---------------------------------------------------------------

OUTER = {
    "matmul": lambda f, t: f[:, None] @ t[None],
    "batched": lambda f, t: torch.bmm(f[None, :, None], t[None, None]),
    "right": lambda f, t: torch.Tensor.__rmatmul__(t[None], f[:, None]),
    "einsum": lambda f, t: torch.einsum("i,j->ij", f, t),
    "einsum of a list": lambda f, t: torch.einsum("i,j", [f, t]),
}


@pytest.mark.parametrize("product", OUTER.values(), ids=OUTER.keys())
def test_a_product_of_activations_that_sums_nothing_stays_exact(product):
    def rotary(module, x):
        positions = torch.arange(x.shape[0]).float()
        angles = product(1 / 10 ** torch.arange(4.0), positions)
        angles = angles.reshape(4, -1)
        assert torch.equal(angles, (1 / 10 ** torch.arange(4.0))[:, None] * positions)
        return (x * angles.t().cos()) @ module.w

    model = Function(rotary, 4, 4)
    convert_(model, COARSE)
    report = audit(model, values(50, 4, grad=False), strict=True)
    assert {entry.kind for entry in report.entries} <= {"outer", "product"}


def test_a_product_with_a_weight_or_a_sum_has_formats_whatever_its_length():
    x, one = values(3, 4, grad=False), Policy("lns4", None, None, None)
    model = Function(lambda m, x: x[:, :1] @ m.w, 1, 4)
    convert_(model, one)
    rounded = Quantizer("lns4", "channel").q(model.w, 1)
    assert torch.equal(model(x), x[:, :1] @ rounded)
    model = Function(lambda m, x: torch.einsum("ij,jk", [x, m.w]), 4, 4)
    convert_(model, Policy(*[None] * 4, rules=[Rule(kinds="linear", weight="lns4")]))
    torch.testing.assert_close(model(x), x @ Quantizer("lns4", "channel").q(model.w, 1))
    model = Function(lambda m, x: torch.addbmm(x.new_zeros(()), x[:, :, None], x[:, None]), 1)
    model.layer = nn.Linear(4, 4)
    convert_(model, Policy(None, "lns4", None, None))
    assert not torch.equal(model(x), x.t() @ x)
