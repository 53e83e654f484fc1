import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

import rung.extras
from rung.report import write_report

from .run_folders import deep, edit_json, write_run

FIGURES = {"curves", "memory", "rungs", "weights", "angles"}
VOID = {"meta", "br", "hr", "img", "link", "input"}


class Page(HTMLParser):
    """What a test asks a page: balanced tags, links, ids, text."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.words: list[str] = []
        self.pictures = 0
        self.open: list[str] = []
        self.feed(source)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.pictures += tag == "svg"
        values = dict(attrs)
        self.links += [values[key] for key in ("src", "href", "xlink:href") if values.get(key)]
        if "id" in values:
            self.ids.append(values["id"])
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def read_page(folder: Path) -> Page:
    return Page((folder / "report.html").read_text())


@pytest.fixture(scope="module")
def coded(tmp_path_factory):
    folder = write_run(tmp_path_factory.mktemp("pages") / "coded")
    assert write_report(folder) == folder / "report.html"
    return folder


def assert_self_contained(source: str) -> None:
    page = Page(source)
    assert not {"script", "link", "img", "iframe", "object", "embed"} & set(page.tags)
    assert all(link.startswith("#") for link in page.links)
    assert not re.search(r"@import|url\((?!#)", source)
    assert "@font-face" not in source


def test_a_report_needs_nothing_outside_itself(coded):
    assert_self_contained((coded / "report.html").read_text())


def test_a_report_holds_every_figure_and_the_same_pictures(coded):
    page = read_page(coded)
    assert page.pictures == len(FIGURES)
    assert {f"section-{name}" for name in FIGURES} <= set(page.ids)
    pictures = {path.stem: path.read_bytes() for path in (coded / "pictures").iterdir()}
    assert set(pictures) == FIGURES
    assert all(content.startswith(b"\x89PNG\r\n\x1a\n") for content in pictures.values())


def test_ids_are_unique_in_a_page_and_references_lead_to_them(coded):
    source = (coded / "report.html").read_text()
    page = Page(source)
    assert len(page.ids) == len(set(page.ids))
    references = {link[1:] for link in page.links} | set(re.findall(r"url\(#([^)]+)\)", source))
    assert references <= set(page.ids)


def test_a_report_states_the_facts_of_its_run(coded):
    text = read_page(coded).text
    for fact in (
        "digits-cnn",
        "bbit-madam",
        "ladder8",
        "finished",
        "98.58 %",
        "3.03",
        "18.4 ms",
        "fc1.weight",
        "96 × 512",
        "a fixture: 1,437 training",
        "rung train digits-cnn --optimizer bbit-madam --seed 0",
        "2.13.0",
        "a made-up processor",
        "What is a rung?",
        "What is the bound?",
    ):
        assert fact in text, fact


def test_a_report_is_the_same_every_time(coded, tmp_path):
    again = write_run(tmp_path / "coded")
    write_report(again)
    assert (again / "report.html").read_bytes() == (coded / "report.html").read_bytes()
    for name in FIGURES:
        picture = f"pictures/{name}.png"
        assert (again / picture).read_bytes() == (coded / picture).read_bytes()


def test_a_report_leaves_no_temporary_files(coded):
    assert not [path for path in coded.rglob("*") if path.name.endswith(".tmp")]


def test_a_report_does_not_touch_the_settings_of_matplotlib(make_run):
    import matplotlib

    with matplotlib.rc_context({"font.size": 31.0, "lines.linewidth": 9.0}):
        before = dict(matplotlib.rcParams)
        write_report(make_run(evals=1, steps=20))
        assert dict(matplotlib.rcParams) == before


def test_a_run_without_codes_has_no_figure_of_rungs(make_run):
    folder = make_run(optimizer="adamw", format=None)
    (folder / "pictures").mkdir()
    (folder / "pictures" / "rungs.png").write_bytes(b"of an earlier report")
    write_report(folder)
    page = read_page(folder)
    assert page.pictures == 4
    assert "section-rungs" not in page.ids
    assert not (folder / "pictures" / "rungs.png").exists()
    assert "Theorem 1 does not apply to adamw." in page.text


def test_a_report_of_signed_madam_is_about_signed_rungs(make_run):
    page = write_report(make_run(optimizer="signed-madam", format="sinh8")).read_text()
    for text in ("typical change in one step of θ", "Rung 0 is zero", ">lowest rung<", ">highest "):
        assert text in page, text
    for text in ("the typical change of ln|w|", "rung 0 is the top", ">bottom rung<"):
        assert text not in page, text


def test_a_report_of_pairs_says_what_is_counted(make_run):
    page = write_report(make_run(optimizer="signed-madam", format="pair16")).read_text()
    for text in ("the difference of two numbers on a ladder", "Rung 0 is zero", ">lowest rung<"):
        assert text in page, text
    assert "as a whole number k with its sign" not in page


def test_a_diverged_run_says_so_and_why(make_run):
    folder = make_run(optimizer="madam", format=None, status="diverged", lr=0.3, final_lr=0.3)
    edit_json(folder / "summary.json", lambda value: value.update(reason="the loss was <inf>"))
    write_report(folder)
    assert "This run diverged. The loss was <inf>. The figures" in read_page(folder).text


def test_a_setting_that_is_also_an_option_stands_once(make_run):
    folder = make_run(evals=1, steps=20, options={"batch_size": 32, "flip": True})
    write_report(folder)
    text = read_page(folder).text
    assert text.count("batch size") == 1
    assert "flip True" in text


def test_an_unfinished_run_with_nothing_logged_gets_a_report(make_run):
    folder = make_run(status="unfinished")
    (folder / "metrics.jsonl").unlink()
    (folder / "diagnostics.json").unlink()
    write_report(folder)
    page = read_page(folder)
    assert page.pictures == 0
    assert "This run has not ended." in page.text


def test_an_unfinished_run_with_one_evaluation_gets_its_figures(make_run):
    folder = make_run(status="unfinished", evals=1, steps=50, format="ladder12", bits=12)
    write_report(folder)
    page = read_page(folder)
    assert page.pictures == len(FIGURES)
    assert "the 16 outermost rungs" in page.text


def test_a_run_whose_every_loss_is_null_gets_a_report(make_run):
    folder = make_run(status="diverged", steps=10, evals=1)
    write_report(folder)
    assert "This run diverged." in read_page(folder).text


def test_numbers_beyond_float_are_drawn_as_missing(make_run):
    folder = make_run(steps=30, evals=1)
    path = folder / "metrics.jsonl"
    path.write_text(re.sub(r'"loss": [0-9.e-]+', '"loss": 1e999', path.read_text(), count=1))
    write_report(folder)


def test_text_of_a_run_is_escaped(make_run):
    bad = '<script>alert("1")</script> & $x_1$'
    layers = ((f"{bad}.weight", f"{bad}Linear", (20, 30)),)
    folder = make_run(recipe=bad, layers=layers, command=bad, data=bad, options={bad: bad})
    write_report(folder)
    source = (folder / "report.html").read_text()
    assert_self_contained(source)
    page = Page(source)
    assert "script" not in page.tags
    assert page.text.count('<script>alert("1")</script> & $x_1$') >= 6


def test_a_font_without_the_letters_of_a_name_is_no_warning(make_run):
    write_report(make_run(layers=(("層.重み", "Linear", (20, 30)),)))


def test_all_layers_of_a_deep_network_are_in_the_table(make_run):
    folder = make_run(layers=deep(90), steps=20, evals=1)
    write_report(folder)
    page = read_page(folder)
    assert all(f"layers.{index}.attention.project" in page.text for index in range(90))
    assert "of more than 80 layers the largest are drawn" in page.text.lower()


@pytest.mark.parametrize("missing", ["matplotlib", "jinja2"])
def test_a_missing_extra_names_the_pip_command(make_run, monkeypatch, missing):
    folder = make_run(steps=20, evals=1)
    real = rung.extras.require

    def require(module):
        if module.partition(".")[0] == missing:
            raise ImportError(f"needs {missing}: pip install 'rung[train]'")
        return real(module)

    monkeypatch.setattr(rung.extras, "require", require)
    with pytest.raises(ImportError, match=r"pip install 'rung\[train\]'"):
        write_report(folder)
    assert not (folder / "report.html").exists()
    assert not (folder / "pictures").exists()


def test_importing_the_room_imports_no_extra():
    import subprocess
    import sys

    code = (
        "import sys, rung.report; "
        "assert not {'matplotlib', 'jinja2'} & set(sys.modules), 'imported at once'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
