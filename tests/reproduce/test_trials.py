import shlex
from pathlib import Path

import pytest

from rung.cli import app as commands
from rung.reproduce import BUDGETS, CONTESTS, DATA, Contestant, Setup
from rung.reproduce import trials as made
from rung.train import recipes

from .conftest import contest

EVERYWHERE = {key: Path("/data") / key for key in DATA}


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("name", CONTESTS)
def test_every_run_of_every_experiment_has_a_configuration(name, budget):
    setup = Setup(budget=budget, data=EVERYWHERE, classifier=Path("/runs/classifier"))
    for row in CONTESTS[name].rows:
        every = [*made.tuning(row, setup), *made.finals(row, setup, {}), *made.grid(row, setup)]
        names = [trial.cell.name for trial in every]
        assert len(set(names)) == len(names)
        assert {trial.cell.config.recipe for trial in every} == {row.recipe}
        assert row.recipe in recipes.RECIPES
        labels = [contestant.label for contestant in row.contestants]
        assert len(set(labels)) == len(labels)
        assert set(row.published) <= {
            "SGD",
            "Adam",
            "Madam",
            *(f"Madam {b} bits" for b in (12, 10, 8)),
        }


def test_tables_share_the_runs_of_float32_madam():
    setup = Setup(budget="cpu", data=EVERYWHERE, classifier=Path("/runs/classifier"))
    first, second = (
        {
            trial.cell.name: trial.cell.config
            for row in CONTESTS[name].rows
            for trial in made.finals(row, setup, {})
        }
        for name in ("madam-table1", "madam-table2")
    )
    shared = first.keys() & second.keys()
    assert {name.split("/")[2] for name in shared} == {"madam-seed0", "madam-seed1", "madam-seed2"}
    assert all(first[name] == second[name] for name in shared)


def test_a_command_says_the_same_as_its_configuration(monkeypatch):
    """The line in a results file, given to `rung train`, would make the very run."""
    seen = []
    done = {"status": "finished"}
    monkeypatch.setattr(commands, "run", lambda config, *_, **__: seen.append(config) or done)
    monkeypatch.setattr(commands.report, "write_report", lambda folder: folder)
    monkeypatch.setattr(commands, "_outcome", lambda summary: "")
    setup = Setup(budget="cpu", data=EVERYWHERE, classifier=Path("/runs/classifier"), threads=1)
    rows = [row for one in CONTESTS.values() for row in one.rows]
    every = [trial for row in rows for trial in (*made.tuning(row, setup), *made.grid(row, setup))]
    for trial in every[::17]:
        words = shlex.split(trial.cell.command)
        assert words[:2] == ["rung", "train"]
        commands.app(args=words[1:], standalone_mode=False, obj="")
        assert seen[-1] == trial.cell.config


def test_trials_take_seed_and_length_of_their_own(setup):
    row = contest(seeds=(0, 1), tuning_settings=("steps_per_epoch=2",)).rows[0]
    tried = made.tuning(row, setup)
    assert [trial.cell.config.lr for trial in tried] == [0.01, 0.3]
    assert {trial.cell.config.seed for trial in tried} == {made.TUNING_SEED}
    assert {trial.cell.config.options.steps_per_epoch for trial in tried} == {2}
    runs = made.finals(row, setup, {"SGD": 0.3})
    assert [(t.contestant.label, t.seed, t.cell.config.lr) for t in runs] == [
        ("SGD", 0, 0.3),
        ("Adam", 0, recipes.get("chars-gpt").configure("adam").lr),
        ("SGD", 1, 0.3),
        ("Adam", 1, recipes.get("chars-gpt").configure("adam").lr),
    ]
    assert {trial.cell.config.options.steps_per_epoch for trial in runs} == {3}


def test_layers_that_compute_in_a_format_take_no_precision(setup):
    plain = Contestant(label="plain", optimizer="adamw", settings=("precision=bf16",))
    coded = Contestant(
        label="coded", optimizer="adamw", format="lns8", settings=("precision=bf16",)
    )
    row = contest("table", plain, coded).rows[0]
    first, second = (trial.cell.config for trial in made.finals(row, setup, {})[:2])
    assert (first.options.precision, first.format) == ("bf16", None)
    assert (second.options.precision, second.format) == ("float32", "lns8")


@pytest.mark.parametrize(
    ("data", "rows", "text"),
    [
        ({}, ["words"], r"Unknown row 'words' of tiny; the rows are: characters, cifar10\."),
        ({"cifar": Path()}, [], r"Unknown data 'cifar'; the keys are: cifar10, cifar100, "),
        (
            {"cifar10": Path("/no/such")},
            [],
            r"The data of 'cifar10' must exist; got /no/such: nothing there\. Give CIFAR-10's pyt",
        ),
        (
            {},
            ["cifar10"],
            r"tiny must have data for at least one row; got none for cifar10\. Give CIFAR-10's "
            r"python batches by --data cifar10=FOLDER\.",
        ),
    ],
)
def test_rows_that_cannot_run_are_refused(data, rows, text):
    with pytest.raises(ValueError, match=text):
        made.runnable(contest(rows=("characters", "cifar10")), Setup(budget="cpu", data=data), rows)


def test_an_unknown_setting_is_refused_before_any_run(setup):
    wrong = Contestant(label="wrong", optimizer="sgd", settings=("widht=8",))
    with pytest.raises(ValueError, match="Unknown setting 'widht' for recipe 'chars-gpt'"):
        made.finals(contest("table", wrong).rows[0], setup, {})


def test_the_classifier_is_a_run_of_cifar10():
    trial = made.classifier_trial(Setup(budget="cpu", data=EVERYWHERE))
    assert trial.cell.name == "classifier/cifar10/classifier-seed0"
    assert trial.cell.config.recipe == "cifar10-resnet18"
