import math

import pytest

from rung.report import compare, comparison_table, rungs, style, write_report
from rung.report.bound import judge
from rung.report.facts import rungs_per_bin
from rung.report.page import page_of
from rung.report.run import read_run

from .run_folders import edit_json, write_run

LAYERS = {"weight_scale": "channel", "backward_format": None}


@pytest.fixture
def lns(tmp_path):
    """A run whose layers compute in lns8 and whose weights live in lns16."""

    def make(name="lns", layers=LAYERS, **config):
        folder = write_run(
            tmp_path / name,
            **{
                "format": "lns8",
                "optimizer": "lns-madam",
                "update_format": "lns16",
                "options": {"update_format": "lns16"},
                **config,
            },
        )

        def change(value):
            for layer in value["layers"]:
                if layer["rungs"]:
                    layer["format"] = "lns16"
                    counts = layer["rungs"]["counts"]
                    spacing = math.log(2) / 2048
                    layer["rungs"] = {"system": "lns", "bits": 16, "levels": 2**15}
                    layer["rungs"] |= {"base_precision": spacing, "counts": counts}

        edit_json(folder / "diagnostics.json", change)
        edit_json(folder / "config.json", lambda value: value.update(layers=layers))
        return folder

    return make


def test_a_report_names_both_formats_and_the_settings_of_layers(lns):
    folder = lns()
    page = write_report(folder).read_text()
    assert page_of(read_run(folder), {})["formats"] == "lns8, lns16 weights"
    for text in ("lns8, lns16 weights", "weight scale", "log₂|w|"):
        assert text in page, text


def test_an_lns_has_half_as_many_rungs_as_a_ladder(lns):
    run = read_run(lns())
    with style.style():
        figure = rungs.draw(run)
        assert style.to_png(figure)
    assert figure.axes[0].get_title("left").endswith(" layers on codes of the 16-bit LNS")
    (total,) = rungs.sum_by_ladder(rungs.coded_layers(run))
    assert rungs_per_bin(total) == 2**15 // 256


def test_theorem_1_is_about_nats_and_the_learning_rate_in_octaves(lns):
    octaves, nats = 0.01 / math.log(2), 0.01
    ours = judge(read_run(lns(lr=octaves, final_lr=octaves)))
    theirs = judge(read_run(lns("madam", optimizer="madam", lr=nats, final_lr=nats)))
    assert ours.headline.replace(" nats", "") == theirs.headline
    assert " nats" in ours.headline


def test_a_comparison_tells_update_formats_apart(lns, tmp_path):
    folders = [
        lns("sixteen"),
        lns("ten", update_format="lns10", options={"update_format": "lns10"}),
        lns("adamw", optimizer="adamw", format=None, update_format="lns10", layers=None),
        write_run(tmp_path / "float", optimizer="adamw", format=None, options={}),
    ]
    table = comparison_table(compare(folders))
    for text in ("lns8, lns16 weights", "lns8, lns10 weights", "lns10 weights", "float32"):
        assert text in table
    assert "not of equal conditions" not in table


def test_runs_of_an_older_version_are_seeds_of_the_same_set_up(tmp_path):
    old = write_run(tmp_path / "old", optimizer="adamw", format=None, options={"beta1": 0.9})
    new = write_run(
        tmp_path / "new",
        optimizer="adamw",
        format=None,
        seed=1,
        options={"beta1": 0.9, "update_format": None, "update_rounding": "nearest"},
        update_format=None,
    )
    assert "(2 runs, 2 seeds)" in comparison_table(compare([old, new]))
