"""Checkpoints: one safetensors file, written whole or not at all."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from rung._version import __version__
from rung.train.files import replace_file
from rung.train.flatten import flatten, unflatten

FORMAT_VERSION = 1
"""Version of the checkpoint's layout; a reader refuses newer ones."""

_KEY = "rung_checkpoint"


def save_checkpoint(path: Path, tree: dict[str, Any], header: dict[str, Any]) -> None:
    """Write a checkpoint atomically: temporary file in the same folder, fsync, rename.

    Args:
        path: The file; its folder is made if need be.
        tree: What to restore later, see `flatten`.
        header: JSON-able facts that a reader checks before it restores anything.

    Raises:
        TypeError: The tree holds something else than plain values and tensors.
        OSError: The file can't be written; the older file stays as it is.
    """
    structure, tensors = flatten(tree)
    facts = header | {"format_version": FORMAT_VERSION, "structure": structure}
    path.parent.mkdir(parents=True, exist_ok=True)
    with replace_file(path) as temporary:
        save_file(tensors, temporary, metadata={_KEY: json.dumps(facts, allow_nan=False)})


def load_checkpoint(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read what `save_checkpoint` wrote.

    Returns:
        The tree, its tensors on the CPU, and the header.

    Raises:
        ValueError: The file is truncated, not a checkpoint of Rung, or of a newer version.
        FileNotFoundError: There is no such file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no checkpoint at {path}.")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            header = _header(path, metadata.get(_KEY))
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(
            f"A checkpoint must be a whole safetensors file; {path} is truncated, damaged or of "
            f"another kind ({error}). Restore it from a copy, or start again in another folder."
        ) from error
    return unflatten(header.pop("structure"), tensors), header


def _header(path: Path, text: str | None) -> dict[str, Any]:
    if text is None:
        raise ValueError(
            f"{path} is a safetensors file but not a checkpoint of Rung (no {_KEY!r} in its "
            "metadata). Give the folder of a run that `rung train` wrote."
        )
    header: dict[str, Any] = json.loads(text)
    version = header["format_version"]
    if version > FORMAT_VERSION:
        raise ValueError(
            f"{path} has checkpoint format {version}; this Rung ({__version__}) reads up to "
            f"{FORMAT_VERSION}. Resume with the Rung that wrote it, or a newer one."
        )
    return header
