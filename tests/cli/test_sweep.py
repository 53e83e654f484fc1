import json
import signal
import sys

import pytest
import typer

from rung import report
from rung.cli import main
from rung.train import display as displays
from rung.train.display import Silent

TINY = ["width=8", "heads=2", "layers=1", "context=8", "batch_size=4", "steps_per_epoch=3"]
TINY += ["eval_batch_size=4000"]


@pytest.fixture
def sweep(tmp_path, monkeypatch, capsys):
    """Runs ``rung sweep chars-gpt`` on a small text."""
    text = tmp_path / "input.txt"
    text.write_text("rungs of a ladder, " * 40)
    monkeypatch.chdir(tmp_path)

    def run(*arguments, recipe="chars-gpt"):
        command = ["sweep", recipe, *map(str, arguments)]
        if recipe == "chars-gpt":
            command += ["--data-dir", str(text), "--threads", "1"]
            for setting in TINY:
                command += ["--set", setting]
        code = main(command)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_the_flags_are_frozen():
    assert main(["recipes"]) == 0
    group = typer.main.get_command(sys.modules["rung.cli.app"].app)
    parameters = group.commands["sweep"].params
    assert [name for parameter in parameters for name in parameter.opts] == [
        "recipe",
        "--optimizer",
        "--lr",
        "--bits",
        "--seed",
        "--format",
        "--epochs",
        "--schedule",
        "--data-dir",
        "--device",
        "--threads",
        "--set",
        "--out",
        "--jobs",
    ]


def test_a_sweep_says_a_line_a_cell_and_ends_with_table_and_page(sweep, tmp_path):
    code, out, err = sweep("--optimizer", "sgd, adamw", "--lr", "0.1,1e-3", "--epochs", 1)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith("data: ")
    assert lines[1].startswith("[1/4] sgd lr=0.1 seed 0: loss_per_character ")
    assert lines[1].endswith(" s)")
    assert [line[:5] for line in lines[1:5]] == ["[1/4]", "[2/4]", "[3/4]", "[4/4]"]
    assert lines[5].startswith("chars-gpt: final valid ")
    folder = tmp_path / "sweeps" / "chars-gpt"
    assert lines[-1] == "report: sweeps/chars-gpt/sweep.html"
    assert {path.name for path in folder.iterdir() if path.is_file()} == {
        "sweep.json",
        "sweep.html",
        "sweep.png",
    }
    record = json.loads((folder / "sweep.json").read_text())
    assert record["command"].startswith("rung sweep chars-gpt --optimizer 'sgd, adamw' --lr 0.1")
    assert record["grid"]["lr"] == [0.1, 0.001]
    assert len(list(folder.glob("*/summary.json"))) == 4


def test_the_optimizer_follows_the_format_as_in_training(sweep, tmp_path):
    for format, optimizer in ((None, "bbit-madam"), ("lns8", "lns-madam"), ("mxfp4", "lmd")):
        out = tmp_path / optimizer
        flags = [] if format is None else ["--format", format]
        assert sweep("--epochs", 1, "--out", out, *flags)[0] == 0
        (cell,) = json.loads((out / "sweep.json").read_text())["cells"]
        assert cell["optimizer"] == optimizer


