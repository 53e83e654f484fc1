import json
import math
import signal

import pytest
import torch

from rung.optim import state_bytes
from rung.train import loop, run
from rung.train.config import OPTIMIZERS
from rung.train.interrupt import Interrupt


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


@pytest.mark.parametrize("optimizer", ["adamw", "bbit-madam", "lns-madam"])
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
        assert coded == (optimizer != "adamw" and len(layer["shape"]) > 1)
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
    if optimizer == "bbit-madam":
        assert summary["bytes"]["weights"] < 2 * summary["parameters"]
    elif optimizer == "lns-madam":
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
    from rung.train.tasks import CharacterTask

    loss = CharacterTask.loss

    def steep(self, outputs, targets):
        return loss(self, outputs, targets) + 0 * (outputs - outputs).sqrt().sum()

    monkeypatch.setattr(CharacterTask, "loss", steep)
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
