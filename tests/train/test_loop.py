import json
import math
import signal
from dataclasses import replace

import pytest
import torch
from filelock import FileLock

from rung.optim import state_bytes
from rung.train import loop, run
from rung.train.checkpoint import load_checkpoint
from rung.train.config import BF16_WEIGHTS, INT8_WEIGHTS, OPTIMIZERS
from rung.train.interrupt import Interrupt
from rung.train.tasks import WindowTask


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def read(folder, name):
    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    return json.loads((folder / name).read_text(), parse_constant=refuse)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_run_folder_holds_what_the_schema_says(tiny, recorder, tmp_path, optimizer):
    out = tmp_path / "run"
    display = recorder()
    summary = run(tiny(optimizer), out, display=display, command="rung train chars-gpt")
    assert display.lines[0].startswith("data: ")
    assert (display.total, display.done, display.stopped) == (12, 0, 1)
    assert {path.name for path in out.iterdir()} == {
        "config.json",
        "metrics.jsonl",
        "summary.json",
        "diagnostics.json",
        "checkpoint",
        ".lock",
    }
    assert read(out, "summary.json") == summary
    assert summary["status"] == "finished"
    assert summary["metric"]["final"] == summary["loss"]["eval"]
    assert summary["time"]["steps"] == 12
    assert summary["time"]["ms_per_step"] > 0
    config = read(out, "config.json")
    assert config["options"]["steps_per_epoch"] == 6
    assert config["batch_size"] == 4
    assert config["environment"]["threads"] == 1
    assert [line["step"] for line in lines(out) if line["kind"] == "train"] == list(range(2, 13, 2))
    assert [line["step"] for line in lines(out) if line["kind"] == "eval"] == [6, 12]


@pytest.mark.parametrize("optimizer", ["adamw", "bbit-madam", "lns-madam", "lmd"])
def test_diagnostics_describe_every_parameter(tiny, tmp_path, optimizer):
    out = tmp_path / "run"
    summary = run(tiny(optimizer), out)
    found = read(out, "diagnostics.json")
    layers = found["layers"]
    assert sum(layer["numel"] for layer in layers) == summary["parameters"]
    assert sum(layer["weight_bytes"] for layer in layers) == summary["bytes"]["weights"]
    assert sum(layer["state_bytes"] for layer in layers) == summary["bytes"]["state"]
    assert 0 < found["descent_bound"] < 1
    assert found["depth"] == sum(len(layer["shape"]) > 1 for layer in layers)
    for layer in layers:
        histogram = layer["log_abs_w"]
        assert len(histogram["edges"]) == len(histogram["counts"]) + 1
        assert sum(histogram["counts"]) + histogram["zeros"] == layer["numel"]
        assert layer["angle"] is None or 0 <= layer["angle"] <= math.pi / 2
        coded = layer["format"] in ("ladder8", "lns16")
        assert coded == ("madam" in optimizer and len(layer["shape"]) > 1)
        assert layer["kind"] in ("Embedding", "Linear", "LayerNorm")
        assert (layer["rungs"] is not None) == coded
        if coded:
            assert len(layer["rungs"]["counts"]) == 256
            assert sum(layer["rungs"]["counts"]) == layer["numel"]


@pytest.mark.parametrize("fmt", ["ladder2", "ladder12", "ladder16"])
def test_rungs_of_every_width_are_counted(tiny, tmp_path, fmt):
    run(tiny("bbit-madam", format=fmt, epochs=1), tmp_path / "run")
    layers = [x for x in read(tmp_path / "run", "diagnostics.json")["layers"] if x["rungs"]]
    assert layers
    for layer in layers:
        assert len(layer["rungs"]["counts"]) == min(256, 2 ** layer["rungs"]["bits"])
        assert sum(layer["rungs"]["counts"]) == layer["numel"]