def test_bits_reach_every_optimizer(sweep, tmp_path):
    arguments = ["--optimizer", "sgd,lns-madam,bbit-madam", "--bits", "10,16", "--epochs", 1]
    assert sweep(*arguments, "--out", tmp_path / "out")[0] == 0
    cells = json.loads((tmp_path / "out" / "sweep.json").read_text())["cells"]
    assert [cell["update_format"] or cell["format"] for cell in cells] == [
        *("lns10", "lns16") * 2,
        "ladder10",
        "ladder16",
    ]
    assert {cell["status"] for cell in cells} == {"finished"}


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--optimizer", "sgd,lion"], "Unknown optimizer 'lion'; the optimizers are: sgd, adam"),
        (["--optimizer", "sgd,"], "`--optimizer` must list names"),
        (["--optimizer", "sgd,sgd"], "`optimizer` must list every value once; got sgd 2 times"),
        (["--lr", "0.1,fast"], "`--lr` must list numbers with commas between them, such as 0.01"),
        (["--lr", "0.1,,0.2"], "`--lr` must list numbers"),
        (["--lr", "0.1,nan"], "`lr` must be a number greater than 0 or none; got nan"),
        (["--lr", "0.1,1e-1"], "`lr` must list every value once; got 0.1 2 times"),
        (["--bits", "8,8.5"], "`--bits` must list integers"),
        (["--bits", "99"], "`bits` must be 2 to 16 for optimizer 'bbit-madam'; got 99"),
        (["--bits", "32", "--optimizer", "lns-madam"], "stores its weights in codes; got bits=32"),
        (["--seed", "-1"], "`seed` must be an integer in"),
        (["--seed", ""], "`--seed` must list integers"),
        (["--format", "ladder8", "--optimizer", "adamw"], "only optimizer 'bbit-madam' trains"),
        (["--epochs", "0"], "`epochs` must be an integer at least 1; got 0"),
        (["--schedule", "step"], "one of plateau, cosine, linear, constant; got 'step'"),
        (["--jobs", "0"], "`jobs` must be an integer at least 1; got 0"),
        (["--set", "widht=3"], "Unknown setting 'widht'"),
        (["--set", "clip"], "A setting has the form KEY=VALUE; got 'clip'"),
        (["--device", "tpu9"], "`device` must be one that this PyTorch can use; got 'tpu9'"),
        (["--resume"], "No such option: --resume"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(sweep, tmp_path, arguments, text):
    code, _, err = sweep(*arguments)
    assert code == 2
    assert text in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert not (tmp_path / "sweeps").exists()


def test_an_unknown_recipe_is_one_line(sweep, tmp_path):
    code, _, err = sweep(recipe="mnist")
    assert code == 2
    assert err.startswith("error: Unknown recipe 'mnist'; the recipes are: digits-cnn, ")
    assert not (tmp_path / "sweeps").exists()


def test_the_same_command_goes_on_and_another_is_refused_by_name(sweep):
    assert sweep("--optimizer", "sgd", "--epochs", 1)[0] == 0
    code, out, _ = sweep("--optimizer", "sgd", "--epochs", 1)
    assert code == 0
    assert "1 of 1 runs have ended already" in out
    code, _, err = sweep("--optimizer", "sgd", "--epochs", 1, "--lr", 0.5)
    assert (code, err.count("\n")) == (2, 1)
    assert "lr is not given there and 0.5 here. Give the options of the first sweep, or" in err


def test_a_diverged_cell_is_no_failure(sweep):
    code, out, err = sweep("--optimizer", "sgd", "--set", "max_loss=0.1", "--set", "log_every=1")
    assert (code, err) == (0, "")
    assert "[1/1] sgd lr=" in out
    assert "seed 0: diverged: the training loss was " in out


def test_an_interrupt_says_how_to_go_on(sweep, monkeypatch, tmp_path):
    def press(self, step, loss, lr):
        signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(displays.Plain, "step", press)
        code, _, err = sweep("--optimizer", "sgd", "--epochs", 2)
    assert code == 130
    assert err.startswith("interrupted; go on with: rung sweep chars-gpt --optimizer sgd ")
    assert "--resume" not in err
    (run,) = (path for path in (tmp_path / "sweeps" / "chars-gpt").iterdir() if path.is_dir())
    assert (run / "checkpoint" / "last.safetensors").is_file()
    code, out, _ = sweep("--optimizer", "sgd", "--epochs", 2)
    assert code == 0
    assert "[1/1] sgd" in out


def test_a_terminal_gets_a_bar_for_each_run_and_no_lines_of_it(monkeypatch, capsys):
    main(["recipes"])
    capsys.readouterr()
    module = sys.modules["rung.cli.sweep"]
    shown = []

    class Bar(Silent):
        def start(self, steps, done):
            shown.append(("start", steps, done))

        def step(self, step, loss, lr):
            shown.append(("step", step))

        def stop(self):
            shown.append("stop")

    monkeypatch.setattr(module, "display_for", lambda stream: Bar())
    lines = module.Lines()
    for _ in range(2):
        lines.start(3, 1)
        lines.step(2, 0.5, 0.1)
        lines.stop()
    lines.line("[1/2] a line")
    assert shown == [("start", 3, 1), ("step", 2), "stop"] * 2
    assert capsys.readouterr().out == "[1/2] a line\n"


def test_report_rewrites_the_page_of_a_sweep(sweep, tmp_path, capsys):
    assert sweep("--optimizer", "sgd", "--epochs", 1)[0] == 0
    folder = tmp_path / "sweeps" / "chars-gpt"
    page = folder / "sweep.html"
    first = page.read_bytes()
    page.unlink()
    assert report.is_sweep(folder)
    assert main(["report", str(folder)]) == 0
    assert capsys.readouterr().out == f"report: {page}\n"
    assert page.read_bytes() == first
