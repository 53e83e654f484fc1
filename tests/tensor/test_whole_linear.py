"""Linear layers whose weight is decoded as a whole: one node, equal to torch's on the floats."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from rung.tensor import linear, whole_linear

from .weights import KINDS, coded

SHAPE = (24, 20)


def operands(fmt="sinh8", signs="packed", rows=(3, 5), bias=True):
    weight = nn.Parameter(coded(SHAPE, fmt, signs))
    generator = torch.Generator().manual_seed(1)
    x = torch.randn((*rows, SHAPE[1]), generator=generator).requires_grad_()
    b = torch.randn(SHAPE[0], generator=generator).requires_grad_() if bias else None
    with torch._C.DisableTorchFunctionSubclass():
        assert not linear.serves(x, weight, b)
        assert whole_linear.serves(x, weight, b)
    return x, weight, b


def twins(x, weight, bias):
    """The same operands in floats."""
    copies = (x.detach(), weight.detach().decode(), None if bias is None else bias.detach())
    return [None if t is None else t.clone().requires_grad_() for t in copies]


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("rows", [(4,), (3, 5), (2, 3, 5), (0,)], ids=str)
@pytest.mark.parametrize(("fmt", "signs"), KINDS)
def test_a_layer_and_its_gradients_equal_those_of_the_floats(fmt, signs, rows, bias, autocast):
    ours = operands(fmt, signs, rows, bias)
    theirs = twins(*ours)
    results = []
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        for operand in (ours, theirs):
            results.append(F.linear(*operand))
    for y in results:
        y.float().sin().sum().backward()
    assert results[0].dtype == (torch.bfloat16 if autocast else torch.float32)
    assert torch.equal(*results)
    exact = {"rtol": 0, "atol": 0} if not autocast else {"rtol": 1e-2, "atol": 1e-2}
    for mine, other in zip(ours, theirs, strict=True):
        if mine is not None:
            assert type(mine.grad) is torch.Tensor
            assert mine.grad.dtype == torch.float32
            torch.testing.assert_close(mine.grad, other.grad, **exact)


def test_what_needs_no_gradient_gets_none():
    x, weight, bias = operands()
    F.linear(x.detach(), weight, bias.detach()).sum().backward()
    assert x.grad is None
    assert bias.grad is None
    assert weight.grad is not None
    F.linear(x, weight.detach()).sum().backward()
    assert x.grad is not None
    with torch.no_grad():
        assert not F.linear(x, weight, bias).requires_grad


def test_weights_made_in_inference_mode_compute():
    with torch.inference_mode():
        weight = coded(SHAPE, "sinh8")
        x = torch.randn(3, SHAPE[1])
        assert torch.equal(F.linear(x, weight), F.linear(x, weight.decode()))
    with torch.no_grad():
        assert F.linear(torch.randn(3, SHAPE[1]), weight).shape == (3, SHAPE[0])


def test_layers_on_meta_have_shapes():
    weight = coded(SHAPE, "sinh8").to("meta")
    y = F.linear(torch.empty(3, SHAPE[1], device="meta"), weight)
    assert (y.shape, y.device.type) == ((3, SHAPE[0]), "meta")


def test_gradients_of_gradients():
    ours = operands()
    results = []
    for x, w, b in (ours, twins(*ours)):
        (first,) = torch.autograd.grad(F.linear(x, w, b).sin().sum(), x, create_graph=True)
        results.append(torch.autograd.grad(first.square().sum(), [x, w, b]))
    for mine, theirs in zip(*results, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


def test_checkpointed_layers_compute_the_same():
    x, weight, bias = operands()
    checkpoint(lambda x: F.linear(x, weight, bias).relu(), x, use_reentrant=False).sum().backward()
    found = weight.grad.clone()
    weight.grad = None
    F.linear(x, weight, bias).relu().sum().backward()
    assert torch.equal(found, weight.grad)


def test_codes_changed_before_backward_are_noticed():
    x, weight, bias = operands()
    y = F.linear(x, weight, bias)
    with torch.no_grad():
        weight.codes.add_(1)
    with pytest.raises(RuntimeError, match="codes were changed between the forward and the back"):
        y.sum().backward()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, w, b: (x[..., :5], w, b), "shapes cannot be multiplied"),
        (lambda x, w, b: (x.double(), w, b), "same dtype|expected .* to have the same|dtype"),
        (lambda x, w, b: (x, w, b[:5]), "size|expand|shape"),
    ],
    ids=["length", "dtype", "bias"],
)
def test_what_does_not_fit_is_refused_by_torch_as_ever(change, message):
    changed = change(*operands())
    with torch._C.DisableTorchFunctionSubclass():
        assert not whole_linear.serves(*changed)
    with pytest.raises(RuntimeError, match=message):
        F.linear(*changed)
