import re
from dataclasses import fields

import pytest

from rung.report import compare, comparison_path, comparison_table, read_run, rows, seed_groups
from rung.report.rows import rows_of
from rung.train.config import OPTIMIZERS

from .run_folders import edit_json, write_run
from .test_page import Page, assert_self_contained

SEEDS = {0: 0.99, 1: 0.98, 2: 0.985}


def set_final(folder, value):
    edit_json(folder / "summary.json", lambda s: s["metric"].update(final=value, best=value))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    base = tmp_path_factory.mktemp("runs")
    folders = []
    for seed, final in SEEDS.items():
        folders.append(write_run(base / f"madam-{seed}", seed=seed))
        set_final(folders[-1], final)
    folders.append(write_run(base / "adamw", optimizer="adamw", format=None, lr=0.001))
    return folders


@pytest.fixture(scope="module")
def compared(runs, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "deeper"
    return compare(runs, out), out


def rows_for(*folders):
    return rows_of([read_run(folder) for folder in folders])


def test_a_comparison_is_one_page_and_a_picture(compared):
    rows, out = compared
    assert [row.name for row in rows] == ["madam-0", "madam-1", "madam-2", "adamw"]
    assert {path.name for path in out.iterdir()} == {
        "comparison.html",
        "comparison-digits-cnn-test-accuracy.png",
    }
    source = (out / "comparison.html").read_text()
    assert_self_contained(source)
    page = Page(source)
    assert page.pictures == 1
    assert "mean 98.50 %, range 98.00 % to 99.00 % (3 runs, 3 seeds)" in page.text
    assert "rung train digits-cnn --optimizer adamw --seed 0" in page.text


def test_the_table_has_a_line_for_each_run_and_one_for_the_seeds(compared):
    lines = comparison_table(compared[0]).splitlines()
    assert lines[0] == "digits-cnn: test accuracy (higher is better)"
    headings = "run optimizer format seed final best weights state both ms/step status"
    assert " ".join(lines[1].split()) == headings
    first = "madam-0 bbit-madam ladder8 0 99.00 % 99.00 % 1.01 2.02 3.03 18.4 finished"
    assert " ".join(lines[3].split()) == first
    assert lines[7] == (
        "bbit-madam ladder8, lr 0.01: mean 98.50 %, range 98.00 % to 99.00 % (3 runs, 3 seeds)"
    )
    assert "AdamW in float32 needs 12" in lines[-1]


def test_numbers_of_the_table_end_in_one_column(compared):
    lines = comparison_table(compared[0]).splitlines()[3:7]
    ends = {match.end() for line in lines for match in [re.search(r"18\.4", line)] if match}
    assert len(ends) == 1


def test_runs_that_did_not_finish_are_left_out_of_the_mean_and_counted(make_run):
    rows = rows_for(
        make_run("a", seed=0),
        make_run("b", seed=1),
        make_run("c", seed=2, status="diverged"),
        make_run("d", seed=3, status="unfinished"),
    )
    (group,) = seed_groups(rows)
    assert [row.name for row in group.rows] == ["a", "b"]
    assert "2 more diverged or did not end and are not counted" in comparison_table(rows)


def test_one_seed_twice_is_no_group(make_run):
    assert seed_groups(rows_for(make_run("a"), make_run("b"))) == []


@pytest.mark.parametrize(
    "other",
    [
        {"lr": 0.02},
        {"epochs": 99},
        {"batch_size": 64},
        {"schedule": "constant"},
        {"options": {"width": 2.0}},
        {"format": "ladder10", "bits": 10},
        {"optimizer": "madam", "format": None},
    ],
)
def test_runs_that_differ_in_more_than_their_seed_are_not_averaged(make_run, other):
    assert seed_groups(rows_for(make_run("a"), make_run("b", seed=1, **other))) == []


def test_options_that_change_no_figure_do_not_part_seeds(make_run):
    rows = rows_for(
        make_run("a", options={"log_every": 10}), make_run("b", seed=1, options={"log_every": 20})
    )
    assert len(seed_groups(rows)) == 1


def test_unequal_conditions_are_named(make_run):
    rows = rows_for(
        make_run("a", epochs=1, options={"beta": 0.9}),
        make_run("b", epochs=2, options={"beta": 0.99}),
    )
    assert "Runs of digits-cnn differ in epochs: their figures" in comparison_table(rows)


def test_set_ups_of_one_name_are_told_apart_by_what_differs(make_run):
    rows = rows_for(
        make_run("a", options={"rounding": "nearest", "beta": 0.9}),
        make_run("b", options={"rounding": "stochastic", "beta": 0.9}),
    )
    assert [row.setup for row in rows] == [
        "bbit-madam ladder8, lr 0.01, rounding nearest",
        "bbit-madam ladder8, lr 0.01, rounding stochastic",
    ]


def test_each_recipe_has_a_table_and_a_picture_of_its_own(make_run, tmp_path):
    folders = [
        make_run("a"),
        make_run("b", recipe="chars-gpt", metric="loss_per_character", final=1.9),
    ]
    rows = compare(folders, tmp_path / "all.html")
    assert Page((tmp_path / "all.html").read_text()).pictures == 2
    assert (tmp_path / "all-chars-gpt-test-loss-per-character.png").is_file()
    assert "chars-gpt: test loss per character (lower is better)" in comparison_table(rows)


def test_a_run_with_nothing_in_it_yet_is_a_row_of_dashes(make_run, tmp_path):
    folder = make_run(status="unfinished")
    (folder / "metrics.jsonl").unlink()
    (folder / "diagnostics.json").unlink()
    table = comparison_table(compare([folder], tmp_path))
    line = " ".join(table.splitlines()[3].split())
    assert line == "run bbit-madam ladder8 0 – – – – – – unfinished"


def test_runs_of_one_name_are_told_apart_by_their_parents(make_run):
    rows = rows_for(make_run("a/run"), make_run("b/run"))
    assert [row.name for row in rows] == ["a/run", "b/run"]


def test_a_run_named_twice_counts_once(make_run, tmp_path):
    folder = make_run(evals=1, steps=20)
    assert len(compare([folder, f"{folder}/"], tmp_path / "out")) == 1


def test_very_long_names_are_shortened_in_the_table(make_run):
    table = comparison_table(rows_for(make_run("x" * 120)))
    assert max(map(len, table.splitlines())) < 140


def test_the_page_lies_beside_the_first_run_unless_told(make_run, tmp_path):
    folder = make_run()
    assert comparison_path([folder]) == folder.parent / "comparison.html"
    assert comparison_path([folder], tmp_path / "x") == tmp_path / "x" / "comparison.html"
    assert comparison_path([folder], tmp_path / "x.html") == tmp_path / "x.html"


def test_no_folders_are_refused():
    with pytest.raises(ValueError, match="`folders` must name at least one run; got none"):
        compare([])


def test_a_damaged_run_leaves_nothing_half_written(make_run, tmp_path):
    good, bad = make_run("good"), make_run("bad")
    (bad / "summary.json").write_text("{")
    with pytest.raises(ValueError, match=r"summary\.json must be valid JSON"):
        compare([good, bad], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_options_of_an_optimizer_are_what_is_compared(optimizer):
    names = {field.name for field in fields(OPTIMIZERS[optimizer])}
    assert names - rows._OPTIMIZER_OPTIONS == set()


def test_options_that_change_nothing_are_no_conditions(make_run):
    plain = {"precision": "float32", "average_from": 0.0, "eval_tokens": None, "workers": 3}
    same = rows_for(make_run("a", options={}), make_run("b", options=plain))
    assert "equal conditions" not in comparison_table(same)
    other = rows_for(make_run("c", options={}), make_run("d", options={"precision": "bf16"}))
    assert "Runs of digits-cnn differ in precision: their" in comparison_table(other)
