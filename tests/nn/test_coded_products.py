"""Products of weights that live in codes: nothing of their size stays in floating point."""

import gc
import warnings

import pytest
import torch
from nn.spies import FOUR, values
from torch import nn
from torch.utils.checkpoint import checkpoint

from rung import store_weights_
from rung.nn import Policy, Quantizer, Quantizers, Rule, convert_, functional
from rung.tensor import CodedTensor

STOCHASTIC = Quantizers(Quantizer("lns5", "channel", "stochastic"))
SHIFTED = Quantizers(Quantizer("lns8"), FOUR.activation, FOUR.error, FOUR.gradient)


def coded(shape=(6, 4), fmt="lns16", seed=0):
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return nn.Parameter(CodedTensor.from_float(weight, fmt, 3.0))


# A product: the weight's shape and channels, the call, the activation's shape.
USES = {
    "linear": ((6, 4), 0, lambda w, x, q: functional.linear(x, w, quantizers=q), (3, 4)),
    "conv2d": (
        (4, 3, 2, 2), 0, lambda w, x, q: functional.conv2d(x, w, quantizers=q), (2, 3, 5, 5),
    ),
    "conv_transpose1d": (
        (3, 4, 2), 1, lambda w, x, q: functional.conv_transpose1d(x, w, quantizers=q), (2, 3, 5),
    ),
    "matmul": ((6, 4), 1, lambda w, x, q: functional.matmul(x, w, quantizers=q), (3, 6)),
    "addmm": (
        (6, 4), 1, lambda w, x, q: functional.addmm(torch.ones(4), x, w, quantizers=q), (3, 6),
    ),
    "einsum": (
        (6, 4), 0, lambda w, x, q: functional.einsum("bi,oi->bo", x, w, quantizers=q), (3, 4),
    ),
}  # fmt: skip


@pytest.mark.parametrize("fmt", ["lns16", "lns8", "ladder8"])
@pytest.mark.parametrize("four", [FOUR, SHIFTED, Quantizers()], ids=["rounded", "shifted", "none"])
@pytest.mark.parametrize("use", USES.values(), ids=USES.keys())
def test_values_and_gradients_are_those_of_the_rounded_floats(use, four, fmt):
    shape, axis, call, x_shape = use
    weight, x = coded(shape, fmt), values(*x_shape)
    y = call(weight, x, four)
    y.square().sum().backward()
    floats = four.weight.q(weight, axis) if four.weight else weight.detach().decode()
    plain = nn.Parameter(floats)
    other = values(*x_shape)
    rest = Quantizers(None, four.activation, four.error, four.gradient)
    expected = call(plain, other, rest)
    expected.square().sum().backward()
    assert torch.equal(y, expected)
    assert type(weight.grad) is torch.Tensor
    assert torch.equal(weight.grad, plain.grad)
    assert torch.equal(x.grad, other.grad)


def floats_of_size(count):
    gc.collect()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [
            t
            for t in gc.get_objects()
            if type(t) is torch.Tensor and t.is_floating_point() and t.numel() == count
        ]


@pytest.mark.parametrize("four", [FOUR, SHIFTED, STOCHASTIC, Quantizers()])
def test_no_float_copy_lives_between_forward_and_backward(four):
    shape = (173, 211)
    weight, x = coded(shape), values(2, 211)
    y = functional.linear(x, weight, quantizers=four)
    assert not floats_of_size(173 * 211)
    y.sum().backward()
    assert len(floats_of_size(173 * 211)) <= 1  # the dense gradient
    weight.grad = None
    assert not floats_of_size(173 * 211)


def test_the_backward_pass_rounds_stochastically_as_the_forward_pass_did():
    weight, x = coded((60, 50)), values(2, 50)
    torch.manual_seed(0)
    functional.linear(x, weight, quantizers=STOCHASTIC).sum().backward()
    torch.manual_seed(0)
    rounded = STOCHASTIC.weight.q(weight, 0)
    torch.testing.assert_close(x.grad, torch.ones(2, 60) @ rounded)


def test_codes_changed_before_backward_are_noticed():
    weight, x = coded(), values(3, 4)
    y = functional.linear(x, weight, quantizers=FOUR)
    with torch.no_grad():
        weight.codes.add_(1)
    with pytest.raises(RuntimeError, match="codes were changed between the forward and the backw"):
        y.sum().backward()


def test_outer_hooks_and_activation_checkpointing_still_work():
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 4))
    store_weights_(model, "lns16", signs="packed")
    convert_(model, Policy())
    x = values(3, 4)
    gradients = []
    for run in (model, lambda x: checkpoint(model, x, use_reentrant=False)):
        model.zero_grad()
        run(x).square().sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
    assert all(map(torch.equal, *gradients))
    seen = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: seen.append(t.shape) or t, lambda t: t):
        model[0](x)
    assert torch.Size([3, 4]) in seen
    assert torch.Size([6, 4]) not in seen


def test_tied_codes_get_the_sum_of_both_gradients():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(9, 5)
            self.head = nn.Linear(5, 9, bias=False)
            self.head.weight = self.embedding.weight

        def forward(self, index):
            return self.head(self.embedding(index))

    model, index = Tied(), torch.tensor([1, 2, 2])
    store_weights_(model, "lns16", signs="packed")
    convert_(model, Policy(rules=[Rule(gradient=None)]))
    assert model.head.weight is model.embedding.weight
    model(index).square().sum().backward()
    both = model.head.weight.grad.clone()
    model.zero_grad()
    hidden = model.embedding(index).detach()
    model.head(hidden).square().sum().backward()
    alone = model.head.weight.grad
    untouched = [i for i in range(9) if i not in (1, 2)]
    torch.testing.assert_close(both[untouched], alone[untouched])
    assert not torch.equal(both[2], alone[2])
