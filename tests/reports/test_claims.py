"""Claims, summary.json and tables."""

import io
import json
from functools import partial

import numpy as np
import pytest
from rich.console import Console

from rlhf_jax.reports.claims import (
    Claim,
    Table,
    behind_gates,
    claims_table,
    format_cell,
    largest_change,
    largest_factor,
    print_table,
    write_summary,
)

trial = partial(Claim, kind="ours", source="a trial")


@pytest.mark.parametrize(
    ("value", "op", "threshold", "holds"),
    [
        (1, ">=", 1, True),
        (0.9, ">=", 1, False),
        (1, ">", 1, False),
        (1.1, ">", 1, True),
        (1, "<=", 1, True),
        (1.1, "<=", 1, False),
        (1, "<", 1, False),
        (0.9, "<", 1, True),
        (3, "==", 3, True),
        (3, "==", 4, False),
        (np.float32(2), ">", np.float32(1), True),
        (float("inf"), ">", 1, True),
    ],
)
def test_operators(value, op, threshold, holds):
    assert trial("c", value, op, threshold).holds is holds


@pytest.mark.parametrize("op", [">=", ">", "<=", "<", "=="])
def test_nan_never_holds(op):
    assert not trial("c", float("nan"), op, 0).holds
    assert not trial("c", 0, op, float("nan")).holds
    assert not trial("c", float("nan"), op, float("nan")).holds


@pytest.mark.parametrize(
    ("value", "op", "threshold", "interval", "verdict"),
    [
        (0.9, ">=", 0.8, (0.85, 0.95), "holds"),
        (0.9, ">=", 0.8, (0.75, 0.99), "undecided"),
        (0.7, ">=", 0.8, (0.6, 0.81), "undecided"),
        (0.7, ">=", 0.8, (0.6, 0.79), "fails"),
        (-1.0, "<=", -0.5, (-1.1, -0.9), "holds"),
        (-1.0, "<", -1.0, (-1.0, -1.0), "fails"),
        (0.9, ">=", 0.8, (float("nan"), float("nan")), "undecided"),
        (float("nan"), ">=", 0.8, (0.9, 1.0), "fails"),
    ],
)
def test_an_interval_decides_only_where_all_of_it_agrees(value, op, threshold, interval, verdict):
    claim = trial("c", value, op, threshold, interval=interval)
    assert claim.verdict == verdict
    assert claim.holds is (verdict == "holds")


def test_a_claim_that_its_baseline_passes_too_is_undecided():
    assert trial("c", 0.1, "<=", 1, baseline=("staying", 4.0)).verdict == "holds"
    assert trial("c", 0.1, "<=", 1, baseline=("staying", 0.6)).verdict == "undecided"
    assert trial("c", 2.0, "<=", 1, baseline=("staying", 0.6)).verdict == "fails"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"kind": "guess"}, "claim 'c': kind must be in"),
        ({"source": ""}, "claim 'c': source must name a theorem, a table or a reason"),
        ({"interval": (2, 1)}, r"claim 'c': an interval is \(low, high\), got \(2.0, 1.0\)"),
        ({"op": "==", "interval": (0, 1)}, "claim 'c': an equality has no interval"),
    ],
)
def test_claims_that_make_no_sense_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        trial("c", 1, given.pop("op", ">="), 1, **given)


def test_a_claim_shows_its_interval_source_and_baseline():
    claim = Claim(
        "gap", 0.5, "<=", 1, kind="theorem", source="Theorem 1", interval=(0.4, 0.6),
        baseline=("uniform", 2.0),
    )  # fmt: skip
    (row,) = claims_table([claim]).rows
    assert row == (
        "gap (must fail: uniform, 2.000)", "0.500 [0.400, 0.600]", "<= 1", "theorem: Theorem 1",
        "holds",
    )  # fmt: skip


def test_unknown_operator():
    with pytest.raises(ValueError, match="claim 'c': op must be in"):
        trial("c", 1, "!=", 1)


def write(out, claims, **extra):
    about = {"slug": "shop", "paper": "P", "seconds": 1.2345, "versions": {"jax": "1"}}
    return write_summary(out, config={"beta": 0.1}, claims=claims, **about, **extra)


