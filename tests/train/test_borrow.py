import pytest
import torch

from rung.tensor import CodedTensor
from rung.train import get_recipe, run, with_settings
from rung.train.checkpoint import load_checkpoint
from rung.train.device import find_device
from rung.train.fingerprint import fingerprint
from rung.train.session import build


def checkpoint(folder):
    return load_checkpoint(folder / "checkpoint" / "last.safetensors")[0]["model"]


def built(made):
    return build(made, get_recipe(made.recipe).build(made), find_device("cpu"))


@pytest.mark.parametrize("optimizer", ["madam", "adamw", "lmd"])
def test_every_tensor_gets_the_largest_weight_of_the_other_run(tiny, tmp_path, optimizer):
    run(tiny(optimizer), tmp_path / "float")
    theirs = checkpoint(tmp_path / "float")
    made = tiny("bbit-madam", f"scales_from={tmp_path / 'float'}")
    coded = {
        name: p for name, p in built(made).model.named_parameters() if isinstance(p, CodedTensor)
    }
    assert coded
    for name, parameter in coded.items():
        assert float(parameter.scale) == float(theirs[name].abs().max()), name
    assert run(made, tmp_path / "run")["status"] == "finished"


def test_biases_in_codes_borrow_too(tiny, tmp_path):
    run(tiny("madam"), tmp_path / "float")
    theirs = checkpoint(tmp_path / "float")
    made = tiny("bbit-madam", f"scales_from={tmp_path / 'float'}", "others=multiplicative")
    parameters = dict(built(made).model.named_parameters())
    assert all(isinstance(p, CodedTensor) for p in parameters.values())
    for name, parameter in parameters.items():
        assert torch.equal(parameter.scale, theirs[name].abs().max()), name


def test_a_run_that_does_not_fit_is_refused(tiny, tmp_path):
    def borrowing(folder, *settings):
        return built(tiny("bbit-madam", f"scales_from={folder}", *settings))

    with pytest.raises(ValueError, match="must be a run folder with a checkpoint; there is no .*t"):
        borrowing(tmp_path / "nowhere")
    run(tiny("madam", epochs=1), tmp_path / "float")
    with pytest.raises(ValueError, match=r"same model; its .* must have shape .*; got shape \("):
        borrowing(tmp_path / "float", "width=8")
    with pytest.raises(ValueError, match="same model; its .* got none of this name in"):
        borrowing(tmp_path / "float", "layers=2")
    run(tiny("bbit-madam", epochs=1), tmp_path / "coded")
    with pytest.raises(ValueError, match="whose weights are float32; got .* in codes .* Train it"):
        borrowing(tmp_path / "coded")
    digits = with_settings(
        get_recipe("digits-mlp").configure("bbit-madam"), [f"scales_from={tmp_path / 'float'}"]
    )
    with pytest.raises(ValueError, match="a run of recipe 'digits-mlp'; got 'chars-gpt' in"):
        built(digits)


def test_scales_of_a_run_are_by_tensor(tiny):
    with pytest.raises(ValueError, match="`scale_axis` must be 'tensor'; got 'channel'. Leave one"):
        tiny("bbit-madam", "scales_from=runs/x", "scale_axis=channel")


def test_checkpoints_from_before_still_fit(tiny):
    now = fingerprint(tiny("bbit-madam"))
    assert now.keys().isdisjoint({"scales_from", "others"})
    borrowed = fingerprint(tiny("bbit-madam", "scales_from=runs/x", "others=none"))
    assert (borrowed["scales_from"], borrowed["others"]) == ("runs/x", "none")
