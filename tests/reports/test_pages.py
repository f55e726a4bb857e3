"""The usual page of an experiment, and the numbers behind it."""

from functools import partial

import numpy as np

from rlhf_jax.reports.bands import band
from rlhf_jax.reports.claims import Claim, Table, run_words, write_summary
from rlhf_jax.reports.pages import save_stages, show_panels, sign_page, write_page
from rlhf_jax.reports.panels import Panel

trial = partial(Claim, kind="paper", source="a trial")


def test_a_page_has_its_claims_table_text_and_figures(tmp_path):
    curve = band([1, 2], [[3.0, 4.0], [5.0, 6.0]])
    first = show_panels(
        [Panel("p", "x", "y", {"run": curve})], "First", "A caption.", "a line that rises"
    )
    assert first.caption == "A caption. Lines and bands: median and range over 2 seeds."
    write_page(
        tmp_path,
        "A study",
        paper="Somebody 2023, 2312.00886",
        lead="What was asked.",
        claims=[trial("it is less", 1.0, "<", 2.0)],
        table=Table("numbers", ("name", "value"), [("a", 0.5)]),
        figures={"one": first},
        text="In words.",
    )
    page = (tmp_path / "report.html").read_text()
    parts = [
        "A study",
        "What was asked.",
        "it is less",
        "0.500",
        "In words.",
        "First",
        first.caption,
    ]
    assert [page.index(part) for part in parts] == sorted(page.index(part) for part in parts)
    assert 'alt="a line that rises"' in page
    assert page.count("data:image/png;base64,") == 1
    assert page.count('href="https://arxiv.org/abs/2312.00886"') == 2  # at the top, at the claim
    assert {path.name for path in (tmp_path / "plots").iterdir()} == {"one.png", "one.svg"}


def test_the_arrays_of_stages_are_kept_by_name(tmp_path):
    nested = {"OMD": {"gap": np.arange(2), "last": {"kl": 0.5}}, "times": (1, 2)}
    save_stages(tmp_path, {"one": nested, "of/two": {"x": np.ones(3)}})
    assert {path.name for path in (tmp_path / "data").iterdir()} == {"one.npz", "of-two.npz"}
    with np.load(tmp_path / "data" / "one.npz") as kept:
        assert {name: kept[name].tolist() for name in kept} == {
            "OMD/gap": [0, 1],
            "OMD/last/kl": 0.5,
            "times": [1, 2],
        }


def test_a_page_ends_with_its_paper_command_size_seed_and_versions(tmp_path):
    about = {"slug": "x", "paper": "P <1>", "seconds": 1.0, "versions": {"jax": "0.9"}}
    run = {"config": {"seed": 3}, "size": "quick", "command": "python -m experiments run x --quick"}
    write_summary(tmp_path, claims=[trial("c", 1.0, "<", 2.0)], **about, **run)
    sign_page(tmp_path)  # no page: nothing to sign
    assert [path.name for path in tmp_path.iterdir()] == ["summary.json"]
    write_page(tmp_path, "A study", paper="P", lead="?", claims=[], figures={})
    plain = (tmp_path / "report.html").read_text()
    sign_page(tmp_path)
    footer = "P &lt;1&gt;; python -m experiments run x --quick; size quick; seed 3; jax 0.9"
    end = "\n\n</main>\n</body>\n</html>\n"
    assert plain.endswith(end)
    signed = plain.removesuffix(end) + f"\n\n<footer>{footer}</footer>{end.removeprefix(chr(10))}"
    assert (tmp_path / "report.html").read_text() == signed
    assert run_words({"versions": {}, "config": {"seed": 0}}) == "seed 0"
