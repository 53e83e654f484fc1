"""Tables of `rung bench`."""

import json
from collections.abc import Callable

from result_files import BENCHMARKS, measured

from rung.bench import record


def bench(name: str) -> Callable[[], str]:
    """Every row beside its targets."""

    def table() -> str:
        result = json.loads((BENCHMARKS / f"{name}.json").read_text())
        where = result["environment"]
        lines = record.table(result["rows"], where["threads"])
        note = (
            f"{result['weights']:,} numbers as {' x '.join(map(str, result['shape']))} unless the "
            f"row says otherwise. {where.get('gpu', where['processor'])} (shared), torch "
            f"{where['torch']}, seed {result['seed']}. `{result['command']}`"
        )
        if not result["finished"]:
            note = f"Not finished: rows are missing. {note}"
        return "\n".join([*lines, "", note, ""])

    return measured(BENCHMARKS / f"{name}.json", table)


def peers(name: str) -> Callable[[], str]:
    """Everybody else's packages: a figure, or why there is none."""

    def table() -> str:
        result = json.loads((BENCHMARKS / f"{name}.json").read_text())
        lines = ["| peer | version | measured in row | ratio or error |", "|---|---|---|---|"]
        for row in result["rows"]:
            for case in row.get("cases", ()):
                if "package" in case:
                    times = case.get("one_thread") or case.get("device") or {}
                    figure = case["error"] if "error" in case else f"{times.get('ratio')}"
                    figure = figure.replace("|", "\\|")
                    lines.append(
                        f"| {case['label']} | {case['version'] or ''} | {row['title']} | {figure} |"
                    )
        return "\n".join([*lines, ""])

    return measured(BENCHMARKS / f"{name}.json", table)


# Row -> predicted ratio and why: bytes that must move, counted before the loops were written. AdamW
# fused reads and writes 28 a weight: weight, both moments, and reads the gradient.
PREDICTED: dict[str, tuple[float, str]] = {
    "madam": (
        24 / 28,
        "24 of 28 bytes: weight, moment, gradient, and the gradient once more to look for NaN",
    ),
    "madam-trust": (20 / 28, "20 of 28 bytes"),
    "madam8": (14 / 28, "14 of 28 bytes: code, bfloat16 moment, gradient twice"),
    "madam8-trust": (10 / 28, "10 of 28 bytes"),
    "madam12": (16 / 28, "16 of 28 bytes"),
    "lns-madam": (16 / 28, "16 of 28 bytes"),
    "lmd": (56 / 28, "56 of 28 bytes: draw 12, update 40, gradient again 4"),
    "quantize-lns8-float8": (
        0.2,
        "two passes over 4 bytes and one written, against a cast of some 150 ms",
    ),
    "decode-lns8": (0.6, "5 bytes against 8"),
    "linear-lns8": (0.25, "1 byte of weight against 4"),
}


def predicted(name: str) -> Callable[[], str]:
    """What bytes alone promised beside what came."""

    def table() -> str:
        result = json.loads((BENCHMARKS / f"{name}.json").read_text())
        rows = {row["name"]: row for row in result["rows"]}
        lines = ["| row | predicted | by | measured |", "|---|---:|---|---:|"]
        for key, (ratio, why) in PREDICTED.items():
            found = (rows.get(key, {}).get("one_thread") or {}).get("ratio", {}).get("median")
            measured_ratio = "not measured" if found is None else f"{found:.2f}"
            title = rows[key]["title"] if key in rows else key
            lines.append(f"| {title} | {ratio:.2f} | {why} | {measured_ratio} |")
        return "\n".join([*lines, ""])

    return measured(BENCHMARKS / f"{name}.json", table)


TABLES: dict[str, Callable[[], str]] = {
    "bench": bench("bench"),
    "bench-peers": peers("bench"),
    "bench-gpu": bench("bench-gpu"),
    "bench-one-byte": bench("bench-one-byte"),
    "bench-predicted": predicted("bench"),
}
