"""ResNet-18 in the form for small images."""

from torch import Tensor, nn


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut: relu(f(x) + s(x)).

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        stride: Step of the first convolution. Where the shapes of input and output differ, the
            shortcut is a 1x1 convolution with this stride.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, out_channels, H / stride, W / stride)."""
        total: Tensor = self.branch(images) + self.shortcut(images)
        return total.relu()


class ResNet(nn.Module):
    """A 3x3 stem, one stage of basic blocks for each entry of ``blocks``, average pool, linear.

    Stage i has ``width * 2**i`` channels; every stage but the first halves height and width.

    Args:
        blocks: Number of blocks of each stage.
        classes: Number of classes.
        in_channels: Channels of the images.
        width: Channels of the first stage.
    """

    def __init__(
        self, blocks: tuple[int, ...], classes: int, in_channels: int = 3, width: int = 64
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        )
        stages: list[nn.Module] = []
        channels = width
        for stage, count in enumerate(blocks):
            out_channels = width * 2**stage
            for block in range(count):
                stride = 2 if stage > 0 and block == 0 else 1
                stages.append(BasicBlock(channels, out_channels, stride))
                channels = out_channels
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(channels, classes)
        self.apply(_initialize)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, shape (N, classes), of images of shape (N, in_channels, H, W)."""
        features: Tensor = self.stages(self.stem(images))  # (N, 8 * width, H / 8, W / 8)
        logits: Tensor = self.head(features.mean(dim=(2, 3)))  # (N, 8 * width)
        return logits


def resnet18(classes: int, in_channels: int = 3, width: int = 64) -> ResNet:
    """Return ResNet-18 in its CIFAR form: 3x3 stem, 4 stages of 2 blocks, no first pool.

    Args:
        classes: Number of classes.
        in_channels: Channels of the images, 3 for CIFAR and 1 for Fashion-MNIST.
        width: Channels of the first stage, at least 1; the published network has 64.

    Returns:
        The network with fresh weights; 11,173,962 of them for 10 classes at width 64.

    Raises:
        ValueError: ``width`` is below 1.

    References:
        K. He, X. Zhang, S. Ren, J. Sun, "Deep Residual Learning for Image Recognition",
        arXiv:1512.03385, 2015.
    """
    if width < 1:
        raise ValueError(f"`width` must be at least 1; got {width}. The published network has 64.")
    return ResNet((2, 2, 2, 2), classes, in_channels, width)


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
