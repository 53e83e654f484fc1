"""Every product under MX against torch's function between roundings along the right dimensions."""

from dataclasses import dataclass, field

import pytest
import torch
import torch.nn.functional as F
from nn.spies import values
from torch import nn

from rung.formats import MX, CounterSource
from rung.nn import Policy, Quantizer, Quantizers, convert_, functional
from rung.tensor import CodedTensor

# Blocks far smaller than any dimension, so that another dimension gives other numbers.
W, A, E, G = (MX(element, 2) for element in ("fp6_e3m2", "fp4_e2m1", "fp6_e2m3", "fp8_e5m2"))
FOUR = Quantizers(*map(Quantizer, (W, A, E, G)))
FORWARD = Quantizers(Quantizer(W), Quantizer(A))


@dataclass
class Case:
    """A product: torch's function, shapes and roles of its factors, and where blocks run."""

    name: str
    shapes: tuple
    dims: tuple
    weights: tuple = (1,)
    error_dim: int = -1
    args: tuple = ()
    kwargs: dict = field(default_factory=dict)

    def call(self, function, factors, **kwargs):
        if self.name == "einsum":
            return function(*self.args, *factors, **kwargs)
        return function(*factors, *self.args, **self.kwargs, **kwargs)

    @property
    def torch(self):
        return getattr(torch, self.name, None) or getattr(F, self.name)


def einsum(equation, *rest, **kwargs):
    return Case("einsum", *rest, args=(equation,), **kwargs)


CASES = {
    "linear": Case("linear", ((2, 5, 6), (4, 6)), (-1, 1)),
    "bilinear": Case("bilinear", ((5, 4), (5, 6), (3, 4, 6)), (-1, -1, 2), weights=(2,)),
    "matmul": Case("matmul", ((2, 5, 6), (6, 4)), (-1, 0)),
    "matmul of activations": Case("matmul", ((2, 5, 6), (2, 6, 4)), (2, 1), weights=()),
    "matmul, weight on the left": Case("matmul", ((5, 6), (2, 6, 4)), (1, 1), weights=(0,),
                                   error_dim=-2),
    "mm, weight on the left": Case("mm", ((5, 6), (6, 4)), (1, 0), weights=(0,), error_dim=0),
    "matmul with a vector": Case("matmul", ((5, 6), (6,)), (1, 0)),
    "mm": Case("mm", ((5, 6), (6, 4)), (1, 0)),
    "bmm": Case("bmm", ((3, 5, 6), (3, 6, 4)), (2, 1), weights=()),
    "mv": Case("mv", ((5, 6), (6,)), (1, 0), weights=(0,)),
    "dot": Case("dot", ((6,), (6,)), (0, 0)),
    "inner": Case("inner", ((5, 6), (4, 6)), (1, 1)),
    "einsum": einsum("btd,dhk->bthk", ((2, 5, 6), (6, 3, 4)), (2, 0)),
    "einsum over two": einsum("bthk,khd->btd", ((2, 5, 3, 4), (4, 3, 6)), (3, 0)),
    "einsum with an ellipsis": einsum("i...,oi->o...", ((6, 2, 5), (4, 6)), (0, 1)),
    "einsum without a shared sum": einsum("ij,kl->ik", ((5, 6), (4, 3)), (1, 1)),
    "tensordot": Case("tensordot", ((5, 3, 4), (3, 4, 6)), (2, 1)),
    "tensordot of lists": Case("tensordot", ((5, 3, 4), (4, 6, 3)), (2, 0),
                               kwargs={"dims": ([1, 2], [-1, 0])}),
    "conv1d": Case("conv1d", ((2, 6, 9), (4, 6, 3)), (1, 1), error_dim=1),
    "conv2d": Case("conv2d", ((2, 6, 5, 7), (4, 3, 3, 2)), (1, 1), error_dim=1,
                   kwargs={"groups": 2, "stride": 2}),
    "conv2d of one image": Case("conv2d", ((6, 5, 7), (4, 6, 3, 2)), (0, 1), error_dim=0),
    "conv3d": Case("conv3d", ((2, 4, 3, 4, 5), (4, 4, 2, 2, 2)), (1, 1), error_dim=1),
    "conv_transpose1d": Case("conv_transpose1d", ((2, 6, 5), (6, 4, 2)), (1, 0), error_dim=1),
    "conv_transpose2d": Case("conv_transpose2d", ((2, 6, 5, 7), (6, 4, 2, 2)), (1, 0),
                             error_dim=1),
    "conv_transpose3d": Case("conv_transpose3d", ((2, 4, 3, 3, 4), (4, 3, 2, 2, 2)), (1, 0),
                             error_dim=1),
}  # fmt: skip


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def case(request):
    return request.param


