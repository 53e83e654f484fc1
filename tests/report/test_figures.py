import math

import pytest
import torch

from rung.formats import Sinh
from rung.report import curves, memory, numbers, rungs, style, weights
from rung.report.facts import Part, edge_shares, metric_of, parts_of, rungs_per_bin, whole_model
from rung.report.run import read_run
from rung.tensor import CodedTensor
from rung.train.measure import _rung_histogram

from .run_folders import edit_json, write_run


def test_running_mean_looks_back_and_skips_what_is_missing():
    values = [1.0, 3.0, math.nan, 5.0, 7.0]
    means = curves.running_mean(values, window=2)
    assert means[:2] == [1.0, 2.0]
    assert math.isnan(means[2])
    assert means[3:] == [4.0, 6.0]


def test_folded_parts_keep_every_byte():
    parts = [Part(f"p{i}", 10 * (20 - i), 40.0, 80.0) for i in range(20)]
    folded = memory.fold(parts, 12)
    assert len(folded) == 12
    assert folded[-1].name == "9 smaller parts"
    for field in ("numel", "weight_bytes", "state_bytes"):
        assert sum(getattr(p, field) for p in folded) == sum(getattr(p, field) for p in parts)
    assert memory.fold(parts[:12], 12) == parts[:12]


def test_bytes_of_a_run_are_the_same_with_and_without_its_summary(make_run):
    folder = make_run()
    with_summary = whole_model(read_run(folder))
    names = {part.name for part in parts_of(read_run(folder))}
    (folder / "summary.json").unlink()
    assert whole_model(read_run(folder)) == with_summary
    assert names != {part.name for part in parts_of(read_run(folder))}


def test_metric_of_an_unfinished_run_comes_from_its_evaluations(make_run):
    folder = make_run()
    expected = metric_of(read_run(folder))
    (folder / "summary.json").unlink()
    assert metric_of(read_run(folder)) == expected


def test_totals_add_layers_of_one_ladder_only(make_run):
    folder = make_run()

    def change(value):
        layer = next(layer for layer in value["layers"] if layer["rungs"])
        layer["rungs"]["base_precision"] = 0.5

    edit_json(folder / "diagnostics.json", change)
    layers = rungs.coded_layers(read_run(folder))
    totals = rungs.sum_by_ladder(layers)
    assert [total["layers"] for total in totals] == [1, 3]
    weights_in = sum(sum(layer["rungs"]["counts"]) for layer in layers)
    assert sum(sum(total["counts"]) for total in totals) == weights_in
    with style.style():
        figure = rungs.draw(read_run(folder))
    assert len(figure.axes) == 2 * 2 + 4


@pytest.mark.parametrize("bits", [2, 4, 8, 12, 16])
def test_every_width_of_ladder_can_be_drawn(make_run, bits):
    run = read_run(make_run(format=f"ladder{bits}", bits=bits))
    with style.style():
        assert style.to_png(rungs.draw(run))
    assert rungs_per_bin(run.diagnostics["layers"][0]["rungs"]) == max(1, 2**bits // 256)


def test_edge_shares_are_those_of_the_end_bins():
    assert edge_shares({"counts": [1, 2, 5]}) == (0.125, 0.625)
    assert edge_shares({"counts": [0, 0]}) is None
    assert edge_shares(None) is None


def test_a_layer_that_is_zero_throughout_is_left_out_of_the_hills(make_run):
    folder = make_run()

    def change(value):
        value["layers"][0]["log_abs_w"]["counts"] = [0] * 100
        value["layers"][1]["log_abs_w"] = None

    edit_json(folder / "diagnostics.json", change)
    assert len(weights.drawable_layers(read_run(folder))) == 7


def test_smoothed_histogram_keeps_every_weight_in_bins_of_two_rungs(make_run):
    for layer in weights.drawable_layers(read_run(make_run())):
        edges, density = weights.smooth(layer)
        widths = [b - a for a, b in zip(edges, edges[1:], strict=False)]
        total = sum(width * value for width, value in zip(widths, density, strict=True))
        assert total == pytest.approx(sum(layer["log_abs_w"]["counts"]))
        if layer["rungs"]:
            assert min(widths) >= 2 * layer["rungs"]["base_precision"] * (1 - 1e-9)


def test_a_layer_of_one_value_can_be_drawn(make_run):
    folder = make_run()

    def change(value):
        value["layers"] = value["layers"][:1]
        value["layers"][0]["log_abs_w"] = {"edges": [-1.0, -1.0], "counts": [9], "zeros": 0}

    edit_json(folder / "diagnostics.json", change)
    with style.style():
        assert style.to_png(weights.draw(read_run(folder)))


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (numbers.significant(0.00107558), "0.00108"),
        (numbers.significant(42.96), "43.0"),
        (numbers.significant(123456.0), "123,456"),
        (numbers.significant(1e-9), "1.00e-09"),
        (numbers.significant(0.0), "0"),
        (numbers.significant(None), "–"),
        (numbers.rate(1e-5), "1e-05"),
        (numbers.rate(0.002), "0.002"),
        (numbers.compact(999), "999"),
        (numbers.compact(101626), "102 k"),
        (numbers.compact(5.01e7), "50.1 M"),
        (numbers.byte_size(999), "999 B"),
        (numbers.byte_size(306632), "306.63 kB"),
        (numbers.duration(9.94), "9.9 s"),
        (numbers.duration(61), "1 min 01 s"),
        (numbers.duration(7800), "2 h 10 min"),
        (numbers.metric("accuracy", 0.9936), "99.36 %"),
        (numbers.metric("error", 0.066), "6.60 %"),
        (numbers.metric("perplexity", 173.34), "173.3"),
        (numbers.degrees(math.pi / 4), "45.0°"),
    ],
)
def test_numbers_are_written_for_readers(written, expected):
    assert written == expected


