"""Test vectors of a datapath: codes, constants and expected results as files of hex words.

    from rung.hardware import vectors
    vectors.write("vectors", Datapath(dropped_bits=9), count=1000, length=64)

A test bench reads them with $readmemh; README.txt in the folder says what is where.
"""

import json
import shutil
from dataclasses import dataclass
from os import PathLike, fsync, getpid, replace
from pathlib import Path

import torch
from torch import Tensor

from rung._version import __version__
from rung.hardware import _vector_cases, _vector_files
from rung.hardware.datapath import Datapath
from rung.kernels import datapath as kernel

_MOST_CODES = 10**7


@dataclass(frozen=True)
class Vectors:
    """Dot products of codes and all that a processing element writes for them.

    Attributes:
        a: Codes, int64 (count, length): sign on top of the exponent, below 2^bits.
        b: Likewise.
        expected: int64 (count,), see `datapath.matmul`.
        overflows: int64 (count,): additions that left their bin's range.
        bins: int64 (count, partial sums, table size): bins when a partial sum is written out.
        names: Of the corner cases, which are the first dots.
    """

    a: Tensor
    b: Tensor
    expected: Tensor
    overflows: Tensor
    bins: Tensor
    names: tuple[str, ...]


def make(
    datapath: Datapath, count: int = 100, length: int = 64, seed: int = 0, corners: bool = True
) -> Vectors:
    """Corner cases, then random dots, and what the datapath makes of them.

    Args:
        datapath: The design; codes have 8 bits unless it says otherwise.
        count: Random dots: by turns of codes that are all equally likely, and of codes of normal
            numbers.
        length: Products of every dot.
        seed: Of the random ones.
        corners: Whether to begin with all pairs of extreme codes, alternating signs, and sums that
            overflow and return.

    Raises:
        ValueError: Numbers out of range, nothing to write, accumulators too narrow for a product.
        TypeError: Numbers that are not integers.
    """
    _check(count, length, seed, corners)
    bits = datapath.bits or 8
    datapath.require_room(bits)
    design = datapath.design(bits)
    interval = min(datapath.vector_length or length, length)
    _check_results(design, -(-length // interval))
    names, pairs = _vector_cases.corners(design, length) if corners else ((), [])
    pairs = [*pairs, *_vector_cases.random(design, count, length, seed)]
    a, b = (torch.stack(side) for side in zip(*pairs, strict=True))
    return Vectors(a, b, *_walk(a, b, design, interval), names)


def _check(count: int, length: int, seed: int, corners: bool) -> None:
    for name, value, low in (("count", count, 0), ("length", length, 1), ("seed", seed, 0)):
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"`{name}` must be an integer; got {value!r}.")
        if not low <= value < 2**63:
            raise ValueError(f"`{name}` must be at least {low}; got {name}={value}.")
    if not count and not corners:
        raise ValueError(
            "there must be something to write; got count=0 and no corners. Ask for one of them."
        )
    if max(count, 100) * length > _MOST_CODES:
        raise ValueError(
            f"files must have at most {_MOST_CODES:,} codes; got {count:,} dots of {length:,}. "
            "Lower `count` or `length`."
        )


def _check_results(design: kernel.Design, parts: int) -> None:
    bits = _vector_files.result_bits(design, parts)
    if bits > 64:
        raise ValueError(
            f"results must fit 64 bits; got up to {bits} from {parts} partial sums of "
            f"accumulator_bits={design.accumulator_bits}, dropped_bits={design.dropped_bits}, "
            f"fraction_bits={design.fraction_bits} and {design.table_size} constants. Narrow the "
            "accumulators or drop fewer bits."
        )


def _walk(
    a: Tensor, b: Tensor, design: kernel.Design, interval: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Sums, overflows and bins of every dot, product by product."""
    sizes, indices, constants = kernel.tables(design)
    (ea, sa), (eb, sb) = (kernel.split(codes, design.bits) for codes in (a, b))
    dots, length = a.shape
    total, overflows = torch.zeros(2, dots, dtype=torch.int64).unbind()
    content = torch.zeros(design.table_size, dots, dtype=torch.int64)
    written = []
    for k in range(length):
        exponent = ea[:, k] + eb[:, k]
        value = sizes[exponent] * sa[:, k] * sb[:, k]
        if design.zero:
            value = value * ((ea[:, k] > 0) & (eb[:, k] > 0))
        index = indices[exponent][None]
        wanted = content.gather(0, index)[0] + value
        kept = kernel.within(wanted, design)
        overflows += kept != wanted
        content.scatter_(0, index, kept[None])
        if (k + 1) % interval == 0 or k + 1 == length:
            total += kernel.partial_sum(content[:, None], constants, design)[0]
            written.append(content.T.clone())
            content.zero_()
    return total, overflows, torch.stack(written, 1)


def write(
    path: str | PathLike[str],
    datapath: Datapath,
    count: int = 100,
    length: int = 64,
    seed: int = 0,
    corners: bool = True,
    force: bool = False,
) -> Path:
    """Write `make`'s vectors into a folder; the same arguments give the same bytes.

    Args:
        path: The folder. It appears whole or not at all; its parents are made.
        datapath: See `make`, like the next four.
        count: Random dots.
        length: Products of every dot.
        seed: Of the random ones.
        corners: Whether to begin with corner cases.
        force: Replace the files in a folder that isn't empty. config.json is removed first and
            written last: a folder without it is unfinished. Other files stay.

    Returns:
        The folder.

    Raises:
        ValueError: As of `make`; a folder that isn't empty without `force`; a file in its place.
    """
    folder = Path(path)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"vectors go into a folder; got {folder}, which is a file.")
    if not force and folder.exists() and any(folder.iterdir()):
        raise ValueError(
            f"the folder of vectors must be new or empty; {folder} holds files. Choose another "
            "one, or replace them: --force (force=True)."
        )
    vectors = make(datapath, count, length, seed, corners)
    config, files = _vector_files.contents(vectors, datapath, __version__)
    config["random"] = {"count": count, "seed": seed}
    files["config.json"] = json.dumps(config, indent=2, allow_nan=False) + "\n"
    temporary = folder.with_name(f".{folder.name}.{getpid()}.tmp")
    temporary.mkdir(parents=True)
    try:
        for name, text in files.items():
            _write(temporary / name, text)
        _move(temporary, folder, list(files))
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _write(path: Path, text: str) -> None:
    with path.open("w", encoding="ascii", newline="\n") as file:
        file.write(text)
        file.flush()
        fsync(file.fileno())


def _move(temporary: Path, folder: Path, names: list[str]) -> None:
    if not folder.exists():
        replace(temporary, folder)
        return
    (folder / "config.json").unlink(missing_ok=True)
    for name in names:  # config.json is the last
        replace(temporary / name, folder / name)
