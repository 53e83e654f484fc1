"""Every functional form against torch's function between hand-made roundings."""

from dataclasses import dataclass, field

import pytest
import torch
from nn.spies import FOUR, spies, values
from torch import nn

from rung.nn import Quantizer, Quantizers, functional
from rung.tensor import CodedTensor


@dataclass
class Case:
    """A product: torch's function, shapes and roles of its factors, and their channels."""

    name: str
    torch: object
    shapes: tuple
    # Channels of each factor; a factor named in `weights` is a parameter.
    axes: tuple
    weights: tuple = (1,)
    error_axis: int = -1
    addend: tuple | None = None
    kwargs: dict = field(default_factory=dict)

    def call(self, function, factors, addend, **kwargs):
        kwargs |= self.kwargs
        if self.name == "einsum":
            return function(
                self.kwargs["equation"],
                *factors,
                **{k: v for k, v in kwargs.items() if k != "equation"},
            )
        if self.name.startswith("add") or self.name == "baddbmm":
            return function(addend, *factors, **kwargs)
        if addend is not None:
            return function(*factors, addend, **kwargs)
        return function(*factors, **kwargs)

    @property
    def quantized(self):
        return getattr(functional, self.name)


F = torch.nn.functional
CASES = {
    "linear": Case("linear", F.linear, ((2, 5, 4), (6, 4)), (-1, 0), addend=(6,)),
    "linear without bias": Case("linear", F.linear, ((4,), (6, 4)), (-1, 0)),
    "conv1d": Case("conv1d", F.conv1d, ((2, 4, 9), (6, 2, 3)), (-2, 0), error_axis=-2,
                   addend=(6,), kwargs={"groups": 2, "padding": "same"}),
    "conv2d": Case("conv2d", F.conv2d, ((2, 3, 5, 6), (4, 3, 3, 2)), (1, 0), error_axis=1,
                   addend=(4,), kwargs={"stride": 2, "padding": 1}),
    "conv2d of one image": Case("conv2d", F.conv2d, ((3, 5, 6), (4, 3, 3, 2)), (0, 0),
                                error_axis=0),
    "conv3d": Case("conv3d", F.conv3d, ((2, 3, 4, 4, 4), (4, 3, 2, 2, 2)), (1, 0), error_axis=1),
    "conv_transpose1d": Case("conv_transpose1d", F.conv_transpose1d, ((2, 3, 5), (3, 4, 2)),
                             (1, 1), error_axis=1, addend=(4,), kwargs={"stride": 2}),
    "conv_transpose2d": Case("conv_transpose2d", F.conv_transpose2d,
                             ((2, 4, 5, 5), (4, 3, 2, 2)), (1, 1), error_axis=1,
                             addend=(3,)),
    "conv_transpose3d": Case("conv_transpose3d", F.conv_transpose3d,
                             ((1, 2, 3, 3, 3), (2, 3, 2, 2, 2)), (1, 1), error_axis=1),
    "bilinear": Case("bilinear", F.bilinear, ((5, 3), (5, 4), (6, 3, 4)), (-1, -1, 0),
                     weights=(2,), addend=(6,)),
    "matmul": Case("matmul", torch.matmul, ((2, 5, 4), (4, 6)), (-1, 1)),
    "matmul of activations": Case("matmul", torch.matmul, ((2, 5, 4), (2, 4, 6)), (-1, -1),
                                  weights=()),
    "matmul, weight on the left": Case("matmul", torch.matmul, ((6, 4), (2, 4, 5)), (0, -1),
                                       weights=(0,)),
    "matmul, a weight per batch": Case("matmul", torch.matmul, ((2, 5, 4), (2, 4, 6)),
                                       (-1, (0, 2))),
    "matmul with a vector": Case("matmul", torch.matmul, ((5, 4), (4,)), (-1, None)),
    "mm": Case("mm", torch.mm, ((5, 4), (4, 6)), (-1, 1)),
    "bmm": Case("bmm", torch.bmm, ((3, 5, 4), (3, 4, 6)), (-1, -1), weights=()),
    "mv": Case("mv", torch.mv, ((5, 4), (4,)), (0, -1), weights=(0,)),
    "dot": Case("dot", torch.dot, ((4,), (4,)), (-1, None)),
    "inner": Case("inner", torch.inner, ((5, 4), (6, 4)), (-1, 0)),
    "addmm": Case("addmm", torch.addmm, ((5, 4), (4, 6)), (-1, 1), addend=(6,)),
    "addmv": Case("addmv", torch.addmv, ((5, 4), (4,)), (0, -1), weights=(0,), addend=(5,)),
    "addbmm": Case("addbmm", torch.addbmm, ((3, 5, 4), (3, 4, 6)), (-1, -1), weights=(),
                   addend=(5, 6)),
    "baddbmm": Case("baddbmm", torch.baddbmm, ((3, 5, 4), (3, 4, 6)), (-1, -1), weights=(),
                    addend=(3, 5, 6), kwargs={"beta": 0.5, "alpha": 2.0}),
    "einsum": Case("einsum", torch.einsum, ((2, 5, 4), (4, 3, 6)), (-1, (1, 2)),
                   kwargs={"equation": "btd,dhk->bthk"}),
    "einsum with an ellipsis": Case("einsum", torch.einsum, ((2, 5, 4), (6, 4)), (-1, 0),
                                    kwargs={"equation": "...i, oi -> ...o"}),
    "einsum without an arrow": Case("einsum", torch.einsum, ((5, 4), (4, 6)), (-1, 1),
                                    kwargs={"equation": "ij,jk"}),
    "tensordot": Case("tensordot", torch.tensordot, ((5, 3, 4), (3, 4, 6)), (-1, 2)),
    "tensordot of lists": Case("tensordot", torch.tensordot, ((5, 3, 4), (6, 4, 3)), (-1, 0),
                               kwargs={"dims": ([1, 2], [2, 1])}),
}  # fmt: skip


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def case(request):
    return request.param


