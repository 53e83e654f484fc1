"""ResNet-50 for photographs."""

from torch import Tensor, nn

_EXPANSION = 4
_BLOCKS = (3, 4, 6, 3)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions beside a shortcut: relu(f(x) + s(x)).

    The stride is that of the 3x3 convolution ("v1.5"); the paper's own has it in the first 1x1 one.

    Args:
        in_channels: Channels of the input.
        channels: Channels of the 3x3 convolution; the output has four times as many.
        stride: Step. Where the shapes of input and output differ, the shortcut is a 1x1 convolution
            with this stride.
    """

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        out_channels = _EXPANSION * channels
        self.branch = nn.Sequential(
            *_convolution(in_channels, channels, 1),
            nn.ReLU(),
            *_convolution(channels, channels, 3, stride),
            nn.ReLU(),
            *_convolution(channels, out_channels, 1),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(*_convolution(in_channels, out_channels, 1, stride))

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, 4 channels, H / stride, W / stride)."""
        total: Tensor = self.branch(images) + self.shortcut(images)
        return total.relu()


class ResNet50(nn.Module):
    """A 7x7 stem with stride 2, pool, four stages of bottlenecks, average pool, linear.

    Args:
        classes: Number of classes.
        width: Channels of the first stage's 3x3 convolutions, at least 1; the published network has
            64, and then 25,557,032 weights for 1,000 classes.

    Raises:
        ValueError: ``width`` is below 1.

    References:
        K. He, X. Zhang, S. Ren, J. Sun, "Deep Residual Learning for Image Recognition",
        arXiv:1512.03385, 2015.
    """

    def __init__(self, classes: int, width: int = 64) -> None:
        super().__init__()
        if width < 1:
            raise ValueError(
                f"`width` must be at least 1; got {width}. The published network has 64."
            )
        self.stem = nn.Sequential(
            *_convolution(3, width, 7, 2), nn.ReLU(), nn.MaxPool2d(3, stride=2, padding=1)
        )
        stages: list[nn.Module] = []
        channels = width
        for stage, count in enumerate(_BLOCKS):
            for block in range(count):
                stride = 2 if stage > 0 and block == 0 else 1
                stages.append(Bottleneck(channels, width * 2**stage, stride))
                channels = _EXPANSION * width * 2**stage
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(channels, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, shape (N, classes), of images of shape (N, 3, H, W)."""
        features: Tensor = self.stages(self.stem(images))  # (N, 32 * width, H / 32, W / 32)
        logits: Tensor = self.head(features.mean(dim=(2, 3)))  # (N, 32 * width)
        return logits


def _convolution(
    in_channels: int, out_channels: int, side: int, stride: int = 1
) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    conv = nn.Conv2d(in_channels, out_channels, side, stride=stride, padding=side // 2, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv, nn.BatchNorm2d(out_channels)
