import shutil

import pytest

from rung.report import is_sweep, read_sweep, style, sweep_table, write_sweep
from rung.report.sweep_plot import draw

from .run_folders import edit_json
from .sweep_folders import accuracy, write_sweep_folder
from .test_page import Page, assert_self_contained


@pytest.fixture
def make(tmp_path):
    def made(name="sweep", **options):
        return write_sweep_folder(tmp_path / name, **options)

    return made


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = write_sweep_folder(tmp_path_factory.mktemp("sweeps") / "bits")
    assert write_sweep(folder) == folder / "sweep.html"
    return folder


def lines(folder):
    return sweep_table(read_sweep(folder)).splitlines()


def drawn(folder):
    with style.style():
        figure = draw(read_sweep(folder))
        figure.draw_without_rendering()
    return figure.axes


def tick_labels(axes):
    return [label.get_text() for label in axes.get_xticklabels()]


def points(axes, optimizer):
    """The markers of the legend's entry of this name, left to right."""
    (entry,) = (line for line in axes.lines if line.get_label() == optimizer)
    (markers,) = (
        line
        for line in axes.lines
        if line.get_linestyle() == "None"
        and line.get_marker() == entry.get_marker()
        and line.get_color() == entry.get_color()
    )
    return list(markers.get_ydata())


def test_a_sweep_is_one_page_and_a_picture(written):
    assert {path.name for path in written.iterdir()} == {"sweep.json", "sweep.html", "sweep.png"}
    source = (written / "sweep.html").read_text()
    assert_self_contained(source)
    page = Page(source)
    assert page.pictures == 1
    assert "Sweep of digits-cnn" in page.text
    assert "35 finished" in page.text
    assert "1 diverged" in page.text
    assert "diverged: the training loss became nan at step 77" in page.text
    assert "rung sweep digits-cnn --optimizer sgd,adamw,lns-madam" in page.text
    assert "rung train digits-cnn --optimizer adamw --lr 0.002 --seed 2" in page.text


def test_the_page_depends_on_sweep_json_alone(written, tmp_path):
    other = tmp_path / "elsewhere"
    other.mkdir()
    shutil.copy(written / "sweep.json", other)
    write_sweep(other)
    for name in ("sweep.html", "sweep.png"):
        assert (other / name).read_bytes() == (written / name).read_bytes()


def test_the_table_has_a_line_for_each_setting_with_its_seeds_together(make):
    finals = {0: 0.98, 1: 0.99, 2: 0.97}
    folder = make(
        optimizers=("sgd", "adamw"),
        lrs=(0.1, 0.01),
        bits=(16, 8),
        outcome=lambda optimizer, lr, bits, seed: finals[seed],
    )
    table = lines(folder)
    assert table[0] == "digits-cnn: final test accuracy (higher is better)"
    headings = "optimizer lr bits mean min max weights state ms/step runs"
    assert " ".join(table[1].split()) == headings
    assert " ".join(table[3].split()) == "sgd 0.01 8 98.00 % 97.00 % 99.00 % 4.00 8.00 7.50 3"
    assert [tuple(line.split()[:3]) for line in table[3:-1]] == [
        (optimizer, lr, bits)
        for optimizer in ("sgd", "adamw")
        for lr in ("0.01", "0.1")
        for bits in ("8", "16")
    ]


def test_a_grid_without_bits_has_no_such_column(make):
    headings = "optimizer lr mean min max weights state ms/step runs"
    assert " ".join(lines(make(bits=None))[1].split()) == headings


def test_runs_that_diverged_or_have_not_ended_are_counted_but_in_no_mean(make):
    folder = make(
        optimizers=("sgd", "adamw"),
        bits=None,
        outcome=lambda optimizer, lr, bits, seed: None if seed == 0 else 0.5,
        waiting=2,
    )
    first, second = lines(folder)[3:5]
    assert " ".join(first.split()[2:]) == "50.00 % 50.00 % 50.00 % 4.00 8.00 7.50 2, 1 diverged"
    assert second.endswith("0, 1 diverged, 2 unfinished")
    assert "–" in second


def test_a_sweep_before_its_first_result_has_a_page(make):
    folder = make(waiting=36)
    assert lines(folder)[0] == "digits-cnn: no run has ended yet"
    write_sweep(folder)
    assert "36 unfinished" in Page((folder / "sweep.html").read_text()).text


def test_bits_are_the_axis_where_they_vary_and_float32_stands_apart(make):
    axes = drawn(make(bits=(32, 16, 10)))[0]
    assert tick_labels(axes) == ["10", "16", "float32"]
    assert axes.get_xlabel() == "bits of a weight after its update"
    ten, sixteen, beyond = axes.get_xticks()
    assert (ten, sixteen) == pytest.approx((10, 16))
    assert 16 < beyond < 20


