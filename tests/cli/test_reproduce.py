import sys

import pytest
import typer

from rung.cli import main
from rung.reproduce import CONTESTS


@pytest.fixture
def reproduce(tmp_path, monkeypatch, capsys):
    """Runs ``rung reproduce``."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        code = main(["reproduce", *arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_the_flags_are_frozen():
    assert main(["recipes"]) == 0
    group = typer.main.get_command(sys.modules["rung.cli.app"].app)
    names = [name for part in group.commands["reproduce"].params for name in part.opts]
    assert names == [
        "name", "--budget", "--data", "--rows", "--out", "--device", "--jobs",
    ]  # fmt: skip


def test_digits_need_no_data(reproduce, tmp_path):
    code, out, err = reproduce("madam-table2", "--rows", "digits", "--jobs", "1")
    assert (code, err) == (0, "")
    assert "[7/7] digits, Madam 8 bits, better, lr 0.03, seed 0: accuracy " in out
    page = tmp_path / "reproduce" / "smoke" / "madam-table2.md"
    assert page.exists()
    assert "- **CIFAR-10, ResNet-18**: not run. Give CIFAR-10's" in page.read_text()
    code, out, _ = reproduce("madam-table2", "--rows", "digits", "--jobs", "1")
    assert code == 0
    assert "accuracy" not in out


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["table1"], "error: Unknown experiment 'table1'; the experiments are: madam-table1, "),
        (["madam-table1", "--budget", "gpu"], "error: Unknown budget 'gpu'; the budgets are: smo"),
        (["madam-table1", "--data", "cifar10"], "must have the form KEY=FOLDER; got 'cifar10'."),
        (["madam-table1", "--rows", "x"], f"the rows are: {CONTESTS['madam-table1'].rows[0].name}"),
        (["madam-table2", "--jobs", "0"], "error: `jobs` must be an integer at least 1; got 0."),
        (["madam-table1", "--data", "cifar10=none"], "The data of 'cifar10' must exist; got "),
        (["madam-table1", "--data", "c10=."], "error: Unknown data 'c10'; the keys are: cifar10, "),
    ],
)
def test_wrong_input_is_one_line(reproduce, tmp_path, arguments, text):
    code, _, err = reproduce(*arguments)
    assert code == 2
    assert text in err
    assert err.count("\n") == 1
    assert not (tmp_path / "reproduce").exists()
