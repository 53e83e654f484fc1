import json
import math

import pytest

from rung.report import medians, read_run, style, write_report

from .run_folders import deep, edit_json
from .test_page import assert_self_contained, read_page

SCORES = {"loss": 0.05, "metric": 0.98, "ece": 0.0123}
POSTERIOR = {"samples": 8, **SCORES, "mean": SCORES | {"ece": 0.02}, "median": SCORES}


def lmd(make_run, **options):
    return make_run(optimizer="lmd", format="mxfp4", bits=0, **options)


def panels(figure):
    return [axes for axes in figure.axes if axes.patches or axes.lines]


def test_the_page_of_an_lmd_run_shows_its_logarithms_and_calibration(make_run):
    folder = lmd(make_run)
    edit_json(folder / "summary.json", lambda value: value.update(posterior=POSTERIOR))
    write_report(folder)
    assert_self_contained((folder / "report.html").read_text())
    page = read_page(folder)
    assert "section-medians" in page.ids
    assert (folder / "pictures" / "medians.png").read_bytes().startswith(b"\x89PNG")
    for fact in ("calibration error 1.23 %", "mean of 8 samples; mean 2.00 %, median 1.23 %"):
        assert fact in page.text
    assert "Theorem 1 does not apply to lmd" in page.text
    assert "multiplies two parts of each" in page.text
    assert "the change of ln w₊ and ln w₋ in one step" in page.text


def test_a_run_of_another_optimizer_has_no_such_figure(make_run):
    run = read_run(make_run())
    assert medians.draw(run) is None
    assert medians.rows(run) == []


def test_the_start_the_first_and_the_last_evaluation_are_drawn(make_run):
    run = read_run(lmd(make_run, steps=600, evals=12))
    assert [record["step"] for record in medians.snapshots(run)] == [0, 50, 600]
    with style.style():
        assert len(panels(medians.draw(run))) == 3 * 4


@pytest.mark.parametrize("evals", [1, 2])
def test_short_runs_are_drawn_as_far_as_they_went(make_run, evals):
    run = read_run(lmd(make_run, steps=60, evals=evals))
    assert len(medians.snapshots(run)) == evals + 1
    with style.style():
        assert style.to_png(medians.draw(run))


def test_of_many_tensors_some_are_drawn_and_all_are_in_the_table(make_run):
    run = read_run(lmd(make_run, layers=deep(30), steps=20, evals=1))
    names = medians.shown_names(run.medians_records)
    assert len(names) == medians.MOST_TENSORS
    assert names[0].startswith("layers.0.")
    assert names[-1].startswith("layers.29.")
    assert len(medians.rows(run)) == 60


def test_histogram_and_fit_are_densities(make_run):
    run = read_run(lmd(make_run))
    side = run.medians_records[-1]["tensors"][0]["positive"]
    edges, heights = medians.density(side)
    width = edges[1] - edges[0]
    assert sum(heights) * width == pytest.approx(1)
    assert (edges[0], edges[-1]) == pytest.approx((side["low"], side["high"]))
    steps = [side["mean"] + side["std"] * (i / 100 - 8) for i in range(1600)]
    area = sum(medians.normal(side, steps)) * side["std"] / 100
    assert area == pytest.approx(1, abs=1e-6)
    assert math.isclose(max(medians.normal(side, steps)), 0.39894 / side["std"], rel_tol=1e-4)


def edit_medians(folder, change):
    path = folder / "metrics.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    for record in records:
        if record["kind"] == "medians":
            change(record)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def test_tensors_without_a_spread_and_tensors_that_are_gone_can_be_drawn(make_run):
    folder = lmd(make_run, steps=20, evals=2)

    def change(record):
        flat = {"std": 0.0, "skewness": None, "excess_kurtosis": None, "ks": None}
        for side in ("positive", "negative"):
            record["tensors"][0][side] |= flat
        if record["step"] == 0:
            del record["tensors"][1:]

    edit_medians(folder, change)
    with style.style():
        assert style.to_png(medians.draw(read_run(folder)))


def test_a_damaged_record_is_named(make_run):
    folder = lmd(make_run)
    edit_medians(folder, lambda record: record["tensors"][0]["positive"].pop("ks"))
    with pytest.raises(ValueError, match=r"must hold `tensors\[0\].positive.ks`; got keys low, "):
        read_run(folder)
