import pytest
import torch
from torch import nn

from rung.formats import LNS, CounterSource, Ladder, get
from rung.nn import Quantizer, Quantizers
from rung.tensor import CodedTensor


def values(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("scale", ["tensor", "row", 4])
def test_int8_has_a_scale_of_its_groups_and_no_plain_cast(scale):
    for size in (1e-3, 1.0, 1e4):
        x = values(3, 4, 10) * size
        y = Quantizer("int8", scale).q(x)
        assert float((y - x).abs().max()) <= 0.51 * float(x.abs().max()) / 127
        assert torch.equal(y.abs().max(), x.abs().max())
    assert not Quantizer("int8", scale).q(torch.zeros(3, 4)).any()


@pytest.mark.parametrize("fmt", ["lns8", "lns6_b4+zero", "ladder8"])
def test_each_scale_is_the_formats_own_rounding_of_its_groups(fmt):
    x, fine = values(3, 4, 10), get(fmt)
    assert torch.equal(Quantizer(fmt).q(x), fine.quantize(x))
    assert torch.equal(Quantizer(fmt, "channel").q(x, 1), fine.quantize(x, axis=1))
    assert torch.equal(Quantizer(fmt, "channel").q(x, (0, -1)), fine.quantize(x, axis=(0, -1)))
    rows = torch.stack([fine.quantize(row) for row in x.reshape(-1, 10)]).reshape(x.shape)
    assert torch.equal(Quantizer(fmt, "row").q(x), rows)
    blocks = [
        fine.quantize(x[i, j, k : k + 4]) for i in range(3) for j in range(4) for k in (0, 4, 8)
    ]
    assert torch.equal(Quantizer(fmt, 4).q(x), torch.cat(blocks).reshape(x.shape))


@pytest.mark.parametrize("fmt", ["lns8", "lns8+zero", "ladder8"])
@pytest.mark.parametrize("scale", ["tensor", "channel", "row", 2, 3])
def test_zero_groups_stay_zero_and_nan_poisons_its_group_only(fmt, scale):
    q = Quantizer(fmt, scale)
    assert not q.q(torch.zeros(4, 6)).any()
    x = values(4, 6)
    x[1] = 0
    x[2, 0] = torch.nan
    x[3, 5] = torch.inf
    y = q.q(x, 0)
    assert y[2, 0].isnan()
    assert y[3, 5].isnan()
    if scale != "tensor":
        assert not y[1].any()
        assert y[0].isfinite().all()
        assert torch.equal(y[0], q.q(x[:1], 0)[0])


@pytest.mark.parametrize("scale", ["tensor", "channel", "row", 4])
@pytest.mark.parametrize("shape", [(), (5,), (0,), (3, 0), (0, 3), (2, 3, 4)])
@pytest.mark.parametrize("fmt", ["lns8", "ladder8"])
def test_any_shape_and_dtype_comes_back(scale, shape, fmt):
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        x = values(*shape).to(dtype)
        y = Quantizer(fmt, scale).q(x)
        assert (y.shape, y.dtype) == (x.shape, dtype)


def test_a_tensor_that_is_not_contiguous_is_rounded_as_its_copy():
    x = values(6, 5).t()
    for scale in ("tensor", "channel", "row", 4):
        q = Quantizer("lns8", scale)
        assert torch.equal(q.q(x), q.q(x.contiguous()))


def test_stochastic_rounding_follows_torchs_generator_and_a_source_repeats_it():
    x, q = values(1000), Quantizer("lns4", rounding="stochastic")
    torch.manual_seed(3)
    first, second = q.q(x), q.q(x)
    torch.manual_seed(3)
    assert torch.equal(q.q(x), first)
    assert not torch.equal(first, second)
    source = CounterSource(5)
    assert torch.equal(q.q(x, 0, source), q.q(x, 0, source))
    assert Quantizer("lns4").draw() is None
    state = torch.get_rng_state()
    Quantizer("lns4").q(x)
    assert torch.equal(torch.get_rng_state(), state)


def test_keys_are_drawn_on_the_cpu_whatever_the_default_device():
    quantizer = Quantizer("lns4", rounding="stochastic")
    torch.manual_seed(1)
    expected = quantizer.draw()
    torch.manual_seed(1)
    with torch.device("meta"):
        assert quantizer.draw() == expected


def test_stochastic_rounding_is_unbiased():
    x = torch.cat([torch.full((20000,), 0.3), torch.ones(1)])
    mean = Quantizer("lns4", rounding="stochastic").q(x)[:-1].mean()
    assert abs(float(mean) - 0.3) < 0.005


def test_codes_of_a_finer_lns_are_shifted_not_rounded_again():
    weight = CodedTensor.from_float(values(20, 30), "lns16", 3.0)
    fmt = get("lns8")
    codes, scale = fmt.shifted(weight.codes, weight.scale, weight.format)
    rounded = Quantizer("lns8", "channel").q(nn.Parameter(weight), 0)
    assert torch.equal(rounded, fmt.decode_codes(codes, scale))
    assert type(rounded) is torch.Tensor


@pytest.mark.parametrize("fmt", ["lns8+zero", "lns6_b4", "ladder8"])
def test_codes_of_another_system_are_decoded_and_rounded(fmt):
    weight = CodedTensor.from_float(values(20, 30), "lns16", 3.0)
    if fmt != "lns6_b4":
        assert torch.equal(Quantizer(fmt).q(weight), get(fmt).quantize(weight.decode()))
    ladder = CodedTensor.from_float(values(20, 30), "ladder8", 3.0)
    assert torch.equal(Quantizer(fmt).q(ladder), get(fmt).quantize(ladder.decode()))


def test_a_quantizer_says_what_it_does():
    assert str(Quantizer("lns8+zero", 32)) == "lns8+zero by blocks of 32"
    assert str(Quantizer(Ladder(8), "row", "stochastic")) == "ladder8 by row, stochastic"
    assert repr(Quantizer(LNS(8, 8))) == (
        "Quantizer(format=LNS(bits=8, base_factor=8, zero=False, underflow='saturate', "
        "power_of_two_scale=False), scale='tensor', rounding='nearest')"
    )
    assert Quantizer("lns8") == Quantizer(LNS(8, 8))
    assert hash(Quantizer("lns8")) == hash(Quantizer(LNS(8, 8)))
    assert Quantizers().empty
    assert not Quantizers(error=Quantizer("lns8")).empty


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        (("lns8", "rows"), ValueError, r"`scale` must be 'tensor', 'channel', 'row' or an integer"),
        (("lns8", 0), ValueError, r"A block must have 1 number or more; got scale=0"),
        (("lns8", 2.0), TypeError, r"`scale` must be 'tensor', .* got 2.0"),
        (("lns8", True), TypeError, r"`scale` must be .* got True"),
        (("lns8", "row", "up"), ValueError, r"`rounding` must be .* got 'up'"),
        (("lsn8",), ValueError, r"Unknown format .lsn8."),
        ((8,), TypeError, r"`format` must be a name or a format of rung.formats; got 8"),
    ],
)
def test_bad_quantizers_are_refused(arguments, error, text):
    with pytest.raises(error, match=text):
        Quantizer(*arguments)
