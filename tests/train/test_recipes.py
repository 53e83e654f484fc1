import pickle
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch

from rung import nn
from rung.train import RECIPES, get_recipe, run, with_settings
from rung.train.session import build
from rung.train.task import Streams

# What is small in every transformer of the new recipes; a warm-up must be shorter than the run.
TINY = ["width=8", "heads=2", "layers=1", "batch_size=4", "warmup_steps=1"]
RANDOM = np.random.default_rng(0)


def write_fashion(folder):
    for part, count in (("train", 24), ("t10k", 10)):
        images = RANDOM.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = np.arange(count, dtype=np.uint8) % 10
        header = b"\x00\x00\x08" + bytes([3]) + np.array(images.shape, ">u4").tobytes()
        (folder / f"{part}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        header = b"\x00\x00\x08" + bytes([1]) + np.array([count], ">u4").tobytes()
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(header + labels.tobytes())


def write_cifar(folder, names, key):
    for name in names:
        data = RANDOM.integers(0, 256, (6, 3072), dtype=np.uint8)
        content = {b"data": data, key: list(range(6))}
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))


def write_cifar10(folder):
    names = [f"data_batch_{index}" for index in range(1, 6)] + ["test_batch"]
    write_cifar(folder, names, b"labels")


def write_cifar100(folder):
    write_cifar(folder, ["train", "test"], b"fine_labels")


def write_wikitext(folder):
    for part, repeats in (("train", 60), ("valid", 12), ("test", 12)):
        line = " = A heading = \n the cat sat on the <unk> mat . \n"
        (folder / f"wiki.{part}.tokens").write_text(line * repeats)


def write_token_files(folder):
    for name, count in (("train.bin", 400), ("val.bin", 60)):
        RANDOM.integers(0, 50, count).astype("<u2").tofile(folder / name)


def write_images(folder):
    image = pytest.importorskip("PIL.Image")
    for part, count in (("train", 6), ("val", 2)):
        for name in ("cat", "dog"):
            (folder / part / name).mkdir(parents=True)
            for index in range(count):
                pixels = RANDOM.integers(0, 256, (12, 10 + index, 3), dtype=np.uint8)
                image.fromarray(pixels).save(folder / part / name / f"{index}.png")


def interrupt():
    signal.raise_signal(signal.SIGINT)


SMALL = {
    "digits-cnn": (None, ["train_examples=64"], "accuracy", "test"),
    "digits-mlp": (None, ["train_examples=64"], "accuracy", "test"),
    "digits-vit": (
        None,
        ["width=8", "heads=2", "layers=1", "steps_per_epoch=3"],
        "accuracy",
        "test",
    ),
    "fashion-resnet18": (write_fashion, ["width=2", "batch_size=8"], "error", "test"),
    "cifar10-resnet18": (write_cifar10, ["width=2", "batch_size=8"], "error", "test"),
    "cifar100-resnet18": (write_cifar100, ["width=2", "batch_size=4"], "error", "test"),
    "cifar10-vit": (write_cifar10, TINY, "accuracy", "test"),
    "folder-vit": (
        write_images,
        [*TINY, "image_size=8", "resize=10", "patch=4"],
        "accuracy",
        "test",
    ),
    "imagenet-resnet50": (
        write_images,
        ["width=2", "batch_size=4", "image_size=32"],
        "error",
        "test",
    ),
    "wikitext2-transformer": (
        write_wikitext,
        ["width=8", "feed_forward=8", "batch_size=4", "window=5", "train_tokens=400"],
        "perplexity",
        "valid",
    ),
    "words-gpt": (
        write_wikitext,
        [*TINY, "context=5", "steps_per_epoch=3", "train_tokens=400"],
        "perplexity",
        "valid",
    ),
    "tokens-gpt": (
        write_token_files,
        [*TINY, "context=5", "steps_per_epoch=3", "vocabulary_size=50"],
        "loss_per_token",
        "valid",
    ),
    "chars-gpt": (
        None,
        [
            "width=8",
            "heads=2",
            "layers=1",
            "context=8",
            "steps_per_epoch=3",
            "eval_batch_size=4000",
        ],
        "loss_per_character",
        "valid",
    ),
}


def small(name, optimizer, tmp_path, **changes):
    """A recipe's configuration on a few examples in the files that it reads."""
    write, settings, _, _ = SMALL[name]
    config = replace(get_recipe(name).configure(optimizer), epochs=1, threads=1, **changes)
    if write is not None:
        write(tmp_path)
        config = replace(config, data_dir=str(tmp_path))
    return with_settings(config, settings)


def test_every_recipe_is_tried_here_or_has_tests_of_its_own():
    assert RECIPES.keys() - SMALL.keys() <= {"glue-bert", "cifar10-cgan"}


