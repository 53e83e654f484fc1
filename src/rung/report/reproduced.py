"""Pages of `rung reproduce`, from its results files and from nothing else."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rung.report import reproduced_figure, reproduced_table, style
from rung.report.atomic import write_atomically

Record = Mapping[str, Any]


def write_reproduced(record: Record, folder: Path) -> Path:
    """Write ``NAME.md`` and, where there is something to draw, ``NAME.svg`` into a folder.

    Returns:
        The page.
    """
    name = record["name"]
    figure = None
    with style.style():
        drawn = reproduced_figure.draw(record)
        if drawn is not None:
            figure = f"{name}.svg"
            text = style.to_svg(drawn, name, record["title"])
            write_atomically(folder / figure, text.encode())
    page = folder / f"{name}.md"
    lines = [
        f"# {record['title']}",
        "",
        f"`rung reproduce {name} --budget {record['budget']}`. {record['source']}.",
        "",
        reproduced_table.table(record),
    ]
    if figure is not None:
        lines += ["", f"![{record['title']}]({figure})"]
    write_atomically(page, "\n".join([*lines, ""]).encode())
    return page