def factors_of(case):
    factors = [values(*shape, seed=i) for i, shape in enumerate(case.shapes)]
    return [nn.Parameter(x.detach()) if i in case.weights else x for i, x in enumerate(factors)]


def by_hand(case, factors, fmt_of=(W, A)):
    """The product of rounded factors, which gradients stop at."""
    weight, activation = fmt_of
    rounded = [
        (weight if i in case.weights else activation).quantize(x.detach(), dim=dim).requires_grad_()
        for i, (x, dim) in enumerate(zip(factors, case.dims, strict=True))
    ]
    return rounded, case.call(case.torch, rounded)


def test_blocks_run_along_the_dimension_that_is_summed_over(case):
    factors = factors_of(case)
    _, expected = by_hand(case, factors)
    assert torch.equal(
        case.call(getattr(functional, case.name), factors, quantizers=FOUR), expected
    )


def test_gradients_of_the_forward_rounding_are_straight_through(case):
    factors = factors_of(case)
    y = case.call(getattr(functional, case.name), factors, quantizers=FORWARD)
    rounded, expected = by_hand(case, factors)
    upstream = values(*y.shape, seed=5, grad=False)
    y.backward(upstream)
    expected.backward(upstream)
    for ours, theirs in zip(factors, rounded, strict=True):
        assert torch.equal(ours.grad, theirs.grad)


def test_errors_have_blocks_of_features_and_gradients_those_of_their_weight(case):
    factors = factors_of(case)
    y = case.call(getattr(functional, case.name), factors, quantizers=FOUR)
    rounded, expected = by_hand(case, factors)
    upstream = values(*y.shape, seed=5, grad=False)
    y.backward(upstream)
    error = upstream.reshape(-1) if not upstream.ndim else upstream
    error = E.quantize(error, dim=case.error_dim if upstream.ndim else 0)
    expected.backward(error.reshape(upstream.shape))
    for i, (ours, theirs) in enumerate(zip(factors, rounded, strict=True)):
        grad = theirs.grad
        grad = G.quantize(grad, dim=case.dims[i]) if i in case.weights else grad
        assert torch.equal(ours.grad, grad)


def test_products_with_an_addend_round_as_those_without():
    a, b = values(3, 5, 6, grad=False), values(3, 6, 4, seed=1, grad=False)
    x, y = A.quantize(a, dim=2), A.quantize(b, dim=1)
    addend = values(5, 4, seed=2, grad=False)
    run = functional
    assert torch.equal(
        run.addmm(addend, a[0], b[0], quantizers=FOUR), torch.addmm(addend, x[0], y[0])
    )
    assert torch.equal(run.addbmm(addend, a, b, quantizers=FOUR), torch.addbmm(addend, x, y))
    assert torch.equal(run.baddbmm(addend, a, b, quantizers=FOUR), torch.baddbmm(addend, x, y))
    vector = A.quantize(b[0, :, 0])
    ours = run.addmv(addend[:, 0], a[0], b[0, :, 0], quantizers=FOUR)
    assert torch.equal(ours, torch.addmv(addend[:, 0], x[0], vector))


@pytest.mark.parametrize("name", ["addmm", "addbmm", "baddbmm"])
def test_errors_of_addends_products_have_blocks_of_the_left_weights_rows(name):
    a, b = values(3, 5, 6, grad=False), values(3, 6, 4, seed=1)
    w = nn.Parameter(a[0] if name == "addmm" else a)
    x = b[0] if name == "addmm" else b
    addend = values(5, 4, seed=2, grad=False)
    error = Quantizers(error=Quantizer(E))
    y = getattr(functional, name)(addend, w, x, quantizers=error)
    upstream = values(*y.shape, seed=3, grad=False)
    ours = torch.autograd.grad(y, (w, x), upstream)
    expected = getattr(torch, name)(addend, w, x)
    theirs = torch.autograd.grad(expected, (w, x), E.quantize(upstream, dim=-2))
    assert all(map(torch.equal, ours, theirs))


def test_attention_has_blocks_of_head_features_and_then_of_keys():
    q, k, v = (values(2, 3, 7, 8, seed=i) for i in range(3))
    y = functional.scaled_dot_product_attention(q, k, v, is_causal=True, quantizers=FORWARD)
    hidden = torch.ones(7, 7, dtype=torch.bool).triu(1)
    scores = A.quantize(q * 8**-0.5) @ A.quantize(k).transpose(-2, -1)
    weights = A.quantize(scores.masked_fill(hidden, -torch.inf).softmax(-1), dim=-1)
    torch.testing.assert_close(y, weights @ A.quantize(v, dim=-2))


