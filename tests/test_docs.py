"""Every example in the docs runs, and every table is what the result files say."""

import doctest
import importlib
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
