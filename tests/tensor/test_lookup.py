"""Embeddings of tables in codes: equal to torch's on the floats, and without the whole table."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from rung.tensor import CodedTensor, lookup

from .test_compute import float_tensors_of
from .weights import KINDS, coded

SHAPE = (31, 12)
INDICES = torch.tensor([[3, 0, 30], [3, 7, 30]])
WHOLE = [kind for kind in KINDS if not kind[0].startswith("ladder")]


def serves(*args, **kwargs):
    with torch._C.DisableTorchFunctionSubclass():
        return lookup.serves(*args, **kwargs)


@pytest.mark.parametrize(
    "options",
    [{}, {"padding_idx": 3}, {"padding_idx": -1}, {"scale_grad_by_freq": True}],
    ids=str,
)
@pytest.mark.parametrize(
    "indices", [INDICES, INDICES.int(), torch.tensor(5)], ids=["2d", "int", "0d"]
)
@pytest.mark.parametrize(("fmt", "signs"), WHOLE)
def test_rows_and_gradients_equal_those_of_the_floats(fmt, signs, indices, options):
    table = nn.Parameter(coded(SHAPE, fmt, signs))
    floats = table.detach().decode().requires_grad_()
    assert serves(indices, table, **options)
    rows, expected = (F.embedding(indices, t, **options) for t in (table, floats))
    assert torch.equal(rows, expected)
    for result in (rows, expected):
        result.sin().sum().backward()
    assert type(table.grad) is torch.Tensor
    assert torch.equal(table.grad, floats.grad)
    with torch.no_grad():
        assert not F.embedding(indices, table, **options).requires_grad


@pytest.mark.parametrize("axis", ["row", "all"])
def test_scales_of_rows_and_of_elements_are_looked_up_too(axis):
    values = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
    scale = values.abs() + 1 if axis == "all" else values.abs().amax(1, keepdim=True)
    table = CodedTensor.from_float(values, "sinh8", scale)
    assert serves(INDICES, table)
    assert torch.equal(F.embedding(INDICES, table), F.embedding(INDICES, table.decode()))


def test_a_table_of_many_rows_is_never_decoded_as_a_whole(monkeypatch):
    shape = (173, 211)
    layer = nn.Embedding(*shape)
    layer.weight = nn.Parameter(coded(shape, "sinh8"))
    decoded = []
    monkeypatch.setattr(CodedTensor, "decode", decoded.append)
    rows = layer(INDICES)
    assert not decoded
    assert not float_tensors_of(shape)
    rows.sum().backward()
    assert layer.weight.grad.shape == shape


def test_gradients_of_gradients():
    table = nn.Parameter(coded(SHAPE, "sinh8"))
    floats = table.detach().decode().requires_grad_()
    seconds = []
    for weight in (table, floats):
        rows = F.embedding(INDICES, weight)
        (first,) = torch.autograd.grad(rows.sin().sum(), weight, create_graph=True)
        seconds.append(torch.autograd.grad(first.square().sum(), weight)[0])
    assert torch.equal(*seconds)


@pytest.mark.parametrize(
    ("indices", "options", "fmt"),
    [
        (torch.arange(31), {}, "sinh8"),
        (INDICES[:0], {}, "sinh8"),
        (INDICES, {}, "ladder8"),
        (INDICES, {"sparse": True}, "sinh8"),
    ],
    ids=["as many as rows", "none", "signs apart", "sparse"],
)
def test_the_rest_is_decoded_as_a_whole(indices, options, fmt):
    table = coded(SHAPE, fmt)
    assert not serves(indices, table, **options)
    assert torch.equal(F.embedding(indices, table, **options), F.embedding(indices, table.decode()))


def test_what_does_not_fit_is_refused_by_torch_as_ever():
    table = coded(SHAPE, "sinh8")
    with pytest.raises(IndexError, match="index out of range"):
        F.embedding(torch.tensor([31]), table)
    with pytest.raises(AssertionError, match="Padding_idx must be within num_embeddings"):
        F.embedding(INDICES, table, padding_idx=31)
    with pytest.raises(RuntimeError, match=r"Expected tensor for argument .* scalar types"):
        F.embedding(INDICES.float(), table)
