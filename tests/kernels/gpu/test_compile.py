"""The kernels compile for an H200, which needs no GPU and no interpreter would notice."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="the GPU's kernels need triton")


@pytest.fixture(scope="module")
def found():
    path = os.pathsep.join(part for part in sys.path if part)
    environment = {**os.environ, "TRITON_INTERPRET": "0", "PYTHONPATH": path}
    script = Path(__file__).with_name("hopper.py")
    done = subprocess.run(
        [sys.executable, str(script)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_products_and_sums_of_steps_are_not_fused(found):
    steps = {name: code for name, code in found.items() if "madam" in name or name == "rescale"}
    assert steps
    assert {name: code["fused"] for name, code in steps.items() if code["fused"]} == {}


def test_subnormal_numbers_are_kept(found):
    exact = {name: code for name, code in found.items() if not name.startswith(("rows", "prod"))}
    assert {name: code["flushed"] for name, code in exact.items() if code["flushed"]} == {}


def test_aligned_tensors_are_read_by_whole_vectors(found):
    even = [name for name in found if name.endswith(("True", "whole", "blocks"))]
    assert even
    assert [name for name in even if found[name]["vectors"] < 2] == []
