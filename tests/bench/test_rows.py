import json
from dataclasses import replace

import pytest
import torch

from rung.bench import memory, peers, record, rows_of, run, setting
from rung.bench.catalog import all_rows
from rung.bench.gpu import gpu_rows
from rung.bench.row import Case, CountedRow, TimedRow, judge, one_line
from rung.bench.steps import RULES, real_models

QUICK = setting.quick()


def constant(label):
    return Case(label, lambda setting: lambda: None)


def failing(label, error, package=None):
    def make(setting):
        raise error

    return Case(label, make, package)


def test_every_row_of_the_issue_is_there_with_its_targets():
    targets = {row.name: (row.must, row.reach) for row in all_rows()}
    assert targets["madam"] == (1.0, 0.8)
    assert targets["madam8"] == (0.7, 0.5)
    assert targets["madam12"] == (0.75, 0.5)
    assert targets["lns-madam"] == (0.8, 0.6)
    assert targets["lmd"] == (2.0, 1.4)
    assert targets["lmd-list"] == (2.2, None)
    assert targets["quantize-lns8"] == targets["quantize-mxfp6"] == (0.10, 0.06)
    assert targets["quantize-lns8-float8"] == (0.3, 0.2)
    assert targets["decode-ladder8-seed"] == (1.0, 0.6)
    assert targets["train-chars-gpt"] == (1.3, 1.15)
    assert targets["one-byte-gpt-characters"] == (1.2, 1.0)
    assert targets["linear-lns8"] == (0.8, 0.4)
    assert targets["linear-ladder8-bfloat16"] == (1.0, 0.5)
    assert targets["bytes-held"] == (0.27, 0.25)


def test_names_are_unique_and_unknown_ones_list_them():
    for device in ("cpu", "cuda"):
        names = [row.name for row in all_rows(device)]
        assert len(set(names)) == len(names)
    with pytest.raises(ValueError, match="Unknown row 'madan'; the rows on cpu are: madam, .*Did"):
        rows_of(["madan"])
    assert [row.name for row in rows_of(["lmd", "madam"])] == ["lmd", "madam"]


@pytest.mark.parametrize(
    "name", [row.name for row in all_rows() if not row.name.startswith("peak-")]
)
def test_rows_measure_and_peers_that_are_missing_say_so(name):
    (row,) = rows_of([name])
    found = row.measure(QUICK)
    json.dumps(found, allow_nan=False)
    for case in found.get("cases", ()):
        if case.get("package") is None:
            assert "error" not in case, case
            assert case["one_thread"]["ms"] >= 0
        elif "error" in case:
            assert "\n" not in case["error"]
    if name == "xlnstorch":
        return
    assert "error" not in found
    if name == "bytes-held":
        assert 0.2 < found["value"] < 0.4
    else:
        assert found["one_thread"]["ratio"]["median"] > 0
        assert found["all_threads"]["rounds"] == 2


@pytest.mark.parametrize("row", [row for row in gpu_rows()], ids=lambda row: row.name)
def test_rows_of_a_gpu_compute_on_the_cpu_too(row):
    found = row.measure(QUICK)
    assert "error" not in found
    json.dumps(found, allow_nan=False)
    if "share" in found:
        assert found["met"] in ("none", "must", "reach")
        assert found["cases"][0]["gigabytes_a_second"] > 0


def test_a_case_that_fails_is_a_line_of_the_record():
    row = TimedRow(
        "r",
        "R",
        (constant("ours"), constant("theirs"), failing("peer", OSError("no\n  CUDA"), "nothing")),
        1e9,
    )
    found = row.measure(QUICK)
    assert found["cases"][2] == {
        "label": "peer",
        "package": "nothing",
        "version": None,
        "error": "OSError: no CUDA",
    }
    assert found["met"] == "must"
    broken = TimedRow("r", "R", (failing("ours", ValueError("bad")), constant("theirs")), 1.0)
    found = broken.measure(QUICK)
    assert found["error"] == "ours: ValueError: bad"
    assert "ratio" not in found["one_thread"]
    assert found["cases"][1]["one_thread"]["ratio"] == 1.0
    no_base = TimedRow("r", "R", (constant("ours"), failing("theirs", ValueError("bad"))))
    assert no_base.measure(QUICK)["error"] == "theirs: ValueError: bad"


