"""The recipe cifar10-cgan: what judges it, what moves, and that it goes on bit for bit."""

import pickle
import signal
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

from rung import nn
from rung.tensor import CodedTensor
from rung.train import get_recipe, run, with_settings
from rung.train.checkpoint import load_checkpoint
from rung.train.config import OPTIMIZERS
from rung.train.data import cifar10
from rung.train.int8 import is_int8
from rung.train.models import resnet18
from rung.train.session import build
from rung.train.task import Streams
from rung.train.tasks.features import classifier_features, inception_features

SIZES = ["width=2", "noise=4", "batch_size=4", "eval_images=12", "eval_batch_size=5", "log_every=1"]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cifar")
    draws = np.random.default_rng(0)
    for name in [f"data_batch_{index}" for index in range(1, 6)] + ["test_batch"]:
        data = draws.integers(0, 256, (6, 3072), dtype=np.uint8)
        content = {b"data": data, b"labels": list(range(4, 10))}
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))
    return folder


def classify(data_dir, folder, optimizer="sgd", **changes):
    config = get_recipe("cifar10-resnet18").configure(optimizer)
    config = replace(config, epochs=1, threads=1, data_dir=str(data_dir), **changes)
    run(with_settings(config, ["width=2", "batch_size=8"]), folder)
    return folder


@pytest.fixture(scope="module")
def classifier(data_dir, tmp_path_factory):
    return classify(data_dir, tmp_path_factory.mktemp("classifier") / "run")


@pytest.fixture
def tiny(data_dir, classifier):
    def make(optimizer="madam", *settings, **changes):
        changes = {"epochs": 1, "threads": 1, "data_dir": str(data_dir)} | changes
        config = replace(get_recipe("cifar10-cgan").configure(optimizer), **changes)
        return with_settings(config, [*SIZES, f"classifier={classifier}", *settings])

    return make


def task_of(config):
    return get_recipe("cifar10-cgan").build(config)


def weights(folder):
    tree, _ = load_checkpoint(folder / "checkpoint" / "last.safetensors")
    return {name: comparable(x) for name, x in tree["model"].items()}


def comparable(weight):
    """What moves of a weight, as a tensor that torch can compare: torchao's can't be."""
    if isinstance(weight, CodedTensor):
        return weight.codes
    return weight.dequantize() if is_int8(weight) else weight


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_trains_both_parts(tiny, tmp_path, optimizer):
    config = tiny(optimizer, "steps_per_epoch=2")
    session = build(config, task_of(config), torch.device("cpu"))
    before = {name: p.detach().clone() for name, p in session.model.named_parameters()}
    summary = run(config, tmp_path / "run")
    assert summary["status"] == "finished"
    assert summary["time"]["steps"] == 2
    assert summary["metric"]["name"] == "classifier_distance"
    assert (summary["metric"]["split"], summary["metric"]["higher_is_better"]) == ("test", False)
    assert summary["metric"]["final"] > 0
    assert np.isfinite(summary["loss"]["eval"])
    after = weights(tmp_path / "run")
    for part in ("generator.", "discriminator."):
        names = [name for name in before if name.startswith(part) and name.endswith("weight")]
        first = [comparable(before[name]) for name in names]
        assert any(not torch.equal(x, after[name]) for x, name in zip(first, names, strict=True))


def test_every_product_can_be_in_a_format(tiny):
    config = tiny("lns-madam", format="lns8")
    task = task_of(config)
    session = build(config, task, torch.device("cpu"))
    inputs, targets = task.probe()
    nn.audit(session.model, (inputs,), lambda outputs: task.loss(outputs, targets), strict=True)


