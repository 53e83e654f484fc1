import json

import pytest

from rung.cli import main


def test_vectors_are_written_with_room_for_a_product(tmp_path, capsys):
    out = tmp_path / "v"
    arguments = ["hardware", "vectors", "--count", "3", "--length", "5", "--out", str(out)]
    assert main(arguments) == 0
    assert capsys.readouterr().out == f"{out}: see README.txt; 9 bits dropped\n"
    config = json.loads((out / "config.json").read_text())
    assert config["datapath"]["dropped_bits"] == 9
    assert config["derived"]["product_bits"] == 24
    more = ["--force", "--accumulator-bits", "40", "--conversion", "hybrid", "--table-size", "2"]
    more += ["--zero", "--bits", "6", "--base-factor", "4", "--no-corners", "--vector-length", "2"]
    assert main([*arguments, *more, "--fraction-bits", "5", "--overflow", "wrap"]) == 0
    assert capsys.readouterr().out == f"{out}: see README.txt; no bits dropped\n"
    config = json.loads((out / "config.json").read_text())
    assert config["datapath"] == {
        "base_factor": 4,
        "conversion": "hybrid",
        "table_size": 2,
        "fraction_bits": 5,
        "accumulator_bits": 40,
        "dropped_bits": 0,
        "overflow": "wrap",
        "vector_length": 2,
        "bits": 6,
        "zero": True,
    }
    assert (config["dots"], config["partial_sums"], config["corners"]) == (3, 3, [])


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--table-size", "3"], "`table_size` must be a power of two that divides base_factor=8"),
        (["--conversion", "exact"], "`conversion` must be one of 'lut', 'mitchell', 'hybrid'; got"),
        (["--dropped-bits", "0"], "too narrow for one product of 8-bit codes"),
        (["--bits", "2"], "`bits` must be from 3 to 16; got bits=2"),
        (["--length", "0"], "`length` must be at least 1; got length=0"),
        (["--count", "many"], "Invalid value for '--count'"),
        (["--width", "3"], "No such option: --width"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(tmp_path, monkeypatch, capsys, arguments, text):
    monkeypatch.chdir(tmp_path)
    assert main(["hardware", "vectors", *arguments]) == 2
    err = capsys.readouterr().err
    assert text in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_folder_with_files_is_refused(tmp_path, capsys):
    (tmp_path / "notes").write_text("keep")
    assert main(["hardware", "vectors", "--out", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert "must be new or empty" in err
    assert err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["notes"]
