"""Shapes of ResNet-18 and ResNet-50 for ImageNet: 7x7 stem, pool, four stages.

Shape letters: B images, C channels, H height, W width.
"""

from torch import Tensor, nn


def convolution(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Sequential:
    """A convolution with padding that keeps the size at stride 1, and batch norm."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, stride=stride, padding=size // 2, bias=False),
        nn.BatchNorm2d(outputs),
    )


class Residual(nn.Module):
    """relu(f(x) + s(x)): f two 3x3 convolutions, or 1x1, 3x3 and 1x1 as a bottleneck.

    Args:
        inputs: Channels of the input.
        width: Channels inside; a bottleneck has four times as many at its end.
        stride: Of the first 3x3 convolution, and of the shortcut.
        bottleneck: Which of the two.
    """

    def __init__(self, inputs: int, width: int, stride: int, *, bottleneck: bool) -> None:
        super().__init__()
        outputs = 4 * width if bottleneck else width
        parts = [convolution(inputs, width, 3, stride), nn.ReLU(), convolution(width, outputs, 3)]
        if bottleneck:
            # The stride is the 3x3's, as in torchvision's; the paper has it in the first 1x1.
            inner = [convolution(inputs, width, 1), nn.ReLU(), convolution(width, width, 3, stride)]
            parts = [*inner, nn.ReLU(), convolution(width, outputs, 1)]
        self.branch = nn.Sequential(*parts)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = convolution(inputs, outputs, 1, stride)

    def forward(self, images: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, outputs, H / stride, W / stride)."""
        total: Tensor = self.branch(images) + self.shortcut(images)
        return total.relu()


class ResNet(nn.Module):
    """ResNet of four stages for 1,000 classes.

    Args:
        blocks: Residual blocks of each stage.
        bottleneck: Kind of the blocks.

    References:
        K. He, X. Zhang, S. Ren, J. Sun, "Deep Residual Learning for Image Recognition",
        arXiv:1512.03385, 2015, table 1.
    """

    def __init__(self, blocks: tuple[int, int, int, int], *, bottleneck: bool) -> None:
        super().__init__()
        self.stem = nn.Sequential(convolution(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
        stages: list[nn.Module] = []
        channels = 64
        for stage, count in enumerate(blocks):
            width = 64 * 2**stage
            residuals: list[nn.Module] = []
            for block in range(count):
                stride = 2 if stage and not block else 1
                residuals.append(Residual(channels, width, stride, bottleneck=bottleneck))
                channels = 4 * width if bottleneck else width
            stages.append(nn.Sequential(*residuals))
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(channels, 1000)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (B, 3, H, W) to logits (B, 1000)."""
        logits: Tensor = self.head(self.stages(self.stem(images)).mean(dim=(2, 3)))
        return logits