def tensors(case, dtype=torch.float32):
    factors = [values(*shape, seed=i, dtype=dtype) for i, shape in enumerate(case.shapes)]
    for index in case.weights:
        factors[index] = nn.Parameter(factors[index].detach())
    return factors, None if case.addend is None else values(*case.addend, seed=9, dtype=dtype)


def reference(case, factors, addend, four, upstream):
    """Round by hand, compute by torch, round the gradients by hand."""
    rounded = []
    for index, (tensor, axis) in enumerate(zip(factors, case.axes, strict=True)):
        quantizer = four.weight if index in case.weights else four.activation
        rounded.append(quantizer.q(tensor, axis).requires_grad_())
    addend = None if addend is None else addend.detach().requires_grad_()
    y = case.call(case.torch, rounded, addend)
    y.backward(four.error.q(upstream(y), case.error_axis))
    gradients = [tensor.grad for tensor in rounded]
    for index in case.weights:
        gradients[index] = four.gradient.q(gradients[index], case.axes[index])
    return y, [*gradients, None if addend is None else addend.grad]


def upstream(y):
    return values(*y.shape, seed=5, dtype=y.dtype, grad=False)


def test_values_and_gradients_equal_the_hand_written_composition(case):
    factors, addend = tensors(case)
    y = case.call(case.quantized, factors, addend, quantizers=FOUR)
    y.backward(upstream(y))
    expected, gradients = reference(case, factors, addend, FOUR, upstream)
    torch.testing.assert_close(y, expected, rtol=0, atol=0)
    for tensor, gradient in zip([*factors, addend], gradients, strict=True):
        if tensor is not None:
            torch.testing.assert_close(tensor.grad, gradient, rtol=0, atol=0)


def test_each_quantizer_is_called_once_with_its_channels(case):
    factors, addend = tensors(case)
    four, formats = spies()
    y = case.call(case.quantized, factors, addend, quantizers=four)
    y.backward(upstream(y))
    weights = [i for i in range(len(factors)) if i in case.weights]
    others = [i for i in range(len(factors)) if i not in case.weights]
    w, a, e, g = (fmt.calls for fmt in formats)
    assert w == g == [(case.shapes[i], normal(case, i)) for i in weights]
    assert [shape for shape, _ in a] == [case.shapes[i] for i in others]
    assert [shape for shape, _ in e] == [tuple(y.shape)]


def normal(case, index):
    """Channels as the library names them: dimensions from the start, several as a tuple."""
    axis = case.axes[index]
    if axis is None or case.name.startswith(("linear", "conv", "bilinear")):
        return axis
    return axis if isinstance(axis, tuple) else (axis % len(case.shapes[index]),)


def test_without_quantizers_it_is_torchs_function(case):
    factors, addend = tensors(case)
    y = case.call(case.quantized, factors, addend, quantizers=Quantizers())
    expected = case.call(case.torch, factors, addend)
    assert torch.equal(y, expected)
    inputs = [x for x in (*factors, addend) if x is not None]
    ours = torch.autograd.grad(y, inputs, upstream(y))
    theirs = torch.autograd.grad(expected, inputs, upstream(y))
    assert all(map(torch.equal, ours, theirs))


def test_without_quantizers_gradients_are_right(case):
    factors, addend = tensors(case, torch.float64)
    inputs = [x for x in (*factors, addend) if x is not None]
    count = len(factors)

    def run(*inputs):
        rest = inputs[count] if len(inputs) > count else None
        return case.call(case.quantized, inputs[:count], rest, quantizers=Quantizers())

    assert torch.autograd.gradcheck(run, inputs)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_dtypes_stay(dtype):
    x, w = values(5, 4, dtype=dtype), nn.Parameter(values(6, 4, dtype=dtype).detach())
    y = functional.linear(x, w, quantizers=FOUR)
    y.sum().backward()
    assert y.dtype == x.grad.dtype == w.grad.dtype == dtype


