import pytest
import torch

from rung.formats import MX, CounterSource, get
from rung.kernels import minifloat, mx
from rung.kernels.cpu import mx as mx_cpu
from rung.kernels.dispatch import Operation
from rung.kernels.minifloat import Grid
from rung.kernels.mx_round import minifloat_cast

ELEMENTS = ("fp8_e4m3", "fp8_e5m2", "fp6_e3m2", "fp6_e2m3", "fp4_e2m1", "int8")


def awkward_rows(shape, seed=0):
    """Values over the whole range of float32, with zeros, subnormals, and NaN and infinity."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(shape, generator=generator)
    octaves = torch.rand(shape[:1], generator=generator).unsqueeze(1) * 270 - 140
    rows = rows * torch.exp2(octaves.clamp(max=126)) * torch.exp2(-8 * torch.rand(shape))
    if len(rows) > 7:
        rows[0], rows[1] = 0, -0.0
        rows[2], rows[3] = rows[2].sign() * 1e-45, rows[3].sign() * 1e-39
        rows[4], rows[5] = rows[5].sign() * 3.4e38, rows[5].sign() * 2.0**127
        rows[6, 0], rows[7, -1] = float("nan"), float("-inf")
        rows[8:, ::7] = -0.0
    return rows.contiguous(), torch.rand(shape, generator=generator)


def same_bits(left, right):
    nan = torch.isnan(left)
    assert torch.equal(nan, torch.isnan(right))
    assert torch.equal(left.view(torch.int32)[~nan], right.view(torch.int32)[~nan])


@pytest.fixture
def reference(monkeypatch):
    """Calls with the reference in place of the compiled loops."""

    def call(function, *args, **kwargs):
        with monkeypatch.context() as patch:
            patch.setattr(Operation, "compute", lambda self, *given: self.reference(*given))
            return function(*args, **kwargs)

    return call


@pytest.mark.parametrize("shape", [(40, 96), (20, 45), (12, 1), (0, 3), (3, 0)])
@pytest.mark.parametrize("block", [1, 7, 32, 1000])
@pytest.mark.parametrize("rule", mx.RULES)
@pytest.mark.parametrize("name", ELEMENTS)
def test_cpu_codes_and_values_equal_the_reference_bit_for_bit(reference, name, rule, block, shape):
    fmt = MX(name, block, rule)
    rows, draws = awkward_rows(shape)
    source = CounterSource(3)
    for rounding in ({}, {"rounding": "stochastic", "generator": source}):
        options = {"nonfinite": "propagate", **rounding}
        for x in (rows, rows.half(), rows.bfloat16()):
            wanted = reference(fmt.quantize, x, **options)
            same_bits(fmt.quantize(x, **options).float(), wanted.float())
        codes, slow = fmt.encode(rows, **options), reference(fmt.encode, rows, **options)
        assert torch.equal(codes.codes, slow.codes)
        assert torch.equal(codes.scale, slow.scale)
        same_bits(fmt.decode(codes), reference(fmt.decode, codes))


@pytest.mark.parametrize("name", ELEMENTS)
def test_any_codes_decode_as_the_reference_does(reference, name):
    fmt = MX(name, 1)
    elements = torch.arange(1 << fmt.bits, dtype=torch.uint8).repeat(256)
    scales = torch.arange(256, dtype=torch.uint8).repeat_interleave(1 << fmt.bits)
    same_bits(fmt.decode_codes(elements, scales), reference(fmt.decode_codes, elements, scales))


@pytest.mark.parametrize("name", ELEMENTS)
def test_no_byte_is_read_beyond_a_table(name):
    grid = vars(get(name).grid).values()
    codes, scales = torch.arange(256, dtype=torch.uint8), torch.full((1, 1), 127).byte()
    values = mx_cpu.decode(codes.unsqueeze(0), scales, 256, False, *grid)[0]
    count = 1 << get(name).bits
    same_bits(values[:count], minifloat.value_table(get(name).grid))
    assert torch.isnan(values[count:]).all()
    for wrong in ((codes.short(), scales), (codes, scales.float())):
        with pytest.raises(TypeError, match=r"Codes and scale codes must be uint8; got torch\."):
            mx_cpu.decode(wrong[0].unsqueeze(0), wrong[1], 256, False, *grid)


@pytest.mark.parametrize("name", ["bf16", "fp16"])
def test_torchs_casts_write_and_read_the_codes_of_the_definition(name, monkeypatch):
    fmt = get(name)
    codes = torch.arange(1 << 16, dtype=torch.int32).to(torch.int16)
    values = minifloat.values_reference(codes, fmt.grid, torch.float32)
    again = minifloat.codes_reference(values, fmt.grid)
    rows = awkward_rows((40, 33))[0]
    inputs = [rows[8:], rows[8:].bfloat16(), rows[8:].half(), rows, torch.ones(()), rows[:, :0]]
    quantized = [fmt.quantize(x, nonfinite="propagate") for x in inputs]
    monkeypatch.setattr(minifloat, "native_dtype", lambda grid: None)
    monkeypatch.setattr(mx_cpu, "native_dtype", lambda grid: None)
    same_bits(values, minifloat.values_reference(codes, fmt.grid, torch.float32))
    assert torch.equal(again, minifloat.codes_reference(values, fmt.grid))
    for x, y in zip(inputs, quantized, strict=True):
        wanted = fmt.quantize(x, nonfinite="propagate")
        assert (y.dtype, y.shape, y.stride()) == (wanted.dtype, wanted.shape, wanted.stride())
        same_bits(y.float(), wanted.float())
    assert not fmt.grid.nan & 0xFFFF8000


@pytest.mark.parametrize("name", [*ELEMENTS, "bf16", "fp16"])
@pytest.mark.parametrize("groups", [{}, {"axis": 0}, {"block": 5}, {"scale": 0.37}])
def test_casts_equal_the_reference_bit_for_bit(reference, name, groups):
    fmt = get(name)
    rows, _ = awkward_rows((40, 33))
    source = CounterSource(3)
    for rounding in ({}, {"rounding": "stochastic", "generator": source}):
        options = {"nonfinite": "propagate", **groups, **rounding}
        for x in (rows, rows[8:], rows[8:].half()):
            wanted = reference(fmt.quantize, x, **options)
            same_bits(fmt.quantize(x, **options).float(), wanted.float())
            encoded = fmt.encode(x, **options)
            assert torch.equal(encoded.codes, reference(fmt.encode, x, **options).codes)
            same_bits(fmt.decode(encoded).float(), wanted.float())


@pytest.mark.parametrize("name", ["mxfp4", "mxint8", "mxfp8_e5m2+rceil", "fp8_e4m3", "bf16"])
def test_compiled_and_mapped_quantizing_equals_eager(name):
    fmt, x = get(name), awkward_rows((20, 40))[0][8:]
    wanted = fmt.quantize(x)
    torch.compiler.reset()  # else numbers that differ between formats are traced as symbols
    compiled = torch.compile(
        lambda x: fmt.quantize(x, nonfinite="propagate"), backend="aot_eager", fullgraph=True
    )
    same_bits(compiled(x), wanted)
    mapped = torch.func.vmap(lambda x: fmt.quantize(x, nonfinite="propagate"))
    same_bits(mapped(x), wanted)


def test_scales_of_every_code_are_powers_of_two():
    values = mx.scale_values(torch.arange(256, dtype=torch.int32), torch.float32).double()
    wanted = torch.exp2(torch.arange(255, dtype=torch.float64) - 127)
    assert torch.equal(values[:255], wanted)
    assert bool(torch.isnan(values[255]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_powers_of_two_are_exact(dtype):
    exponents = torch.arange(-126, 128)
    assert minifloat.power_of_two(exponents, dtype).double().log2().tolist() == exponents.tolist()


def test_only_grids_well_inside_float32_are_cast_by_the_loops():
    grid = get("fp8_e4m3").grid
    assert minifloat.casts(grid, stochastic=True)
    assert minifloat.casts(get("bf16").grid, stochastic=False)
    assert not minifloat.casts(get("bf16").grid, stochastic=True)
    assert not minifloat.casts(Grid(8, 3, -120, 448.0), stochastic=False)
    assert not minifloat.casts(Grid(8, 3, -6, 448.0, subnormals=False), False)
    assert not minifloat.casts(Grid(8, 3, -6, 448.0, nan=127, saturate=False), False)
    rows, scale = torch.ones(2, 3, dtype=torch.float64), torch.ones(2, 1, dtype=torch.float64)
    assert not minifloat_cast.serves(rows, scale, None, False, 0.0, *vars(grid).values())
