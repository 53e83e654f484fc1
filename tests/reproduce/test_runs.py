import json
from dataclasses import replace

import pytest

from rung.reproduce import Contestant, Row, Setup, Size, energy_results, run_contest
from rung.reproduce.runs import best_rates
from rung.train.display import Silent

from .conftest import contest


class Lines(Silent):
    def __init__(self):
        self.lines = []

    def line(self, text):
        self.lines.append(text)


def trial(contestant, lr, final, status="finished", up=False):
    metric = {"name": "x", "split": "test", "higher_is_better": up}
    return {
        "contestant": contestant, "lr": lr, "final": final, "status": status, "metric": metric,
    }  # fmt: skip


def test_an_experiment_runs_and_says_what_it_ran(setup, tmp_path):
    display = Lines()
    record = run_contest(contest(), setup, tmp_path, display=display, command="rung reproduce x")
    assert json.loads((tmp_path / "smoke" / "tiny.json").read_text()) == record
    (row,) = record["rows"]
    assert row["status"] == "measured"
    assert [(run["contestant"], run["seed"]) for run in row["runs"]] == [
        ("SGD", 0), ("Adam", 0), ("SGD", 1), ("Adam", 1),
    ]  # fmt: skip
    tried = {run["lr"]: run["final"] for run in row["trials"]}
    assert row["chosen"] == {"SGD": min(tried, key=tried.get)}
    assert {run["lr"] for run in row["runs"] if run["contestant"] == "SGD"} == {
        row["chosen"]["SGD"]
    }
    assert display.lines[0].startswith(
        "[1/2] characters, SGD, lr 0.01, seed 10: loss_per_character "
    )
    assert display.lines[-1].startswith("[4/4] characters, Adam, seed 1: loss_per_character ")


def test_what_has_ended_is_not_run_again(setup, tmp_path):
    first = run_contest(contest(), setup, tmp_path)
    again = Lines()
    assert run_contest(contest(), setup, tmp_path, display=again) == first
    assert again.lines == []
    (tmp_path / "smoke" / "tiny.json").unlink()
    (tmp_path / "smoke" / "runs" / "characters" / "adam-seed1" / "summary.json").unlink()
    once = run_contest(contest(), setup, tmp_path, display=again)
    assert again.lines[0] == "3 of 4 runs have ended already"
    assert again.lines[1].startswith("[4/4] characters, Adam, seed 1: ")
    finals = [run["final"] for run in first["rows"][0]["runs"]]
    assert [run["final"] for run in once["rows"][0]["runs"]] == finals


def test_a_row_is_judged_by_its_loss_where_it_says_so(setup, tmp_path):
    one = (Contestant(label="SGD", optimizer="sgd", rates=(0.01, 0.3)),)
    size = Size(words="a blink", epochs=1, seeds=(0,))
    images = Row(
        name="digits", title="Digits", recipe="digits-mlp", unit="loss, nats", contestants=one,
        sizes={"smoke": size}, judged="loss",
    )  # fmt: skip
    made = replace(contest("arena"), rows=(images,))
    (row,) = run_contest(made, setup, tmp_path)["rows"]
    for run in (*row["trials"], *row["runs"]):
        assert run["final"] == run["loss"]["eval"]
        assert (run["metric"]["name"], run["metric"]["higher_is_better"]) == ("loss", False)
    losses = {run["lr"]: run["loss"]["eval"] for run in row["trials"]}
    assert row["chosen"] == {"SGD": min(losses, key=losses.get)}
    # Elsewhere the results file is enough, but not for a row that is judged by the metric.
    (tmp_path / "b" / "smoke").mkdir(parents=True)
    kept = (tmp_path / "smoke" / "tiny.json").read_text()
    (tmp_path / "b" / "smoke" / "tiny.json").write_text(kept)
    again = Lines()
    assert run_contest(made, setup, tmp_path / "b", display=again)["rows"][0]["runs"] == row["runs"]
    assert again.lines == []
    plain = replace(made, rows=(replace(images, judged="metric"),), name="plain")
    (other,) = run_contest(plain, setup, tmp_path / "b", display=again)["rows"]
    assert len(again.lines) == 3
    assert other["runs"][0]["metric"]["name"] == "accuracy"


