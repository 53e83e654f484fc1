"""Networks that turn images into feature vectors, for distances between sets of images."""

import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rung.train.checkpoint import load_checkpoint
from rung.train.models import ResNet, resnet18

_RECIPE = "cifar10-resnet18"
HOW_TO_TRAIN = (
    f"Train one by: rung train {_RECIPE} --data-dir DIR --out CLASSIFIER, and give its folder by "
    "--set classifier=CLASSIFIER"
)
"""What to do without a classifier; ends without a full stop."""


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """A network that turns images into feature vectors.

    Attributes:
        metric: What a distance in this space is called.
        source: One line: which network.
        network: From images (N, 3, H, W), uint8, on its device, to features (N, D).
    """

    metric: str
    source: str
    network: nn.Module

    def __call__(self, images: Tensor) -> Tensor:
        """Features (N, D), float32, on the CPU, of images on the network's device."""
        features: Tensor = self.network(images)
        return features.to("cpu", torch.float32)


class _BeforeTheHead(nn.Module):
    """What the last linear layer of a classifier takes."""

    def __init__(self, classifier: ResNet, normalized: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        classifier.head = nn.Identity()  # type: ignore[assignment]
        self.classifier, self.normalized = classifier, normalized

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.classifier(self.normalized(images))
        return features


def classifier_features(
    folder: str | Path, classes: int, normalized: Callable[[Tensor], Tensor]
) -> Features:
    """The input of the last linear layer of a classifier that ``rung train`` trained.

    The classifier computes in float32 with the weights of its last checkpoint, whatever format it
    was trained in.

    Args:
        folder: Run folder of the recipe cifar10-resnet18.
        classes: Its number of classes.
        normalized: Turns images of bytes into what it takes.

    Raises:
        ValueError: The folder holds no run, one of another recipe, or a damaged checkpoint.
    """
    folder = Path(folder).expanduser()
    config = _config_of(folder)
    if config.get("recipe") != _RECIPE:
        raise ValueError(
            f"`classifier` must be the folder of a run of {_RECIPE}; {folder} holds one of "
            f"{config.get('recipe')!r}. {HOW_TO_TRAIN}."
        )
    checkpoint = folder / "checkpoint" / "last.safetensors"
    if not checkpoint.is_file():
        raise ValueError(
            f"`classifier` must be the folder of a run with a checkpoint; {folder} has none yet. "
            f"{HOW_TO_TRAIN}."
        )
    width = config["options"]["width"]
    # Its fresh weights are overwritten: they must not move the run's own draws.
    with torch.random.fork_rng([]):
        model = resnet18(classes, width=width)
    tree, header = load_checkpoint(checkpoint)
    model.load_state_dict(tree["model"])
    source = f"{_RECIPE} of width {width} after {header['step']:,} steps"
    return Features("classifier_distance", source, _BeforeTheHead(model, normalized).eval())


def _config_of(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    if not path.is_file():
        raise ValueError(
            f"`classifier` must be the folder of a run; {folder} holds no config.json. "
            f"{HOW_TO_TRAIN}."
        )
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return config


class _Scripted(nn.Module):
    """A TorchScript network; where it has a switch `return_features`, that is on."""

    def __init__(self, network: torch.jit.ScriptModule) -> None:
        super().__init__()
        self.network = network
        arguments = [each.name for each in network.forward.schema.arguments]  # type: ignore[attr-defined]
        self.options = {"return_features": True} if "return_features" in arguments else {}

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.network(images, **self.options)
        return features


def inception_features(path: str | Path) -> Features:
    """A TorchScript network that the user supplies: Inception-v3 where the result is to be an FID.

    It takes images (N, 3, H, W), uint8, resizes and normalises them itself, and returns (N, D);
    where its ``forward`` has an argument ``return_features`` that is set, as NVIDIA's
    inception-2015-12-05.pt wants it.

    Args:
        path: The file.

    Raises:
        ValueError: There is no such file, or it is no TorchScript.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise ValueError(
            f"`inception` must be a TorchScript file; there is none at {path}. Give a network that "
            "maps images (N, 3, H, W), uint8, to features (N, D), or leave it out."
        )
    try:
        with warnings.catch_warnings():
            # torch would rather have torch.export; published Inceptions are TorchScript.
            warnings.simplefilter("ignore", DeprecationWarning)
            network = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"`inception` must be a TorchScript file; {path} is not ({error}). Save one by "
            "torch.jit.script(network).save(path)."
        ) from error
    return Features("fid", f"TorchScript network {path.name}", _Scripted(network).eval())
