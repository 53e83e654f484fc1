"""Products with weights in codes on a GPU, against the exact decoded values in float64."""

import pytest
import torch
from kernels.gpu.samples import DEVICE
from kernels.moments import randn

from rung.kernels import linear
from rung.kernels.gpu import linear as gpu
from rung.kernels.linear import Code
from rung.kernels.philox import key_from_seed

CODES = {
    "lns8": Code(8, 8, 0.0),
    "lns4": Code(4, 1, 0.0),
    "lns16": Code(16, 2048, 0.0),
    "ladder8": Code(8, 0, 0.016),
    "ladder12": Code(12, 0, 1e-3),
}


def arguments(code, shape, one_scale, packed):
    height, width = shape
    generator = torch.Generator().manual_seed(height)
    codes = torch.randint(0, 2**code.bits, shape, generator=generator)
    codes = torch.where(codes >= 2**15, codes - 2**16, codes) if code.bits == 16 else codes
    codes = codes.to(torch.uint8 if code.bits <= 8 else torch.int16)
    scale = torch.tensor(1.7) if one_scale else torch.rand((height, 1), generator=generator) + 0.5
    size = (height * width + 7) // 8 if packed and not code.base_factor else 0
    signs = torch.randint(0, 256, (size,), generator=generator).to(torch.uint8)
    key = torch.tensor(key_from_seed(3, "w"))
    return [t.to(DEVICE) for t in (codes, scale, signs, key)]


def worst(x, y, given, code):
    """Largest error over sum_i |x_i W_ij|, without that of writing y."""
    wide = [given[0], given[1].double(), *given[2:]]
    weight = linear.decode(*wide, code)
    rows = x.reshape(-1, x.shape[-1]).double()
    exact, size = rows @ weight.T, rows.abs() @ weight.abs().T
    step = {torch.float32: 2.0**-24, torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}[x.dtype]
    error = (y.reshape(exact.shape).double() - exact).abs() - 1.01 * step * exact.abs() - 2.0**-24
    return float((error / size.clamp(min=1e-30)).max())


@pytest.mark.parametrize("name", CODES)
@pytest.mark.parametrize("batch", [1, 3, 4, 5, 17])
@pytest.mark.parametrize("shape", [(5, 37), (17, 256), (1, 1100)])
def test_products_are_within_the_bound_of_the_exact_ones(name, batch, shape):
    code = CODES[name]
    for one_scale, packed in ((True, True), (False, False)):
        given = arguments(code, shape, one_scale, packed)
        x = randn(batch, shape[1], seed=batch).to(DEVICE)
        y = gpu.linear_codes(x, *given, *code)
        bound = linear.error_bound(shape[1], code) + (batch >= gpu.FEW) * gpu.MATRIX_ERROR
        assert worst(x, y, given, code) <= bound


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("batch", [1, 6])
def test_narrow_inputs_give_narrow_results(dtype, batch):
    for name in ("lns8", "ladder8"):
        given = arguments(CODES[name], (9, 128), False, False)
        x = randn(2, batch, 128).to(dtype).to(DEVICE)
        y = gpu.linear_codes(x, *given, *CODES[name])
        assert (y.shape, y.dtype) == ((2, batch, 9), dtype)
        assert worst(x, y, given, CODES[name]) <= linear.error_bound(128, CODES[name]) + 2.0**-16


def test_strided_inputs_are_read_in_their_order():
    given = arguments(CODES["lns8"], (6, 20), True, False)
    x = randn(20, 2).to(DEVICE)
    ours = gpu.linear_codes(x.t(), *given, *CODES["lns8"])
    assert torch.equal(ours, gpu.linear_codes(x.t().contiguous(), *given, *CODES["lns8"]))