def test_shortened_names_keep_what_tells_them_apart():
    names = [f"module.model.encoder.layers.{i}.attention.weight" for i in range(3)]
    assert numbers.labels(names, 24) == [f"…{i}.attention.weight" for i in range(3)]
    assert numbers.labels(["a.b", "a.c"], 24) == ["a.b", "a.c"]
    assert numbers.shorten("abcdefghij", 5) == "ab…ij"
    assert all(len(label) <= 8 for label in numbers.labels(["x" * 50, "y" * 50], 8))


@pytest.mark.parametrize("bits", [8, 16])
def test_a_pair_of_ladders_is_drawn_where_the_differences_stand(bits, tmp_path):
    parameter = CodedTensor.from_float(torch.linspace(-1, 1, 999), f"pair{bits}", 1.0)
    measured = _rung_histogram(parameter)
    half = CodedTensor.from_float(torch.linspace(-1, 1, 999), f"sinh{bits // 2}", 1.0)
    assert measured["counts"] == _rung_histogram(half)["counts"]
    folder = write_run(tmp_path / "run", format=f"pair{bits}", optimizer="signed-madam")

    def change(value):
        for layer in value["layers"]:
            layer["rungs"] = measured

    edit_json(folder / "diagnostics.json", change)
    with style.style():
        figure = rungs.draw(read_run(folder))
    assert figure.axes[0].get_title("left").endswith(f"{bits}-bit pair of ladders")
    last = 2 ** (bits // 2 - 1) - 1
    assert figure.axes[0].get_xlim() == (-last - 0.5, last + 0.5)


@pytest.mark.parametrize(("bits", "knee"), [(8, 0.03), (12, 0.03), (4, 0.03), (8, 2.0)])
def test_a_sinh_ladder_is_drawn_from_minus_to_plus_its_top(bits, knee, tmp_path):
    fmt = Sinh(bits, knee)
    parameter = CodedTensor.from_float(torch.linspace(-1, 1, 999), fmt, 1.0)
    measured = _rung_histogram(parameter)
    assert sum(measured["counts"]) == 999
    folder = write_run(tmp_path / "run", format=f"sinh{bits}", optimizer="signed-madam")

    def change(value):
        for layer in value["layers"]:
            layer["rungs"] = measured

    edit_json(folder / "diagnostics.json", change)
    with style.style():
        figure = rungs.draw(read_run(folder))
        assert style.to_png(figure)
    total = figure.axes[0]
    assert total.get_title("left").endswith(f"{bits}-bit sinh ladder")
    last = 2 ** (bits - 1) - 1
    assert total.get_xlim()[0] == -last - 0.5
    assert abs(total.get_xlim()[1] - last) < 20
    upper = next(axes for axes in figure.axes if axes.get_xlabel().startswith("size of"))
    words = [word.get_text() for word in upper.get_xticklabels()]
    assert (words[0], words[-1], words[len(words) // 2]) == ("-1", "1", "0")