def test_scales_by_channel_and_another_range_are_trained(tiny, tmp_path):
    out = tmp_path / "run"
    summary = run(tiny("bbit-madam", "scale_axis=channel", format="ladder8+range30"), out)
    assert (summary["status"], summary["format"]) == ("finished", "ladder8+range30")
    layers = [x for x in read(out, "diagnostics.json")["layers"] if x["rungs"]]
    assert {layer["format"] for layer in layers} == {"ladder8+range30"}
    for layer in layers:
        assert sum(layer["rungs"]["counts"]) == layer["numel"]


def test_codes_of_an_lns_are_counted_from_the_largest(tiny, tmp_path):
    run(tiny("lns-madam", "update_format=lns10", "scale_bound=1", epochs=1), tmp_path / "run")
    layers = [x for x in read(tmp_path / "run", "diagnostics.json")["layers"] if x["rungs"]]
    assert layers
    for layer in layers:
        rungs = layer["rungs"]
        assert (rungs["system"], rungs["bits"], rungs["levels"]) == ("lns", 10, 512)
        assert rungs["base_precision"] == pytest.approx(math.log(2) / 32)
        assert sum(rungs["counts"]) == layer["numel"]
        # W_max is the root mean square here: many weights are at the top, few below an eighth.
        assert rungs["counts"][0] > 0.1 * layer["numel"]
        assert sum(rungs["counts"][:48]) > 0.8 * layer["numel"]


@pytest.mark.parametrize("optimizer", ["adamw", "lns-madam"])
def test_a_run_in_an_lns_says_so(tiny, recorder, tmp_path, optimizer):
    out, display = tmp_path / "run", recorder()
    summary = run(tiny(optimizer, "backward_format=lns10", format="lns8"), out, display=display)
    shown = [line.partition(":")[0] for line in display.lines]
    assert shown[:3] == ["data", "weights", "layers"] if optimizer == "lns-madam" else shown[:2]
    config = read(out, "config.json")
    assert (config["format"], summary["format"]) == ("lns8", "lns8")
    assert config["update_format"] == ("lns16" if optimizer == "lns-madam" else None)
    assert config["layers"]["backward_format"] == "lns10+zero"
    assert config["layers"]["weight_scale"] == "channel"


def test_a_run_in_float32_has_no_layers_in_its_record(tiny, tmp_path):
    run(tiny("lns-madam", format=None, epochs=1), tmp_path / "run")
    config = read(tmp_path / "run", "config.json")
    assert (config["format"], config["update_format"], config["layers"]) == (None, "lns16", None)


@pytest.mark.parametrize("fmt", ["mxfp6_e3m2", "mxfp4", "bf16", "lns8"])
def test_lmd_trains_in_any_format(tiny, recorder, tmp_path, fmt):
    out, display = tmp_path / "run", recorder()
    assert run(tiny("lmd", format=fmt), out, display=display)["status"] == "finished"
    assert f"compute in {fmt} " in display.lines[1]
    assert read(out, "config.json")["format"] == fmt


def test_lmd_logs_its_medians_at_the_start_and_at_each_evaluation(tiny, tmp_path):
    out = tmp_path / "run"
    run(tiny("lmd"), out)
    records = [line for line in lines(out) if line["kind"] == "medians"]
    assert [record["step"] for record in records] == [0, 6, 12]
    layers = {layer["name"]: layer for layer in read(out, "diagnostics.json")["layers"]}
    for record in records:
        names = [tensor["name"] for tensor in record["tensors"]]
        assert names == [name for name, layer in layers.items() if len(layer["shape"]) > 1]
        for tensor in record["tensors"]:
            for side in (tensor["positive"], tensor["negative"]):
                assert len(side["counts"]) == 60
                assert sum(side["counts"]) == tensor["numel"] == layers[tensor["name"]]["numel"]
                assert side["low"] < side["mean"] < side["high"]
                assert 0 < side["ks"] < 1
    first, last = (record["tensors"][0]["positive"] for record in (records[0], records[-1]))
    assert first != last