class _Killed(Exception):
    pass


class KilledAfter(Silent):
    def __init__(self, word):
        self.word = word

    def line(self, text):
        if self.word in text:
            raise _Killed(text)


def test_a_stopped_experiment_leaves_the_runs_that_ended_and_goes_on_elsewhere(setup, tmp_path):
    """Another machine has the results file alone, which says how far they got."""
    whole = run_contest(contest(), setup, tmp_path / "whole")
    with pytest.raises(_Killed, match=r"\[3/4\] characters, SGD, lr .*, seed 1"):
        run_contest(contest(), setup, tmp_path / "here", display=KilledAfter("[3/4]"))
    left = json.loads((tmp_path / "here" / "smoke" / "tiny.json").read_text())
    (row,) = left["rows"]
    assert row["status"] == "partial"
    assert row["reason"] == "3 of 4 runs have ended: the same command goes on."
    ran = [(run["contestant"], run["seed"]) for run in row["runs"]]
    assert ran == [("SGD", 0), ("Adam", 0), ("SGD", 1)]
    there = tmp_path / "there" / "smoke"
    there.mkdir(parents=True)
    (there / "tiny.json").write_text(json.dumps(left))
    display = Lines()
    record = run_contest(contest(), setup, tmp_path / "there", display=display)
    assert [line.split(":")[0] for line in display.lines] == [
        "3 of 4 runs have ended already",
        "[4/4] characters, Adam, seed 1",
    ]
    assert record["rows"][0]["status"] == "measured"
    finals = [[run["final"] for run in found["rows"][0]["runs"]] for found in (whole, record)]
    assert finals[0] == finals[1]


def test_trials_of_learning_rates_are_kept_too(setup, tmp_path):
    with pytest.raises(_Killed, match=r"\[1/2\] characters, SGD, lr 0.01, seed 10"):
        run_contest(contest(), setup, tmp_path / "here", display=KilledAfter("[1/2]"))
    left = json.loads((tmp_path / "here" / "smoke" / "tiny.json").read_text())
    (row,) = left["rows"]
    assert (row["status"], row["runs"]) == ("partial", [])
    assert row["reason"] == "Learning rates are being tried: the same command goes on."
    there = tmp_path / "there" / "smoke"
    there.mkdir(parents=True)
    (there / "tiny.json").write_text(json.dumps(left))
    display = Lines()
    run_contest(contest(), setup, tmp_path / "there", display=display)
    assert display.lines[0] == "1 of 2 runs have ended already"


def test_a_measured_row_loses_no_run_to_a_stopped_second_time(setup, tmp_path):
    """Runs without a configuration, as older files have them, are made again one by one."""
    whole = run_contest(contest(), setup, tmp_path / "a")
    for run in (*whole["rows"][0]["trials"], *whole["rows"][0]["runs"]):
        del run["configuration"]
    there = tmp_path / "b" / "smoke"
    there.mkdir(parents=True)
    (there / "tiny.json").write_text(json.dumps(whole))
    with pytest.raises(_Killed):
        run_contest(contest(), setup, tmp_path / "b", display=KilledAfter("[1/4]"))
    (row,) = json.loads((there / "tiny.json").read_text())["rows"]
    assert row["status"] == "partial"
    assert len(row["runs"]) == 4
    assert ["configuration" in run for run in row["runs"]] == [True, False, False, False]


def test_rows_that_another_process_measured_meanwhile_are_kept(setup, tmp_path):
    both = contest(rows=("characters", "cifar10"), seeds=(0,))

    class Other(Silent):
        def line(self, text):
            path = tmp_path / "smoke" / "tiny.json"
            record = json.loads(path.read_text())
            record["rows"][1] |= {"status": "measured", "runs": ["theirs"]}
            path.write_text(json.dumps(record))

    record = run_contest(both, setup, tmp_path, rows=["characters"], display=Other())
    assert record["rows"][1]["runs"] == ["theirs"]


