import json
import signal
from dataclasses import replace

import pytest
import torch
from torch import nn

import rung
from rung.tensor import CodedTensor
from rung.train import run
from rung.train.average import Average
from rung.train.checkpoint import load_checkpoint
from rung.train.fingerprint import fingerprint
from rung.train.tasks import WindowTask


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(6, 4)
        self.norm = nn.BatchNorm1d(4)
        self.head = nn.Linear(4, 6)
        self.head.weight = self.embed.weight

    def forward(self, tokens):
        return self.head(self.norm(self.embed(tokens)))


def floats(network):
    return {
        name: (x.decode() if isinstance(x, CodedTensor) else x).clone()
        for name, x in network.state_dict().items()
    }


def moved(network, by):
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(parameter.detach() * by)
        network.norm.running_mean.add_(by)
        network.norm.num_batches_tracked.add_(1)


@pytest.mark.parametrize("fmt", [None, "ladder8", "lns16"])
def test_the_mean_is_over_the_later_steps_only(fmt):
    torch.manual_seed(0)
    network = Net()
    if fmt is not None:
        rung.store_weights_(network, fmt)
    average = Average(network, 0.5, 6)
    assert average.model.head.weight is average.model.embed.weight
    seen = []
    for step in range(1, 7):
        moved(network, 0.9)
        average.see(network, step)
        seen.append(floats(network))
    assert (average.first, average.count) == (4, 3)
    for name, mean in average.model.state_dict().items():
        if mean.is_floating_point():
            assert type(mean) is torch.Tensor
            expected = torch.stack([step[name] for step in seen[3:]]).mean(0)
            torch.testing.assert_close(mean, expected)
        else:
            assert int(mean) == 6
    assert not average.model.training
    assert not any(parameter.requires_grad for parameter in average.model.parameters())
    assert torch.isfinite(average.model(torch.arange(6))).all()
    assert average.record() == {"from_step": 4, "steps": 3, "bytes": 4 * (24 + 6 + 4 * 4) + 8}


def test_a_model_that_cannot_be_copied_is_refused():
    class Stubborn(nn.Linear):
        def __deepcopy__(self, memo):
            raise TypeError("one of a kind")

    with pytest.raises(ValueError, match="`average_from` needs a copy .*TypeError: one of a kind"):
        Average(Stubborn(2, 2), 0.5, 6)


CASES = [
    ("sgd", {}, []),
    ("adamw", {}, []),
    ("adamw", {"format": "lns8"}, ["backward_rounding=stochastic"]),
    ("madam", {"format": "mxfp6_e3m2"}, ["update_format=lns12"]),
    ("bbit-madam", {}, ["others=multiplicative"]),
    ("lns-madam", {}, ["forward_rounding=stochastic"]),
]


@pytest.mark.parametrize(("optimizer", "changes", "settings"), CASES)
def test_an_interrupted_run_keeps_its_mean_bit_for_bit(
    tiny, recorder, tmp_path, optimizer, changes, settings
):
    config = tiny(optimizer, "average_from=0.5", *settings, epochs=3, **changes)
    whole = run(config, tmp_path / "whole")
    assert whole["averaged"]["from_step"] == 10
    assert whole["averaged"]["steps"] == 9
    lines = map(json.loads, (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines())
    evaluations = [line for line in lines if line["kind"] == "eval"]
    assert [line.get("averaged_steps") for line in evaluations] == [None, 3, 9]
    out = tmp_path / "broken"
    display = recorder(at=14, act=lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        run(config, out, display=display)
    resumed = run(config, out, resume=True)
    assert resumed["metric"] == whole["metric"]
    assert resumed["loss"] == whole["loss"]
    ours, theirs = (
        load_checkpoint(folder / "checkpoint" / "last.safetensors")[0]["average"]
        for folder in (out, tmp_path / "whole")
    )
    assert ours["count"] == theirs["count"] == 9
    for name, mean in ours["model"].items():
        assert torch.equal(mean, theirs["model"][name]), name


def test_training_is_the_same_with_and_without(tiny, tmp_path):
    def lines(folder, kind):
        text = (folder / "metrics.jsonl").read_text().splitlines()
        found = [json.loads(line) for line in text]
        return [line["loss"] for line in found if line["kind"] == kind]

    plain, mean = tmp_path / "plain", tmp_path / "mean"
    run(tiny("bbit-madam", epochs=3), plain)
    run(tiny("bbit-madam", "average_from=0.5", epochs=3), mean)
    assert lines(plain, "train") == lines(mean, "train")
    first, *later = zip(lines(plain, "eval"), lines(mean, "eval"), strict=True)
    assert first[0] == first[1]
    assert all(a != b for a, b in later)


def test_evaluations_are_of_the_twin_once_there_is_one(tiny, tmp_path, monkeypatch):
    seen = []
    original = WindowTask.evaluate

    def evaluate(self, model, device):
        seen.append(any(isinstance(weight, CodedTensor) for weight in model.parameters()))
        assert not model.training
        return original(self, model, device)

    monkeypatch.setattr(WindowTask, "evaluate", evaluate)
    run(tiny("bbit-madam", "average_from=0.4", "others=multiplicative"), tmp_path / "run")
    assert seen == [False, False]
    seen.clear()
    run(tiny("bbit-madam", "average_from=0.6", epochs=2), tmp_path / "late")
    assert seen == [True, False]


def test_without_a_mean_nothing_is_said_of_it(tiny, tmp_path):
    assert "averaged" not in run(tiny("sgd", epochs=1), tmp_path / "run")
    tree, _ = load_checkpoint(tmp_path / "run" / "checkpoint" / "last.safetensors")
    assert "average" not in tree


def test_lmd_has_a_point_of_its_own(tiny):
    with pytest.raises(ValueError, match="`average_from` must be 0 for optimizer 'lmd'.*got 0.5."):
        tiny("lmd", "average_from=0.5")
    with pytest.raises(ValueError, match=r"`average_from` must be a number in \[0, 1\); got 1.0"):
        tiny("sgd", "average_from=1")


def test_the_share_is_of_the_whole_run_which_then_cannot_be_prolonged(tiny, tmp_path):
    config = tiny("sgd", schedule="constant", epochs=1)
    assert fingerprint(config).keys().isdisjoint({"average_from", "epochs"})
    averaged = tiny("sgd", "average_from=0.5", schedule="constant", epochs=1)
    run(averaged, tmp_path / "run")
    with pytest.raises(ValueError, match="epochs is 1 in the checkpoint and 2 here"):
        run(replace(averaged, epochs=2), tmp_path / "run", resume=True)


def test_a_diverged_run_still_says_what_its_mean_was_over(tiny, tmp_path):
    summary = run(tiny("sgd", "average_from=0.1", lr=1e30), tmp_path / "run")
    assert summary["status"] == "diverged"
    assert summary["averaged"]["from_step"] == 2
