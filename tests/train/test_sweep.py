import json
import os
import shlex
import signal
import subprocess
import sys
import time

import pytest

from rung.cli import main
from rung.train import Grid, sweep
from rung.train import loop as loops
from rung.train.sweep_grid import cells_of, ignored_settings
from rung.train.sweep_processes import run_in_processes

from .conftest import SETTINGS, Recorder


@pytest.fixture
def grid(text):
    """A grid over chars-gpt whose runs take a blink."""

    def make(*optimizers, settings=(), **changes):
        changes = {"epochs": 1, "threads": 1, "data_dir": str(text)} | changes
        return Grid(
            recipe="chars-gpt",
            optimizers=optimizers or ("sgd", "adamw"),
            settings=(*SETTINGS, *settings),
            **changes,
        )

    return make


def names(grid):
    return [cell.name for cell in cells_of(grid)]


def record(folder):
    return json.loads((folder / "sweep.json").read_text())


def files(folder):
    return {
        path: path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "sweep.json"
    }


def stamps(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("summary.json")}


def test_cells_are_the_product_of_all_lists_with_seeds_innermost(grid):
    crossed = grid("sgd", "adamw", lrs=(0.1, 0.002), seeds=(0, 3))
    assert names(crossed) == [
        "sgd-lr0.1-seed0",
        "sgd-lr0.1-seed3",
        "sgd-lr0.002-seed0",
        "sgd-lr0.002-seed3",
        "adamw-lr0.1-seed0",
        "adamw-lr0.1-seed3",
        "adamw-lr0.002-seed0",
        "adamw-lr0.002-seed3",
    ]
    first = cells_of(crossed)[0]
    assert first.label == "sgd lr=0.1 seed 0"
    assert (first.config.lr, first.config.seed, first.config.epochs) == (0.1, 0, 1)


def test_every_optimizer_has_the_recipes_own_rate_unless_rates_are_listed(grid):
    from rung.train import get_recipe

    for cell in cells_of(grid("sgd", "madam")):
        assert cell.config.lr == get_recipe("chars-gpt").configure(cell.config.optimizer).lr


def test_bits_name_the_format_of_the_update(grid):
    optimizers = ("sgd", "adam", "adamw", "madam", "lns-madam")
    cells = cells_of(grid(*optimizers, bits=(16, 10)))
    assert [cell.config.update_format for cell in cells] == ["lns16", "lns10"] * 5
    assert cells[0].name.endswith("-16bits-seed0")
    assert "16 bits seed 0" in cells[0].label
    ladders = cells_of(grid("bbit-madam", bits=(16, 4)))
    assert [cell.config.format for cell in ladders] == ["ladder16", "ladder4"]


def test_32_bits_are_float32_weights(grid):
    (cell,) = cells_of(grid("adamw", bits=(32,)))
    assert cell.config.update_format is None
    for optimizer in ("lns-madam", "bbit-madam"):
        with pytest.raises(ValueError, match=f"float32 weights, but optimizer '{optimizer}'"):
            cells_of(grid(optimizer, bits=(32,)))


def test_lmd_takes_no_format_of_the_update(grid):
    (cell,) = cells_of(grid("lmd", bits=(32,)))
    assert cell.config.update_format is None
    with pytest.raises(ValueError, match="'lmd' does not have: .*got bits=10.*state=lns10 in a"):
        cells_of(grid("lmd", bits=(10,)))
    with pytest.raises(ValueError, match="'adamw-8bit' does not have: .* own way; got bits=8. Use"):
        cells_of(grid("adamw-8bit", bits=(8,)))


def test_a_format_is_that_of_all_runs_and_none_is_float32(grid):
    cells = cells_of(grid("adamw", "lns-madam", format="lns6"))
    assert [cell.config.format for cell in cells] == ["lns6", "lns6"]
    cells = cells_of(grid("adamw", "lns-madam", format="none"))
    assert [cell.config.format for cell in cells] == [None, None]


