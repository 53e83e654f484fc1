"""Weights that live in codes."""

from rung.tensor.coded import CodedTensor, stored_bytes
from rung.tensor.store import StoredWeight, StoreReport, store_weights_

__all__ = [
    "CodedTensor",
    "StoreReport",
    "StoredWeight",
    "store_weights_",
    "stored_bytes",
]
