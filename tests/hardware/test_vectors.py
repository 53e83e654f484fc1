import json
import os
from decimal import Decimal

import pytest
import torch

from rung.hardware import datapath as paths
from rung.hardware import vectors
from rung.hardware.datapath import Datapath

FILES = [
    "README.txt",
    "a.hex",
    "b.hex",
    "config.json",
    "constants.hex",
    "expected.hex",
    "expected_bins.hex",
    "expected_overflows.hex",
]


def read(folder, name, config, signed=False):
    """Words of a file; every line has the stated digits."""
    file = config["files"][name]
    lines = (folder / name).read_text().splitlines()
    assert len(lines) == file["words"]
    assert all(len(line) == file["digits"] for line in lines)
    values = [int(line, 16) for line in lines]
    assert all(value < 1 << file["bits"] for value in values)
    top = 1 << (file["bits"] - 1)
    return [(value ^ top) - top if signed else value for value in values]


def model(a, b, config, constants):
    """README.txt's arithmetic with Python's integers: result, overflows and bins of one dot."""
    path, derived = config["datapath"], config["derived"]
    gamma, size, bits = path["base_factor"], path["table_size"], path["bits"]
    half = 2 ** (path["accumulator_bits"] - 1)
    span = gamma // size
    guard = derived["guard_bits"]
    bins, result, overflows, written = [0] * size, 0, 0, []
    for k, (x, y) in enumerate(zip(a, b, strict=True)):
        ex, ey = x % 2 ** (bits - 1), y % 2 ** (bits - 1)
        negative = (x >= 2 ** (bits - 1)) != (y >= 2 ** (bits - 1))
        if not (path["zero"] and 0 in (ex, ey)):
            q, r = divmod(ex + ey, gamma)
            t, m = (r, 1) if size == gamma else (r // span, 2**guard + r % span)
            v = m * 2**q // 2 ** path["dropped_bits"]
            wanted = bins[t] + (-v if negative else v)
            if path["overflow"] == "wrap":
                bins[t] = (wanted + half) % (2 * half) - half
            else:
                bins[t] = min(max(wanted, -half), half - 1)
            overflows += bins[t] != wanted
        if (k + 1) % (path["vector_length"] or len(a)) == 0 or k + 1 == len(a):
            total = sum(content * c for content, c in zip(bins, constants, strict=True))
            result += total * 2 ** path["dropped_bits"] // 2**guard
            written += bins
            bins = [0] * size
    return result, overflows, written


def exact_constant(index, size, fraction_bits):
    value = Decimal(2) ** (fraction_bits + Decimal(index) / size)
    return int(value.quantize(Decimal(1)))


DESIGNS = {
    "lut": Datapath(dropped_bits=9),
    "lut, wide": Datapath(accumulator_bits=33, overflow="wrap"),
    "mitchell": Datapath(conversion="mitchell", dropped_bits=12, overflow="wrap"),
    "hybrid": Datapath(conversion="hybrid", table_size=2, accumulator_bits=26, dropped_bits=10),
    "parts": Datapath(dropped_bits=9, vector_length=5, fraction_bits=3, zero=True),
    "no fractions": Datapath(base_factor=1, fraction_bits=0, accumulator_bits=20, bits=4),
    "12 bits": Datapath(base_factor=128, conversion="hybrid", bits=12, dropped_bits=15,
                        accumulator_bits=28, table_size=16, vector_length=8, zero=True),
    "16 bits": Datapath(base_factor=2048, conversion="mitchell", bits=16, dropped_bits=16,
                        accumulator_bits=32),
}  # fmt: skip


@pytest.mark.parametrize("name", DESIGNS)
def test_files_hold_what_a_model_of_integers_computes(name, tmp_path):
    folder = vectors.write(tmp_path / "v", DESIGNS[name], count=9, length=13, seed=3)
    assert sorted(path.name for path in folder.iterdir()) == FILES
    config = json.loads((folder / "config.json").read_text())
    path, length = config["datapath"], config["length"]
    constants = read(folder, "constants.hex", config)
    assert constants == [
        exact_constant(t, path["table_size"], path["fraction_bits"])
        for t in range(path["table_size"])
    ]
    a, b = (read(folder, f"{side}.hex", config) for side in "ab")
    results = read(folder, "expected.hex", config, signed=True)
    overflows = read(folder, "expected_overflows.hex", config)
    bins = read(folder, "expected_bins.hex", config, signed=True)
    each = config["partial_sums"] * path["table_size"]
    assert len(results) == config["dots"] == len(config["corners"]) + 9
    for dot, result in enumerate(results):
        own = slice(dot * length, (dot + 1) * length)
        expected = model(a[own], b[own], config, constants)
        found = (result, overflows[dot], bins[dot * each : (dot + 1) * each])
        assert found == expected
    # Eight products of the largest codes overflow where one just fits.
    fits = config["derived"]["product_bits"] == path["accumulator_bits"]
    assert not fits or sum(overflows) > 0


@pytest.mark.parametrize("name", DESIGNS)
def test_expected_values_are_the_datapaths_own(name):
    made = vectors.make(DESIGNS[name], count=6, length=11)
    design = DESIGNS[name]
    bits = design.bits or 8
    a, b = made.a, made.b
    if bits == 16:
        a, b = ((codes ^ (1 << 15)) - (1 << 15) for codes in (a, b))
    dtype = torch.uint8 if bits <= 8 else torch.int16
    for i in range(0, len(a), 5):
        sums = paths.matmul_counted(a[i, None].to(dtype), b[i, :, None].to(dtype), design)
        assert sums.values.item() == made.expected[i]
        assert sums.overflows.item() == made.overflows[i]


def test_corner_cases_say_what_they_are():
    made = vectors.make(Datapath(dropped_bits=9), count=0, length=6)
    index = {name: place for place, name in enumerate(made.names)}
    assert len(index) == len(made.names) == len(made.expected)
    assert made.a[index["all +smallest x -largest"]].unique().tolist() == [0]
    assert made.b[index["all +smallest x -largest"]].unique().tolist() == [255]
    assert made.expected[index["largest, signs alternate"]] == 0
    up, down = (made.expected[index[f"largest, {way}"]] for way in ("up then down", "down then up"))
    # A product is 2^22: the second saturates at 2^23 - 1, the third downwards at -2^23.
    assert up == (2**23 - 1 - 3 * 2**22) * 431 << 9
    assert down == (-(2**23) + 3 * 2**22) * 431 << 9
    with_zero = vectors.make(Datapath(dropped_bits=9, zero=True), count=0, length=6)
    place = with_zero.names.index("all -zero x +largest")
    assert with_zero.expected[place] == 0


def test_the_same_arguments_give_the_same_bytes_and_seeds_differ(tmp_path):
    design = Datapath(dropped_bits=9)
    folders = [
        vectors.write(tmp_path / str(i), design, count=4, length=7, seed=seed, corners=False)
        for i, seed in enumerate((1, 1, 2))
    ]
    for name in FILES:
        same = [(folder / name).read_bytes() for folder in folders]
        assert same[0] == same[1]
        if name in ("a.hex", "b.hex", "expected.hex", "expected_bins.hex", "config.json"):
            assert same[0] != same[2]


def test_a_folder_with_files_is_left_alone_unless_forced(tmp_path):
    design = Datapath(dropped_bits=9)
    folder = tmp_path / "deep" / "v"
    folder.mkdir(parents=True)
    vectors.write(folder, design, count=1, length=3)  # empty: taken
    (folder / "mine.sv").write_text("module bench;")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(ValueError, match=r"must be new or empty; .*v holds files.*--force"):
        vectors.write(folder, design, count=2, length=3)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    vectors.write(folder, design, count=2, length=3, force=True)
    assert (folder / "mine.sv").exists()
    assert json.loads((folder / "config.json").read_text())["random"]["count"] == 2
    assert [path.name for path in folder.parent.iterdir()] == ["v"]


def test_what_fails_leaves_nothing_half_written(tmp_path, monkeypatch):
    design = Datapath(dropped_bits=9)
    calls = []

    def full(handle):
        calls.append(handle)
        if len(calls) == 3:
            raise OSError("No space left on device")
        return os.fstat(handle)

    monkeypatch.setattr(vectors, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        vectors.write(tmp_path / "v", design, count=1, length=3)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"count": -1}, r"`count` must be at least 0; got count=-1"),
        ({"length": 0}, r"`length` must be at least 1; got length=0"),
        ({"seed": -1}, r"`seed` must be at least 0; got seed=-1"),
        ({"count": 0, "corners": False}, "must be something to write; got count=0 and no corners"),
        ({"count": 10**6}, r"at most 10,000,000 codes; got 1,000,000 dots of 64. Lower"),
    ],
)
def test_numbers_out_of_range_are_refused(arguments, text, tmp_path):
    with pytest.raises(ValueError, match=text):
        vectors.write(tmp_path / "v", Datapath(dropped_bits=9), **arguments)
    assert not list(tmp_path.iterdir())


def test_other_refusals(tmp_path):
    with pytest.raises(TypeError, match=r"`length` must be an integer; got 2.0"):
        vectors.make(Datapath(dropped_bits=9), length=2.0)
    with pytest.raises(ValueError, match=r"accumulators of 24 bits are too narrow for one product"):
        vectors.make(Datapath())
    wide = Datapath(accumulator_bits=48, dropped_bits=4, vector_length=1)
    with pytest.raises(ValueError, match=r"results must fit 64 bits; got up to 72 from 64 partial"):
        vectors.make(wide)
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"go into a folder; got .*file, which is a file"):
        vectors.write(tmp_path / "file", Datapath(dropped_bits=9))