def test_a_run_that_was_stopped_and_resumed_equals_one_that_was_not(tiny, tmp_path, recorder):
    config = tiny("bbit-madam", epochs=2)
    whole = run(config, tmp_path / "whole")
    stop = recorder(at=11, act=lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        run(config, tmp_path / "parts", display=stop)
    parts = run(config, tmp_path / "parts", resume=True)
    assert parts["metric"] == whole["metric"]
    assert parts["loss"] == whole["loss"]
    first, second = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_real_images_are_scaled_and_noise_is_drawn_from_the_stream_of_draws(tiny):
    task = task_of(tiny("sgd", "flip=false"))

    def batches(seed):
        streams = Streams(torch.Generator().manual_seed(1), torch.Generator().manual_seed(seed))
        return list(task.batches(streams, 0))

    first, again, other = batches(2), batches(2), batches(3)
    for (x, labels), (y, _), (z, _) in zip(first, again, other, strict=True):
        assert torch.equal(x, y)
        # The same images and classes, other noise.
        assert torch.equal(x[:, :3072], z[:, :3072])
        assert not torch.equal(x[:, 3072:3076], z[:, 3072:3076])
        assert bool((x[:, :3072].abs() <= 1).all())
        assert torch.equal(x[:, 3076].long(), labels)
    pixels = torch.cat([x for x, _ in first])[:, :3072].sort(0).values
    expected = task.data.train_images.flatten(1).float() / 127.5 - 1
    torch.testing.assert_close(pixels, expected.sort(0).values)


def test_evaluations_draw_the_same_noise_every_time(tiny):
    config = tiny()
    task = task_of(config)
    session = build(config, task, torch.device("cpu"))
    session.model.eval()
    before = torch.get_rng_state()
    with torch.no_grad():
        first = task.evaluate(session.model, session.device)
        assert task.evaluate(session.model, session.device) == first
    assert torch.equal(torch.get_rng_state(), before)


def test_a_model_of_another_kind_is_refused(tiny):
    task = task_of(tiny())
    with pytest.raises(TypeError, match="`model` must be a ConditionalGAN; got Linear"):
        task.evaluate(torch.nn.Linear(2, 2), torch.device("cpu"))


def test_features_are_what_the_classifiers_last_layer_takes(data_dir, classifier):
    data = cifar10(data_dir)
    features = classifier_features(classifier, 10, data.normalized)
    found = features(data.test_images)
    assert found.shape == (6, 16)
    assert features.metric == "classifier_distance"
    assert features.source == "cifar10-resnet18 of width 2 after 4 steps"
    model = resnet18(10, width=2)
    model.load_state_dict(
        load_checkpoint(classifier / "checkpoint" / "last.safetensors")[0]["model"]
    )
    model.eval()
    seen = []
    model.head.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    model(data.normalized(data.test_images))
    torch.testing.assert_close(found, seen[0])


@pytest.mark.parametrize(
    ("optimizer", "format"),
    [("bbit-madam", "ladder8"), ("lns-madam", "lns8"), ("lmd", "mxfp8_e4m3")],
)
def test_a_classifier_may_have_learned_in_any_format(data_dir, tmp_path, optimizer, format):
    folder = classify(data_dir, tmp_path / "run", optimizer, format=format)
    data = cifar10(data_dir)
    found = classifier_features(folder, 10, data.normalized)(data.test_images)
    assert bool(torch.isfinite(found).all())


class Scripted(torch.nn.Module):
    """Stands for Inception; without the switch it returns class scores as NVIDIA's does."""

    def forward(self, images: torch.Tensor, return_features: bool = False) -> torch.Tensor:
        assert images.dtype == torch.uint8
        features = images.float().mean(dim=(2, 3))
        return features if return_features else features[:, :1]


@pytest.fixture
def inception(tmp_path):
    path = tmp_path / "inception.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch deprecates scripting
        torch.jit.script(Scripted()).save(str(path))
    return path


def test_inception_makes_the_distance_an_fid_against_the_training_images(tiny, tmp_path, inception):
    config = tiny("adam", "classifier=none", f"inception={inception}")
    task = task_of(config)
    assert task.metric.name == "fid"
    assert task.source.endswith("fid by TorchScript network inception.pt")
    summary = run(config, tmp_path / "run")
    assert summary["metric"]["name"] == "fid"
    images = torch.cat(list(task._real(torch.device("cpu"))))
    assert torch.equal(images, task.data.train_images)
    assert inception_features(inception)(images).shape == (30, 3)


def test_without_a_network_the_recipe_says_how_to_get_one(tiny, tmp_path):
    with pytest.raises(ValueError, match="got none. Train one by: rung train cifar10-resnet18"):
        run(tiny("sgd", "classifier=none"), tmp_path / "run")
    with pytest.raises(ValueError, match="Give one of `classifier` and `inception`; got both"):
        tiny("sgd", "inception=file.pt")
    assert not (tmp_path / "run").exists()


def test_a_classifier_that_is_none_is_refused(data_dir, tmp_path, classifier):
    def load(folder):
        return classifier_features(folder, 10, cifar10(data_dir).normalized)

    with pytest.raises(ValueError, match="holds no config.json. Train one by"):
        load(tmp_path)
    (tmp_path / "config.json").write_text('{"recipe": "digits-cnn"}')
    with pytest.raises(ValueError, match="must be the folder of a run of cifar10-resnet18; .*'dig"):
        load(tmp_path)
    (tmp_path / "config.json").write_bytes((classifier / "config.json").read_bytes())
    with pytest.raises(ValueError, match="has none yet. Train one by"):
        load(tmp_path)
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "last.safetensors").write_bytes(b"no checkpoint")
    with pytest.raises(ValueError, match="truncated, damaged or of another kind"):
        load(tmp_path)


def test_an_inception_that_is_none_is_refused(tmp_path):
    with pytest.raises(ValueError, match="must be a TorchScript file; there is none at"):
        inception_features(tmp_path / "nothing.pt")
    path = tmp_path / "weights.pt"
    path.write_bytes(b"no script")
    with pytest.raises(ValueError, match="must be a TorchScript file; .*weights.pt is not"):
        inception_features(path)