def test_histograms_of_many_and_of_large_tensors_take_a_sample(tiny, tmp_path, monkeypatch):
    from rung.train import medians

    assert medians.spread(list(range(30)), 4) == [0, 10, 19, 29]
    assert medians.spread([1, 2, 3], 4) == [1, 2, 3]
    monkeypatch.setattr(medians, "_TENSORS_OF_A_KIND", 2)
    monkeypatch.setattr(medians, "_VALUES", 50)
    run(tiny("lmd", epochs=1), tmp_path / "run")
    record = next(line for line in lines(tmp_path / "run") if line["kind"] == "medians")
    kinds = [tensor["kind"] for tensor in record["tensors"]]
    assert sorted(kinds) == ["Embedding", "Embedding", "Linear", "Linear"]
    for tensor in record["tensors"]:
        assert 25 < sum(tensor["positive"]["counts"]) <= 50


@pytest.fixture
def watched(monkeypatch):
    """The session of a run, and a place for what its loss does instead."""
    kept = {"calls": 0, "do": lambda outputs, loss: loss}
    build, make = loop.build, WindowTask.loss

    def keep(*arguments):
        kept["session"] = build(*arguments)
        return kept["session"]

    def loss(self, outputs, targets):
        if not outputs.requires_grad:
            return make(self, outputs, targets)
        kept["calls"] += 1
        return kept["do"](outputs, make(self, outputs, targets))

    monkeypatch.setattr(loop, "build", keep)
    monkeypatch.setattr(WindowTask, "loss", loss)
    return kept


@pytest.mark.parametrize("samples", [1, 3])
def test_lmd_sees_samples_in_a_step_and_its_point_outside(tiny, tmp_path, samples, watched):
    seen = []

    def note(outputs, loss):
        seen.append(watched["session"].optimizer.sampling)
        return loss

    watched["do"] = note
    run(tiny("lmd", f"samples={samples}", epochs=1), tmp_path / "run")
    # The last one is the diagnosis, at the point.
    assert seen == [True] * 6 * samples + [False]


def test_divergence_inside_a_step_of_lmd_leaves_its_point(tiny, tmp_path, watched):
    sample = {}

    def explode(outputs, loss):
        if watched["calls"] != 3:
            return loss
        for name, parameter in watched["session"].model.named_parameters():
            sample[name] = parameter.detach().clone()
        return loss * float("nan")

    watched["do"] = explode
    summary = run(tiny("lmd", epochs=1), tmp_path / "run")
    assert summary["reason"] == "the training loss became nan at step 3"
    model, optimizer = watched["session"].model, watched["session"].optimizer
    assert not optimizer.sampling
    now = {name: p.detach().clone() for name, p in model.named_parameters()}
    assert any(not torch.equal(now[name], sample[name]) for name in now)
    with optimizer.evaluated("mean"):
        assert all(torch.equal(now[name], p) for name, p in model.named_parameters())


def test_the_largest_gradient_norm_holds_for_every_sample_of_lmd(tiny, tmp_path, monkeypatch):
    norms, clip = [], torch.nn.utils.clip_grad_norm_

    def note(parameters, limit):
        parameters = list(parameters)
        clip(parameters, limit)
        norms.append(float(torch.nn.utils.get_total_norm([p.grad for p in parameters])))

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", note)
    run(tiny("lmd", "clip_norm=0.01", "samples=2", epochs=1), tmp_path / "run")
    assert len(norms) == 12
    assert max(norms) <= 0.01 * 1.001


def test_a_classifier_of_images_gets_its_posterior_scored(tmp_path):
    from rung.train import get_recipe, with_settings

    config = replace(get_recipe("digits-mlp").configure("lmd"), epochs=2, threads=1)
    config = with_settings(config, ["train_examples=256", "eval_batch_size=100"])
    summary = run(config, tmp_path / "run")
    found = summary["posterior"]
    assert found["samples"] == 8
    for scores in (found, found["mean"], found["median"]):
        assert 0 < scores["loss"] < 3
        assert 0 < scores["metric"] <= 1
        assert 0 < scores["ece"] < 1
    # Parameters hold the mean between steps.
    assert found["mean"]["loss"] == pytest.approx(summary["loss"]["eval"], rel=1e-4)
    assert found["mean"]["metric"] == pytest.approx(summary["metric"]["final"])
    assert found["loss"] != found["mean"]["loss"] != found["median"]["loss"]


