import itertools

import pytest
import torch
from torch import nn

from rung.hardware.energy import Design, compare, count, energy, load_costs
from rung.hardware.energy.estimate import saving_band
from rung.hardware.energy.record import energy_record

COUNTS = count(nn.Linear(64, 4, bias=False), torch.ones(2, 64))


def test_a_linear_layers_forward_pass_is_as_by_hand():
    result = energy(COUNTS.inference, "lns8")
    macs, results = 2 * 64 * 4, 2 * 4
    blocks = results * 2  # sums of 64 in vectors of 32
    parts = {part: band.value for part, band in result.by("part").items()}
    constant = 0.2 * (1 - 128 / 960) + 3.1 * 128 / 960 + 0.25
    encode = 2 * 0.075 + 0.25 + 0.02625
    assert parts == pytest.approx(
        {
            "multiply": macs * 0.02625,
            "conversion": macs * 0.075 + blocks * 8 * constant + results * encode,
            "accumulate": macs * 0.075 + blocks * 8 * 0.075,
            "buffer": 2 * macs * 8 / 32 / 64 * 20,
            "dram": (256 + 128 + 8) * 8 / 32 * 640,
        }
    )
    assert result.update is None


def test_short_sums_use_few_bins():
    short = count(nn.Linear(3, 4, bias=False), torch.ones(2, 3), training=False)
    assert energy(short, "lns8").datapath.by("part")["accumulate"].value == pytest.approx(
        24 * 0.075 + 8 * 3 * 0.075
    )


def test_the_update_is_as_by_hand():
    adamw, madam = energy(COUNTS, "bf16"), energy(COUNTS, "lns8")
    assert (adamw.update, madam.update) == ("adamw", "lns-madam")
    # Weight and two moments of 32 bits read and written, a gradient of 16 read, a copy of 16.
    dram = 256 * (6 * 32 + 16 + 16) / 32 * 640
    assert adamw.by("phase")["update"].value == pytest.approx(
        dram + 256 * (8 * 3.7 + 4 * 0.9 + 2 * 26.3)
    )
    dram = 256 * (4 * 16 + 8 + 8) / 32 * 640
    assert madam.by("phase")["update"].value == pytest.approx(
        dram + 256 * (5 * 3.7 + 0.9 + 2 * 26.3 + 2 * 0.05)
    )
    float32 = energy(COUNTS, "fp32", update="sgd")  # its weights need no copy
    assert float32.by("phase")["update"].value == pytest.approx(
        256 * (4 * 32 + 32) / 32 * 640 + 256 * (3 * 3.7 + 3 * 0.9)
    )


@pytest.mark.parametrize("fmt", ["fp32", "mxfp4", "int8", "lns8"])
def test_every_split_adds_up(fmt):
    result = energy(COUNTS, fmt)
    for field in ("phase", "layer", "group", "part"):
        bands = result.by(field).values()
        for place in range(3):
            assert sum(band[place] for band in bands) == pytest.approx(result.total[place])
    assert sum(result.by_row().values()) == pytest.approx(result.total.value)
    assert result.total.low < result.total.value < result.total.high


def test_the_datapath_is_three_parts_of_three_passes():
    datapath = energy(COUNTS, "lns8").datapath
    assert set(datapath.by("part")) == {"multiply", "conversion", "accumulate"}
    assert "update" not in datapath.by("phase")


def test_formats_of_more_bits_take_more_energy():
    for names in (["lns6_b4", "lns8_b4", "lns12_b4"], ["int4", "int8", "int16"]):
        totals = [result.total.value for result in compare(COUNTS, names).values()]
        assert totals == sorted(totals)


def test_reuse_and_smaller_buffers_save_energy_on_the_chip():
    def buffer(**fields):
        return energy(COUNTS, "fp32", design=Design(**fields)).by("part")["buffer"].value

    assert buffer(reuse=64) == buffer() / 2
    assert buffer(buffer="8kb") == buffer() / 2
    assert buffer(buffer="1mb") == buffer() * 5


def test_the_band_of_a_saving_is_the_extreme_over_all_corners():
    costs = load_costs()
    ours, theirs = (
        {"fp32_add": 3.0, "int8_add": 1.0, "int32_shift": 2.0},
        {"fp32_add": 5.0, "fp32_multiply": 4.0, "int32_shift": 1.0},
    )
    rows = sorted({*ours, *theirs})
    savings = []
    for ends in itertools.product(("low", "high"), repeat=len(rows)):
        factor = {row: getattr(costs.rows[row], end) for row, end in zip(rows, ends, strict=True)}
        above = sum(factor[row] * value for row, value in ours.items())
        savings.append(1 - above / sum(factor[row] * value for row, value in theirs.items()))
    band = saving_band(ours, theirs, costs)
    assert band == pytest.approx((1 - 6 / 10, min(savings), max(savings)))


def test_what_both_pay_alike_leaves_no_band():
    costs = load_costs()
    assert saving_band({"dram_32": 1.0}, {"dram_32": 4.0}, costs) == pytest.approx((0.75,) * 3)


def test_lns8_saves_about_what_was_published():
    counts = count(nn.Linear(1024, 256, bias=False), torch.ones(32, 1024, device="cpu"))
    results = compare(counts, ["fp32", "fp8", "lns8"])
    lns8 = results["lns8"].datapath
    against32 = lns8.saving(results["fp32"].datapath)
    against8 = lns8.saving(results["fp8_e4m3"].datapath)
    assert against32.value > 0.9
    assert against8.value > 0.55
    assert against8.low < 0.55 < against8.high


def test_every_text_says_that_it_is_a_model():
    result = energy(COUNTS, "lns8")
    assert str(result).startswith("lns8: ")
    assert str(result).endswith(
        "A model, not a measurement: operations counted, energies from a table of costs."
    )
    assert energy_record("m", COUNTS, ["fp32", "lns8"])["what"].startswith("A model, not a meas")


def test_records_hold_both_steps_or_inference_alone():
    record = energy_record("m", COUNTS, ["fp32", "lns8"])
    assert list(record["steps"]) == ["training step", "inference"]
    step = record["steps"]["training step"]["lns8"]
    assert list(step["passes"]) == ["forward", "weight gradient", "update"]
    assert step["total"][0] == pytest.approx(energy(COUNTS, "lns8").total.value * 1e-12)
    assert record["saving"]["inference"]["lns8"]["against"] == "fp32"
    assert list(energy_record("m", COUNTS.inference, ["fp32"])["steps"]) == ["inference"]


def test_mistakes_are_refused(tmp_path):
    result = energy(COUNTS, "fp32")
    with pytest.raises(ValueError, match=r"`field` must be one of phase, layer, group, part; got"):
        result.by("pass")
    with pytest.raises(ValueError, match=r"`parts` are of multiply, conversion, .*; got 'wires'"):
        result.only(["wires"])
    with pytest.raises(ValueError, match=r"`phases` are of forward, .*, update; got 'backward'"):
        result.only(phases=["backward"])
    mine = tmp_path / "mine.toml"
    mine.write_text('extends = "horowitz-45nm"\n[rows.fp32_add]\npicojoules = 1\nsource = "x"')
    other = energy(COUNTS, "fp32", load_costs(mine))
    with pytest.raises(ValueError, match=r"must come from one cost table; got .* Use `compare`"):
        result.saving(other)
    nothing = energy(count(nn.ReLU(), torch.ones(1), training=False), "fp32")
    with pytest.raises(ValueError, match=r"against an energy above 0; got 0 picojoules"):
        nothing.saving(nothing)
