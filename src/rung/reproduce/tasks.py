"""The tasks that experiments share, with their sizes."""

from rung.reproduce.contest import Budget, Row, Size

_BF16 = "precision=bf16"

CHARACTERS = ("layers=2", "width=64", "context=64", "batch_size=8")

CIFAR: dict[Budget, Size] = {
    "smoke": Size(
        words="width 4, 512 images, 1 epoch: says nothing",
        epochs=1,
        schedule="constant",
        settings=("width=4", "train_examples=512"),
        seeds=(0,),
    ),
    "cpu": Size(
        words="width 16 instead of 64, 6 epochs of the whole set instead of 200, cosine",
        epochs=6,
        schedule="cosine",
        settings=("width=16", _BF16),
        tuning_epochs=2,
    ),
    "full": Size(
        words="width 64, 200 epochs, lr / 10 on plateaus",
        settings=(_BF16,),
        tuning_epochs=30,
    ),
}

WORDS: dict[Budget, Size] = {
    "smoke": Size(
        words="20,000 tokens, width 16: says nothing",
        epochs=1,
        settings=("train_tokens=20000", "eval_tokens=5000", "width=16", "feed_forward=16"),
        seeds=(0,),
    ),
    "cpu": Size(
        words="the first 200,000 tokens instead of 2 million, 1 epoch instead of 20, judged by "
        "100,000 tokens",
        epochs=1,
        schedule="cosine",
        settings=("train_tokens=200000", "eval_tokens=100000", _BF16),
        tuning_settings=("train_tokens=100000", "eval_tokens=50000"),
    ),
    "full": Size(words="all tokens, 20 epochs, lr / 10 on plateaus", tuning_epochs=6),
}

DIGITS: dict[Budget, Size] = {
    "smoke": Size(words="2 epochs: says nothing", epochs=2, seeds=(0,)),
    "cpu": Size(words="the recipe's own size", tuning_epochs=10),
    "full": Size(words="the recipe's own size", tuning_epochs=10),
}

GAN: dict[Budget, Size] = {
    "smoke": Size(
        words="width 4, 512 images, 1 epoch: says nothing",
        epochs=1,
        schedule="constant",
        settings=("width=4", "noise=16", "train_examples=512", "eval_images=512"),
        seeds=(0,),
    ),
    "cpu": Size(
        words="width 8 instead of 128, 300 steps of 64 images instead of 94,000, 2,000 images "
        "judged, cosine",
        epochs=2,
        schedule="cosine",
        settings=("width=8", "steps_per_epoch=150", "eval_images=2000"),
        tuning_epochs=1,
    ),
    "full": Size(words="the recipe's own size", tuning_epochs=20),
}

IMAGENET: dict[Budget, Size] = {
    "smoke": Size(
        words="width 4, images of 32 pixels, 1 epoch: says nothing",
        epochs=1,
        schedule="constant",
        settings=("width=4", "image_size=32", "batch_size=32"),
        seeds=(0,),
    ),
    "cpu": Size(
        words="not run at full size: width 8, images of 64 pixels, 1 epoch of whatever folder "
        "was given, one seed",
        epochs=1,
        schedule="cosine",
        settings=("width=8", "image_size=64", "batch_size=64"),
        seeds=(0,),
    ),
    "full": Size(words="width 64, 224 pixels, 90 epochs", settings=(_BF16,), tuning_epochs=5),
}


def row(name: str, **rest: object) -> Row:
    """A task by its name, with an experiment's contestants and whatever differs."""
    return Row(**(_TASKS[name] | {"name": name} | rest))  # type: ignore[arg-type]


_STAND_IN = (
    "Where the training text isn't WikiText-2's own, perplexities compare contestants with each "
    "other and never with the published ones."
)
_TASKS: dict[str, dict[str, object]] = {
    "digits": {
        "title": "scikit-learn's digits, small CNN",
        "recipe": "digits-cnn",
        "unit": "accuracy, %",
        "factor": 100.0,
        "sizes": DIGITS,
        "remark": "Not in the paper: embedded data, for whoever has no other.",
    },
    "cifar10": {
        "title": "CIFAR-10, ResNet-18",
        "recipe": "cifar10-resnet18",
        "unit": "top-1 error, %",
        "factor": 100.0,
        "data": "cifar10",
        "sizes": CIFAR,
    },
    "cifar100": {
        "title": "CIFAR-100, ResNet-18",
        "recipe": "cifar100-resnet18",
        "unit": "top-1 error, %",
        "factor": 100.0,
        "data": "cifar100",
        "sizes": CIFAR,
    },
    "imagenet": {
        "title": "ImageNet, ResNet-50",
        "recipe": "imagenet-resnet50",
        "unit": "top-1 error, %",
        "factor": 100.0,
        "data": "imagenet",
        "sizes": IMAGENET,
    },
    "cgan": {
        "title": "CIFAR-10, class-conditional GAN",
        "recipe": "cifar10-cgan",
        "unit": "distance in a classifier's features",
        "data": "cifar10",
        "sizes": GAN,
        "classifier": True,
        "remark": "The paper's column is FID; ours is not, and they never compare.",
    },
    "wikitext2": {
        "title": "WikiText-2, transformer",
        "recipe": "wikitext2-transformer",
        "unit": "perplexity",
        "data": "wikitext2",
        "sizes": WORDS,
        "remark": _STAND_IN,
    },
    "characters": {
        "title": "characters of Python's documentation, GPT",
        "recipe": "chars-gpt",
        "unit": "loss a character, nats",
        "remark": "Embedded data; not in the paper.",
    },
    "tokens": {
        "title": "tokens of a file, GPT",
        "recipe": "tokens-gpt",
        "unit": "loss a token, nats",
        "data": "tokens",
    },
    "digits-vit": {
        "title": "scikit-learn's digits, ViT",
        "recipe": "digits-vit",
        "unit": "accuracy, %",
        "factor": 100.0,
        "remark": "Embedded data; not in the paper.",
    },
    "fashion": {
        "title": "Fashion-MNIST, ResNet-18",
        "recipe": "fashion-resnet18",
        "unit": "top-1 error, %",
        "factor": 100.0,
        "data": "fashion",
    },
}