def test_the_learning_rate_is_the_axis_where_bits_do_not_vary(make):
    axes = drawn(make(bits=(12,), lrs=(0.1, 0.001, 0.01)))[0]
    assert (axes.get_xlabel(), axes.get_xscale()) == ("learning rate", "log")
    assert tick_labels(axes) == ["0.001", "0.01", "0.1"]
    many = drawn(make("many", bits=None, lrs=[0.001 * 2**n for n in range(9)]))[0]
    assert "0.01" in tick_labels(many)


def test_optimizers_are_the_axis_where_nothing_else_varies(make):
    assert tick_labels(drawn(make(bits=None))[0]) == ["sgd", "adamw", "lns-madam"]


def test_there_is_a_line_an_optimizer_through_the_means(make):
    folder = make(bits=(8, 16), outcome=lambda optimizer, lr, bits, seed: bits / 100 + seed / 1000)
    axes = drawn(folder)[0]
    for optimizer in ("sgd", "adamw", "lns-madam"):
        assert points(axes, optimizer) == pytest.approx([8.1, 16.1])
    ranges = [segment for lines in axes.collections for segment in lines.get_segments()]
    assert [segment[:, 1].tolist() for segment in ranges[:2]] == [
        pytest.approx([8.0, 8.2]),
        pytest.approx([16.0, 16.2]),
    ]


def test_with_bits_and_rates_a_point_is_the_rate_with_the_best_mean(make):
    def outcome(optimizer, lr, bits, seed):
        return None if lr == 0.5 and seed == 0 else 0.9 if lr == 0.5 else 0.5 + lr

    folder = make(optimizers=("sgd",), lrs=(0.1, 0.2, 0.5), bits=(8, 16), outcome=outcome)
    # The largest rate has the best mean, but only over the seeds that it did not lose.
    assert points(drawn(folder)[0], "sgd") == pytest.approx([70.0, 70.0])
    write_sweep(folder)
    assert "learning rate with the best mean" in Page((folder / "sweep.html").read_text()).text
    lower = make(
        "lower",
        optimizers=("sgd",),
        lrs=(0.1, 0.2),
        metric="perplexity",
        outcome=lambda optimizer, lr, bits, seed: 100 * lr,
    )
    assert points(drawn(lower)[0], "sgd") == pytest.approx([10.0] * 4)


@pytest.mark.parametrize(("metric", "edge"), [("accuracy", 0.0), ("perplexity", 1.0)])
def test_a_diverged_setting_is_a_cross_at_the_worse_edge(make, metric, edge):
    folder = make(
        bits=(8, 16),
        metric=metric,
        outcome=lambda optimizer, lr, bits, seed: None if (bits, seed) == (8, 1) else 0.5,
    )
    axes = drawn(folder)[0]
    crosses = [line for line in axes.lines if line.get_marker() == "X" and len(line.get_xdata())]
    assert [line.get_ydata()[0] for line in crosses] == [edge] * 3
    assert [text.get_text() for text in axes.texts] == ["1 of 3"] * 3
    assert any(line.get_label() == "diverged" for line in axes.lines)


def test_a_sweep_that_diverged_everywhere_says_that_nothing_finished(make):
    axes = drawn(make(outcome=lambda *point: None))[0]
    assert axes.texts[0].get_text() == "no run has finished"
    assert sum(line.get_marker() == "X" for line in axes.lines) == 13


def test_a_second_panel_shows_what_lies_near_the_best(make):
    whole, near = drawn(make())
    assert whole.get_ylim()[0] < 30
    assert near.get_ylim()[0] > 90
    assert len(drawn(make("flat", outcome=lambda *point: 0.9))) == 1
    assert len(drawn(make("even", outcome=lambda o, lr, bits, seed: bits / 20))) == 1


def test_perplexities_that_explode_have_a_logarithmic_axis(make):
    def outcome(optimizer, lr, bits, seed):
        return 80 / accuracy("adamw", lr, bits, seed) ** 9

    axes = drawn(make(metric="perplexity", outcome=outcome))[0]
    assert axes.get_yscale() == "log"
    assert axes.get_ylabel() == "test perplexity, lower is better"
    assert drawn(make("accuracy"))[0].get_ylabel() == "test accuracy (%), higher is better"


def test_a_folder_that_is_no_sweep_is_told_apart_and_refused(make, tmp_path):
    assert is_sweep(make())
    assert not is_sweep(tmp_path)
    with pytest.raises(ValueError, match="a sweep's folder must hold sweep.json; got .* without"):
        read_sweep(tmp_path)


def test_a_damaged_or_newer_file_is_refused_by_name(make):
    folder = make()
    edit_json(folder / "sweep.json", lambda record: record["cells"][3].pop("lr"))
    with pytest.raises(ValueError, match=r"sweep.json must hold `cells\[3\].lr`"):
        write_sweep(folder)
    edit_json(folder / "sweep.json", lambda record: record.update(format_version=99))
    with pytest.raises(ValueError, match="format_version 1 or less; got 99"):
        write_sweep(folder)
    (folder / "sweep.json").write_text("{")
    with pytest.raises(ValueError, match="sweep.json must be valid JSON"):
        write_sweep(folder)
    assert not (folder / "sweep.html").exists()
