import json
import math
from pathlib import Path

import pytest

from rung.report import reproduced_figure, write_reproduced
from rung.report.reproduced_data import best_rate, error_by_rate, flatness, spread
from rung.report.reproduced_table import table
from rung.report.style import style

RESULTS = Path(__file__).parents[2] / "experiments" / "results" / "reproduce"
ENVIRONMENT = {"processor": "a processor", "torch": "2.13.0", "commit": "abcdef0123456789"}


def run(contestant, seed, final, lr=0.1, up=False, status="finished"):
    return {
        "contestant": contestant, "group": "", "place": 0.0, "seed": seed, "lr": lr,
        "status": status, "reason": None, "final": final, "best": final,
        "metric": {"name": "error", "split": "test", "higher_is_better": up},
        "loss": {"train": 1.0, "eval": 1.0},
        "bytes": {"weights_per_weight": 1.0, "state_per_weight": 2.0},
        "time": {"seconds": 1.0, "ms_per_step": 12.4}, "data": "some data",
        "command": "rung train x", "environment": ENVIRONMENT,
    }  # fmt: skip


def record(kind, runs, published=(), **row):
    labels = dict.fromkeys(one["contestant"] for one in runs)
    measured = {
        "row": "a", "title": "Task A", "recipe": "x", "unit": "error, %", "factor": 100.0,
        "size": "small", "remark": "", "published": dict(published), "status": "measured",
        "contestants": [
            {"label": label, "group": label, "place": float(k)} for k, label in enumerate(labels)
        ],
        "trials": [], "runs": runs,
    } | row  # fmt: skip
    missing = measured | {"row": "b", "title": "Task B", "status": "not run", "reason": "No data."}
    del missing["runs"]
    return {
        "name": "test", "title": "A test", "source": "Nobody", "kind": kind, "across": "places",
        "budget": "cpu", "rows": [measured, missing],
    }  # fmt: skip


def test_a_table_has_ours_beside_the_papers():
    runs = [run("SGD", 0, 0.1), run("SGD", 1, 0.2), run("Madam", 0, 0.3), run("Madam", 1, None)]
    runs[3]["status"] = "diverged"
    text = table(record("table", runs, {"Madam": "7.8 ± 0.2"}, chosen={"SGD": 0.1}))
    assert "| SGD | 0.1 (tuned) | 15.00 (10.00 to 20.00) | 3.00 |  |" in text
    assert "| Madam | 0.1 | 30.00, 1 diverged | 3.00 | 7.8 ± 0.2 |" in text
    assert "- **Task B**: not run. No data." in text
    assert "Mean and range over seeds 0, 1." in text
    assert "commit abcdef012345." in text


def test_an_arena_has_everyone_against_the_first(tmp_path):
    runs = [run("AdamW", 0, 0.02), run("AdamW", 1, 0.03), run("signed", 0, 0.024)]
    runs[2]["bytes"] = {"weights_per_weight": 1.0, "state_per_weight": 1.05}
    made = record("arena", runs, chosen={"AdamW": 0.1})
    text = table(made)
    assert "| | lr | error, % | against AdamW, % | bytes a weight | ms a step |" in text
    assert "| AdamW | 0.1 (tuned) | 2.500 (2.000 to 3.000) | +0.0 | 3.00 | 12 |" in text
    # At seed 0 alone, which both have.
    assert "| signed | 0.1 | 2.400 | +20.0 | 2.05 | 12 |" in text
    made["rows"][0]["contestants"].append({"label": "later", "group": "", "place": 1.0})
    assert "later" not in table(made)
    write_reproduced(made, tmp_path)
    assert (tmp_path / "test.svg").exists()
    panel = reproduced_figure.draw(made).axes[0]
    assert panel.get_ylabel() == "loss against AdamW, %"
    rings = {line.get_label(): line.get_xydata().tolist() for line in panel.get_lines()}
    assert rings["AdamW"] == [[3.0, 0.0]]
    assert rings["signed"] == [[2.05, pytest.approx(-4.0)]]


def test_an_arenas_contestants_look_alike_on_all_tasks():
    """A task may lack some of them, even the first task, whose panel isn't all of the legend."""
    everyone = [run(label, 0, 0.02) for label in ("AdamW", "Madam", "signed")]
    made = record("arena", [everyone[0], everyone[2]])
    made["rows"].append(record("arena", everyone)["rows"][0])
    figure = reproduced_figure.draw(made)
    colors = [
        {line.get_label(): line.get_color() for line in panel.get_lines()}
        for panel in figure.axes[:2]
    ]
    assert colors[0]["signed"] == colors[1]["signed"] != colors[1]["Madam"]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["AdamW", "signed", "Madam"]


@pytest.mark.parametrize("path", sorted(RESULTS.glob("one-byte*.json")), ids=lambda path: path.stem)
def test_a_figure_holds_its_legend(path):
    """Long labels in many columns ran out of it on both sides."""
    with style():
        figure = reproduced_figure.draw(json.loads(path.read_text()))
        figure.draw_without_rendering()
    for legend in figure.legends:
        box = legend.get_window_extent()
        assert figure.bbox.x0 <= box.x0
        assert box.x1 <= figure.bbox.x1


