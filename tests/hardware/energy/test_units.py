import pytest

from rung.formats import LNS, MX, Minifloat, get
from rung.hardware.datapath import Datapath
from rung.hardware.energy import Design, load_costs, scaling, unit_of
from rung.hardware.energy.updates import update_of

ROWS = load_costs().rows


def picojoules(terms):
    return sum(count * ROWS[row].picojoules for row, count in terms.items())


def whole(unit, length=4096):
    """Picojoules of one multiply-accumulate in a sum of so many."""
    blocks = -(-length // unit.block)
    bins = blocks * min(unit.bins, unit.block, length)
    paid = (
        (1, unit.per_product),
        (blocks / length, unit.per_block),
        (bins / length, unit.per_bin),
        (1 / length, unit.per_result),
    )
    return sum(times * picojoules(terms) for times, parts in paid for terms in parts.values())


def test_published_widths_are_the_tables_rows():
    assert picojoules(scaling.float_multiply(24)) == 3.7
    assert picojoules(scaling.float_multiply(11)) == 1.1
    assert [picojoules(scaling.add(bits)) for bits in (8, 16, 32)] == [0.03, 0.05, 0.1]
    assert picojoules(scaling.multiply(8, 8)) == 0.2
    assert picojoules(scaling.multiply(32, 32)) == 3.1
    assert picojoules(scaling.shift(32, 31)) == 0.1
    assert picojoules(scaling.read(32)) == 1.0


def test_widths_between_and_beyond_follow_the_rules():
    assert picojoules(scaling.add(24)) == pytest.approx(0.075)
    assert picojoules(scaling.add(4)) == pytest.approx(0.015)
    assert picojoules(scaling.add(64)) == pytest.approx(0.2)
    assert picojoules(scaling.multiply(4, 4)) == pytest.approx(0.05)
    assert picojoules(scaling.multiply(64, 64)) == pytest.approx(12.4)
    share = (24 * 8 - 64) / (1024 - 64)
    assert picojoules(scaling.multiply(24, 8)) == pytest.approx(0.2 * (1 - share) + 3.1 * share)
    assert picojoules(scaling.float_multiply(4)) == pytest.approx(1.1 * 16 / 121, rel=1e-3)
    assert picojoules(scaling.shift(16, 3)) == pytest.approx(0.1 * 16 / 32 * 2 / 5)


@pytest.mark.parametrize("rule", [scaling.add, scaling.read, lambda b: scaling.multiply(b, b)])
def test_more_bits_never_cost_less(rule):
    costs = [picojoules(rule(bits)) for bits in range(1, 65)]
    assert costs == sorted(costs)


def test_a_wider_significand_costs_more():
    costs = [picojoules(scaling.float_multiply(bits)) for bits in range(1, 25)]
    assert all(narrow < wide for narrow, wide in zip(costs, costs[1:], strict=False))


def test_floats_multiply_significands_and_add_in_float32():
    unit = unit_of("fp32")
    assert (unit.name, unit.bits) == ("fp32", 32)
    assert whole(unit) == pytest.approx(4.6)
    assert whole(unit_of("tf32")) == pytest.approx(2.0)
    assert unit_of("tf32").bits == 32  # kept as float32
    assert whole(unit_of("bf16")) == pytest.approx(1.1 * 64 / 121 + 0.9, rel=1e-3)
    assert unit_of("fp8") == unit_of("fp8_e4m3") == unit_of(get("fp8_e4m3"))


def test_only_floats_that_fit_sum_in_float16():
    narrow = Design(float_accumulator="fp16")
    assert whole(unit_of("fp8_e5m2", narrow)) == pytest.approx(1.1 * 9 / 121 + 0.4, rel=1e-3)
    assert whole(unit_of("fp16", narrow)) == pytest.approx(1.5)
    for wide in ("fp32", "tf32", "bf16"):
        assert unit_of(wide, narrow) == unit_of(wide)


def test_integers_requantize_once_a_result():
    unit = unit_of("int8")
    assert picojoules(unit.per_product["multiply"]) == 0.2
    assert picojoules(unit.per_product["accumulate"]) == 0.1
    assert picojoules(unit.per_result["conversion"]) == pytest.approx(3.1 + 0.1 + 0.1)
    assert whole(unit_of("int4")) == pytest.approx(0.05 + 0.1 + 3.3 / 4096)


def test_blocks_add_their_scales_once():
    unit = unit_of("mxfp6")
    assert (unit.name, unit.bits, unit.block) == ("mxfp6_e3m2", 6.25, 32)
    assert picojoules(unit.per_block["conversion"]) == pytest.approx(0.06)
    assert whole(unit) == pytest.approx(whole(unit_of("fp6_e3m2")) + 0.06 / 32)
    integer = unit_of("mxint8")
    assert picojoules(integer.per_block["accumulate"]) == 0.9
    assert whole(integer) == pytest.approx(0.3 + (0.06 + 0.9) / 32)


def test_lns8_is_as_by_hand():
    unit = unit_of("lns8")
    assert (unit.block, unit.bins, unit.bits) == (32, 8, 8)
    assert picojoules(unit.per_product["multiply"]) == pytest.approx(0.03 * 7 / 8)
    # The quotient of the largest product is 254 / 8 = 31: five levels.
    assert picojoules(unit.per_product["conversion"]) == pytest.approx(0.1 * 24 / 32)
    assert picojoules(unit.per_product["accumulate"]) == pytest.approx(0.075)
    constant = picojoules(scaling.multiply(24, 8)) + 0.25
    assert picojoules(unit.per_bin["conversion"]) == pytest.approx(constant)
    assert picojoules(unit.per_bin["accumulate"]) == pytest.approx(0.075)
    encode = 2 * 0.1 * 24 / 32 + 0.25 + 0.03 * 7 / 8
    assert picojoules(unit.per_result["conversion"]) == pytest.approx(encode)


def test_conversions_cost_by_their_table():
    costs = [
        whole(unit_of("lns8", Design(conversion="hybrid", table_size=size)))
        for size in (1, 2, 4, 8)
    ]
    assert costs == sorted(costs)
    assert costs[-1] == whole(unit_of("lns8"))
    mitchell = unit_of("lns8", Design(conversion="mitchell"))
    assert (mitchell.bins, dict(mitchell.per_bin)) == (1, {})
    assert whole(mitchell) < costs[0]


def test_a_longer_vector_pays_constants_less_often():
    costs = [whole(unit_of("lns8", Design(vector_length=v))) for v in (4, 8, 32, 128, 4096)]
    assert costs == sorted(costs, reverse=True)


@pytest.mark.parametrize(
    "names",
    [
        [f"lns{bits}_b4" for bits in range(3, 17)],
        [f"int{bits}" for bits in range(2, 17)],
        ["fp4_e2m1", "fp6_e3m2", "fp8_e4m3", "bf16", "fp16", "fp32"],
        ["mxfp4", "mxfp6_e3m2", "mxfp8_e4m3"],
    ],
    ids=["lns", "int", "float", "mx"],
)
def test_formats_with_more_bits_cost_more(names):
    costs = [whole(unit_of(name)) for name in names]
    assert costs == sorted(costs)
    assert len(set(costs)) > len(costs) // 2


def test_more_remainders_cost_more():
    costs = [whole(unit_of(LNS(8, 1 << power))) for power in range(6)]
    # The shift gets shorter as remainders take bits of the sum, which weighs less.
    assert costs[1:] == sorted(costs[1:])


def test_formats_of_ones_own_have_a_unit():
    assert unit_of(Minifloat(5, 4)).per_product["multiply"] == scaling.float_multiply(5)
    assert unit_of(MX("fp4_e2m1", block_size=16)).block == 16
    assert unit_of(LNS(10, 16)).name == "lns10_b16"
    assert unit_of("lns8_b4").bins == 4


def test_formats_without_a_datapath_are_refused():
    with pytest.raises(ValueError, match=r"Unknown format 'fp7'; energy is known for: fp32, tf32"):
        unit_of("fp7")
    with pytest.raises(
        ValueError, match=r"with a datapath: fp32, .* got 'ladder8', whose products"
    ):
        unit_of("ladder8")
    with pytest.raises(ValueError, match=r"Unknown update 'lion'; the updates are: sgd, adamw"):
        update_of("lion")


@pytest.mark.parametrize(
    ("fields", "error", "text"),
    [
        ({"float_accumulator": "int"}, ValueError, r"must be one of 'fp32', 'fp16'; got 'int'"),
        ({"conversion": "exact"}, ValueError, r"one of 'lut', 'hybrid', 'mitchell'; got 'exact'"),
        ({"buffer": "64kb"}, ValueError, r"one of '8kb', '32kb', '1mb'; got '64kb'"),
        ({"accumulator_bits": 4}, ValueError, r"must be from 8 to 64; got accumulator_bits=4"),
        ({"reuse": 0}, ValueError, r"`reuse` must be 1 or more; got reuse=0"),
        ({"vector_length": 2.0}, TypeError, r"`vector_length` must be an integer; got 2\.0"),
        (
            {"conversion": "hybrid"},
            ValueError,
            r"needs one; got conversion='hybrid' and table_size",
        ),
        ({"table_size": 4}, ValueError, r"belongs to conversion='hybrid', .* got conversion='lut'"),
    ],
)
def test_designs_that_cannot_be_built_are_refused(fields, error, text):
    with pytest.raises(error, match=text):
        Design(**fields)


@pytest.mark.parametrize(
    "numbers",
    [
        {},
        {"conversion": "hybrid"},
        {"conversion": "hybrid", "table_size": 2, "vector_length": 64},
        {"conversion": "mitchell", "accumulator_bits": 20, "fraction_bits": 4},
    ],
)
def test_a_design_follows_a_datapath(numbers):
    datapath = Datapath(**numbers)
    design = Design.from_datapath(datapath, buffer="8kb")
    for field in ("conversion", "accumulator_bits", "fraction_bits"):
        assert getattr(design, field) == getattr(datapath, field)
    assert design.buffer == "8kb"
    assert design.bins(8) == datapath.entries == len(datapath.constants)
    # Without a length of its own the whole sum shares its constants.
    lengths = design.vector_length, Design().vector_length
    assert lengths[0] == (numbers.get("vector_length") or 2**31)
    if not numbers:
        assert whole(unit_of("lns8", design)) < whole(unit_of("lns8", Design()))


def test_a_datapath_without_costs_is_refused():
    with pytest.raises(ValueError, match="`accumulator_bits` must be from 8 to 64; got .*=6"):
        Design.from_datapath(Datapath(accumulator_bits=6, fraction_bits=4))
    with pytest.raises(TypeError, match="multiple values for keyword argument 'fraction_bits'"):
        Design.from_datapath(Datapath(), fraction_bits=4)


def test_a_table_must_divide_the_base_factor():
    design = Design(conversion="hybrid", table_size=3)
    with pytest.raises(ValueError, match=r"divide the base factor; got table_size=3 and base fact"):
        unit_of("lns8", design)
