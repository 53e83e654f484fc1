"""The result file and its table; both are written after every row, whole or not at all."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from rung.bench.row import Row
from rung.bench.setting import Setting
from rung.kernels import dispatch
from rung.train.environment import environment
from rung.train.files import replace_file, write_json

_CLOCK = (
    "one_thread: CPU time of one thread; all_threads: wall time; ratios are medians over rounds of "
    "neighbours in time"
)


def header(setting: Setting, command: str, threads: int) -> dict[str, Any]:
    """All of the result file but its rows."""
    machine: dict[str, Any] = environment() | {"threads": threads, "cores": os.cpu_count()}
    if setting.device.type == "cuda":
        machine["gpu"] = torch.cuda.get_device_name(setting.device)
    return {
        "benchmark": "bench",
        "quick": setting.quick,
        "device": setting.device.type,
        "clock": _CLOCK,
        "command": command,
        "seed": setting.seed,
        "weights": setting.elements,
        "shape": [setting.count, setting.side, setting.side],
        "kernels": dispatch.choice(),
        "environment": machine,
        "finished": False,
        "rows": [],
    }


def head(row: Row) -> dict[str, Any]:
    """What a row says of itself."""
    return {"name": row.name, "title": row.title, "must": row.must, "reach": row.reach}


def write(path: Path, record: dict[str, Any]) -> None:
    """The result file, and beside it the table as markdown."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, record)
    with replace_file(path.with_suffix(".md")) as temporary:
        temporary.write_text(page(record), encoding="utf-8")


def page(record: dict[str, Any]) -> str:
    """The table and what else was measured."""
    where = record["environment"]
    sizes = f"{record['weights']:,} numbers as {' x '.join(map(str, record['shape']))}"
    lines = [
        "# rung bench",
        "",
        f"{where.get('gpu', where['processor'])}, {where['threads']} threads, torch "
        f"{where['torch']}, Rung {where['rung']} at {where['commit']}; {sizes}; seed "
        f"{record['seed']}. `{record['command']}`",
        "",
    ]
    if record["quick"]:
        lines += ["**Quick run on tiny sizes: tests the code, says nothing about speed.**", ""]
    if not record["finished"]:
        lines += ["Not finished: rows are missing.", ""]
    lines += [*table(record["rows"], where["threads"]), ""]
    return "\n".join([*lines, *also(record["rows"]), ""])


def table(rows: Sequence[dict[str, Any]], threads: int) -> list[str]:
    """Every row beside its targets."""
    lines = [
        f"| what | measured | quartiles | wall, {threads} threads | must | reach for | met |",
        "|---|---:|---:|---:|---:|---:|---|",
    ]
    return lines + [f"| {row['title']} | {' | '.join(_cells(row))} |" for row in rows]


def _cells(row: dict[str, Any]) -> list[str]:
    targets = ["" if row[key] is None else f"{row[key]:g}" for key in ("must", "reach")]
    if "error" in row:
        return [f"not measured: {_plain(row['error'])}", "", "", *targets, "no"]
    met = {"reach": "both", "must": "must", "none": "**no**"}.get(row.get("met", ""), "")
    if "value" in row:
        return [f"{row['value']:.3g}", "", "", *targets, met]
    if "share" in row:
        return [*_spread(row["share"]), "", *targets, met]
    first = row.get("one_thread") or row["device"]
    wall = f"{row['all_threads']['ratio']['median']:.3g}" if "all_threads" in row else ""
    return [*_spread(first["ratio"]), wall, *targets, met]


def _spread(ratio: dict[str, Any]) -> tuple[str, str]:
    low, high = ratio["quartiles"]
    return f"{ratio['median']:.3g}", f"{low:.3g} to {high:.3g}"


def also(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Times of every case, and the errors of those that don't run here."""
    lines = [
        "| row | case | version | ms | against the row's second case |",
        "|---|---|---|---:|---:|",
    ]
    for row in rows:
        for case in row.get("cases", ()):
            version = case.get("version") or ""
            if "error" in case:
                cells = ["", f"doesn't run here: {_plain(case['error'])}"]
            else:
                times = case.get("one_thread") or case.get("device") or case
                ratio = times.get("ratio")
                milliseconds = f"{times['ms']:.4g}" if "ms" in times else ""
                cells = [milliseconds, "" if ratio is None else f"{ratio:.3g}"]
            lines.append(f"| {row['name']} | {case['label']} | {version} | {' | '.join(cells)} |")
    return lines if len(lines) > 2 else []


def _plain(text: str) -> str:
    """Text that can't break a table."""
    return text.replace("|", "\\|")