def test_variants_are_lists_against_the_first():
    runs = [run("ours", 0, 0.02), run("ours", 1, 0.03), run("... other", 0, 0.024)]
    made = record("variants", runs)
    made["rows"][0]["contestants"].append({"label": "later", "group": "", "place": 1.0})
    assert "| ... other | 0.1 | 2.400 | +20.0 | 3.00 | 12 |" in table(made)
    (panel,) = reproduced_figure.draw(made).axes
    assert [tick.get_text() for tick in panel.get_yticklabels()] == ["ours", "... other"]
    across, *dots = panel.get_lines()
    assert across.get_xdata() == [pytest.approx(2.5)] * 2
    assert dots[2].get_xydata().tolist() == [[pytest.approx(2.4), 1.0]]


def test_a_row_of_which_runs_are_missing_says_so(tmp_path):
    made = record("table", [run("SGD", 0, 0.1)], status="partial", reason="1 of 6 runs have ended.")
    made["rows"][0]["contestants"].append({"label": "Adam", "group": "", "place": 1.0})
    text = table(made)
    assert "One run each, seed 0. Not complete: 1 of 6 runs have ended. Data" in text
    assert "| SGD | 0.1 | 10.00 | 3.00 |" in text
    assert "Adam" not in text
    write_reproduced(made, tmp_path)
    assert (tmp_path / "test.svg").exists()
    made = record("rates", [run("SGD", 0, 0.1)], status="partial", reason="1 of 6 runs have ended.")
    made["rows"][0]["contestants"].append({"label": "Adam", "group": "", "place": 1.0})
    assert "| Task A | 0.1; 0.0 |  |" in table(made)


def test_a_table_of_rates_has_best_and_flatness():
    runs = [run("SGD", 0, e, lr) for lr, e in ((0.01, 0.2), (0.1, 0.1), (1.0, 0.4))]
    text = table(record("rates", runs))
    span = (math.log(1.05) / math.log(2) + math.log(1.05) / math.log(4)) * math.log2(10)
    assert f"| Task A | 0.1; {span:.1f} |" in text


def test_flatness_is_the_span_within_five_percent():
    flat = {0.25: 2.0, 0.5: 1.0, 1.0: 1.0, 2.0: 1.0, 4.0: 2.0}
    edge = math.log(1.05) / math.log(2)
    assert flatness(flat) == pytest.approx(2 + 2 * edge)
    # Beyond the last rate that finished nothing is known.
    assert flatness({1.0: 1.0, 2.0: 1.0, 4.0: math.inf}) == pytest.approx(1.0)
    # A hollow ends the span.
    assert flatness({1.0: 1.0, 2.0: 9.0, 4.0: 1.01}) == pytest.approx(math.log(1.05) / math.log(9))
    assert flatness({1.0: math.inf}) is None
    assert best_rate({1.0: math.inf, 2.0: 3.0}) == 2.0


def test_an_accuracys_error_is_what_it_lacks():
    row = record("rates", [run("SGD", 0, 0.9, up=True), run("SGD", 1, 0.8, up=True)])["rows"][0]
    assert error_by_rate(row, "SGD") == {0.1: pytest.approx(15.0)}


def test_one_diverged_seed_makes_its_rate_infinite():
    runs = [run("SGD", 0, 0.1), run("SGD", 1, None, status="diverged")]
    assert error_by_rate(record("rates", runs)["rows"][0], "SGD") == {0.1: math.inf}


def test_numbers_are_as_long_as_they_mean_something():
    assert spread([]) == ""
    assert spread([1.234]) == "1.23"
    assert spread([100.0, 300.0]) == "200.0 (100.0 to 300.0)"


@pytest.mark.parametrize("kind", ["table", "rates", "lines"])
def test_a_page_has_table_and_figure(kind, tmp_path):
    runs = [
        run(name, seed, 0.1 * k + 0.01 * seed, lr)
        for k, name in enumerate(("SGD", "Madam"), 1)
        for seed in (0, 1)
        for lr in (0.01, 0.1)
    ]
    page = write_reproduced(record(kind, runs), tmp_path)
    assert page.read_text().startswith("# A test\n\n`rung reproduce test --budget cpu`. Nobody.")
    assert "![A test](test.svg)" in page.read_text()
    first = (tmp_path / "test.svg").read_bytes()
    assert first.startswith(b"<svg")
    write_reproduced(record(kind, runs), tmp_path)
    assert (tmp_path / "test.svg").read_bytes() == first


def test_a_page_of_energies_has_no_figure(tmp_path):
    energies = {
        "name": "e", "title": "E", "source": "S", "kind": "energy", "budget": "cpu", "batch": 32,
        "environment": ENVIRONMENT, "published": {"fp32": "over 90"},
        "rows": [{"model": "resnet18", "savings": {"fp32": [0.912, 0.8, 0.96]}}],
    }  # fmt: skip
    text = write_reproduced(energies, tmp_path).read_text()
    assert "| resnet18 | 91.2 (80 to 96) |" in text
    assert "| published | over 90 |" in text
    assert not (tmp_path / "e.svg").exists()
