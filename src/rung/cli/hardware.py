"""``rung hardware``: what designers of processing elements ask for."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from rung.cli.main import FINISHED
from rung.hardware import vectors as test_vectors
from rung.hardware.datapath import CONVERSIONS, OVERFLOWS, Datapath

hardware = typer.Typer(
    help="Test vectors of an LNS datapath.", no_args_is_help=True, rich_markup_mode=None
)


@hardware.callback()
def _group() -> None:
    """Test vectors of an LNS datapath."""


@hardware.command("vectors")
def vectors(
    base_factor: Annotated[int, typer.Option(help="gamma, codes an octave.")] = 8,
    conversion: Annotated[
        str, typer.Option(help=f"Of 2^(r / gamma): {', '.join(CONVERSIONS)}.")
    ] = "lut",
    table_size: Annotated[
        int | None, typer.Option(help="Constants of hybrid; default: the square root of gamma.")
    ] = None,
    fraction_bits: Annotated[int, typer.Option(help="Of a constant.")] = 8,
    accumulator_bits: Annotated[int, typer.Option(help="Of a bin, sign included.")] = 24,
    dropped_bits: Annotated[
        int | None,
        typer.Option(help="Lowest bits that bins lack; default: as few as let one product fit."),
    ] = None,
    overflow: Annotated[str, typer.Option(help=f"{' or '.join(OVERFLOWS)}.")] = "saturate",
    vector_length: Annotated[
        int | None, typer.Option(help="Products of a partial sum; default: the whole dot.")
    ] = None,
    bits: Annotated[int, typer.Option(help="B of a code, sign included.")] = 8,
    zero: Annotated[bool, typer.Option("--zero", help="Exponent 0 is the number 0.")] = False,
    count: Annotated[int, typer.Option(help="Random dot products.")] = 100,
    length: Annotated[int, typer.Option(help="Products of a dot.")] = 64,
    seed: Annotated[int, typer.Option(help="Of the random ones.")] = 0,
    corners: Annotated[
        bool, typer.Option("--corners/--no-corners", help="Begin with corner cases.")
    ] = True,
    out: Annotated[Path, typer.Option(help="Folder, new or empty.")] = Path("vectors"),
    force: Annotated[bool, typer.Option("--force", help="Replace files in the folder.")] = False,
) -> int:
    """Write codes, constants and expected results as hex files that a test bench reads."""
    design = Datapath(
        base_factor, conversion, table_size, fraction_bits, accumulator_bits, dropped_bits or 0,
        overflow, vector_length, bits, zero,
    )  # fmt: skip
    if dropped_bits is None:
        design = _with_room(design, bits)
    folder = test_vectors.write(out, design, count, length, seed, corners, force)
    words = "no bits dropped" if not design.dropped_bits else f"{design.dropped_bits} bits dropped"
    typer.echo(f"{folder}: see README.txt; {words}")
    return FINISHED


def _with_room(design: Datapath, bits: int) -> Datapath:
    """Drop as many bits as the largest product has too many."""
    needed = design.product_bits(bits) - design.accumulator_bits
    return replace(design, dropped_bits=max(0, needed))
