"""A small multilayer perceptron for the 8x8 digits."""

from torch import Tensor, nn


class DigitsMLP(nn.Module):
    """Three linear layers with rectifiers between them; 26,122 weights at the defaults.

    Args:
        classes: Number of classes.
        width: Features of the two hidden layers.
    """

    def __init__(self, classes: int = 10, width: int = 128) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(64, width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, shape (N, classes), of images of shape (N, 1, 8, 8)."""
        logits: Tensor = self.layers(images)
        return logits
