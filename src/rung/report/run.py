"""Reading a run folder: the only input of a report."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rung.report import schema


@dataclass(frozen=True, slots=True)
class Run:
    """What a run folder says about one training run."""

    folder: Path
    """The folder, as it was given."""
    config: dict[str, Any]
    """config.json: recipe, optimizer, format, seed, command, environment."""
    metrics: list[dict[str, Any]]
    """metrics.jsonl, one dictionary a record, in the order of the file."""
    diagnostics: dict[str, Any] | None
    """diagnostics.json: layers, angles, rungs. None while it is not written."""
    summary: dict[str, Any] | None
    """summary.json. None for a run that has not ended."""

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.folder.resolve().name

    @property
    def status(self) -> str:
        """``"finished"`` or ``"diverged"`` as the summary says, else ``"unfinished"``."""
        return str(self.summary["status"]) if self.summary else "unfinished"

    @property
    def train_records(self) -> list[dict[str, Any]]:
        """Training records by step; a resumed run's later record of a step replaces the earlier."""
        return self._latest("train")

    @property
    def eval_records(self) -> list[dict[str, Any]]:
        """Evaluation records by step, the latest of each step and split."""
        return self._latest("eval")

    @property
    def medians_records(self) -> list[dict[str, Any]]:
        """Histograms of LMD's medians by step; none for another optimizer."""
        return self._latest("medians")

    def _latest(self, kind: str) -> list[dict[str, Any]]:
        records = {(r["step"], r.get("split", "")): r for r in self.metrics if r["kind"] == kind}
        return [records[key] for key in sorted(records)]


def read_run(folder: str | Path) -> Run:
    """Read and check a run folder.

    A run without summary.json is still training or was stopped; it is read and shown as
    "unfinished". A last line of metrics.jsonl that lacks its end (the process was killed while
    writing) is left out; any other damage is an error.

    Args:
        folder: A folder that `rung train` wrote.

    Returns:
        The run.

    Raises:
        ValueError: The folder is no run, or a file in it is truncated, is no JSON, lacks a key or
            has a newer format version. The text names the file and the way out.
    """
    path = Path(folder)
    config = read_object(path / "config.json") if path.is_dir() else None
    if config is None:
        raise ValueError(_no_run(path))
    check_version(config, path / "config.json")
    schema.check(config, schema.CONFIG, str(path / "config.json"))
    summary = read_object(path / "summary.json")
    if summary is not None:
        check_version(summary, path / "summary.json")
        schema.check(summary, schema.SUMMARY, str(path / "summary.json"))
    diagnostics = read_object(path / "diagnostics.json")
    if diagnostics is not None:
        schema.check(diagnostics, schema.DIAGNOSTICS, str(path / "diagnostics.json"))
        _check_histograms(diagnostics, path / "diagnostics.json")
    metrics = list(_read_lines(path / "metrics.jsonl"))
    return Run(path, config, metrics, diagnostics, summary)


def _no_run(path: Path) -> str:
    if not path.is_dir():
        found = "a file" if path.exists() else "nothing at this path"
        return f"a run must be an existing folder; got {path} ({found}). Check the path."
    inside = sorted(child.name for child in path.iterdir() if (child / "config.json").is_file())
    way_out = (
        f"It holds the runs {', '.join(inside[:8])}{', ...' if len(inside) > 8 else ''}: "
        "name one or more of them."
        if inside
        else "Pass a folder that `rung train` wrote."
    )
    return f"a run folder must hold config.json; got {path} without one. {way_out}"


def read_object(path: Path) -> dict[str, Any] | None:
    """A JSON file's object, or None where there is no such file.

    Raises:
        ValueError: The file is no JSON object.
    """
    if not path.is_file():
        return None
    value = _parse(path.read_bytes(), str(path))
    if not isinstance(value, dict):
        raise ValueError(
            f"{path} must hold one JSON object; got {type(value).__name__}. {schema.WAY_OUT}"
        )
    return value


def _parse(text: bytes, where: str) -> Any:
    try:
        return json.loads(text.decode(), parse_constant=_refuse_constant)
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError are ValueErrors
        raise ValueError(f"{where} must be valid JSON; got {error}. {schema.WAY_OUT}") from error


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name}, which JSON does not have")


def check_version(value: dict[str, Any], path: Path) -> None:
    """Refuse a file of a newer Rung.

    Raises:
        ValueError: Its format version is beyond this package's.
    """
    version = value.get("format_version")
    if isinstance(version, int) and version > schema.FORMAT_VERSION:
        raise ValueError(
            f"{path} must have format_version {schema.FORMAT_VERSION} or less; got {version}. "
            "A newer Rung wrote this run: pip install --upgrade rung."
        )


def _check_histograms(diagnostics: dict[str, Any], path: Path) -> None:
    for index, layer in enumerate(diagnostics["layers"]):
        sizes = layer["log_abs_w"]
        if sizes and len(sizes["edges"]) != len(sizes["counts"]) + 1:
            raise ValueError(
                f"{path} must hold one more edge than counts at `layers[{index}].log_abs_w`; got "
                f"{len(sizes['edges'])} edges and {len(sizes['counts'])} counts. {schema.WAY_OUT}"
            )


def _read_lines(path: Path) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        return
    specs = {
        "train": schema.TRAIN_RECORD,
        "eval": schema.EVAL_RECORD,
        "medians": schema.MEDIANS_RECORD,
    }
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, start=1):
        where = f"{path} line {number}"
        try:
            record = _parse(line, where)
        except ValueError:
            # Every whole record ends in a newline: what follows the last one was cut off.
            if number == len(lines):
                return
            raise
        schema.check(record, {"kind": str}, where)
        if record["kind"] in specs:
            schema.check(record, specs[record["kind"]], where)
            yield record
