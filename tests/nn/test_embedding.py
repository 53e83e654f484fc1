import pytest
import torch
import torch.nn.functional as F
from nn.spies import values
from torch import nn

from rung.formats import LNS
from rung.nn import Quantizer, Quantizers, functional
from rung.tensor import CodedTensor

INDEX = torch.tensor([[1, 4, 1], [0, 7, 4]])
WEIGHTS = ["tensor", "channel", "row", 3]
GRADIENTS = [Quantizer("lns4+zero", s) for s in WEIGHTS] + [
    Quantizer("lns4", "tensor"), Quantizer("lns4", "row"), Quantizer("ladder4"), None,
    Quantizer("int8", "tensor"), Quantizer("int8", "row"),
]  # fmt: skip


@pytest.mark.parametrize("scale", WEIGHTS)
@pytest.mark.parametrize("gradient", GRADIENTS, ids=str)
def test_rounding_the_rows_looked_up_equals_rounding_the_table(scale, gradient):
    table = nn.Parameter(values(9, 5).detach())
    four = Quantizers(Quantizer("lns5", scale), None, Quantizer("lns6+zero", "row"), gradient)
    y = functional.embedding(INDEX, table, padding_idx=4, quantizers=four)
    upstream = values(*y.shape, seed=2, grad=False)
    y.backward(upstream)
    rounded = four.weight.q(table, 0).requires_grad_()
    expected = F.embedding(INDEX, rounded, padding_idx=4)
    expected.backward(four.error.q(upstream))
    dense = rounded.grad if gradient is None else gradient.q(rounded.grad, 0)
    assert torch.equal(y, expected)
    assert torch.equal(table.grad, dense)


@pytest.mark.parametrize(
    "options", [{"padding_idx": -1}, {"scale_grad_by_freq": True}, {"max_norm": 1.0}]
)
def test_options_of_torch_hold(options):
    four = Quantizers(Quantizer("lns16", "row"), None, None, Quantizer("lns16+zero"))
    ours, theirs = (nn.Parameter(values(9, 5).detach()) for _ in range(2))
    y = functional.embedding(INDEX, ours, **options, quantizers=four)
    expected = F.embedding(INDEX, theirs, **options)
    torch.testing.assert_close(y, expected, rtol=1e-3, atol=0)
    y.square().sum().backward()
    expected.square().sum().backward()
    assert torch.equal(ours, theirs)  # max_norm shortens the table itself
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=2e-3, atol=0)


def test_without_quantizers_it_is_torchs():
    table = nn.Parameter(values(9, 5).detach())
    y = functional.embedding(INDEX, table, sparse=True, quantizers=Quantizers())
    y.sum().backward()
    assert table.grad.is_sparse


def test_no_index_is_no_error():
    table = nn.Parameter(values(9, 5).detach())
    four = Quantizers(Quantizer("lns8", "row"), None, Quantizer("lns8"), Quantizer("lns8", "row"))
    y = functional.embedding(INDEX[:0], table, quantizers=four)
    y.sum().backward()
    assert y.shape == (0, 3, 5)
    assert not table.grad.any()


@pytest.mark.parametrize("gradient", [Quantizer("lns8+zero"), Quantizer("lns8", "row")])
def test_a_sparse_gradient_is_refused(gradient):
    table = nn.Parameter(values(9, 5).detach())
    with pytest.raises(ValueError, match=r"A sparse gradient has no format here; got sparse=True"):
        functional.embedding(INDEX, table, sparse=True, quantizers=Quantizers(gradient=gradient))