def test_the_posterior_of_the_largest_seed_is_scored_too(tmp_path):
    from rung.train import get_recipe, with_settings

    config = replace(get_recipe("digits-mlp").configure("lmd"), epochs=1, threads=1, seed=2**62)
    config = with_settings(config, ["train_examples=64"])
    assert 0 < run(config, tmp_path / "run")["posterior"]["metric"] <= 1


def test_other_optimizers_and_tasks_have_no_posterior(tiny, tmp_path):
    assert "posterior" not in run(tiny("lmd", epochs=1), tmp_path / "text")
    assert "posterior" not in run(tiny("adamw", epochs=1), tmp_path / "adamw")
    assert all(line["kind"] != "medians" for line in lines(tmp_path / "adamw"))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_bytes_are_those_of_the_tensors(tiny, tmp_path, optimizer, monkeypatch):
    seen = {}
    finish = loop._finish
    monkeypatch.setattr(
        loop, "_finish", lambda session, *rest: finish(seen.setdefault("it", session), *rest)
    )
    summary = run(tiny(optimizer, epochs=1), tmp_path / "run")
    optimizer_bytes = state_bytes(seen["it"].optimizer)
    assert summary["bytes"]["state"] == optimizer_bytes
    assert summary["parameters"] == sum(p.numel() for p in seen["it"].model.parameters())
    if optimizer in ("bbit-madam", "signed-madam", INT8_WEIGHTS):
        assert summary["bytes"]["weights"] < 2 * summary["parameters"]
    elif optimizer in ("lns-madam", *BF16_WEIGHTS):
        assert summary["bytes"]["weights"] < 3 * summary["parameters"]
    else:
        assert summary["bytes"]["weights"] == 4 * summary["parameters"]


def test_two_runs_of_one_seed_are_equal_and_another_seed_differs(tiny, tmp_path):
    torch.manual_seed(5)
    first = run(tiny("bbit-madam"), tmp_path / "a")
    torch.manual_seed(6)
    state = torch.get_rng_state()
    second = run(tiny("bbit-madam"), tmp_path / "b")
    assert torch.equal(torch.get_rng_state(), state)
    other = run(tiny("bbit-madam", seed=1), tmp_path / "c")
    assert first["metric"] == second["metric"]
    assert first["metric"] != other["metric"]


def test_a_loss_that_is_not_finite_is_divergence_and_keeps_the_checkpoint(tiny, recorder, tmp_path):
    out = tmp_path / "run"
    config = tiny("sgd", "momentum=0", "clip_norm=none", epochs=3)
    kept = {}

    def poison():
        kept["bytes"] = (out / "checkpoint" / "last.safetensors").read_bytes()
        next(session["it"].model.parameters()).data.fill_(float("nan"))

    session = {}
    original = loop.build

    def build(*arguments):
        session["it"] = original(*arguments)
        return session["it"]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "build", build)
        summary = run(config, out, display=recorder(at=8, act=poison))
    assert summary["status"] == "diverged"
    assert summary["reason"] == "the training loss became nan at step 9"
    assert (out / "checkpoint" / "last.safetensors").read_bytes() == kept["bytes"]
    assert not (out / "diagnostics.json").exists()
    assert read(out, "summary.json")["status"] == "diverged"


def test_weights_that_are_not_finite_never_reach_a_checkpoint(tiny, tmp_path):
    out = tmp_path / "run"
    config = tiny("sgd", "clip_norm=none", "checkpoint_minutes=0", epochs=1, lr=1e38)
    summary = run(config, out)
    assert summary["status"] == "diverged"
    assert "NaN or infinite" in summary["reason"] or "loss became" in summary["reason"]