def test_the_command_of_a_cell_makes_the_same_configuration(grid, monkeypatch):
    seen = []

    def note(config, folder, **rest):
        seen.append(config)
        raise ValueError("that is all")

    main(["recipes"])
    monkeypatch.setattr(sys.modules["rung.cli.app"], "run", note)
    cells = cells_of(
        grid("sgd", "lns-madam", bits=(12,), seeds=(2,), settings=["momentum=0.5"])
    ) + cells_of(grid("bbit-madam", "adamw", "lmd", lrs=(0.03,), schedule="constant"))
    cells += cells_of(grid("lmd", "adamw", format="mxfp6_e3m2", settings=["sigma=0.2"]))
    for cell in cells:
        assert main(shlex.split(cell.command)[1:]) == 2
    assert seen == [cell.config for cell in cells]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lrs": ()}, "`lr` must list at least one value; got none"),
        ({"seeds": ()}, "`seed` must list at least one value; got none"),
        ({"lrs": (0.1, 0.1)}, "`lr` must list every value once; got 0.1 2 times"),
        ({"lrs": (0.1, -1.0)}, "`lr` must be a number greater than 0 or none; got -1.0"),
        ({"seeds": (0, -1)}, "`seed` must be an integer in .*; got -1"),
        ({"bits": (16, 33)}, "`bits` must be .* to 16 for optimizer 'sgd', or 32 .*; got 33"),
        ({"epochs": 0}, "`epochs` must be an integer at least 1; got 0"),
        ({"schedule": "step"}, "one of plateau, cosine, linear, constant; got 'step'"),
        ({"format": "int99"}, "Unknown format 'int99'"),
        ({"settings": ["momentun=0.5"]}, "Unknown setting 'momentun'"),
        ({"settings": ["momentum"]}, "A setting has the form KEY=VALUE; got 'momentum'"),
        ({"settings": ["momentum=2"]}, "`momentum` must be"),
        ({"bits": (8,), "settings": ["update_format=lns8"]}, "got bits=8 with both"),
    ],
)
def test_a_grid_is_refused_before_anything_is_written(grid, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        sweep(grid("sgd", "adamw", **changes), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("optimizers", "message"),
    [
        ((), "`optimizer` must list at least one value"),
        (("sgd", "lion"), "Unknown optimizer 'lion'"),
        (("sgd", "sgd"), "`optimizer` must list every value once; got sgd 2 times"),
    ],
)
def test_unknown_missing_and_repeated_optimizers_are_refused(optimizers, message):
    with pytest.raises(ValueError, match=message):
        cells_of(Grid(recipe="digits-cnn", optimizers=optimizers))


def test_a_ladder_is_named_once(grid):
    with pytest.raises(ValueError, match="got bits=8 with format='ladder8'. Drop one"):
        cells_of(grid("bbit-madam", bits=(8,), format="ladder8"))


def test_missing_data_and_devices_stop_a_sweep_before_its_folder_exists(grid, tmp_path):
    out = tmp_path / "out"
    with pytest.raises((ValueError, OSError), match="nowhere"):
        sweep(grid(data_dir=str(tmp_path / "nowhere")), out)
    with pytest.raises(ValueError, match="`device` must be one that this PyTorch can use"):
        sweep(grid(device="tpu9"), out)
    with pytest.raises(ValueError, match="`jobs` must be an integer at least 1; got 0"):
        sweep(grid(), out, jobs=0)
    assert not out.exists()


def test_a_sweep_writes_a_run_folder_for_each_cell_and_a_record(grid, tmp_path):
    display = Recorder()
    result = sweep(grid(seeds=(0, 1)), tmp_path / "out", display=display, command="rung sweep x")
    assert record(tmp_path / "out") == result
    assert result["command"] == "rung sweep x"
    assert result["metric"]["higher_is_better"] is False
    assert [row["status"] for row in result["cells"]] == ["finished"] * 4
    for row in result["cells"]:
        folder = tmp_path / "out" / row["folder"]
        summary = json.loads((folder / "summary.json").read_text())
        assert row["final"] == summary["metric"]["final"]
        assert row["loss"] == summary["loss"]
        assert row["weights_per_weight"] == summary["bytes"]["weights_per_weight"]
        assert summary["command"] == row["command"]
        assert (folder / "checkpoint" / "last.safetensors").is_file()
    ended = [line for line in display.lines if line.startswith("[")]
    assert [line.partition(":")[0] for line in ended] == [
        f"[{number}/4] {cell.label}" for number, cell in enumerate(cells_of(grid(seeds=(0, 1))), 1)
    ]
    assert len(display.steps) == 4 * 6
    assert not any(line.startswith("epoch") for line in display.lines)


def test_ended_cells_are_not_run_again_whatever_the_order_of_the_lists(grid, tmp_path):
    out = tmp_path / "out"
    first = sweep(grid("sgd", "adamw", seeds=(0, 1)), out)
    before, display = stamps(out), Recorder()
    again = sweep(grid("adamw", "sgd", seeds=(1, 0)), out, display=display)
    assert stamps(out) == before
    assert display.steps == []
    assert "4 of 4 runs have ended already" in display.lines
    by_name = {row["folder"]: row for row in first["cells"]}
    assert {row["folder"]: row for row in again["cells"]} == by_name


def test_a_diverged_cell_is_a_result_and_stays_one(grid, tmp_path):
    out = tmp_path / "out"
    wild = grid("sgd", lrs=(1e6, 0.01), settings=["log_every=1", "max_loss=50"])
    display = Recorder()
    result = sweep(wild, out, display=display)
    assert [row["status"] for row in result["cells"]] == ["diverged", "finished"]
    assert result["cells"][0]["reason"]
    assert any("lr=1e+06 seed 0: diverged: the training loss" in line for line in display.lines)
    before = stamps(out)
    sweep(wild, out)
    assert stamps(out) == before


def test_an_interrupted_sweep_goes_on_from_the_checkpoint(grid, tmp_path):
    display = Recorder(at=9, act=lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        sweep(grid(), tmp_path / "broken", display=display)
    statuses = [row["status"] for row in record(tmp_path / "broken")["cells"]]
    assert statuses == ["finished", "unfinished"]
    display = Recorder()
    broken = sweep(grid(), tmp_path / "broken", display=display)
    assert len(display.steps) == 3
    whole = sweep(grid(), tmp_path / "whole")
    for one, other in zip(broken["cells"], whole["cells"], strict=True):
        assert (one["final"], one["loss"]) == (other["final"], other["loss"])


def test_a_sweep_with_lmds_own_rate_can_be_repeated(grid, tmp_path):
    out = tmp_path / "out"
    first = sweep(grid("lmd", seeds=(0, 1)), out)
    assert [row["lr"] for row in first["cells"]] == [None, None]
    before, display = files(out), Recorder()
    assert sweep(grid("lmd", seeds=(0, 1)), out, display=display) == first
    assert files(out) == before
    assert "2 of 2 runs have ended already" in display.lines
    (folder,) = (path for path in out.iterdir() if path.name.endswith("seed1"))
    config = json.loads((folder / "config.json").read_text())
    config["options"]["sigma"] = 0.3
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"another configuration: sigma is 0.3 there and 0.05 h"):
        sweep(grid("lmd", seeds=(0, 1)), out)


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_an_interrupted_sweep_with_lmds_own_rate_goes_on(grid, tmp_path, schedule):
    chosen = grid("lmd", seeds=(0, 1), schedule=schedule, epochs=2)
    display = Recorder(at=15, act=lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        sweep(chosen, tmp_path / "broken", display=display)
    display = Recorder()
    broken = sweep(chosen, tmp_path / "broken", display=display)
    assert len(display.steps) == 9
    whole = sweep(chosen, tmp_path / "whole")
    for one, other in zip(broken["cells"], whole["cells"], strict=True):
        assert (one["final"], one["loss"]) == (other["final"], other["loss"])


def test_jobs_change_no_result(grid, tmp_path):
    one = sweep(grid(), tmp_path / "one")
    display = Recorder()
    two = sweep(grid(), tmp_path / "two", jobs=2, display=display)
    for row, other in zip(one["cells"], two["cells"], strict=True):
        assert row["folder"] == other["folder"]
        assert (row["final"], row["loss"]) == (other["final"], other["loss"])
    assert sum(line.startswith("[") for line in display.lines) == 2


def test_processes_report_what_was_refused_and_how_they_died(grid, tmp_path, monkeypatch):
    cells = cells_of(grid("sgd"))
    (tmp_path / cells[0].name).write_text("a file")
    with pytest.raises(ValueError, match=r"sgd lr=.* seed 0: A run needs a folder; .* is a file"):
        list(run_in_processes(cells, tmp_path, 1))
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(ChildProcessError, match="ended with exit code 1 .it said nothing."):
        list(run_in_processes(cells, tmp_path, 1))


def test_processes_stop_after_a_checkpoint_when_the_sweep_does(grid, tmp_path):
    cells = cells_of(grid("sgd", epochs=2000, settings=["steps_per_epoch=30"]))
    out = tmp_path / "out"
    ended = run_in_processes(cells, out, 1)
    started = time.monotonic()

    def press(number, frame):
        lines = out / cells[0].name / "metrics.jsonl"
        if lines.exists() and lines.stat().st_size > 2000:
            signal.setitimer(signal.ITIMER_REAL, 0)
            raise KeyboardInterrupt
        assert time.monotonic() - started < 60

    before = signal.signal(signal.SIGALRM, press)
    signal.setitimer(signal.ITIMER_REAL, 0.2, 0.05)
    try:
        with pytest.raises(KeyboardInterrupt):
            next(ended)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert (out / cells[0].name / "checkpoint" / "last.safetensors").is_file()
    assert not (out / cells[0].name / "summary.json").exists()


def test_a_killed_sweep_leaves_no_process_and_goes_on_with_the_same_command(text, tmp_path):
    out = tmp_path / "out"
    command = ["sweep", "chars-gpt", "--optimizer", "sgd,adamw", "--epochs", "1", "--threads", "1"]
    command += ["--data-dir", str(text), "--jobs", "2", "--out", str(out)]
    for setting in (*SETTINGS, "steps_per_epoch=60"):
        command += ["--set", setting]
    process = subprocess.Popen([sys.executable, "-m", "rung.cli", *command])
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if any(path.stat().st_size > 500 for path in out.glob("*/metrics.jsonl")):
            break
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    time.sleep(0.5)
    left = files(out)
    time.sleep(0.5)
    assert files(out) == left
    assert main(command) == 0
    assert [row["status"] for row in record(out)["cells"]] == ["finished", "finished"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizers": ("sgd",)}, "optimizer is sgd,adamw there and sgd here"),
        ({"lrs": (0.1, 0.2)}, "lr is not given there and 0.1,0.2 here"),
        ({"seeds": (0, 1)}, "seed is 0 there and 0,1 here"),
        ({"epochs": 2}, "epochs is 1 there and 2 here"),
        ({"settings": ["momentum=0.5"]}, "set is .* there and .*momentum=0.5 here"),
    ],
)
def test_a_folder_of_another_grid_is_refused_by_name(grid, tmp_path, changes, message):
    out = tmp_path / "out"
    sweep(grid(), out)
    before = files(out)
    optimizers = changes.pop("optimizers", ("sgd", "adamw"))
    with pytest.raises(ValueError, match=f"holds another sweep: {message}. Give the options of"):
        sweep(grid(*optimizers, **changes), out)
    assert files(out) == before


def test_a_folder_of_another_recipe_is_refused_by_name(grid, tmp_path):
    sweep(grid("sgd"), tmp_path / "out")
    other = Grid(recipe="digits-cnn", optimizers=("sgd",), epochs=1)
    with pytest.raises(ValueError, match="recipe is chars-gpt there and digits-cnn here"):
        sweep(other, tmp_path / "out")


def test_folders_of_anything_else_are_refused(grid, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="holds notes.txt, text.txt and no sweep.json"):
        sweep(grid("sgd"), tmp_path)
    with pytest.raises(FileExistsError, match="A sweep needs a folder; .*notes.txt is a file"):
        sweep(grid("sgd"), tmp_path / "notes.txt")


def test_a_sweep_with_signed_madams_own_warm_up_can_be_repeated(grid, tmp_path):
    """Its runs write that they were asked for none in particular."""
    out, display = tmp_path / "out", Recorder()
    first = sweep(grid("signed-madam", schedule="cosine"), out)
    assert sweep(grid("signed-madam", schedule="cosine"), out, display=display) == first
    assert "1 of 1 runs have ended already" in display.lines
    (folder,) = (path for path in out.iterdir() if path.is_dir())
    config = json.loads((folder / "config.json").read_text())
    config["options"]["warmup_share"] = 0.1
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="configuration: warmup_share is 0.1 there and None h"):
        sweep(grid("signed-madam", schedule="cosine"), out)


