"""Every example in the docs runs, and every table is what the result files say."""

import doctest
import importlib
import json
import pkgutil
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import rung
from rung.cli import main

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
MODULES = [info.name for info in pkgutil.walk_packages(rung.__path__, "rung.")]


def blocks(page, *languages):
    return [text for language, text in FENCE.findall(page.read_text()) if language in languages]


@pytest.mark.parametrize("name", [name for name in MODULES if not name.endswith("__main__")])
def test_examples_in_docstrings_run(name):
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert result.failed == 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_examples_run_in_order(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    for text in blocks(page, "python"):
        exec(compile(text, page.name, "exec"), names)


def commands():
    for page in PAGES:
        for text in blocks(page, "console", "bash", "sh"):
            for line in text.splitlines():
                command = line.removeprefix("$ ").partition("  #")[0].strip()
                if command.startswith("rung "):
                    yield command


@pytest.mark.parametrize("command", sorted(set(commands())))
def test_commands_run(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = shlex.split(command)[1:]
    if arguments[0] == "report":
        for run in arguments[1:]:
            assert main(["train", "digits-cnn", "--epochs", "1", "--out", run]) == 0
    if "--resume" in arguments:
        first = [argument for argument in arguments if argument != "--resume"]
        assert main([*first, "--epochs", "1"]) == 0
    if arguments[0] == "train":
        arguments += ["--epochs", "1"]
    code = main(arguments)
    if "--data-dir" in arguments:  # the flags are right; the files of the page aren't here
        assert code == 2
        assert "/path/to" in capsys.readouterr().err
    else:
        assert code == 0


def test_make_targets_in_the_docs_exist():
    makefile = (ROOT / "Makefile").read_text()
    for page in PAGES:
        for text in blocks(page, "console", "bash", "sh"):
            for target in re.findall(r"^make ([\w-]+)", text, re.MULTILINE):
                assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_links_between_pages_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_tables_are_those_of_the_result_files():
    run = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "tables.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr


def made_up(label, seed, loss, status="finished"):
    return {
        "label": label,
        "command": "rung train chars-gpt",
        "seed": seed,
        "status": status,
        "metric": {"final": loss},
        "loss": {"eval": loss},
        "bytes": {"weights_per_weight": 4.0, "state_per_weight": 16.0},
        "time": {"steps": 700},
        "lr": 0.01,
        "data": "made up",
        "environment": {"processor": "P", "torch": "T", "python": "3"},
    }


@pytest.fixture
def lmd_tables(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    monkeypatch.setattr(importlib.import_module("result_files"), "RESULTS", tmp_path)

    def write(name, runs):
        result = {"experiment": name, "note": "", "runs": runs}
        (tmp_path / f"{name}.json").write_text(json.dumps(result))

    return importlib.import_module("lmd_tables").TABLES, write


def test_a_format_is_compared_with_its_own_optimizer_in_float32(lmd_tables):
    tables, write = lmd_tables
    runs = [made_up("LMD, float32", seed, 2.0) for seed in (0, 1)]
    runs += [made_up("LMD, MXFP4", 0, 2.1), made_up("LMD, MXFP4", 1, 2.3)]
    runs += [made_up("LMD, default lr, MXFP4", 0, 9.0, "diverged")]
    write("lmd-chars-short", runs)
    table = tables["lmd-chars-short"]()
    assert "| LMD | 0.01 | 2.0000 ± 0.0000 | 2.2000 ± 0.1414 (+10.00 %) |" in table
    assert "| LMD, default lr | 0.01 |  | (1 diverged) |" in table
    assert "700 steps a run. Mean over 2 seeds" in table


def test_the_lowest_loss_of_tuning_is_marked(lmd_tables):
    tables, write = lmd_tables
    low, high = made_up("LMD, lr 0.1", 10, 1.5), made_up("LMD, lr 0.2", 10, 1.0, "diverged")
    write("tune-chars-short", [low | {"lr": 0.1}, high | {"lr": 0.2}])
    assert "| LMD | **0.1: 1.5000**, 0.2: diverged | 0.1 |" in tables["lmd-tuning"]()


def test_a_table_without_its_result_file_says_so(lmd_tables):
    tables, _ = lmd_tables
    assert tables["lmd-ablation"]() == "(not yet measured)\n"
