"""Loops that a later process loads from numba's disk cache compute what freshly compiled ones do.

What is loaded was optimised once more than what the compiling process calls, so a test of the
latter says nothing of the former.
"""

import os
import subprocess
import sys
from pathlib import Path

CODE = """
import torch
from kernels.test_madam_steps import assert_same_steps, coded_arguments, copied, madam_arguments
from rung.formats import get
from rung.kernels import coded_madam, lmd_lists, madam
from rung.kernels.cpu import coded_madam_loops, ladder_loops, lns_loops

for bits, system, stochastic in ((8, 0, True), (16, 1, False), (8, 2, True)):
    arguments = coded_arguments(bits, system, "bf16", False, [(5000,)], stochastic=stochastic)
    assert_same_steps(coded_madam.step, arguments)
grad = torch.linspace(-1, 1, 5000)
ours = madam_arguments("bf16", [(5000,)], grads=[grad])
theirs = copied(ours)
madam.step(*ours)
madam.step.reference(*theirs)
assert torch.equal(ours[1][0], theirs[1][0])
assert torch.allclose(ours[0][0], theirs[0][0], rtol=1e-6)
sizes = torch.rand(1000) + 0.1
lists = [[torch.zeros(1000)], [sizes.clone()], [sizes.flip(0).clone()]]
numbers = torch.tensor([[0.01, 0.9, 0.99, 0.3, 0.1, 1.0, 1.0]], dtype=torch.float64)
call = (torch.tensor([[3, 5, 7]]), [0], 0, numbers)
lmd_lists.SAMPLE(*lists, *call)
drawn = lists[0][0].clone()
lmd_lists.SAMPLE.reference(*lists, *call)
assert torch.allclose(drawn, lists[0][0], rtol=1e-4, atol=1e-4)
x = torch.linspace(-3, 3, 5000)
for name in ("lns8", "ladder8", "mxfp6_e3m2"):
    for part in (x, x[:37].clone()):
        print(name, float(get(name).quantize(part).double().abs().sum()))
    if name != "mxfp6_e3m2":
        rows = get(name).quantize(x.reshape(50, 100), axis=0)
        print(name, float(rows.double().abs().sum()))
loops = (coded_madam_loops.step, ladder_loops.round_groups, lns_loops.round_few)
print([len(loop.stats.cache_hits) for loop in loops], "loaded")
"""


def test_loaded_loops_are_the_compiled_ones(tmp_path):
    tests = Path(__file__).parents[1]
    environment = os.environ | {
        "NUMBA_CACHE_DIR": str(tmp_path),
        "PYTHONPATH": os.pathsep.join([str(tests), os.environ.get("PYTHONPATH", "")]),
    }
    outputs = []
    for _ in range(2):
        run = subprocess.run(
            [sys.executable, "-c", CODE],
            capture_output=True, text=True, check=False, env=environment,
        )  # fmt: skip
        assert run.returncode == 0, run.stderr
        outputs.append(run.stdout.splitlines())
    assert outputs[0][-1] == "[0, 0, 0] loaded"
    assert outputs[1][-1] == "[3, 1, 1] loaded"
    assert outputs[0][:-1] == outputs[1][:-1]
