import json
import sys

import pytest
import torch

from rung.cli import main


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_rows_are_listed(capsys):
    assert main(["bench", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = [line.split()[0] for line in lines]
    assert names[:5] == ["madam", "madam8", "madam12", "lns-madam", "lmd"]
    assert {"quantize-lns8", "train-chars-gpt", "linear-lns8", "bytes-held"} <= set(names)
    assert main(["bench", "--list", "--quick", "madam"]) == 0
    assert capsys.readouterr().out == "madam  Madam float32, step / AdamW fused\n"


def test_a_part_goes_to_a_file_of_its_own_and_says_that_it_was_quick(tmp_path, capsys):
    arguments = ["bench", "adamw-peers", "quantize-mxfp6", "--quick", "--threads", "1"]
    assert main(arguments) == 0
    out = capsys.readouterr().out.splitlines()
    path = tmp_path / "benchmarks" / "results" / "bench-quick-part.json"
    assert out[0].startswith("adamw-peers ")
    assert "must 0.1, reach for 0.06" in out[1]
    assert "bench-quick-part.json" in out[2]
    result = json.loads(path.read_text())
    assert result["quick"] is True
    assert result["finished"] is True
    assert result["command"] == "rung bench adamw-peers quantize-mxfp6 --quick --threads 1"
    assert result["environment"]["threads"] == 1
    assert "Quick run on tiny sizes" in path.with_suffix(".md").read_text()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["madan"], "Unknown row 'madan'; the rows on cpu are: madam, madam8, "),
        (["madan"], "Did you mean madam?"),
        (["--device", "tpu"], "`device` must be 'cpu' or 'cuda'; got 'tpu'"),
        (["--quick", "--threads", "0"], "`threads` must be an integer at least 1; got 0"),
        (["--quick", "--out", "x.txt"], "`out` must name a .json file; got 'x.txt'"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(tmp_path, capsys, arguments, text):
    assert main(["bench", *arguments]) == 2
    err = capsys.readouterr().err
    assert text in err
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_without_a_gpu_its_table_is_refused(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["bench", "--device", "cuda"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: `device='cuda'` needs a GPU that this PyTorch can use, and there")
    assert err.count("\n") == 1


def test_a_terminal_gets_a_bar(monkeypatch, capsys):
    assert main(["bench", "--list"]) == 0
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    lines = sys.modules["rung.cli.bench"].Lines()
    lines.begin("madam", 0, 2)
    lines.end({"name": "madam", "value": 0.5, "must": 1.0, "reach": None, "met": "must"}, 1.0)
    lines.stop()
    assert "must met" in capsys.readouterr().out
