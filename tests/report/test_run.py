import json

import pytest

from rung.report import read_run

from .run_folders import edit_json


def test_a_whole_run_folder_is_read(make_run):
    run = read_run(make_run("digits"))
    assert run.name == "digits"
    assert run.status == "finished"
    assert run.config["recipe"] == "digits-cnn"
    assert len(run.train_records) == 60
    assert len(run.eval_records) == 12
    assert run.diagnostics is not None


def test_a_run_is_frozen(make_run):
    run = read_run(make_run())
    with pytest.raises(AttributeError, match="cannot assign to field 'config'"):
        run.config = {}


def test_a_run_without_summary_is_unfinished(make_run):
    assert read_run(make_run(status="unfinished")).status == "unfinished"


def test_a_run_that_has_only_its_configuration_is_readable(make_run):
    folder = make_run(status="unfinished")
    (folder / "metrics.jsonl").unlink()
    (folder / "diagnostics.json").unlink()
    run = read_run(folder)
    assert run.metrics == []
    assert run.diagnostics is None


@pytest.mark.parametrize("cut", [1, 20, 60])
def test_a_last_line_cut_off_in_writing_is_left_out(make_run, cut):
    folder = make_run()
    path = folder / "metrics.jsonl"
    whole = path.read_bytes()
    last = whole.rstrip(b"\n").rsplit(b"\n", 1)[1]
    path.write_bytes(whole + last[:cut])
    assert len(read_run(folder).metrics) == 72


def test_a_whole_last_line_without_its_newline_counts(make_run):
    folder = make_run()
    path = folder / "metrics.jsonl"
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    assert len(read_run(folder).metrics) == 72


def test_a_broken_line_that_has_its_newline_is_refused(make_run):
    folder = make_run()
    path = folder / "metrics.jsonl"
    lines = path.read_text().splitlines()
    lines[4] = lines[4][:30]
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(ValueError, match=r"metrics\.jsonl line 5 must be valid JSON; .*restore"):
        read_run(folder)


def test_a_cut_off_character_at_the_end_is_left_out(make_run):
    folder = make_run()
    path = folder / "metrics.jsonl"
    path.write_bytes(path.read_bytes() + '{"kind": "trä'.encode()[:-1])
    assert len(read_run(folder).metrics) == 72


def test_later_records_of_a_step_replace_those_from_before_a_resume(make_run):
    folder = make_run()
    again = {"kind": "train", "step": 10, "epoch": 0, "loss": 7.0, "lr": 0.01, "seconds": 1.0}
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(again) + "\n")
    records = read_run(folder).train_records
    assert len(records) == 60
    assert records[0]["loss"] == 7.0


def test_records_of_a_kind_that_is_not_known_are_left_out(make_run):
    folder = make_run()
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "note", "text": "hello"}\n')
    assert len(read_run(folder).metrics) == 72


def test_no_folder_at_all_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"must be an existing folder; got .*nothing at this path"):
        read_run(tmp_path / "nowhere")


def test_a_file_is_refused(make_run):
    with pytest.raises(ValueError, match=r"must be an existing folder; got .*\(a file\)"):
        read_run(make_run() / "config.json")


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"must hold config\.json; got .*`rung train` wrote"):
        read_run(tmp_path)


def test_a_folder_of_runs_is_refused_with_their_names(make_run, tmp_path):
    make_run("one")
    make_run("two")
    with pytest.raises(ValueError, match="It holds the runs one, two: name one or more"):
        read_run(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "summary.json", "diagnostics.json"])
def test_a_truncated_file_is_refused_by_name(make_run, name):
    path = make_run() / name
    path.write_bytes(path.read_bytes()[:-25])
    with pytest.raises(ValueError, match=f"{name} must be valid JSON; got .*train this run again"):
        read_run(path.parent)


def test_a_file_of_another_top_level_is_refused(make_run):
    folder = make_run()
    (folder / "summary.json").write_text("[1, 2]")
    with pytest.raises(ValueError, match=r"summary\.json must hold one JSON object; got list"):
        read_run(folder)


def test_nan_is_refused_since_json_does_not_have_it(make_run):
    folder = make_run()
    text = (folder / "summary.json").read_text().replace('"eval": 0.03', '"eval": NaN')
    (folder / "summary.json").write_text(text)
    with pytest.raises(ValueError, match="got NaN, which JSON does not have"):
        read_run(folder)


@pytest.mark.parametrize("name", ["config.json", "summary.json"])
def test_a_newer_format_version_is_refused(make_run, name):
    folder = make_run()
    edit_json(folder / name, lambda value: value.update(format_version=2))
    with pytest.raises(
        ValueError,
        match=rf"{name} must have format_version 1 or less; got 2.*pip install --upgrade",
    ):
        read_run(folder)


def test_a_missing_key_is_refused_by_file_and_key(make_run):
    folder = make_run()
    edit_json(folder / "summary.json", lambda value: value["bytes"].pop("state"))
    with pytest.raises(ValueError, match=r"summary\.json must hold `bytes\.state`; got keys"):
        read_run(folder)


@pytest.mark.parametrize(
    ("name", "change", "text"),
    [
        ("config.json", {"recipe": 3}, "config.json must hold str at `recipe`; got 3"),
        ("config.json", {"seed": True}, "must hold int at `seed`; got True"),
        ("summary.json", {"by_part": "x" * 90}, r"must hold list at `by_part`; got 'xxx.*\.\.\."),
        ("diagnostics.json", {"layers": [1]}, r"must hold dict at `layers\[0\]`; got 1"),
        ("diagnostics.json", {"lr": "x"}, "must hold int or float at `lr`; got 'x'"),
    ],
)
def test_a_value_of_another_type_is_refused_by_file_and_place(make_run, name, change, text):
    folder = make_run()
    edit_json(folder / name, lambda value: value.update(change))
    with pytest.raises(ValueError, match=text):
        read_run(folder)


def test_a_record_that_is_no_object_is_refused(make_run):
    folder = make_run()
    (folder / "metrics.jsonl").write_text("3\n")
    with pytest.raises(ValueError, match="line 1 must hold dict at its top; got 3"):
        read_run(folder)


def test_edges_that_do_not_fit_their_counts_are_refused(make_run):
    folder = make_run()
    edit_json(
        folder / "diagnostics.json", lambda value: value["layers"][0]["log_abs_w"]["edges"].pop()
    )
    with pytest.raises(ValueError, match=r"one more edge than counts at `layers\[0\]\.log_abs_w`"):
        read_run(folder)
