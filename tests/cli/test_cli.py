import io
import json
import shutil
import signal
import sys

import pytest
import typer

from rung import extras, report
from rung.cli import main
from rung.train import display as displays
from rung.train.display import Bar, Plain, Silent, display_for

TINY = ["width=8", "heads=2", "layers=1", "context=8", "batch_size=4", "steps_per_epoch=3"]
TINY += ["eval_batch_size=4000"]


@pytest.fixture
def train(tmp_path, monkeypatch, capsys):
    """Runs ``rung train`` on a small text, without drawing the report."""
    text = tmp_path / "input.txt"
    text.write_text("rungs of a ladder, " * 40)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(report, "write_report", lambda folder: f"{folder}/report.html")

    def run(*arguments, recipe="chars-gpt"):
        command = ["train", recipe, *map(str, arguments)]
        if recipe == "chars-gpt":
            command += ["--data-dir", str(text), "--threads", "1"]
            for setting in TINY:
                command += ["--set", setting]
        code = main(command)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def flags(command):
    group = typer.main.get_command(sys.modules["rung.cli.app"].app)
    parameters = group.commands[command].params
    return [name for parameter in parameters for name in parameter.opts]


def test_commands_and_flags_are_frozen():
    assert main(["recipes"]) == 0
    group = typer.main.get_command(sys.modules["rung.cli.app"].app)
    assert list(group.commands) == [
        "recipes",
        "train",
        "sweep",
        "energy",
        "bench",
        "reproduce",
        "report",
        "hardware",
    ]
    assert flags("recipes") == []
    assert flags("report") == ["runs"]
    assert flags("train") == [
        "recipe",
        "--optimizer",
        "--format",
        "--lr",
        "--epochs",
        "--seed",
        "--schedule",
        "--data-dir",
        "--out",
        "--resume",
        "--device",
        "--threads",
        "--set",
    ]
    assert flags("sweep") == [
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
    assert flags("energy") == [
        "model",
        "--formats",
        "--costs",
        "--batch",
        "--data-dir",
        "--inference",
        "--out",
    ]
    assert list(group.commands["hardware"].commands) == ["vectors"]
    vectors = group.commands["hardware"].commands["vectors"]
    assert [name for parameter in vectors.params for name in parameter.opts] == [
        "--base-factor",
        "--conversion",
        "--table-size",
        "--fraction-bits",
        "--accumulator-bits",
        "--dropped-bits",
        "--overflow",
        "--vector-length",
        "--bits",
        "--zero",
        "--count",
        "--length",
        "--seed",
        "--corners",
        "--out",
        "--force",
    ]
    assert flags("bench") == ["rows", "--list", "--quick", "--device", "--threads", "--out"]


def test_recipes_are_listed(capsys):
    assert main(["recipes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["recipe", "metric", "model", "data"]
    assert [line.split()[0] for line in lines[1:]] == [
        "digits-cnn",
        "digits-mlp",
        "digits-vit",
        "fashion-resnet18",
        "cifar10-resnet18",
        "cifar100-resnet18",
        "cifar10-vit",
        "cifar10-cgan",
        "folder-vit",
        "imagenet-resnet50",
        "wikitext2-transformer",
        "chars-gpt",
        "words-gpt",
        "tokens-gpt",
        "glue-bert",
    ]


def test_version_and_help(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("rung ")
    assert main(["train", "--help"]) == 0
    assert "KEY=VALUE" in capsys.readouterr().out


def test_a_run_ends_in_the_default_folder_and_says_what_it_used(train, tmp_path):
    code, out, err = train("--epochs", 1, "--optimizer", "bbit-madam", "--seed", 2)
    assert (code, err) == (0, "")
    assert out.startswith("data: ")
    assert "bytes a weight" in out
    folder = tmp_path / "runs" / "chars-gpt-bbit-madam-ladder8-seed2"
    config = json.loads((folder / "config.json").read_text())
    assert config["command"].startswith("rung train chars-gpt --epochs 1 --optimizer bbit-madam")
    assert (config["format"], config["seed"], config["epochs"]) == ("ladder8", 2, 1)
    code, out, _ = train("--epochs", 1, "--optimizer", "sgd")
    assert (tmp_path / "runs" / "chars-gpt-sgd-seed0").is_dir()


def test_a_mean_of_weights_is_said_beside_its_figure(train):
    mean = "average_from=0.5"
    code, out, err = train("--epochs", 1, "--optimizer", "bbit-madam", "--set", mean)
    assert (code, err) == (0, "")
    assert " of the mean over 2 steps' weights, " in out


def test_an_lns_trains_with_lns_madam_unless_told_otherwise(train, tmp_path):
    code, out, err = train("--epochs", 1, "--format", "lns8")
    assert (code, err) == (0, "")
    assert "\nlayers: " in out
    assert "\nweights: " in out
    folder = tmp_path / "runs" / "chars-gpt-lns-madam-lns8-seed0"
    config = json.loads((folder / "config.json").read_text())
    assert (config["optimizer"], config["update_format"]) == ("lns-madam", "lns16")
    code, out, _ = train("--epochs", 1, "--format", "lns8", "--optimizer", "sgd")
    assert code == 0
    assert "\nlayers: " in out
    assert "\nweights: " not in out
    assert (tmp_path / "runs" / "chars-gpt-sgd-lns8-seed0").is_dir()


@pytest.mark.parametrize("fmt", ["mxfp6_e3m2", "bf16"])
def test_a_float_or_mx_format_trains_with_lmd_unless_told_otherwise(train, tmp_path, fmt):
    code, out, err = train("--epochs", 1, "--format", fmt)
    assert (code, err) == (0, "")
    assert f"compute in {fmt} " in out
    folder = tmp_path / "runs" / f"chars-gpt-lmd-{fmt}-seed0"
    config = json.loads((folder / "config.json").read_text())
    assert (config["optimizer"], config["format"]) == ("lmd", fmt)
    assert train("--epochs", 1, "--format", fmt, "--optimizer", "adamw")[0] == 0


def test_no_format_computes_in_float32(train, tmp_path):
    code, out, _ = train("--epochs", 1, "--format", "none", "--optimizer", "lns-madam")
    assert code == 0
    assert "\nlayers: " not in out
    assert (tmp_path / "runs" / "chars-gpt-lns-madam-seed0").is_dir()


def test_the_report_is_written_by_training_and_rewritten_by_report(tmp_path, capsys):
    first, second = tmp_path / "first", tmp_path / "second"
    arguments = ["--epochs", "1", "--threads", "1", "--set", "train_examples=64", "--out"]
    assert main(["train", "digits-cnn", *arguments, str(first)]) == 0
    page = first / "report.html"
    assert f"report: {page}" in capsys.readouterr().out
    shutil.copytree(first, second)
    page.unlink()
    assert main(["report", str(first)]) == 0
    assert page.exists()
    capsys.readouterr()
    assert main(["report", str(first), str(second)]) == 0
    out = capsys.readouterr().out
    assert "digits-cnn" in out
    assert f"comparison: {tmp_path / 'comparison.html'}" in out


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--optimizer", "lion"], "Unknown optimizer 'lion'; the optimizers are: sgd, adam"),
        (["--format", "ladder99"], "Unknown format 'ladder99'; the formats are: ladder2, "),
        (["--format", "ladder8", "--optimizer", "adamw"], "only optimizer 'bbit-madam' trains"),
        (["--format", "mxfp5"], "Unknown format 'mxfp5'; the formats are: ladder2, "),
        (["--format", "mxfp4", "--optimizer", "bbit-madam"], "use --optimizer lns-madam, lmd or"),
        (["--optimizer", "lmd", "--set", "beta1=0.5"], "`beta1` and `beta2` must be given toget"),
        (["--optimizer", "lmd", "--set", "sigma=9"], "sigma"),
        (["--set", "warmup_steps=999"], "`warmup_steps` must be less than the steps of the run"),
        (["--format", "lnsx"], "Unknown format 'lnsx'; the formats are: ladder2, "),
        (["--format", "lns8", "--optimizer", "bbit-madam"], "use --optimizer lns-madam"),
        (["--format", "none"], "`format` must name a ladder for optimizer 'bbit-madam'; got None"),
        (["--set", "backward_format=lns8"], "`backward_format` says how layers compute in a f"),
        (["--format", "lns8", "--set", "update_format=ladder8"], "must name a logarithmic number"),
        (["--format", "lns8", "--set", "weight_scale=col"], "must be one of tensor, channel, row"),
        (["--format", "lns8", "--set", "float_layers=nothing"], "nothing"),
        (["--lr", "0"], "`lr` must be a number greater than 0 or none; got 0.0"),
        (["--lr", "-1"], "`lr` must be a number greater than 0 or none; got -1.0"),
        (["--lr", "nan"], "`lr` must be a number greater than 0 or none; got nan"),
        (["--lr", "fast"], "Invalid value for '--lr'"),
        (["--epochs", "0"], "`epochs` must be an integer at least 1; got 0"),
        (["--schedule", "step"], "one of plateau, cosine, linear, constant; got 'step'"),
        (["--set", "widht=3"], "Unknown setting 'widht'"),
        (["--set", "width=wide"], "`width` must be an integer at least 1; got 'wide'"),
        (["--device", "tpu9"], "`device` must be one that this PyTorch can use; got 'tpu9'"),
        (["--resume"], "There is no run to resume in"),
        (["--bogus"], "No such option: --bogus"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(train, tmp_path, arguments, text):
    code, _, err = train(*arguments)
    assert code == 2
    assert text in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_unknown_recipes_and_missing_data_are_one_line(train, tmp_path):
    code, _, err = train(recipe="mnist")
    assert code == 2
    assert err.startswith("error: Unknown recipe 'mnist'; the recipes are: digits-cnn, ")
    code, _, err = train(recipe="fashion-resnet18")
    assert code == 2
    assert "reads its data from files; give their folder by --data-dir" in err
    code, _, err = train("--data-dir", tmp_path / "nowhere", recipe="fashion-resnet18")
    assert (code, err.count("\n")) == (2, 1)
    assert "nowhere" in err
    assert not (tmp_path / "runs").exists()


def test_a_folder_with_a_run_is_left_alone_unless_resumed(train, tmp_path):
    out = tmp_path / "mine"
    assert train("--epochs", 1, "--out", out)[0] == 0
    code, _, err = train("--epochs", 1, "--out", out)
    assert code == 2
    assert "holds a run already. Add --resume" in err
    code, _, err = train("--epochs", 1, "--out", out, "--resume", "--seed", 3)
    assert code == 2
    assert "seed is 0 in the checkpoint and 3 here" in err
    checkpoint = out / "checkpoint" / "last.safetensors"
    whole = checkpoint.read_bytes()
    checkpoint.write_bytes(whole[:500])
    code, _, err = train("--epochs", 1, "--out", out, "--resume")
    assert code == 2
    assert "truncated, damaged or of another kind" in err
    checkpoint.write_bytes(whole)
    code, out_text, _ = train("--epochs", 1, "--out", out, "--resume")
    assert code == 0
    assert "resumed at step 3" in out_text


def test_divergence_has_an_exit_code_and_a_line(train):
    code, _, err = train("--optimizer", "sgd", "--set", "max_loss=0.1", "--set", "log_every=1")
    assert code == 3
    assert err.startswith("diverged: the training loss was ")
    assert err.count("\n") == 1


def test_an_interrupt_says_how_to_go_on(train, monkeypatch, tmp_path):
    def press(self, step, loss, lr):
        signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(displays.Plain, "step", press)
        code, _, err = train("--epochs", 2, "--out", tmp_path / "run")
    assert code == 130
    assert err.startswith("interrupted; go on with: rung train chars-gpt --epochs 2 ")
    assert err.endswith(" --resume\n")
    code, out, _ = train("--epochs", 2, "--out", tmp_path / "run", "--resume")
    assert code == 0
    assert "resumed at step 1, epoch 1" in out


def test_an_interrupt_elsewhere_is_short(monkeypatch, capsys):
    def press(runs):
        raise KeyboardInterrupt

    monkeypatch.setattr(report, "write_report", press)
    assert main(["report", "x"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_a_missing_extra_is_one_line(monkeypatch, capsys):
    def missing(module):
        raise ImportError("This needs Typer, which comes with the extra `train`: pip install ...")

    monkeypatch.setattr(sys.modules["rung.cli.main"], "require", missing)
    assert main(["recipes"]) == 1
    assert capsys.readouterr().err.startswith("error: This needs Typer, which comes with the extra")
    assert extras.require("typer") is typer


def test_a_terminal_gets_a_bar_and_a_pipe_gets_lines(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    assert isinstance(display_for(io.StringIO()), Plain)
    bar = display_for(Terminal())
    assert isinstance(bar, Bar)
    for shown in (bar, Silent()):
        shown.start(10, 2)
        shown.line("data: [none]")
        shown.step(3, 0.5, 0.01)
        shown.stop()


def test_plain_lines_come_every_few_seconds():
    stream = io.StringIO()
    plain = Plain(stream, seconds=0.0)
    plain.start(10, 0)
    plain.step(3, 0.5, 0.01)
    plain.stop()
    assert stream.getvalue() == "step 3/10  loss 0.5000  lr 0.01\n"
    plain.seconds = 100.0
    plain.step(4, 0.5, 0.01)
    assert stream.getvalue().count("\n") == 1
