"""A small convolutional network for the 8x8 digits."""

from torch import Tensor, nn


class DigitsCNN(nn.Module):
    """Two convolutions, each with batch norm, and two linear layers; 101,722 weights.

    Args:
        classes: Number of classes; the count of weights above is for 10.
    """

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 32, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.Conv2d(32, 64, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.hidden = nn.Linear(64 * 4 * 4, 80)
        self.head = nn.Linear(80, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, shape (N, classes), of images of shape (N, 1, 8, 8)."""
        features: Tensor = self.features(images)  # (N, 64, 4, 4)
        hidden: Tensor = self.hidden(features.flatten(1)).relu()  # (N, 1024) -> (N, 80)
        logits: Tensor = self.head(hidden)
        return logits
