"""The usual page of an experiment."""

from functools import partial

from rlhf_jax.reports.claims import Claim, Table
from rlhf_jax.reports.pages import Shown, write_page
from rlhf_jax.reports.panels import Panel, panels
from rlhf_jax.reports.plots import Series

trial = partial(Claim, kind="ours", source="a trial")


def test_a_page_has_its_claims_table_text_and_figures(tmp_path):
    curve = panels([Panel("p", "x", "y", {"run": Series([1, 2], [3.0, 4.0])})])
    write_page(
        tmp_path,
        "A study",
        lead="What was asked.",
        claims=[trial("it is less", 1.0, "<", 2.0)],
        table=Table("numbers", ("name", "value"), [("a", 0.5)]),
        figures={"one": Shown(curve, "First", "a caption", "a line that rises")},
        text="In words.",
    )
    page = (tmp_path / "report.html").read_text()
    parts = ["A study", "What was asked.", "it is less", "0.500", "In words.", "First", "a caption"]
    assert [page.index(part) for part in parts] == sorted(page.index(part) for part in parts)
    assert 'alt="a line that rises"' in page
    assert page.count("data:image/png;base64,") == 1
    assert (tmp_path / "plots" / "one.png").is_file()
