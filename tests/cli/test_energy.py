import json

import pytest

from rung import report
from rung.cli import main
from rung.train.models import DigitsMLP

MODEL = "A model, not a measurement: operations counted, energies from a table of costs."


def test_a_recipe_prints_both_steps_and_writes_json_and_picture(tmp_path, capsys):
    out = tmp_path / "new" / "energy.png"
    command = ["energy", "digits-mlp", "--formats", "fp32,fp8,lns8", "--batch", "4"]
    assert main([*command, "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert text.startswith("digits-mlp, batch of 4: ")
    assert MODEL in text
    for heading in ("training step, ", "inference, ", "by pass, ", "by part, ", "by layer, "):
        assert heading in text
    assert "saves against fp32: datapath" in text
    assert out.read_bytes().startswith(b"\x89PNG")
    record = report.read_energy(out.with_suffix(".json"))
    assert list(record["steps"]["training step"]) == ["fp32", "fp8_e4m3", "lns8"]
    assert record["what"] == MODEL
    assert record["command"].startswith("rung energy digits-mlp --formats fp32,fp8,lns8")
    assert record["environment"]["torch"]
    assert all(row["source"] for row in record["costs"]["rows"].values())


def test_inference_alone_has_no_training_step(capsys):
    assert main(["energy", "chars-gpt", "--formats", "lns8", "--inference", "--batch", "1"]) == 0
    text = capsys.readouterr().out
    assert "inference, " in text
    assert "training step" not in text
    assert "blocks.*.attention.projection" in text


def test_a_table_of_ones_own_changes_the_energy(tmp_path, capsys):
    costs = tmp_path / "mine.toml"
    costs.write_text(
        'name = "mine"\nextends = "horowitz-45nm"\n[rows.dram_32]\npicojoules = 0\nsource = "none"'
    )
    out = tmp_path / "energy.json"
    command = ["energy", "resnet18", "--inference", "--formats", "fp32,int8"]
    assert main([*command, "--costs", str(costs), "--out", str(out)]) == 0
    assert "costs: mine;" in capsys.readouterr().out
    record = json.loads(out.read_text())
    assert record["steps"]["inference"]["fp32"]["parts"]["dram"] == [0, 0, 0]
    assert record["counts"]["forward"]["macs"] == 1_814_073_344


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["vgg"], "Unknown recipe or model 'vgg'; the recipes are: digits-cnn, "),
        (["resnet18", "--formats", "fp32,,lns8"], "`--formats` must list names with commas"),
        (["resnet18", "--formats", "fp7"], "Unknown format 'fp7'; energy is known for: fp32"),
        (["resnet18", "--batch", "0"], "`batch` must be 1 or more; got 0"),
        (["digits-mlp", "--batch", "0"], "`batch_size` must be an integer at least 1; got 0"),
        (["resnet18", "--out", "energy.svg"], "`--out` must end in .json or .png; got energy.svg"),
        (["resnet18", "--data-dir", "x"], "`--data-dir` is for recipes; got it with model"),
        (["resnet18", "--costs", "nowhere.toml"], "A cost table must be a text file; got nowhere"),
        (["fashion-resnet18"], "reads its data from files; give their folder by --data-dir"),
    ],
)
def test_mistakes_are_one_line(tmp_path, monkeypatch, capsys, arguments, text):
    monkeypatch.chdir(tmp_path)
    assert main(["energy", *arguments]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert text in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_asks_for_values_is_counted_on_the_cpu(monkeypatch, capsys):
    command = ["energy", "digits-mlp", "--formats", "lns8", "--batch", "2"]
    assert main(command) == 0
    expected = capsys.readouterr().out
    forward = DigitsMLP.forward

    def asking(self, images):
        assert images.sum().item() == images.sum().item()
        return forward(self, images)

    monkeypatch.setattr(DigitsMLP, "forward", asking)
    assert main(command) == 0
    assert capsys.readouterr().out == expected
