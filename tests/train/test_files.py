import json
import os
import subprocess

import pytest
import torch

from rung.tensor import CodedTensor
from rung.train.environment import environment
from rung.train.files import replace_file, write_json
from rung.train.measure import all_finite


def test_json_is_strict_and_whole_or_untouched(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"x": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"x": float("nan")})
    assert json.loads(path.read_text()) == {"x": 1}
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_block_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "a"
    path.write_text("old")

    def fail():
        with replace_file(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a"]


def test_the_environment_names_versions_and_the_commit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = environment()
    assert list(found) == [
        "python",
        "torch",
        "rung",
        "platform",
        "processor",
        "threads",
        "commit",
    ]
    assert found["torch"] == torch.__version__
    assert found["commit"] is None
    author = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "init", "-q", "."], check=True)
    commit = ["git", *author, "commit", "-q", "--allow-empty", "-m", "first"]
    subprocess.run(commit, check=True)
    assert len(str(environment()["commit"])) == 40


def test_only_floats_can_be_infinite():
    coded = CodedTensor.from_float(torch.ones(3), "ladder8", 2.0)
    assert all_finite([torch.ones(2), torch.tensor(3), coded])
    assert not all_finite([torch.ones(2), torch.tensor([1.0, float("inf")])])