def test_a_record_of_a_newer_rung_or_a_damaged_one_is_refused(grid, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "sweep.json").write_text('{"format_version": 99}')
    with pytest.raises(ValueError, match="format_version 99; this Rung reads up to 1"):
        sweep(grid("sgd"), out)
    for text in ("{", "[]"):
        (out / "sweep.json").write_text(text)
        with pytest.raises(ValueError, match=r"sweep.json must be a JSON file that Rung wrote"):
            sweep(grid("sgd"), out)


def test_a_cell_of_another_configuration_is_refused_by_name(grid, tmp_path):
    out = tmp_path / "out"
    sweep(grid("sgd"), out)
    (folder,) = (path for path in out.iterdir() if path.is_dir())
    config = json.loads((folder / "config.json").read_text())
    config["options"]["momentum"] = 0.1
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="another configuration: momentum is 0.1 there and 0.9 h"):
        sweep(grid("sgd"), out)


def test_a_setting_of_some_optimizers_applies_to_those_and_says_so(grid, tmp_path):
    display = Recorder()
    chosen = grid("sgd", "adamw", settings=["momentum=0.5"])
    sweep(chosen, tmp_path / "out", display=display)
    assert "momentum=0.5 applies to sgd only" in display.lines
    assert [getattr(c.config.optimizer_options, "momentum", None) for c in cells_of(chosen)] == [
        0.5,
        None,
    ]