def test_a_result_may_be_written_to_in_place():
    x, w = values(5, 4), nn.Parameter(values(6, 4).detach())
    y = torch.relu_(functional.linear(x, w, quantizers=FOUR))
    y.sum().backward()
    gradient = w.grad
    w.grad = None
    torch.relu(functional.linear(x, w, quantizers=FOUR)).sum().backward()
    assert torch.equal(gradient, w.grad)


def test_a_view_of_a_parameter_is_a_weight():
    w = nn.Parameter(values(6, 4).detach())
    x = values(5, 4)
    y = functional.matmul(x, w.t(), quantizers=FOUR)
    assert torch.equal(y, functional.linear(x, w, quantizers=FOUR))
    y.sum().backward()
    expected = FOUR.gradient.q(FOUR.error.q(torch.ones(5, 6)).t() @ FOUR.activation.q(x), 0)
    assert torch.equal(w.grad, expected)


def test_empty_batches_and_integer_matrices_pass():
    w = nn.Parameter(values(6, 4).detach())
    y = functional.linear(torch.zeros(0, 4), w, quantizers=FOUR)
    y.sum().backward()
    assert y.shape == (0, 6)
    assert not w.grad.any()
    counts = torch.arange(6).reshape(2, 3)
    assert torch.equal(functional.matmul(counts, counts.t(), quantizers=FOUR), counts @ counts.t())


def test_a_nan_reaches_the_loss():
    w, x = nn.Parameter(values(6, 4).detach()), values(5, 4, grad=False)
    x[2, 1] = torch.nan
    assert functional.linear(x, w, quantizers=FOUR).isnan().all()
    by_row = Quantizers(activation=Quantizer("lns8", "row"))
    assert functional.linear(x, w, quantizers=by_row).isnan().any(1).tolist() == [
        False, False, True, False, False,
    ]  # fmt: skip


def test_second_derivatives_are_straight_through():
    x, w = values(5, 4), nn.Parameter(values(6, 4).detach())
    (gradient,) = torch.autograd.grad(
        functional.linear(x, w, quantizers=FOUR).square().sum(), x, create_graph=True
    )
    gradient.square().sum().backward()
    assert w.grad.isfinite().all()
    assert w.grad.any()


def test_torch_func_differentiates_products():
    x, w = values(5, 4, grad=False), values(6, 4, grad=False)
    gradient = torch.func.grad(lambda w: functional.linear(x, w, quantizers=FOUR).sum())(w)
    p = nn.Parameter(w)
    functional.linear(x, p, quantizers=FOUR).sum().backward()
    assert torch.equal(gradient, p.grad)
    one_by_one = torch.stack([functional.linear(row, w, quantizers=FOUR) for row in x])
    many = torch.func.vmap(lambda row: functional.linear(row, w, quantizers=FOUR))(x)
    torch.testing.assert_close(many, one_by_one)


@pytest.mark.parametrize("stored", [None, "lns16", "ladder8"])
def test_channels_of_a_grouped_transposed_convolution_belong_to_one_group(stored):
    four = Quantizers(Quantizer("lns4", "channel"), None, None, Quantizer("lns4+zero", "channel"))
    x, floats = values(2, 4, 5, 5, grad=False), values(4, 3, 2, 2, seed=1, grad=False)
    floats[:2] *= 100  # the other group has far smaller weights and gradients
    x[:, :2] *= 100
    weight = floats if stored is None else CodedTensor.from_float(floats, stored, 500.0)
    weight = nn.Parameter(weight)
    y = functional.conv_transpose2d(x, weight, None, 1, 0, 0, 2, quantizers=four)
    y.square().sum().backward()
    parts = [nn.Parameter(part.clone()) for part in weight.detach().float().chunk(2)]
    halves = [
        functional.conv_transpose2d(part, w, quantizers=four)
        for part, w in zip(x.chunk(2, 1), parts, strict=True)
    ]
    expected = torch.cat(halves, 1)
    expected.square().sum().backward()
    if stored != "lns16":  # else the shift keeps the stored scale
        torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(weight.grad, torch.cat([part.grad for part in parts]))
    assert weight.grad.shape == weight.shape
    named = functional.conv_transpose2d(x, weight, groups=2, quantizers=four)
    assert torch.equal(named, y)


def test_an_einsum_of_three_factors_is_refused():
    x = values(2, 2)
    with pytest.raises(ValueError, match=r"takes two factors; got 3 for 'ij,jk,kl->il'. Contract"):
        functional.einsum("ij,jk,kl->il", x, x, x, quantizers=FOUR)
    assert torch.equal(functional.einsum("ii->", x, quantizers=FOUR), x.trace())


def test_autocast_computes_in_its_dtype():
    x, w = values(5, 4), nn.Parameter(values(6, 4).detach())
    with torch.autocast("cpu", torch.bfloat16):
        y = functional.linear(x, w, quantizers=FOUR)
    y.sum().backward()
    assert y.dtype == torch.bfloat16
    assert w.grad.dtype == torch.float32
    with torch.no_grad():
        expected = FOUR.activation.q(x).bfloat16() @ FOUR.weight.q(w).bfloat16().t()
    torch.testing.assert_close(y, expected)