@pytest.mark.parametrize("optimizer", ["sgd", "bbit-madam"])
@pytest.mark.parametrize("name", SMALL)
def test_every_recipe_trains_on_files_in_their_own_format(name, optimizer, tmp_path):
    _, _, metric, split = SMALL[name]
    summary = run(small(name, optimizer, tmp_path), tmp_path / "run")
    assert summary["status"] == "finished"
    assert (summary["metric"]["name"], summary["metric"]["split"]) == (metric, split)
    assert summary["metric"]["higher_is_better"] == (metric == "accuracy")
    if metric == "perplexity":
        expected = np.exp(summary["loss"]["eval"])
        assert summary["metric"]["final"] == pytest.approx(expected)
    if metric in ("accuracy", "error"):
        assert 0 <= summary["metric"]["final"] <= 1


@pytest.mark.parametrize("optimizer", ["lns-madam", "adamw"])
@pytest.mark.parametrize("name", SMALL)
def test_every_recipe_trains_with_all_of_its_products_in_an_lns(
    name, optimizer, tmp_path, recorder
):
    config = small(name, optimizer, tmp_path, format="lns8")
    display = recorder()
    summary = run(config, tmp_path / "run", display=display)
    assert summary["status"] == "finished"
    assert any(line.startswith("layers: ") for line in display.lines)
    task = get_recipe(name).build(config)
    session = build(config, task, torch.device("cpu"))
    inputs, targets = task.probe()
    # strict: a matrix product that stayed in float32 is an error.
    nn.audit(session.model, (inputs,), lambda outputs: task.loss(outputs, targets), strict=True)