def test_torchs_multi_head_attention_has_the_same_blocks():
    torch.manual_seed(0)
    model, plain = (nn.MultiheadAttention(8, 2, batch_first=True, bias=False) for _ in range(2))
    plain.load_state_dict(model.state_dict())
    convert_(model, Policy(W, A, None, None))
    x = values(3, 7, 8, grad=False)
    y, _ = model(x, x, x, need_weights=False)
    q, k, v = (A.quantize(x) @ W.quantize(plain.in_proj_weight.detach()).t()).chunk(3, -1)
    q, k, v = (part.unflatten(-1, (2, 4)).transpose(1, 2) for part in (q, k, v))
    expected = functional.scaled_dot_product_attention(q, k, v, quantizers=FORWARD)
    expected = A.quantize(expected.transpose(1, 2).flatten(2))
    expected = expected @ W.quantize(plain.out_proj.weight.detach()).t()
    torch.testing.assert_close(y, expected)


@pytest.mark.parametrize("gradient", [Quantizer(G), Quantizer("fp8_e5m2"), None], ids=str)
@pytest.mark.parametrize("weight", [Quantizer(W), Quantizer("fp6_e3m2", "row"), Quantizer("bf16")])
def test_rows_of_a_table_have_blocks_of_their_own(weight, gradient):
    index = torch.tensor([[1, 4, 1], [0, 7, 4]])
    table = nn.Parameter(values(9, 5).detach())
    y = functional.embedding(index, table, quantizers=Quantizers(weight, None, None, gradient))
    rounded = weight.q(table, 0).requires_grad_()
    expected = F.embedding(index, rounded)
    upstream = values(*y.shape, seed=2, grad=False)
    y.backward(upstream)
    expected.backward(upstream)
    assert torch.equal(y, expected)
    assert torch.equal(table.grad, rounded.grad if gradient is None else gradient.q(rounded.grad))


def test_bags_round_the_table_by_rows():
    index = torch.tensor([[1, 4, 1], [0, 7, 4]])
    table = nn.Parameter(values(9, 5).detach())
    y = functional.embedding_bag(index, table, mode="sum", quantizers=FORWARD)
    assert torch.equal(y, F.embedding_bag(index, W.quantize(table.detach()), mode="sum"))


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_layers_are_linear_layers_of_the_same_blocks(kind):
    torch.manual_seed(0)
    layer, cell = kind(6, 4), getattr(nn, f"{kind.__name__}Cell")(6, 4)
    for name, parameter in cell.named_parameters():
        parameter.data.copy_(getattr(layer, f"{name}_l0"))
    convert_(layer, Policy(W, A, None, None))
    convert_(cell, Policy(W, A, None, None))
    steps = values(3, 2, 6, grad=False)
    state, outputs = None, []
    for step in steps:
        state = cell(step, state)
        outputs.append(state[0] if isinstance(state, tuple) else state)
    torch.testing.assert_close(layer(steps)[0], torch.stack(outputs))
    x, h = A.quantize(steps[0]), torch.zeros(2, 4)
    if kind is nn.RNN:
        w, v = W.quantize(cell.weight_ih.detach()), W.quantize(cell.weight_hh.detach())
        first = torch.tanh(x @ w.t() + cell.bias_ih + h @ v.t() + cell.bias_hh)
        torch.testing.assert_close(outputs[0], first)


def test_blocks_of_a_grouped_transposed_convolution_stay_in_their_group():
    x, w = values(2, 6, 5, 5), nn.Parameter(values(6, 3, 2, 2, seed=1).detach())
    # Three channels a group: a block of two and one of one.
    y = functional.conv_transpose2d(x, w, groups=2, quantizers=Quantizers(Quantizer(W)))
    halves = [
        F.conv_transpose2d(part, W.quantize(half.detach(), dim=0))
        for part, half in zip(x.chunk(2, 1), w.chunk(2), strict=True)
    ]
    torch.testing.assert_close(y, torch.cat(halves, 1))


