import pytest
import torch

from rung.kernels import linear as kernel
from rung.kernels.linear import Code, linear_codes, linear_codes_grad

LADDERS = {2: 0.5, 3: 0.3, 5: 0.1, 8: 0.016, 9: 0.01, 12: 0.001, 16: 0.0001}
LNS = [(4, 1), (5, 2), (8, 2), (8, 4), (8, 8), (8, 16), (8, 32), (10, 32), (16, 2048)]
CODES = [Code(bits, 0, eta) for bits, eta in LADDERS.items()]
CODES += [Code(bits, gamma, 0.0) for bits, gamma in LNS]
SHAPES = [(1, 1), (3, 5), (9, 17), (8, 16), (13, 700), (40, 129)]


def weight_of(code, shape, signs="packed", scale=0.7, seed=0):
    """Random parts: codes, scale, signs, key."""
    draw = torch.Generator().manual_seed(seed)
    codes = torch.randint(0, 1 << code.bits, shape, generator=draw, dtype=torch.int32)
    codes = codes.to(torch.uint8 if code.bits <= 8 else torch.int16)
    packed = torch.randint(0, 256, ((codes.numel() + 7) // 8,), generator=draw).to(torch.uint8)
    if code.base_factor or signs == "seed":
        packed = packed[:0]
    return codes, torch.as_tensor(scale, dtype=torch.float32), packed, torch.tensor(-(2**62) + 5)


def normal(*shape, seed=1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def exact(weight, code):
    codes, scale, signs, key = weight
    return kernel.decode(codes, scale.double(), signs, key, code)


def require_near(y, x, weight, code):
    values = exact(weight, code)
    error = (y.double() - x.double() @ values.t()).abs()
    most = kernel.error_bound(values.shape[1], code) * (x.double().abs() @ values.abs().t())
    assert (error <= most).all()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("code", CODES, ids=str)
def test_products_are_within_the_bound_of_the_exact_ones(code, shape):
    for signs in ("packed", "seed"):
        weight = weight_of(code, shape, signs)
        x = normal(9, shape[1])
        y = linear_codes(x, *weight, code)
        require_near(y, x, weight, code)
        reference = kernel._linear(x, *weight, *code)
        torch.testing.assert_close(y, reference, rtol=1e-4, atol=1e-4 * shape[1] ** 0.5)


@pytest.mark.parametrize("code", [Code(8, 8, 0.0), Code(8, 0, 0.016), Code(12, 0, 0.001)], ids=str)
def test_a_row_of_x_is_multiplied_alike_in_every_batch_and_on_every_number_of_threads(code):
    weight = weight_of(code, (523, 1027))
    x = normal(64, 1027)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        y = linear_codes(x, *weight, code)
        grad = linear_codes_grad(y, *weight, code)
        for batch in (1, 2, 3, 4, 5, 31):
            assert torch.equal(linear_codes(x[:batch], *weight, code), y[:batch])
        torch.set_num_threads(3)
        assert torch.equal(linear_codes(x, *weight, code), y)
        assert torch.equal(linear_codes(x[:1], *weight, code), y[:1])
        assert torch.equal(linear_codes_grad(y, *weight, code), grad)
    finally:
        torch.set_num_threads(threads)
    require_near(y, x, weight, code)


@pytest.mark.parametrize("code", CODES, ids=str)
def test_every_code_is_worth_what_the_format_says(code):
    count = min(2**code.bits, 2**12)
    codes, scale, signs, key = weight_of(code, (1, count), "packed")
    codes[0] = torch.linspace(0, 2**code.bits - 1, count).to(torch.int32).to(codes.dtype)
    weight = (codes, scale, signs, key)
    for first in range(0, count, 64):
        x = torch.zeros(min(64, count - first), count)
        x[torch.arange(x.shape[0]), first + torch.arange(x.shape[0])] = 1.0
        require_near(linear_codes(x, *weight, code), x, weight, code)


def test_a_large_layer_from_one_byte_codes():
    code = Code(8, 8, 0.0)
    weight, x = weight_of(code, (512, 4096)), normal(1, 4096)
    require_near(linear_codes(x, *weight, code), x, weight, code)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("code", CODES, ids=str)
def test_gradients_are_products_with_the_weight(code, shape):
    for signs in ("packed", "seed"):
        scale = torch.linspace(0.5, 2, shape[0]).unsqueeze(1)
        weight = weight_of(code, shape, signs, scale)
        grad = normal(5, shape[0])
        values = exact(weight, code)
        error = (linear_codes_grad(grad, *weight, code).double() - grad.double() @ values).abs()
        bound = kernel.grad_error_bound(shape[0], code)
        assert (error <= bound * (grad.double().abs() @ values.abs())).all()


@pytest.mark.parametrize(
    "scale",
    [0.3, torch.tensor([[0.3]]), torch.rand(13, 1) + 0.1, torch.rand(1, 21) + 0.1],
    ids=["one", "one of two dimensions", "one a row", "one a column"],
)
def test_scales(scale):
    code = Code(8, 8, 0.0)
    weight = weight_of(code, (13, 21), scale=scale)
    for batch in (1, 3):
        x = normal(batch, 21)
        require_near(linear_codes(x, *weight, code), x, weight, code)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_dtypes_strides_and_leading_dimensions_of_x(dtype):
    code = Code(8, 0, 0.016)
    codes, scale, signs, key = weight_of(code, (13, 21))
    scale = scale.double() if dtype == torch.float64 else scale
    weight = (codes, scale, signs, key)
    x = normal(21, 3, 2).to(dtype).permute(2, 1, 0)
    y = linear_codes(x, *weight, code)
    assert (y.shape, y.dtype) == ((2, 3, 13), dtype)
    # float64 is torch's product, which rounds anew for every layout.
    exactly = {"rtol": 0, "atol": 0} if dtype != torch.float64 else {}
    torch.testing.assert_close(y, linear_codes(x.contiguous(), *weight, code), **exactly)
    expected = x.double() @ exact(weight, code).t()
    torch.testing.assert_close(y.double(), expected, rtol=1e-2, atol=0.1)
    assert linear_codes(x[0, 0], *weight, code).shape == (13,)


def test_nothing_times_anything():
    code = Code(8, 8, 0.0)
    for rows, shape in [((0,), (3, 5)), ((2,), (0, 5)), ((2,), (3, 0)), ((100,), (3, 5))]:
        weight = weight_of(code, shape)
        y = linear_codes(normal(*rows, shape[1]), *weight, code)
        assert y.shape == (*rows, shape[0])
        assert linear_codes_grad(y, *weight, code).shape == (*rows, shape[1])


def test_the_gradient_of_x_is_known_to_autograd():
    code = Code(8, 8, 0.0)
    weight = weight_of(code, (13, 21))
    x = normal(3, 21).requires_grad_()
    linear_codes(x, *weight, code).sum().backward()
    expected = exact(weight, code).sum(0).expand(3, -1).float()
    torch.testing.assert_close(x.grad, expected, rtol=1e-4, atol=1e-4)


def test_the_operators_pass_torchs_own_checks():
    code = Code(8, 8, 0.0)
    weight = weight_of(code, (13, 21))
    arguments = (*weight, *code)
    checks = ("test_schema", "test_faketensor")
    torch.library.opcheck(
        torch.ops.rung.linear_codes, (normal(3, 21), *arguments), test_utils=checks
    )
    torch.library.opcheck(
        torch.ops.rung.linear_codes_grad, (normal(3, 13), *arguments), test_utils=checks
    )


def test_shapes_that_do_not_fit_are_refused():
    code = Code(8, 8, 0.0)
    codes, scale, signs, key = weight_of(code, (13, 21))
    with pytest.raises(ValueError, match=r"shape \(\.\.\., in\); got \(3, 13\)"):
        linear_codes(normal(3, 13), codes, scale, signs, key, code)
    with pytest.raises(ValueError, match=r"shape \(\.\.\., out\); got \(3, 21\)"):
        linear_codes_grad(normal(3, 21), codes, scale, signs, key, code)
    with pytest.raises(ValueError, match=r"scale must broadcast to codes .*; got \(5, 1\)"):
        linear_codes(normal(3, 21), codes, torch.ones(5, 1), signs, key, code)