def test_summary(tmp_path):
    held = Claim(
        "a", np.float32(0.5), ">=", 0.25, kind="paper", source="Table 1", interval=(0.4, 0.6),
        baseline=("uniform", np.float32(0.125)),
    )  # fmt: skip
    claims = [held, trial("b", float("nan"), "<", 1)]
    path = write(tmp_path, claims, numbers={"table": np.arange(2), "odd": {1: float("inf")}})
    assert json.loads(path.read_text()) == {
        "slug": "shop",
        "paper": "P",
        "seconds": 1.23,
        "versions": {"jax": "1"},
        "config": {"beta": 0.1},
        "claims": [
            {
                "statement": "a",
                "value": 0.5,
                "op": ">=",
                "threshold": 0.25,
                "kind": "paper",
                "source": "Table 1",
                "interval": [0.4, 0.6],
                "baseline": ["uniform", 0.125],
                "verdict": "holds",
            },
            {
                "statement": "b",
                "value": "nan",
                "op": "<",
                "threshold": 1,
                "kind": "ours",
                "source": "a trial",
                "interval": None,
                "baseline": None,
                "verdict": "fails",
            },
        ],
        "numbers": {"table": [0, 1], "odd": {"1": "inf"}},
    }


def test_a_summary_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    path = write(tmp_path, [])
    before = path.read_bytes()

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("rlhf_jax.reports.claims.os.replace", full)
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path, [trial("a", 1, ">", 0)])
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["summary.json"]


def test_cells():
    shown = [0.0, 0.12345, 12.3456, 1e-5, 5e9, 3, True, None, "x", np.float32(0.5), float("nan")]
    assert [format_cell(value) for value in shown] == [
        "0.000", "0.123", "12.346", "1e-05", "5e+09", "3", "yes", "–", "x", "0.500", "nan",  # noqa: RUF001
    ]  # fmt: skip


def test_printed_text_is_never_read_as_markup():
    text = io.StringIO()
    names = ("mean [low, high]", "win [95%]", "[bold]x[/bold]", ":warning:")
    shown = Table("gold [held out]", names, [("[red]", "[/]", r"\[a]", 1)], note="[0.5, 0.6] [n]")
    print_table(shown, Console(file=text))
    for literal in (*names, "gold [held out]", "[red]", "[/]", r"\[a]", "[0.5, 0.6] [n]"):
        assert literal in text.getvalue()


def test_control_characters_are_spelt_out_in_a_printed_table():
    text = io.StringIO()
    evil = "\x1b[31m \x1b]0;title\x07 \0 \u202eright \x9b"
    print_table(Table(evil, (evil,), [(evil,)], note=evil), Console(file=text))
    assert text.getvalue().count(r"\x1b[31m \x1b]0;title\x07 \x00 \u202eright \x9b") == 4
    assert not set(text.getvalue()) & set("\x1b\x07\0\u202e\x9b")


def test_printed_table_is_whole_and_unstyled_when_piped():
    text = io.StringIO()
    long = "a claim with [brackets] and " + "many words " * 20
    print_table(claims_table([trial(long, 0.5, ">", 1)]), Console(file=text))
    print_table(Table("T", ("m", "x"), [("a", 1)], note="N"), Console(file=text))
    assert long.strip() in text.getvalue()
    assert "FAILS" in text.getvalue()
    assert "\x1b" not in text.getvalue()


@pytest.mark.parametrize(
    ("value", "verdicts"),
    [(0.9, ["fails", "holds"]), (1.5, ["holds", "holds"]), (2.1, ["holds", "fails"])],
)
def test_within_is_two_claims(value, verdicts):
    low, high = Claim.within("x", value, 1, 2, kind="ours", source="a trial")
    assert [low.statement, high.statement] == ["x, at least", "x, at most"]
    assert [low.verdict, high.verdict] == verdicts
    both = Claim.within("x", 1.5, 1, 2, interval=(0.5, 1.8), kind="ours", source="a trial")
    assert [claim.verdict for claim in both] == ["undecided", "holds"]


def test_how_far_numbers_are_from_known_ones():
    """Ratios 2, 1/4 and 1: the factor is 4, the changes are 1, 3/4 and 0."""
    found, known = (2.0, 1.0, 3.0), (1.0, 4.0, 3.0)
    assert largest_factor(found, known) == 4.0
    assert largest_change(found, known) == 1.0


@pytest.mark.parametrize(
    ("value", "interval", "made"), [(0.7, (0.5, 0.9), 2), (0.5, (0.3, 0.7), 1)]
)
def test_a_comparison_is_made_behind_a_gate_whose_value_passes_only(value, interval, made):
    gate = Claim("accuracy", value, ">=", 0.6, kind="ours", source="gate", interval=interval)
    claim = Claim("gain", 1.0, ">", 0.0, kind="ours", source="sense")
    assert behind_gates([gate], [claim]) == [gate, claim][:made]
