"""Finding and reading the files of a data set, with errors that name the file and its source."""

import gzip
import lzma
import zlib
from collections.abc import Sequence
from pathlib import Path

SUFFIXES = ("", ".gz", ".xz")


class DataError(ValueError):
    """A data file is missing, damaged, or not what its name says."""


def existing_folder(data_dir: str | Path, origin: str) -> Path:
    """Check that ``data_dir`` is a folder.

    Args:
        data_dir: Path that the user gave.
        origin: Where the files of this data set can be had; quoted in the error.

    Returns:
        The folder as a ``Path``, ``~`` expanded.

    Raises:
        DataError: There is no such folder.
    """
    folder = Path(data_dir).expanduser()
    if not folder.is_dir():
        got = "a file" if folder.exists() else "no such folder"
        raise DataError(f"The data folder must exist; got {folder}: {got}. Get {origin}.")
    return folder


def present_file(folder: Path, names: Sequence[str]) -> Path | None:
    """Return the first of ``names``, plain, ``.gz`` or ``.xz``, that ``folder`` holds."""
    candidates = (folder / (name + suffix) for name in names for suffix in SUFFIXES)
    return next((path for path in candidates if path.is_file()), None)


def required_file(folder: Path, names: Sequence[str], origin: str) -> Path:
    """Find a file under one of its usual names.

    Args:
        folder: Folder to look in.
        names: File names without compression suffix, the usual one first.
        origin: Where the files of this data set can be had; quoted in the error.

    Returns:
        The path, possibly ending in ``.gz`` or ``.xz``.

    Raises:
        DataError: None of the names is there.
    """
    path = present_file(folder, names)
    if path is None:
        raise DataError(
            f"{folder} must hold {' or '.join(names)} (plain, .gz or .xz); got no such file. "
            f"Get {origin}."
        )
    return path


def read_bytes(path: Path, origin: str) -> bytes:
    """Read a whole file, decompressed as its suffix says.

    Args:
        path: A file; ``.gz`` and ``.xz`` are decompressed.
        origin: Where a sound copy can be had; quoted in the error.

    Returns:
        The content, at least one byte.

    Raises:
        DataError: The file can't be read, can't be decompressed, or is empty.
    """
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
        elif path.suffix == ".xz":
            content = lzma.decompress(content)
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise DataError(
            f"{path} must be a readable, complete file; got: {error}. Get {origin}."
        ) from error
    if not content:
        raise DataError(f"{path} must not be empty; got 0 bytes. Get {origin}.")
    return content


def read_text(path: Path, origin: str) -> str:
    """Read a whole UTF-8 text file, decompressed as its suffix says.

    Args:
        path: A file; ``.gz`` and ``.xz`` are decompressed.
        origin: Where a sound copy can be had; quoted in the error.

    Returns:
        The text, line ends as they are in the file.

    Raises:
        DataError: As ``read_bytes``, or the content is not UTF-8.
    """
    try:
        return read_bytes(path, origin).decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} must be UTF-8 text; got byte 0x{error.object[error.start]:02x} at position "
            f"{error.start}. Get {origin}."
        ) from error
