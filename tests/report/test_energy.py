import json

import pytest

from rung.report import energy_table, read_energy, write_energy_figure

WHAT = "A model, not a measurement."


def band(value):
    return [value, 0.5 * value, 2 * value]


def result(scale, layers=2):
    return {
        "total": band(4e-3 * scale),
        "datapath": band(1e-3 * scale),
        "datapath parts": {"multiply": band(1e-3 * scale)},
        "passes": {"forward": band(4e-3 * scale)},
        "parts": {"multiply": band(1e-3 * scale), "dram": band(3e-3 * scale)},
        "layers": {f"layer{i}": band(4e-3 * scale / layers) for i in range(layers)},
        "update": None,
    }


def record(layers=2, uncounted=(), steps=("training step", "inference")):
    found = {"fp32": result(1, layers), "lns8": result(0.25, layers)}
    saving = {"against": "fp32", "datapath": [0.75, 0.5, 0.8], "total": [0.75, 0.7, 0.8]}
    return {
        "what": WHAT,
        "model": "toy",
        "parameters": 1234,
        "counts": {
            "forward": {"macs": 2_000_000, "weights": 10, "activations": 20, "gradients": 0}
        },
        "uncounted": list(uncounted),
        "costs": {"name": "made up", "rows": {}},
        "design": {"reuse": 32},
        "steps": dict.fromkeys(steps, found),
        "saving": dict.fromkeys(steps, {"lns8": saving}),
    }


def test_the_table_has_a_unit_bands_savings_and_says_what_it_is():
    lines = energy_table(record()).splitlines()
    assert lines[0] == "toy: 1.23 k parameters"
    assert lines[1] == "forward: 2 M multiply-accumulates, 30 numbers moved"
    row = next(line for line in lines if line.startswith("lns8"))
    assert row.replace(" %", "").split()[1:5] == ["1.00", "0.500", "2.00", "0.250"]
    assert row.replace(" %", "").split()[5:] == ["75.0", "50.0", "80.0", "75.0"]
    assert any(line.startswith("training step, mJ") for line in lines)
    assert WHAT in lines
    assert "costs: made up; low and high: the ends of every row's band." in lines


def test_many_layers_become_the_largest_and_a_rest():
    text = energy_table(record(layers=40))
    assert text.count("layer0 ") == 2
    line = next(line for line in text.splitlines() if line.startswith("other layers"))
    assert line.split()[2:] == ["2.50", "0.625"]  # 25 of 40 layers


def test_what_was_not_counted_is_listed():
    text = energy_table(record(uncounted=["lib::op in head, forward"]))
    assert "not counted, though they may multiply:\nlib::op in head, forward" in text


@pytest.mark.parametrize("steps", [("training step", "inference"), ("inference",)])
def test_the_figure_is_drawn_for_every_step(tmp_path, steps):
    path = write_energy_figure(record(steps=steps), tmp_path / "energy.png")
    assert path.read_bytes().startswith(b"\x89PNG")


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "x.json"
    with pytest.raises(ValueError, match=r"must be a file that `rung energy --out` wrote; got: "):
        read_energy(path)
    path.write_text("[]")
    with pytest.raises(ValueError, match=r"got other JSON\. Run `rung energy MODEL --out "):
        read_energy(path)
    path.write_text(json.dumps(record()))
    assert read_energy(path)["what"] == WHAT
