import json
import os

import pytest
import torch
from safetensors.torch import save_file

from rung.train import checkpoint
from rung.train.checkpoint import load_checkpoint, save_checkpoint

TREE = {"model": {"weight": torch.randn(3, 4)}, "lr": 0.1, "betas": (0.9, 0.999), "best": None}


def test_a_checkpoint_comes_back(tmp_path):
    path = tmp_path / "checkpoint" / "last.safetensors"
    save_checkpoint(path, TREE, {"step": 3})
    tree, header = load_checkpoint(path)
    assert torch.equal(tree["model"]["weight"], TREE["model"]["weight"])
    assert tree["betas"] == (0.9, 0.999)
    assert header["step"] == 3
    assert os.listdir(path.parent) == ["last.safetensors"]


def test_a_failed_write_leaves_the_old_checkpoint_and_no_rest(tmp_path, monkeypatch):
    path = tmp_path / "last.safetensors"
    save_checkpoint(path, TREE, {"step": 1})
    before = path.read_bytes()

    def full_disk(tensors, name, metadata):
        name.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full_disk)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(path, TREE, {"step": 2})
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["last.safetensors"]


@pytest.mark.parametrize("keep", [0, 7, 100, -1])
def test_a_truncated_checkpoint_is_named(tmp_path, keep):
    path = tmp_path / "last.safetensors"
    save_checkpoint(path, TREE, {})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match="is truncated, damaged or of another kind"):
        load_checkpoint(path)


def test_a_foreign_file_is_named(tmp_path):
    path = tmp_path / "last.safetensors"
    save_file({"weight": torch.zeros(2)}, path)
    with pytest.raises(ValueError, match="not a checkpoint of Rung"):
        load_checkpoint(path)


def test_a_newer_version_is_named(tmp_path):
    path = tmp_path / "last.safetensors"
    facts = {"format_version": 99, "structure": {}}
    save_file({"weight": torch.zeros(2)}, path, metadata={"rung_checkpoint": json.dumps(facts)})
    with pytest.raises(ValueError, match=r"checkpoint format 99; this Rung \(.*\) reads up to 1"):
        load_checkpoint(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint at .*last.safetensors"):
        load_checkpoint(tmp_path / "last.safetensors")