def test_a_loss_above_the_bound_is_divergence(tiny, tmp_path):
    summary = run(tiny("sgd", "max_loss=0.5"), tmp_path / "run")
    assert summary["status"] == "diverged"
    assert "over 2 steps up to step 2, above max_loss=0.5" in summary["reason"]


def test_gradients_that_stay_infinite_are_divergence(tiny, tmp_path, monkeypatch):
    # The loss is fine but its gradient is not: every step is skipped.
    loss = WindowTask.loss

    def steep(self, outputs, targets):
        return loss(self, outputs, targets) + 0 * (outputs - outputs).sqrt().sum()

    monkeypatch.setattr(WindowTask, "loss", steep)
    with pytest.warns(UserWarning, match="this step was skipped"):
        summary = run(tiny("madam"), tmp_path / "run")
    assert summary["status"] == "diverged"
    assert "not finite in 10 steps in a row, up to step 10" in summary["reason"]
    assert summary["skipped_steps"] == 10


def test_the_plateau_schedule_lowers_the_learning_rate(tiny, tmp_path):
    # Steps this small change nothing, so that every epoch after the first is a bad one.
    config = tiny("sgd", "plateau_patience=1", schedule="plateau", epochs=5, lr=1e-12)
    run(config, tmp_path / "run")
    rates = [line["lr"] for line in lines(tmp_path / "run") if line["kind"] == "train"]
    assert rates == [1e-12] * 15


def test_device_errors_are_one_line(tiny, tmp_path):
    with pytest.raises(ValueError, match="`device` must be one that this PyTorch can use; got 'x'"):
        run(tiny(device="x"), tmp_path / "run")


def test_folders_are_never_mixed(tiny, tmp_path):
    out = tmp_path / "run"
    with pytest.raises(FileNotFoundError, match="There is no run to resume in"):
        run(tiny(), out, resume=True)
    run(tiny(epochs=1), out)
    before = (out / "summary.json").read_bytes()
    with pytest.raises(FileExistsError, match="holds a run already. Add --resume"):
        run(tiny(epochs=1), out)
    assert (out / "summary.json").read_bytes() == before
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(FileExistsError, match="A run needs a folder; .*file is a file"):
        run(tiny(), file)


def test_a_folder_is_trained_by_one_process_at_a_time(tiny, tmp_path):
    out = tmp_path / "run"
    run(tiny("adamw"), out)
    before = {path: path.read_bytes() for path in out.rglob("*.json*")}
    again = tiny("adamw")
    with (
        FileLock(out / ".lock"),
        pytest.raises(ValueError, match=r"must be trained by one process; .*run is another one's"),
    ):
        run(again, out, resume=True)
    assert before == {path: path.read_bytes() for path in out.rglob("*.json*")}
    assert run(again, out, resume=True)["time"]["steps"] == 12


def test_the_first_interrupt_waits_and_the_second_does_not():
    before = signal.getsignal(signal.SIGINT)
    with Interrupt() as interrupt:
        interrupt.stop_if_asked()
        signal.raise_signal(signal.SIGINT)
        assert interrupt.asked
        with pytest.raises(KeyboardInterrupt):
            interrupt.stop_if_asked()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("optimizer", ["sgd", "madam", "bbit-madam", "lmd"])
def test_layers_compute_in_bf16_where_a_run_says_so(tiny, tmp_path, monkeypatch, optimizer):
    seen = set()
    linear = torch.nn.functional.linear

    def watched(x, weight, bias=None):
        result = linear(x, weight, bias)
        seen.add(result.dtype)
        return result

    monkeypatch.setattr(torch.nn.functional, "linear", watched)
    changes = {} if optimizer == "bbit-madam" else {"format": None}
    summary = run(tiny(optimizer, "precision=bf16", **changes), tmp_path / "low")
    assert summary["status"] == "finished"
    assert seen == {torch.bfloat16}
    model = load_checkpoint(tmp_path / "low" / "checkpoint" / "last.safetensors")[0]["model"]
    assert torch.bfloat16 not in {t.dtype for t in model.values() if isinstance(t, torch.Tensor)}
