import pytest
import torch
import torch.nn.functional as F

from rung.formats import get
from rung.hardware import datapath as datapaths
from rung.hardware.datapath import Datapath
from rung.hardware.through import through_datapath

# Nothing overflows, nothing is dropped; constants are off by 2^-17 of their value at most.
WIDE = Datapath(fraction_bits=16, accumulator_bits=44)
WIDE_ZERO = Datapath(fraction_bits=16, accumulator_bits=44, zero=True)
NARROW = Datapath(conversion="mitchell", accumulator_bits=20, dropped_bits=16, zero=True)
ROUNDING = 2**-17 * (1 + 1e-6)


def numbers(*shape, dtype=torch.float64):
    return torch.randn(shape, dtype=dtype)


def images_and_kernel(groups=1, size=(3, 3)):
    return numbers(2, 4, 7, 6), numbers(6, 4 // groups, *size)


CASES = {
    "linear": (F.linear, lambda: (numbers(5, 3, 20), numbers(7, 20)), 0),
    "linear, vector": (F.linear, lambda: (numbers(20), numbers(7, 20)), 0),
    "conv2d": (F.conv2d, images_and_kernel, 0),
    "conv2d, no batch": (F.conv2d, lambda: (numbers(4, 7, 6), numbers(6, 4, 3, 3)), 0),
    "conv2d, padding and strides": (
        lambda x, w: F.conv2d(x, w, None, (2, 1), (1, 2)), images_and_kernel, 0,
    ),
    "conv2d, groups and dilation": (
        lambda x, w: F.conv2d(x, w, padding=2, dilation=(2, 1), groups=2),
        lambda: images_and_kernel(2), 0,
    ),
    "conv2d, depthwise": (
        lambda x, w: F.conv2d(x, w[:4], padding="valid", groups=4), lambda: images_and_kernel(4), 0,
    ),
    "conv2d, same": (lambda x, w: F.conv2d(x, w, padding="same"), images_and_kernel, 0),
    "conv2d, same and even": (
        lambda x, w: F.conv2d(x, w, padding="same", dilation=(3, 2)),
        lambda: images_and_kernel(size=(2, 4)), 0,
    ),
    "conv1d": (
        lambda x, w: F.conv1d(x, w, stride=2, padding=1, dilation=2, groups=2),
        lambda: (numbers(3, 4, 11), numbers(6, 2, 3)), 0,
    ),
    "conv1d, same and even": (
        lambda x, w: F.conv1d(x, w, padding="same"), lambda: (numbers(4, 11), numbers(6, 4, 2)), 0,
    ),
    "mm": (torch.mm, lambda: (numbers(5, 9), numbers(9, 4)), 1),
    "batch @ matrix": (torch.matmul, lambda: (numbers(2, 5, 9), numbers(9, 4)), 1),
    "bmm": (torch.bmm, lambda: (numbers(3, 5, 9), numbers(3, 9, 4)), None),
    "matmul, broadcast": (torch.matmul, lambda: (numbers(2, 1, 5, 9), numbers(3, 9, 4)), None),
    "matrix @ vector": (lambda a, b: a @ b, lambda: (numbers(5, 9), numbers(9)), None),
    "vector @ matrix": (lambda a, b: a @ b, lambda: (numbers(9), numbers(9, 4)), 1),
    "vector @ vector": (lambda a, b: a @ b, lambda: (numbers(9), numbers(9)), None),
}  # fmt: skip
cases = pytest.mark.parametrize("case", CASES)


@cases
@pytest.mark.parametrize("design", [WIDE, WIDE_ZERO], ids=["no zero", "zero"])
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
def test_a_wide_datapath_computes_the_product_of_decoded_operands(case, design):
    function, make, axis = CASES[case]
    x, w = make()
    x[x < -1] = 0
    fmt = get("lns8+zero" if design.zero else "lns8")
    a, b = fmt.quantize(x), fmt.quantize(w, axis)
    with through_datapath(design, fmt) as report:
        result = function(x, w)
    exact, bound = function(a, b), function(a.abs(), b.abs()) * ROUNDING
    assert result.dtype == torch.float64
    assert result.shape == exact.shape
    assert bool(((result - exact).abs() <= bound).all())
    assert not report.left
    assert report.layers[0].outputs == result.numel()


@cases
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
def test_gradients_are_those_of_the_decoded_operands(case):
    function, make, axis = CASES[case]
    x, w = (part.requires_grad_() for part in make())
    fmt = get("lns8+zero")
    with through_datapath(NARROW, fmt):
        result = function(x, w)
    grad = torch.randn_like(result)
    result.backward(grad)
    a, b = fmt.quantize(x).requires_grad_(), fmt.quantize(w, axis).requires_grad_()
    function(a, b).backward(grad)
    torch.testing.assert_close(x.grad, a.grad)
    torch.testing.assert_close(w.grad, b.grad)


def test_integers_are_those_of_the_datapath():
    x, w, bias = (
        numbers(6, 64, dtype=torch.float32),
        numbers(8, 64, dtype=torch.float32),
        numbers(8),
    )
    fmt = get("lns8+zero")
    with through_datapath(NARROW, fmt, weight_scale="tensor") as report:
        result = F.linear(x, w, bias.float())
    a, b = fmt.encode(x), fmt.encode(w)
    sums, overflows = datapaths.matmul_counted(a.codes, b.codes.T, NARROW)
    floats = datapaths.to_float(sums, NARROW, fmt, a, b)
    assert torch.equal(result, floats.float() + bias.float())
    layer = report.layers[0]
    assert layer.name == "linear (8, 64)"
    assert layer.overflowed == int((overflows > 0).sum()) > 0
    assert layer.overflows == int(overflows.sum())
    assert report.share == layer.share == layer.overflowed / 48


def test_overflows_of_convolutions_are_counted():
    x, w = numbers(2, 3, 8, 8), numbers(4, 3, 2, 2)
    fmt = get("lns8+zero")
    with through_datapath(NARROW, fmt, weight_scale="tensor") as report:
        F.conv2d(x, w, padding=1)
        F.conv2d(x, w, padding="valid")
    padded = fmt.encode(F.pad(x, (1, 1, 1, 1)))
    windows = F.unfold(padded.codes.double(), 2).transpose(1, 2).to(torch.uint8)
    kernel = fmt.encode(w).codes.reshape(4, -1).T
    counts = [datapaths.matmul_counted(image, kernel, NARROW).overflows for image in windows]
    inner = [count.reshape(9, 9, 4)[1:-1, 1:-1] for count in counts]
    layer = report.layers[0]
    assert layer.calls == 2
    assert layer.overflowed == sum(int((n > 0).sum()) for n in counts + inner) > 0
    assert layer.overflows == sum(int(n.sum()) for n in counts + inner)