def test_a_run_that_is_refused_names_its_cell(grid, tmp_path, monkeypatch):
    def refuse(*arguments):
        raise ValueError("no such thing")

    monkeypatch.setattr(loops, "build", refuse)
    with pytest.raises(ValueError, match=r"sgd lr=.* seed 0: no such thing"):
        sweep(grid("sgd"), tmp_path / "out")


def test_a_sweep_says_when_its_layers_compute_in_different_formats(grid):
    mixed = grid("sgd", "lns-madam")
    assert ignored_settings(mixed, cells_of(mixed)) == [
        "layers compute differently: sgd in float32, lns-madam in lns8; --format sets one for all"
    ]
    same = grid("sgd", "lns-madam", format="none")
    assert ignored_settings(same, cells_of(same)) == []


def test_a_ladder_can_share_a_sweep_of_float32_products(grid):
    both = grid("bbit-madam", "lns-madam", format="none", bits=(8, 12))
    assert [cell.config.format for cell in cells_of(both)] == ["ladder8", "ladder12", None, None]


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_workers_stop_though_the_sweep_ignores_ctrl_c(tmp_path, grid):
    cells = cells_of(grid("sgd", seeds=(0,)))
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in the background of a shell
    try:
        assert [cell.name for cell in run_in_processes(cells, tmp_path, 1)] == [cells[0].name]
    finally:
        signal.signal(signal.SIGINT, before)