def test_train_examples_and_the_data_line_agree(tmp_path):
    config = with_settings(get_recipe("digits-cnn").configure("sgd"), ["train_examples=100"])
    task = get_recipe("digits-cnn").build(config)
    assert task.source.endswith("; trains on the first 100")
    assert task.batches_per_epoch == -(-100 // config.options.batch_size)
    inputs, targets = task.probe()
    assert inputs.shape[1:] == (1, 8, 8)
    assert len(inputs) == len(targets) == min(100, config.options.batch_size)


@pytest.mark.parametrize("name", [name for name in SMALL if SMALL[name][0] is not None])
def test_recipes_without_embedded_data_say_which_files_they_need(name, tmp_path):
    config = get_recipe(name).configure("sgd")
    with pytest.raises(ValueError, match=f"'{name}' reads its data from files.*--data-dir: "):
        run(config, tmp_path / "run")
    with pytest.raises(ValueError, match="must be an existing folder|no such|must hold"):
        run(replace(config, data_dir=str(tmp_path / "nowhere")), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["digits-cnn", "digits-mlp", "digits-vit"])
def test_digits_read_no_folder(tmp_path, name):
    config = replace(get_recipe(name).configure("sgd"), data_dir=str(tmp_path))
    with pytest.raises(ValueError, match="has its data embedded and reads no files; got data_dir="):
        run(config, tmp_path / "run")


def test_a_text_must_be_longer_than_its_context(tmp_path):
    (tmp_path / "input.txt").write_text("too short")
    config = replace(get_recipe("chars-gpt").configure("sgd"), data_dir=str(tmp_path))
    with pytest.raises(ValueError, match="must each be longer than the context; got 8 and 1"):
        run(config, tmp_path / "run")


def test_a_text_must_fill_its_columns(tmp_path):
    write_wikitext(tmp_path)
    config = get_recipe("wikitext2-transformer").configure("sgd")
    config = with_settings(replace(config, data_dir=str(tmp_path)), ["train_tokens=30"])
    with pytest.raises(ValueError, match="at least two tokens per column; got 30 tokens and batch"):
        run(config, tmp_path / "run")


RESUMED = ["digits-vit", "folder-vit", "imagenet-resnet50", "words-gpt", "tokens-gpt"]


@pytest.mark.parametrize("name", RESUMED)
def test_a_run_that_was_stopped_and_resumed_equals_one_that_was_not(name, tmp_path, recorder):
    config = replace(small(name, "madam", tmp_path), epochs=2)

    whole = run(config, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(config, tmp_path / "parts", display=recorder(at=4, act=interrupt))
    parts = run(config, tmp_path / "parts", resume=True)
    assert parts["metric"] == whole["metric"]
    assert parts["loss"] == whole["loss"]


def test_streamed_images_train_alike_whatever_decodes_them(tmp_path):
    config = replace(small("imagenet-resnet50", "sgd", tmp_path), epochs=2)
    one, many = (
        run(with_settings(config, [f"workers={workers}"]), tmp_path / f"run{workers}")
        for workers in (1, 3)
    )
    assert one["loss"] == many["loss"]
    assert one["metric"] == many["metric"]


def test_a_run_goes_on_when_a_damaged_image_that_ended_it_is_replaced(tmp_path):
    config = replace(small("imagenet-resnet50", "madam", tmp_path), epochs=2)
    whole = run(config, tmp_path / "whole")
    path = tmp_path / "train" / "dog" / "3.png"
    sound = path.read_bytes()
    path.write_bytes(sound[:40])
    with pytest.raises(ValueError, match=r"dog/3\.png must be an image that Pillow can decode"):
        run(config, tmp_path / "parts")
    path.write_bytes(sound)
    parts = run(config, tmp_path / "parts", resume=True)
    assert parts["loss"] == whole["loss"]


def test_fewer_streamed_images_are_of_all_classes(tmp_path):
    config = with_settings(small("imagenet-resnet50", "sgd", tmp_path), ["train_examples=4"])
    task = get_recipe("imagenet-resnet50").build(config)
    assert task.source.endswith("; trains on 4")
    assert [label for _, label in task.train] == [0, 0, 1, 1]
    assert task.batches_per_epoch == 1
    assert sorted(task.probe()[1].tolist()) == [0, 0, 1, 1]
    with pytest.raises(ValueError, match="`resize` must be at least `image_size`; got resize=31"):
        with_settings(config, ["resize=31"])


@pytest.mark.parametrize(("steps", "epochs"), [(1, 3), (7, 1), (4, 2)])
def test_an_epoch_of_images_has_exactly_the_steps_that_were_asked_for(
    steps, epochs, tmp_path, recorder
):
    config = small("digits-vit", "sgd", tmp_path)
    config = with_settings(config, ["train_examples=70", f"steps_per_epoch={steps}"])
    display = recorder()
    run(replace(config, epochs=epochs), tmp_path / "run", display=display)
    assert len(display.steps) == steps * epochs


def test_resumed_batches_of_repeated_passes_are_those_of_the_whole_epoch(tmp_path):
    config = with_settings(
        small("digits-vit", "sgd", tmp_path), ["train_examples=70", "steps_per_epoch=7"]
    )
    task = get_recipe("digits-vit").build(config)

    def streams():
        return Streams(torch.Generator().manual_seed(1), torch.Generator().manual_seed(2))

    whole = list(task.batches(streams(), 0))
    assert [len(labels) for _, labels in whole] == [32, 32, 6, 32, 32, 6, 32]
    for start in range(8):
        rest = list(task.batches(streams(), start))
        for (_, labels), (_, expected) in zip(rest, whole[start:], strict=True):
            assert torch.equal(labels, expected)


def test_language_models_validate_on_the_tokens_that_were_asked_for(tmp_path):
    config = with_settings(small("tokens-gpt", "sgd", tmp_path), ["eval_tokens=21"])
    task = get_recipe("tokens-gpt").build(config)
    assert len(task.valid) == 21
    assert task.source.endswith("; validates on the first 21")
    seen = []

    def model(tokens):
        seen.append(tokens)
        return torch.zeros(*tokens.shape, 50)

    result = task.evaluate(model, torch.device("cpu"))
    assert torch.equal(torch.cat(seen).flatten(), task.valid[:20].long())
    assert result.loss == pytest.approx(np.log(50), abs=1e-5)
    with pytest.raises(ValueError, match="must each be longer than the context; got 400 and 5 tok"):
        get_recipe("tokens-gpt").build(with_settings(config, ["eval_tokens=5"]))


def test_sizes_of_a_preset_hold_unless_others_are_given():
    task = get_recipe("digits-vit")
    config = with_settings(task.configure("sgd"), ["width=32"])
    model = task.build(config).model()
    assert (len(model.blocks), model.head.in_features) == (4, 32)
    assert model.blocks[0].attention.heads == 4
    with pytest.raises(ValueError, match="`preset` must be one of vit_digits, vit_tiny, vit_small"):
        with_settings(config, ["preset=vit_huge"])


def test_images_that_patches_do_not_fill_are_refused_before_they_are_read(tmp_path):
    config = small("folder-vit", "sgd", tmp_path)
    (tmp_path / "train" / "cat" / "0.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match="multiple of `patch`.*image_size=8 and patch=3"):
        run(with_settings(config, ["patch=3"]), tmp_path / "run")
    with pytest.raises(ValueError, match="`resize` must be at least `image_size`; got resize=7"):
        with_settings(config, ["resize=7"])


def test_a_damaged_image_stops_a_run_before_it_begins(tmp_path):
    config = small("folder-vit", "sgd", tmp_path)
    (tmp_path / "val" / "dog" / "1.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"dog/1\.png must be an image that Pillow can decode"):
        run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_words_are_validated_on_the_tokens_that_were_asked_for(tmp_path):
    write_wikitext(tmp_path)
    config = small("wikitext2-transformer", "sgd", tmp_path)
    some = get_recipe(config.recipe).build(with_settings(config, ["eval_tokens=12"]))
    every = get_recipe(config.recipe).build(config)
    model = every.model().eval()
    with torch.no_grad():
        part, whole = (task.evaluate(model, torch.device("cpu")) for task in (some, every))
    assert part.loss != whole.loss
    assert some.source.endswith("; validates on the first 12 tokens")
    assert "validates" not in every.source


def test_images_of_a_bf16_run_lie_channels_last(tmp_path):
    config = small("cifar10-resnet18", "sgd", tmp_path)
    streams = Streams(torch.Generator(), torch.Generator())
    layouts = {"float32": torch.contiguous_format, "bf16": torch.channels_last}
    for precision, layout in layouts.items():
        task = get_recipe(config.recipe).build(with_settings(config, [f"precision={precision}"]))
        images, _ = next(task.batches(streams, 0))
        assert images.is_contiguous(memory_format=layout)
        assert task.probe()[0].is_contiguous(memory_format=layout)