@pytest.mark.parametrize("fmt", ["lns6", "ladder8", "fp6_e3m2", "lns6_b4+zero"])
def test_blocks_of_any_format_run_along_the_sum(fmt):
    q = Quantizer(fmt, 2)
    x = values(3, 5, 6, grad=False)
    ours = q.q(x, block_dim=1)
    parts = [q.q(part.clone(), block_dim=1) for part in x.split(2, 1)]
    assert torch.equal(ours, torch.cat(parts, 1))
    single = Quantizer(fmt, "tensor").q(x[1, 2:4, 3])
    assert torch.equal(ours[1, 2:4, 3], single)
    assert ours.is_contiguous()
    assert torch.equal(q.q(x, block_dim=-3), q.q(x.movedim(0, 2)).movedim(2, 0))
    w = nn.Parameter(values(4, 6, seed=1).detach())
    four = Quantizers(q, q)
    ours = functional.matmul(x, w.t(), quantizers=four)
    # The factors are equal to the bit; some BLAS sum the two layouts of a product in other orders.
    torch.testing.assert_close(ours, functional.linear(x, w, quantizers=four), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("fmt", ["fp4_e2m1", "int8"])
def test_random_numbers_stay_with_their_elements_whatever_blocks_run_along(fmt):
    q, source = Quantizer(fmt, 3, "stochastic"), CounterSource(3)
    ones = torch.full((6, 6), 0.366)
    ones[::3], ones[:, ::3] = 1.0, 1.0  # every block of three has the largest number 1
    across, along = q.q(ones, source=source, block_dim=0), q.q(ones, source=source)
    assert torch.equal(across, along)
    assert not torch.equal(across, across.t())
    assert across.is_contiguous()


@pytest.mark.parametrize("stored", ["lns16", "ladder8"])
def test_weights_in_codes_are_decoded_and_then_rounded(stored):
    weight = nn.Parameter(CodedTensor.from_float(values(4, 6).detach(), stored, 3.0))
    x = values(5, 6)
    y = functional.linear(x, weight, quantizers=FOUR)
    y.square().sum().backward()
    rounded = W.quantize(weight.detach().decode(), dim=1)
    assert torch.equal(y, A.quantize(x.detach()) @ rounded.t())
    error = E.quantize(2 * y.detach())
    assert torch.equal(x.grad, error @ rounded)
    assert torch.equal(weight.grad, G.quantize(error.t() @ A.quantize(x.detach())))


def test_vmap_rounds_every_example_as_if_it_were_alone():
    x, w = values(5, 3, 6, grad=False), values(4, 6, seed=1, grad=False)
    many = torch.func.vmap(lambda row: functional.linear(row, w, quantizers=FORWARD))(x)
    torch.testing.assert_close(many, functional.linear(x, nn.Parameter(w), quantizers=FORWARD))
    gradient = torch.func.grad(lambda w: functional.linear(x[0], w, quantizers=FOUR).sum())(w)
    p = nn.Parameter(w)
    functional.linear(x[0], p, quantizers=FOUR).sum().backward()
    assert torch.equal(gradient, p.grad)


def test_a_nan_makes_its_block_nan_and_no_other():
    x = values(3, 6, grad=False)
    x[1, 2] = torch.inf
    y = Quantizer(A).q(x)
    assert y[1, 2:4].isnan().all()
    assert torch.equal(y.isnan().sum(), torch.tensor(2))


@pytest.mark.parametrize("shape", [(), (5,), (0,), (3, 0), (0, 3), (2, 3, 4)])
@pytest.mark.parametrize("name", ["mxfp4", "mxint8", "fp8_e4m3", "bf16"])
def test_any_shape_and_dtype_comes_back(shape, name):
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        x = values(*shape, grad=False).to(dtype)
        for block_dim in range(-len(shape), len(shape)) or (-1,):
            y = Quantizer(name).q(x, block_dim=block_dim)
            assert (y.shape, y.dtype) == (x.shape, dtype)


# No scale rule but this one never saturates.
@pytest.mark.parametrize("fmt", ["mxfp4+rceil", "mxint8+rceil", "fp6_e2m3"])
def test_stochastic_rounding_of_forward_operands_follows_torchs_generator(fmt):
    one = Quantizer(fmt, rounding="stochastic")
    four = Quantizers(one, one)
    x, w = values(8, 40), nn.Parameter(values(6, 40, seed=1).detach())
    runs = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        runs.append(functional.linear(x, w, quantizers=four))
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])
    nearest = functional.linear(x, w, quantizers=Quantizers(Quantizer(fmt), Quantizer(fmt)))
    assert not torch.equal(runs[0], nearest)
    torch.manual_seed(0)
    mean = torch.stack([one.q(x, block_dim=0) for _ in range(400)]).mean(0)
    torch.testing.assert_close(mean, x.detach(), rtol=0, atol=0.15)


def test_torch_says_what_is_wrong_with_a_number_in_a_product():
    number, x = nn.Parameter(torch.tensor(2.0)), values(5, 6)
    with pytest.raises(RuntimeError, match=r"both arguments to matmul need to be at least 1D"):
        functional.matmul(x, number, quantizers=FOUR)
    with pytest.raises(RuntimeError, match=r"mat1 and mat2 shapes cannot be multiplied"):
        functional.matmul(x, values(4, 3), quantizers=FOUR)
