from dataclasses import replace
from statistics import mean

import pytest

from rung.train import get_recipe, run


@pytest.mark.slow
def test_eight_bits_reach_the_accuracy_of_adamw_on_digits(tmp_path):
    accuracy = {}
    for optimizer in ("adamw", "bbit-madam", "lns-madam"):
        finals = []
        for seed in (0, 1, 2):
            config = replace(get_recipe("digits-cnn").configure(optimizer), seed=seed, threads=1)
            summary = run(config, tmp_path / f"{optimizer}{seed}")
            finals.append(summary["metric"]["final"])
        accuracy[optimizer] = mean(finals)
    assert accuracy["adamw"] >= 0.985
    assert accuracy["bbit-madam"] >= max(0.985, accuracy["adamw"] - 0.005)
    # Weights, activations, errors and gradients in 8-bit LNS, updates in 16-bit LNS.
    assert accuracy["lns-madam"] >= max(0.985, accuracy["adamw"] - 0.005)
