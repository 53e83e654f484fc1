import pytest

from rung.hardware.energy import CostError, load_costs
from rung.hardware.energy.cost_table import ROWS

PUBLISHED = {  # Horowitz, ISSCC 2014, 45 nm
    "fp32_multiply": 3.7,
    "fp32_add": 0.9,
    "fp16_multiply": 1.1,
    "fp16_add": 0.4,
    "int8_multiply": 0.2,
    "int32_multiply": 3.1,
    "int8_add": 0.03,
    "int16_add": 0.05,
    "int32_add": 0.1,
    "sram_8kb_64": 10,
    "sram_32kb_64": 20,
    "sram_1mb_64": 100,
    "dram_32": 640,
}


@pytest.fixture
def table(tmp_path):
    """Writes a table of all rows, with some of them changed or left out."""

    def write(head="", without=(), **changes):
        lines = [head]
        for row in {**dict.fromkeys(ROWS), **changes}:
            if row not in without:
                body = changes.get(row, 'picojoules = 1.0\nsource = "a test"')
                lines += [f"[rows.{row}]", body]
        path = tmp_path / "costs.toml"
        path.write_text("\n".join(lines))
        return path

    return write


def test_every_row_has_a_source_and_a_band_around_its_value():
    costs = load_costs()
    assert list(costs.rows) == list(ROWS)
    for row, cost in costs.rows.items():
        assert (
            "Horowitz" in cost.source
            or "Rule:" in cost.source
            or "arXiv" in cost.source
            or ("PMC" in cost.source)
        ), row
        assert 0 <= cost.low <= 1 <= cost.high, row
        assert cost.low < cost.high, row


def test_published_rows_are_the_published_values():
    rows = load_costs().rows
    assert {row: rows[row].picojoules for row in PUBLISHED} == PUBLISHED
    assert rows["narrow_float_multiply"].picojoules == pytest.approx(1.1 / 11**2, rel=1e-3)
    assert rows["fp32_divide"].picojoules == pytest.approx(7.1 * 3.7, rel=2e-3)
    assert rows["dram_32"].high * 640 == pytest.approx(2600 / 2, rel=1e-2)


def test_a_table_of_ones_own_is_read(table):
    costs = load_costs(table('name = "mine"', fp32_add='picojoules = 2\nsource = "us"\nhigh = 3'))
    assert (costs.name, costs.rows["fp32_add"].picojoules) == ("mine", 2.0)
    assert (costs.rows["fp32_add"].low, costs.rows["fp32_add"].high) == (1.0, 3.0)


def test_a_table_can_extend_the_one_of_rung(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('extends = "horowitz-45nm"\n[rows.dram_32]\npicojoules = 100\nsource = "HBM"\n')
    costs = load_costs(path)
    assert costs.rows["dram_32"].picojoules == 100
    assert costs.rows["fp32_add"] == load_costs().rows["fp32_add"]
    assert costs.name == str(path)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"without": ["fp32_add"]}, r"every row; missing: fp32_add \(float addition, .*extends = "),
        ({"fp64_add": "picojoules = 1"}, r"got unknown row fp64_add\. Correct its name"),
        (
            {"fp32_add": 'picojoules = -1.5\nsource = "x"'},
            r"row fp32_add: `picojoules` must be a number, 0 or more; got -1\.5\. Give the energy",
        ),
        ({"fp32_add": 'picojoules = "1"\nsource = "x"'}, r"row fp32_add: .* got '1'"),
        ({"fp32_add": 'picojoules = nan\nsource = "x"'}, r"row fp32_add: .* got nan"),
        ({"fp32_add": 'source = "x"'}, r"row fp32_add: `picojoules` .* got None"),
        ({"fp32_add": "picojoules = 1.0"}, r"row fp32_add: every row needs a source; got source=N"),
        ({"fp32_add": 'picojoules = 1\nsource = " "'}, r"fp32_add: every row needs a source"),
        (
            {"fp32_add": 'picojoules = 1\nsource = "x"\nlow = 1.2'},
            r"row fp32_add: `low` and `high` are factors .* got low=1\.2, high=1\.0\. Leave",
        ),
        (
            {"fp32_add": "pj = 1.0"},
            r"row fp32_add: a row has picojoules, source, low, high; got p",
        ),
        ({"head": 'extends = "tsmc"'}, r"`extends` must be 'horowitz-45nm', .* got 'tsmc'"),
        ({"head": 'process = "7 nm"'}, r"must have `name`, sections \[rows\.ROW\] .* got process"),
        ({"head": "= 3"}, r"costs\.toml must be TOML; got: .*Correct that line"),
    ],
)
def test_a_wrong_table_names_row_value_and_fix(table, change, text):
    with pytest.raises(CostError, match=text):
        load_costs(table(**change))


def test_files_that_are_no_table_are_refused(tmp_path):
    with pytest.raises(CostError, match=r"must be a text file; got .*nowhere.*Copy Rung's own"):
        load_costs(tmp_path / "nowhere.toml")
    empty = tmp_path / "empty.toml"
    empty.write_text('name = "none"')
    with pytest.raises(CostError, match=r"got no section \[rows\.ROW\]\. Write rows as"):
        load_costs(empty)
    flat = tmp_path / "flat.toml"
    flat.write_text('extends = "horowitz-45nm"\n[rows]\nfp32_add = 1.0')
    with pytest.raises(CostError, match=r"row fp32_add: a row has .* got 1\.0\. Write it as \["):
        load_costs(flat)