def test_a_missing_peer_names_its_module():
    found = TimedRow("r", "R", (constant("a"), constant("b"), failing_import())).measure(QUICK)
    assert found["cases"][2]["error"] == "ModuleNotFoundError: No module named 'no_such_peer'"


def failing_import():
    return Case("peer", lambda setting: peers.load("no_such_peer"), "no-such-peer")


def test_threads_are_put_back():
    before = torch.get_num_threads()

    def make(setting):
        torch.set_num_threads(before + 1)
        return lambda: None

    TimedRow("r", "R", (Case("a", make), constant("b"))).measure(QUICK)
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("value", "at_least", "met"),
    [(0.5, False, "reach"), (0.9, False, "must"), (1.1, False, "none"), (1.1, True, "must")],
)
def test_targets(value, at_least, met):
    reach = 2.0 if at_least else 0.6
    assert judge(value, 1.0, reach, at_least=at_least) == {"met": met}
    assert judge(value, None, None) == {}


def test_long_errors_are_cut():
    assert len(one_line(RuntimeError("x " * 500))) < 270
    assert one_line(KeyboardInterrupt()) == "KeyboardInterrupt"


def test_the_real_list_has_as_many_tensors_as_its_title_says():
    model = real_models(replace(QUICK, quick=False))
    assert len(list(model.parameters())) == 162
    assert sum(param.numel() for param in model.parameters()) > 12_000_000


def test_peak_memory_is_that_of_a_process_of_its_own():
    value, details = memory.peak("madam")(QUICK)
    assert value == details["bytes"] / details["largest_tensor_bytes"]
    with pytest.raises(RuntimeError, match="KeyError"):
        memory.peak("no-such-optimizer")(QUICK)


def test_the_file_is_there_after_every_row(tmp_path):
    out = tmp_path / "deep" / "bench.json"
    seen = []

    class Progress:
        def begin(self, name, done, count):
            if done:
                result = json.loads(out.read_text())
                seen.append((result["finished"], [row["name"] for row in result["rows"]]))
                assert "Not finished" in out.with_suffix(".md").read_text()

        def end(self, row, seconds):
            assert seconds >= 0

    rows = [
        TimedRow("first", "First | of two", (constant("ours"), constant("theirs")), 1.0, 1e-12),
        CountedRow("second", "Second", lambda setting: (0.5, {}), 1.0, 0.6),
    ]
    result = run(rows, QUICK, out, threads=1, command="rung bench", progress=Progress())
    assert seen == [(False, ["first"])]
    assert result == json.loads(out.read_text())
    assert result["finished"]
    page = out.with_suffix(".md").read_text()
    assert "| Second | 0.5 |  |  | 1 | 0.6 | both |" in page
    assert "Not finished" not in page


def test_a_table_tells_what_was_not_reached_and_what_was_not_measured():
    head = {"must": 1.0, "reach": 0.5}
    ratio = {"median": 1.25, "quartiles": [1.2, 1.3], "range": [1.0, 2.0]}
    rows = [
        {"title": "A", **head, "one_thread": {"ratio": ratio}, "met": "none"},
        {"title": "B", **head, "error": "ValueError: a | b"},
        {"title": "C", **head, "share": ratio, "met": "must"},
    ]
    lines = record.table(rows, 2)
    assert lines[2] == "| A | 1.25 | 1.2 to 1.3 |  | 1 | 0.5 | **no** |"
    assert lines[3] == "| B | not measured: ValueError: a \\| b |  |  | 1 | 0.5 | no |"
    assert lines[4] == "| C | 1.25 | 1.2 to 1.3 |  | 1 | 0.5 | must |"


def test_every_rule_has_its_bytes():
    assert {name: rule[4] for name, rule in RULES.items()} == {
        "madam": 20,
        "madam8": 10,
        "madam12": 12,
        "lns-madam": 12,
        "lmd": 52,
        "signed8": 9,
    }