def test_files_that_are_no_results_stop_nothing(setup, tmp_path):
    folder = tmp_path / "smoke"
    folder.mkdir()
    (folder / "broken.json").write_text("{")
    (folder / "energy.json").write_text('{"kind": "energy", "rows": 3}')
    (folder / "newer.json").write_text('{"kind": "table", "format_version": 2, "rows": 3}')
    assert run_contest(contest(), setup, tmp_path)["rows"][0]["status"] == "measured"


def test_who_is_borrowed_from_is_trained_again_and_borrowers_are_not(setup, tmp_path):
    contestants = (
        Contestant(label="W_max of Madam", optimizer="bbit-madam", scales_from="Madam"),
        Contestant(label="Madam", optimizer="madam"),
    )
    known = run_contest(contest("table", *contestants), setup, tmp_path / "a")
    there = tmp_path / "b" / "smoke"
    there.mkdir(parents=True)
    (there / "tiny.json").write_text(json.dumps(known))
    display = Lines()
    record = run_contest(contest("table", *contestants), setup, tmp_path / "b", display=display)
    assert [line.split(":")[0] for line in display.lines] == [
        "[1/2] characters, Madam, seed 0",
        "[2/2] characters, Madam, seed 1",
    ]
    finals = [[run["final"] for run in found["rows"][0]["runs"]] for found in (known, record)]
    assert finals[0] == finals[1]


def test_places_on_this_machine_are_in_no_results_file(tmp_path):
    folder = tmp_path / "my data"
    folder.mkdir()
    (folder / "text.txt").write_text("rungs of a ladder, " * 40)
    data = folder / "text.txt"
    setup = Setup(budget="smoke", data={"wikitext2": data}, threads=1)
    command = f"rung reproduce x --out {tmp_path} --data 'wikitext2={data}' --jobs 2"
    words = contest(rows=("wikitext2",), seeds=(0,))
    record = run_contest(words, setup, tmp_path / "out", command=command)
    assert record["command"] == "rung reproduce x --data wikitext2=DIR --jobs 2"
    assert "--data-dir DATA " in record["rows"][0]["runs"][0]["command"]
    assert str(tmp_path) not in json.dumps(record)


def test_a_results_file_of_other_settings_spares_no_run(setup, tmp_path):
    run_contest(contest(), setup, tmp_path / "a")
    there = tmp_path / "b" / "smoke"
    there.mkdir(parents=True)
    old = json.loads((tmp_path / "a" / "smoke" / "tiny.json").read_text())
    for run in (*old["rows"][0]["trials"], *old["rows"][0]["runs"]):
        run["configuration"] = "0" * 16
    (there / "tiny.json").write_text(json.dumps(old))
    display = Lines()
    run_contest(contest(), setup, tmp_path / "b", display=display)
    assert [line.split("]")[0] for line in display.lines] == [
        "[1/2", "[2/2", "[1/4", "[2/4", "[3/4", "[4/4",
    ]  # fmt: skip


def test_a_contestant_borrows_the_largest_weights_of_another_one(setup, tmp_path):
    contestants = (
        Contestant(label="plain", optimizer="bbit-madam"),
        Contestant(label="W_max of Madam", optimizer="bbit-madam", scales_from="Madam"),
        Contestant(label="Madam", optimizer="madam"),
    )
    record = run_contest(contest("table", *contestants), setup, tmp_path)
    (row,) = record["rows"]
    runs = {(run["contestant"], run["seed"]): run for run in row["runs"]}
    assert [label for label, seed in runs if seed == 0] == [c.label for c in contestants]
    for seed in (0, 1):
        borrowed, plain = runs["W_max of Madam", seed], runs["plain", seed]
        assert f"--set scales_from=RUNS/madam-seed{seed}" in borrowed["command"]
        assert borrowed["final"] != plain["final"]
        assert "scales_from" not in plain["command"]
    assert str(tmp_path) not in json.dumps(row)
    again = Lines()
    assert run_contest(contest("table", *contestants), setup, tmp_path, display=again) == record
    assert again.lines == []


