import json
import os
import pickle
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch

from rung.tensor import CodedTensor
from rung.train import loop, optimizers, run
from rung.train.checkpoint import load_checkpoint
from rung.train.config import OPTIMIZERS
from rung.train.int8 import is_int8


def weights(folder):
    tree, _ = load_checkpoint(folder / "checkpoint" / "last.safetensors")
    return {name: plain(x) for name, x in tree["model"].items()}


def plain(tensor):
    if is_int8(tensor):
        return torch.cat([tensor.int_data.double(), tensor.scale.double()[:, None]], 1)
    return tensor.codes if isinstance(tensor, CodedTensor) else tensor


def metrics(folder):
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: line[key] for key in line if key != "seconds"} for line in found]


def assert_same_run(a, b):
    assert metrics(a) == metrics(b)
    ours, theirs = weights(a), weights(b)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def interrupt():
    signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("schedule", ["plateau", "cosine", "linear"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_an_interrupted_run_goes_on_bit_for_bit(tiny, recorder, tmp_path, optimizer, schedule):
    config = tiny(optimizer, schedule=schedule)
    whole = run(config, tmp_path / "whole")
    # Step 4 is amid the first epoch and between two log lines' worth of sums; step 6 ends an epoch.
    for steps in (3, 6):
        out = tmp_path / f"broken{steps}"
        with pytest.raises(KeyboardInterrupt):
            run(config, out, display=recorder(at=steps, act=interrupt))
        display = recorder()
        resumed = run(config, out, resume=True, display=display)
        assert f"resumed at step {steps}, epoch 1" in display.lines
        assert display.done == steps
        assert resumed["metric"] == whole["metric"]
        assert_same_run(out, tmp_path / "whole")


@pytest.mark.parametrize(
    ("optimizer", "settings"),
    [
        ("lns-madam", ["backward_rounding=stochastic", "rounding=stochastic"]),
        ("adamw", ["update_format=lns10", "backward_rounding=stochastic"]),
        ("sgd", ["update_format=lns10", "update_rounding=stochastic"]),
        ("madam", ["update_format=lns12", "update_rounding=stochastic"]),
        ("lmd", ["samples=2", "state=bf16"]),
        ("lmd", ["state=lns16", "evaluate=median"]),
    ],
)
def test_random_rounding_goes_on_bit_for_bit(tiny, recorder, tmp_path, optimizer, settings):
    config = tiny(optimizer, *settings, format="lns8")
    run(config, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(config, tmp_path / "broken", display=recorder(at=4, act=interrupt))
    run(config, tmp_path / "broken", resume=True)
    assert_same_run(tmp_path / "broken", tmp_path / "whole")
    run(replace(config, seed=1), tmp_path / "other")
    assert metrics(tmp_path / "other") != metrics(tmp_path / "whole")


def test_another_lns_is_refused_by_name(tiny, tmp_path):
    out = tmp_path / "run"
    run(tiny("lns-madam", epochs=1), out)
    with pytest.raises(ValueError, match="format is 'lns8' in the checkpoint and 'lns6' here"):
        run(tiny("lns-madam", epochs=1, format="lns6"), out, resume=True)
    with pytest.raises(ValueError, match="update_format is 'lns16' in the checkpoint and 'lns10'"):
        run(tiny("lns-madam", "update_format=lns10", epochs=1), out, resume=True)
    with pytest.raises(ValueError, match="backward_format is .*zero. in the checkpoint and 'lns10"):
        run(tiny("lns-madam", "backward_format=lns10", epochs=1), out, resume=True)


def test_digits_with_augmentation_go_on_bit_for_bit(recorder, tmp_path):
    from rung.train import get_recipe, with_settings

    config = replace(get_recipe("digits-cnn").configure("bbit-madam"), epochs=2, threads=1)
    config = with_settings(config, ["train_examples=200", "flip=true", "log_every=1"])
    run(config, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(config, tmp_path / "broken", display=recorder(at=6, act=interrupt))
    run(config, tmp_path / "broken", resume=True)
    assert_same_run(tmp_path / "broken", tmp_path / "whole")


def test_lines_after_the_checkpoint_are_cut(tiny, tmp_path, monkeypatch):
    config = tiny("sgd")
    run(config, tmp_path / "whole")
    calls = []

    def crash(session, *rest):
        calls.append(session.counters.step)
        if len(calls) == 2:
            raise MemoryError("made up")
        return original(session, *rest)

    original = loop._end_epoch
    monkeypatch.setattr(loop, "_end_epoch", crash)
    with pytest.raises(MemoryError, match="made up"):
        run(config, tmp_path / "broken")
    assert metrics(tmp_path / "broken")[-1]["step"] == 12
    monkeypatch.setattr(loop, "_end_epoch", original)
    run(config, tmp_path / "broken", resume=True)
    assert_same_run(tmp_path / "broken", tmp_path / "whole")


def test_a_run_that_was_killed_before_its_first_checkpoint_starts_over(
    tiny, recorder, tmp_path, monkeypatch
):
    config = tiny("sgd")

    def crash(*arguments):
        raise MemoryError("made up")

    with monkeypatch.context() as patch:
        patch.setattr(loop, "_save", crash)
        with pytest.raises(MemoryError, match="made up"):
            run(config, tmp_path / "run")
    display = recorder()
    summary = run(config, tmp_path / "run", resume=True, display=display)
    assert any("no checkpoint" in line and "step 0" in line for line in display.lines)
    assert summary["time"]["steps"] == 12
    assert [line["step"] for line in metrics(tmp_path / "run")][0] == 2


def test_a_finished_run_can_be_resumed_and_prolonged(tiny, tmp_path):
    config = tiny("madam", schedule="constant")
    first = run(config, tmp_path / "run")
    again = run(config, tmp_path / "run", resume=True)
    assert again["metric"] == first["metric"]
    assert again["time"]["ms_per_step"] == first["time"]["ms_per_step"]
    longer = run(replace(config, epochs=3), tmp_path / "run", resume=True)
    assert longer["time"]["steps"] == 18
    run(replace(config, epochs=3), tmp_path / "whole")
    assert_same_run(tmp_path / "run", tmp_path / "whole")


@pytest.mark.parametrize("schedule", ["plateau", "constant"])
def test_a_prolonged_run_keeps_the_rate_that_lmd_has_chosen(tiny, tmp_path, schedule, monkeypatch):
    # LMD's own rule is the same for all runs of fewer than 400 steps.
    monkeypatch.setattr(optimizers, "default_lr", lambda steps: 0.3 / steps)
    config = tiny("lmd", epochs=1, schedule=schedule)
    assert config.lr is None
    out = tmp_path / "run"
    run(config, out)
    rate = json.loads((out / "config.json").read_text())["lr"]
    assert rate == 0.3 / 6
    longer = run(replace(config, epochs=2), out, resume=True)
    assert longer["time"]["steps"] == 12
    record = json.loads((out / "config.json").read_text())
    assert (record["lr"], record["epochs"]) == (rate, 2)
    # The same as if this rate had been given.
    run(replace(config, epochs=2, lr=rate), tmp_path / "whole")
    assert_same_run(out, tmp_path / "whole")


def test_another_optimizer_is_refused_where_lmd_would_choose_the_rate(tiny, tmp_path):
    out = tmp_path / "run"
    run(tiny("sgd", epochs=1), out)
    with pytest.raises(ValueError, match="optimizer is 'sgd' in the checkpoint and 'lmd' here"):
        run(tiny("lmd", epochs=1), out, resume=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 4}, "seed is 0 in the checkpoint and 4 here"),
        ({"lr": 0.5}, "lr is 0.002 in the checkpoint and 0.5 here"),
        ({"epochs": 9}, "epochs is 1 in the checkpoint and 9 here"),
    ],
)
def test_another_configuration_is_refused_by_name(tiny, tmp_path, change, message):
    out = tmp_path / "run"
    run(tiny(epochs=1), out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match=message):
        run(replace(tiny(epochs=1), **change), out, resume=True)
    assert before == {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_another_optimizer_format_or_recipe_is_refused_by_name(tiny, tmp_path):
    out = tmp_path / "run"
    run(tiny("bbit-madam", epochs=1), out)
    with pytest.raises(ValueError, match="format is 'ladder8' in the checkpoint and 'ladder4' h"):
        run(tiny("bbit-madam", epochs=1, format="ladder4"), out, resume=True)
    with pytest.raises(ValueError, match="optimizer is 'bbit-madam' in the checkpoint and 'sgd'"):
        run(tiny("sgd", epochs=1), out, resume=True)
    from rung.train import get_recipe

    digits = replace(get_recipe("digits-cnn").configure("bbit-madam"), epochs=1)
    with pytest.raises(
        ValueError, match="recipe is 'chars-gpt' in the checkpoint and 'digits-cnn'"
    ):
        run(digits, out, resume=True)


def test_other_data_is_refused(tiny, tmp_path, text):
    out = tmp_path / "run"
    run(tiny("sgd", "steps_per_epoch=none", epochs=1), out)
    text.write_text(text.read_text() * 3)
    with pytest.raises(ValueError, match="must have the data of its checkpoint; it had 15 batches"):
        run(tiny("sgd", "steps_per_epoch=none", epochs=1), out, resume=True)


def test_a_truncated_checkpoint_or_metrics_file_stops_a_resume(tiny, tmp_path):
    out = tmp_path / "run"
    run(tiny(epochs=1), out)
    path = out / "checkpoint" / "last.safetensors"
    whole, lines = path.read_bytes(), (out / "metrics.jsonl").read_bytes()
    path.write_bytes(whole[:-100])
    with pytest.raises(ValueError, match="truncated, damaged or of another kind"):
        run(tiny(epochs=1), out, resume=True)
    path.write_bytes(whole)
    (out / "metrics.jsonl").write_bytes(lines[:-10])
    with pytest.raises(ValueError, match="metrics.jsonl must hold at least the"):
        run(tiny(epochs=1), out, resume=True)
    assert (out / "metrics.jsonl").read_bytes() == lines[:-10]


@pytest.mark.parametrize("optimizer", ["bbit-madam", "lns-madam", "lmd"])
def test_a_run_killed_amid_an_epoch_goes_on_bit_for_bit(tiny, tmp_path, optimizer):
    # Many steps of one epoch, with a checkpoint after each: the kill falls somewhere among them.
    config = tiny(optimizer, "steps_per_epoch=30", "checkpoint_minutes=0", epochs=2)
    broken, whole = tmp_path / "broken", tmp_path / "whole"
    (tmp_path / "config.pickle").write_bytes(pickle.dumps(config))
    script = (
        "import pickle, pathlib, sys; from rung.train import run; "
        "run(pickle.loads(pathlib.Path(sys.argv[1]).read_bytes()), sys.argv[2])"
    )
    process = subprocess.Popen([sys.executable, "-c", script, tmp_path / "config.pickle", broken])
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        lines = broken / "metrics.jsonl"
        if lines.exists() and lines.read_bytes().count(b"\n") >= 4:
            break
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (broken / "summary.json").exists()
    resumed = run(config, broken, resume=True)
    assert resumed["metric"] == run(config, whole)["metric"]
    assert_same_run(broken, whole)
