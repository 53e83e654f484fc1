"""Any text as characters; the standard library's own documentation where none is given."""

import importlib
import platform
from pathlib import Path

import numpy as np
import torch

from rung.train.data.files import DataError, existing_folder, read_text, required_file
from rung.train.data.tokens import TokenData

_ORIGIN = (
    "any UTF-8 text, or leave the path out to train on the standard library's pydoc_data.topics"
)
_CODE_POINTS = 0x110000


def characters(path: str | Path | None = None, valid_fraction: float = 0.1) -> TokenData:
    """Read a text as characters; its end is the validation part.

    The vocabulary is every character of the whole text in order of code point, so no character
    is unknown.

    Args:
        path: A text file (plain, .gz or .xz), or a folder with ``input.txt``. None takes
            ``pydoc_data.topics`` of the running Python; its text differs between versions.
        valid_fraction: Share of the text, from its end, for validation; between 0 and 1.

    Returns:
        Training and validation part; no test part.

    Raises:
        DataError: The file is missing, damaged, not UTF-8, or too short to split.
        ValueError: ``valid_fraction`` is not between 0 and 1.
    """
    if not 0 < valid_fraction < 1:
        raise ValueError(
            f"`valid_fraction` must lie between 0 and 1; got {valid_fraction}. The default is 0.1."
        )
    text, name = _embedded() if path is None else _from_file(Path(path).expanduser())
    # UTF-32 is the row of code points; a table over all of them is faster than sorting the text.
    codes = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
    present = np.zeros(_CODE_POINTS, dtype=np.bool_)
    present[codes] = True
    index = np.cumsum(present, dtype=np.int32) - 1
    tokens = torch.from_numpy(index[codes])
    valid_length = round(len(tokens) * valid_fraction)
    if not 0 < valid_length < len(tokens):
        raise DataError(
            f"{name} must be long enough to split; got {len(tokens)} characters of which "
            f"{valid_length} for validation. Give a longer text."
        )
    train, valid = tokens[:-valid_length], tokens[-valid_length:]
    vocabulary = tuple(chr(code) for code in np.flatnonzero(present))
    return TokenData(
        train=train,
        valid=valid,
        test=None,
        vocabulary=vocabulary,
        source=(
            f"{name}: {len(train):,} train + {len(valid):,} valid characters, "
            f"{len(vocabulary)} distinct"
        ),
    )


def _embedded() -> tuple[str, str]:
    topics: dict[str, str] = importlib.import_module("pydoc_data.topics").topics
    text = "\n".join(topics[name] for name in sorted(topics))
    return text, f"pydoc_data.topics of Python {platform.python_version()}"


def _from_file(path: Path) -> tuple[str, str]:
    if not path.exists():
        existing_folder(path.parent, _ORIGIN)
        found = required_file(path.parent, [path.name], _ORIGIN)
    elif path.is_dir():
        found = required_file(path, ["input.txt"], _ORIGIN)
    else:
        found = path
    return read_text(found, _ORIGIN), str(found)
