"""Quantized products as functions: torch's own signatures and one keyword, ``quantizers``."""

from rung.nn.attention import scaled_dot_product_attention
from rung.nn.conv import (
    conv1d,
    conv2d,
    conv3d,
    conv_transpose1d,
    conv_transpose2d,
    conv_transpose3d,
)
from rung.nn.einsum import einsum
from rung.nn.embedding import embedding, embedding_bag
from rung.nn.linear import bilinear, linear
from rung.nn.matmul import (
    addbmm,
    addmm,
    addmv,
    baddbmm,
    bmm,
    dot,
    inner,
    matmul,
    mm,
    mv,
    tensordot,
)
from rung.nn.straight_through import straight_through

__all__ = [
    "addbmm",
    "addmm",
    "addmv",
    "baddbmm",
    "bilinear",
    "bmm",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "dot",
    "einsum",
    "embedding",
    "embedding_bag",
    "inner",
    "linear",
    "matmul",
    "mm",
    "mv",
    "scaled_dot_product_attention",
    "straight_through",
    "tensordot",
]
