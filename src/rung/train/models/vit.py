"""The vision transformer, for images of any size.

Shape letters: B images of a batch, C channels, H height, W width, P side of a patch, N patches of
an image, D width of the model.
"""

from typing import Any

import torch
from torch import Tensor, nn

from rung.train.models.transformer_block import Block, Size, require_heads_divide_width

# As published vision transformers have it; torch's default is 1e-5.
_EPS = 1e-6

SIZES = {
    "vit_digits": Size(layers=4, width=64, heads=4),
    "vit_tiny": Size(layers=12, width=192, heads=3),
    "vit_small": Size(layers=12, width=384, heads=6),
}
"""Names for `ViT.preset`."""


class ViT(nn.Module):
    """Vision transformer: patches as tokens, a class token, learned positions, pre-norm blocks.

    Linear layers, positions and class token start from a normal distribution, cut at 2 in absolute
    value, biases from 0, and the patch embedding as torch starts linear layers. Sizes and
    initialisation are timm's but for the class token, which starts there at a millionth: a
    multiplicative rule would take thousands of steps to grow it. The patch embedding is the linear
    map of a patch's pixels, which is the same function as a convolution of stride P, but one whose
    sum over all pixels of a patch a block format sees as one dimension.

    Args:
        classes: Number of classes.
        image_size: Side H = W of the images in pixels, a multiple of ``patch``.
        patch: Side P of a patch in pixels.
        channels: Channels C of the images.
        layers: Number of blocks.
        width: Features D of a token, a multiple of ``heads``.
        heads: Attention heads of a block.
        dropout: Probability of dropping, in the blocks and after the embedding.
        initial_std: Standard deviation of that distribution. 0.02 suits the published widths;
            about 0.5 / sqrt(D) does for any, and positions that small are all but lost beside
            small patches.

    Raises:
        ValueError: ``image_size`` is no multiple of ``patch``, or ``width`` of ``heads``.

    References:
        A. Dosovitskiy et al., "An Image is Worth 16x16 Words: Transformers for Image Recognition
        at Scale", arXiv:2010.11929, 2020; the smaller sizes: H. Touvron et al., "Training
        data-efficient image transformers", arXiv:2012.12877, 2020.
    """

    def __init__(
        self,
        classes: int,
        image_size: int = 224,
        patch: int = 16,
        channels: int = 3,
        layers: int = 12,
        width: int = 192,
        heads: int = 3,
        dropout: float = 0.0,
        initial_std: float = 0.02,
    ) -> None:
        super().__init__()
        require_patches(image_size, patch)
        require_heads_divide_width(width, heads, "vit_tiny has 192 and 3, vit_small 384 and 6.")
        self.image_size, self.patch, self.channels = image_size, patch, channels
        count = (image_size // patch) ** 2
        self.patch_embedding = nn.Linear(channels * patch * patch, width)
        # Two dimensions at least, so that both count as weights and not as biases or gains.
        self.class_token = nn.Parameter(torch.empty(1, 1, width))
        self.position_embedding = nn.Parameter(torch.empty(1, count + 1, width))
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            Block(width, heads, dropout, causal=False, eps=_EPS) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width, _EPS)
        self.head = nn.Linear(width, classes)
        nn.init.trunc_normal_(self.class_token, std=initial_std)
        nn.init.trunc_normal_(self.position_embedding, std=initial_std)
        for module in (*self.blocks.modules(), self.head):
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=initial_std)
                nn.init.zeros_(module.bias)

    @classmethod
    def preset(cls, name: str, classes: int, **changes: Any) -> "ViT":
        """A model of a known size.

        Args:
            name: One of `SIZES`: vit_tiny has 5.7 M weights at 224 pixels and 1,000 classes,
                vit_small 22.1 M.
            classes: Number of classes.
            changes: Arguments of `ViT` that differ.

        Raises:
            ValueError: No size has this name; the text lists those that exist.
        """
        size = preset_size(name)
        sizes = {"layers": size.layers, "width": size.width, "heads": size.heads}
        return cls(classes, **(sizes | changes))

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, shape (B, classes), of images of shape (B, C, H, W).

        Raises:
            ValueError: The images have another size.
        """
        expected = (self.channels, self.image_size, self.image_size)
        if tuple(images.shape[1:]) != expected:
            raise ValueError(
                f"`images` must have shape (B, {', '.join(map(str, expected))}); got "
                f"{tuple(images.shape)}. Resize them or build the model for their size."
            )
        patches: Tensor = self.patch_embedding(cut_patches(images, self.patch))  # (B, N, D)
        token = self.class_token.expand(len(images), -1, -1)  # (1, 1, D) -> (B, 1, D)
        hidden = self.dropout(torch.cat((token, patches), dim=1) + self.position_embedding)
        for block in self.blocks:
            hidden = block(hidden)
        logits: Tensor = self.head(self.norm(hidden)[:, 0])  # (B, N + 1, D) -> (B, D)
        return logits


def cut_patches(images: Tensor, patch: int) -> Tensor:
    """Cut images into squares, row by row.

    Args:
        images: Shape (B, C, H, W); ``patch`` divides H and W.
        patch: Side P of a square in pixels.

    Returns:
        Shape (B, H / P * W / P, C * P * P); a row is a patch's channels, each row by row.
    """
    batch, channels, height, width = images.shape
    rows, columns = height // patch, width // patch
    grid = images.reshape(batch, channels, rows, patch, columns, patch)
    # (B, C, H/P, P, W/P, P) -> (B, H/P, W/P, C, P, P)
    return grid.permute(0, 2, 4, 1, 3, 5).reshape(batch, rows * columns, -1)


def preset_size(name: str) -> Size:
    """The size of a name of `SIZES`.

    Raises:
        ValueError: No size has this name; the text lists those that exist.
    """
    if name not in SIZES:
        raise ValueError(f"Unknown ViT {name!r}; the sizes are: {', '.join(SIZES)}.")
    return SIZES[name]


def require_patches(image_size: int, patch: int) -> None:
    """Refuse an image that patches don't fill.

    Raises:
        ValueError: ``image_size`` is no multiple of ``patch``, or one of them is below 1.
    """
    if patch < 1 or image_size < 1 or image_size % patch:
        raise ValueError(
            "`image_size` must be a multiple of `patch`, both at least 1; got "
            f"image_size={image_size} and patch={patch}. Resize the images or choose a patch that "
            "divides them."
        )