@pytest.mark.parametrize("stored", ["lns16", "lns10", "ladder8"])
@pytest.mark.parametrize("by", ["tensor", "rows"])
@pytest.mark.parametrize(
    "weight", [Quantizer("lns8", "row"), Quantizer(LNS(8, 8), "channel"), None]
)
def test_rows_of_a_table_in_codes_are_those_of_its_floats(stored, by, weight):
    floats = values(9, 5).detach()
    scale = 4.0 if by == "tensor" else floats.abs().amax(1, keepdim=True)
    table = nn.Parameter(CodedTensor.from_float(floats, stored, scale))
    four = Quantizers(weight, None, None, Quantizer("lns8+zero"))
    y = functional.embedding(INDEX, table, quantizers=four)
    whole = table.detach().decode() if weight is None else weight.q(table, 0)
    assert torch.equal(y, whole[INDEX])
    y.sum().backward()
    assert type(table.grad) is torch.Tensor
    assert torch.equal(table.grad[1], torch.full((5,), 2.0))


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_bags_round_their_table_and_gradients(mode):
    table = nn.Parameter(values(9, 5).detach())
    four = Quantizers(
        Quantizer("lns5", "row"), None, Quantizer("lns6+zero"), Quantizer("lns4+zero")
    )
    y = functional.embedding_bag(INDEX, table, mode=mode, quantizers=four)
    upstream = values(*y.shape, seed=2, grad=False)
    y.backward(upstream)
    rounded = four.weight.q(table, 0).requires_grad_()
    expected = F.embedding_bag(INDEX, rounded, mode=mode)
    expected.backward(four.error.q(upstream))
    assert torch.equal(y, expected)
    assert torch.equal(table.grad, four.gradient.q(rounded.grad))


@pytest.mark.parametrize("stored", [None, "lns16"])
def test_indices_that_torch_refuses_are_refused(stored):
    floats = values(9, 5).detach()
    table = nn.Parameter(floats if stored is None else CodedTensor.from_float(floats, stored, 4.0))
    four = Quantizers(Quantizer("lns8", "row"), None, None, Quantizer("lns8+zero"))
    for index in (-1, 9):
        with pytest.raises(IndexError, match="index out of range in self"):
            functional.embedding(torch.tensor([0, index]), table, quantizers=four)
    with pytest.raises(RuntimeError, match=r"index_select\(\): Expected dtype int32 or int64"):
        functional.embedding(torch.ones(9, dtype=torch.uint8), table, quantizers=four)
    y = functional.embedding(INDEX.int(), table, quantizers=four)
    assert torch.equal(y, functional.embedding(INDEX, table, quantizers=four))


@pytest.mark.parametrize("scale", ["tensor", "row"])
@pytest.mark.parametrize("function", ["embedding", "embedding_bag"])
def test_rows_that_are_too_long_are_shortened_in_the_table_before_they_are_rounded(scale, function):
    ours, theirs = (nn.Parameter(values(9, 5).detach()) for _ in range(2))
    four = Quantizers(Quantizer("lns6", scale))
    y = getattr(functional, function)(INDEX, ours, max_norm=1.0, quantizers=four)
    getattr(F, function)(INDEX, theirs, max_norm=1.0)
    assert torch.equal(ours, theirs)
    expected = getattr(F, function)(INDEX, four.weight.q(theirs, 0))
    torch.testing.assert_close(y, expected)


def test_a_sparse_gradient_of_bags_is_refused():
    table = nn.Parameter(values(9, 5).detach())
    four = Quantizers(gradient=Quantizer("lns8+zero"))
    with pytest.raises(ValueError, match=r"A sparse gradient has no format here; got sparse=True"):
        functional.embedding_bag(INDEX, table, mode="sum", sparse=True, quantizers=four)


def test_weights_of_a_bags_samples_are_activations():
    table = nn.Parameter(values(9, 5).detach())
    ours, theirs = (values(2, 3, seed=3) for _ in range(2))
    four = Quantizers(Quantizer("lns5", "row"), Quantizer("lns4+zero"), None, None)
    y = functional.embedding_bag(INDEX, table, mode="sum", per_sample_weights=ours, quantizers=four)
    factors = theirs + (four.activation.q(theirs) - theirs).detach()
    expected = F.embedding_bag(
        INDEX, four.weight.q(table, 0), mode="sum", per_sample_weights=factors
    )
    torch.testing.assert_close(y, expected)
    y.square().sum().backward()
    expected.square().sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)
