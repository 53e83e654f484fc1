import pytest
import torch
import torch.nn.functional as F

from rung.formats import LNS
from rung.hardware.datapath import Datapath
from rung.hardware.through import through_datapath

WIDE = Datapath(accumulator_bits=44, zero=True)


@pytest.mark.parametrize(
    ("format", "design", "text"),
    [
        (
            "lns8_b4+zero",
            WIDE,
            r"got base_factor=4 of lns8_b4\+zero and base_factor=8 of the datapath\. Use "
            r"Datapath\(\.\.\., base_factor=4\), or the format 'lns8\+zero'\.",
        ),
        ("lns8", WIDE, r"got zero=False of lns8 and zero=True of the datapath"),
        ("lns8+zero", Datapath(), r"Use Datapath\(\.\.\., zero=True\), or the format 'lns8'"),
        (
            LNS(6, 8, True),
            WIDE,
            r"got bits=6 of lns6_b8\+zero and bits=8 of .* Use Datapath\(\.\.\., bits=6\)",
        ),
        ("lns8+zero", Datapath(bits=7, zero=True), "got bits=8 of lns8.zero and bits=7"),
        (
            "lns8+zero",
            Datapath(zero=True),
            "accumulators of 24 bits are too narrow for one product of 8-bit codes .* Use "
            "accumulator_bits=33, or dropped_bits=9",
        ),
    ],
)
def test_a_format_that_the_datapath_cannot_read_is_refused(format, design, text):
    with pytest.raises(ValueError, match=text), through_datapath(design, format):
        pass


@pytest.mark.parametrize(
    ("format", "design", "text"),
    [
        ("ladder8", WIDE, "a datapath multiplies codes of an LNS; got 'ladder8'. Use 'lns8"),
        (3, WIDE, "A format is a name, or a value with `quantize`|codes of an LNS; got 3"),
        ("lns8", "lut", "`datapath` must be a rung.hardware.datapath.Datapath; got 'lut'"),
    ],
)
def test_other_types_are_refused(format, design, text):
    with pytest.raises(TypeError, match=text), through_datapath(design, format):
        pass


def test_an_unknown_scale_is_refused():
    text = "`weight_scale` must be one of 'channel', 'tensor'; got 'row'"
    block = through_datapath(WIDE, "lns8+zero", weight_scale="row")
    with pytest.raises(ValueError, match=text), block:
        pass


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"padding": "full"}, "`padding` must be 'same', 'valid', an integer .* got 'full'"),
        ({"padding": "same", "stride": 2}, r"padding='same' needs strides of 1; got \(2, 2\)"),
    ],
)
def test_paddings_that_convolutions_do_not_know_are_refused(arguments, text):
    x, w = torch.randn(1, 1, 5, 5), torch.randn(1, 1, 3, 3)
    with through_datapath(WIDE, "lns8+zero"), pytest.raises(ValueError, match=text):
        F.conv2d(x, w, **arguments)


def test_transforms_are_refused():
    text = "tensors that have numbers; got one that torch.func transforms"
    w = torch.randn(3, 4)
    with through_datapath(WIDE, "lns8+zero"), pytest.raises(RuntimeError, match=text):
        torch.func.vmap(lambda x: F.linear(x, w))(torch.randn(2, 5, 4))