def test_who_borrows_tries_no_learning_rates():
    with pytest.raises(ValueError, match=r"'x' takes its W_max from .* must be None; got \(0.1,\)"):
        Contestant(label="x", optimizer="bbit-madam", rates=(0.1,), scales_from="Madam")


def test_two_at_a_time_give_the_same(setup, tmp_path):
    one = run_contest(contest(), setup, tmp_path / "one")
    two = run_contest(contest(), setup, tmp_path / "two", jobs=2)
    finals = [[run["final"] for run in found["rows"][0]["runs"]] for found in (one, two)]
    assert finals[0] == finals[1]


def test_rows_without_data_say_what_they_need_and_measured_ones_are_kept(setup, tmp_path):
    both = contest(rows=("characters", "wikitext2"), seeds=(0,))
    record = run_contest(both, setup, tmp_path)
    assert [row["status"] for row in record["rows"]] == ["measured", "not run"]
    assert record["rows"][1]["reason"].endswith("by --data wikitext2=FOLDER.")
    text = tmp_path / "text.txt"
    text.write_text("rungs of a ladder, " * 40)
    given = Setup(budget="smoke", data={"wikitext2": text}, threads=1)
    later = run_contest(both, given, tmp_path, rows=["wikitext2"])
    assert [row["status"] for row in later["rows"]] == ["measured", "measured"]
    assert later["rows"][0]["runs"] == record["rows"][0]["runs"]
    # Where the data lay is nobody's business.
    run = later["rows"][1]["runs"][0]
    assert "--data-dir DATA" in run["command"]
    assert str(tmp_path) not in json.dumps(run)


def test_every_rate_is_a_result_of_a_figure_of_rates(setup, tmp_path):
    record = run_contest(contest("rates", seeds=(0,)), setup, tmp_path)
    runs = record["rows"][0]["runs"]
    assert [(run["contestant"], run["lr"]) for run in runs[:2]] == [("SGD", 0.01), ("SGD", 0.3)]
    assert len(runs) == 3


def test_a_diverged_run_is_a_result(setup, tmp_path):
    wild = Contestant(label="wild", optimizer="sgd", rates=(1e30, 0.01))
    record = run_contest(contest("rates", wild, seeds=(0,)), setup, tmp_path)
    assert [run["status"] for run in record["rows"][0]["runs"]] == ["diverged", "finished"]


def test_the_best_rate_is_the_best_that_finished():
    down = [trial("a", 1.0, 3.0), trial("a", 2.0, 1.0), trial("a", 3.0, None, "diverged")]
    up = [trial("b", 1.0, 0.5, up=True), trial("b", 2.0, 0.7, up=True)]
    assert best_rates([*down, *up]) == {"a": 2.0, "b": 2.0}
    with pytest.raises(ValueError, match="c must finish at one learning rate at least; all of its"):
        best_rates([trial("c", 1.0, None, "diverged")])


def test_a_results_file_of_a_newer_rung_is_left_alone(setup, tmp_path):
    path = tmp_path / "smoke" / "tiny.json"
    path.parent.mkdir()
    path.write_text('{"format_version": 99, "rows": []}')
    with pytest.raises(ValueError, match="has format_version 99; this Rung reads up to 1"):
        run_contest(contest(), setup, tmp_path)
    assert path.read_text() == '{"format_version": 99, "rows": []}'


def test_energies_are_counted(tmp_path):
    record = energy_results("smoke", tmp_path)
    assert json.loads((tmp_path / "smoke" / "lns-madam-energy.json").read_text()) == record
    (row,) = record["rows"]
    value, low, high = row["savings"]["fp32"]
    assert 0.5 < low < value < high < 1
