"""The seq2seq_rm experiment: its claims, what breaks them, and one run at a small size."""

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.seq2seq_rm import claims, config, lengths, run
from experiments.seq2seq_rm.learners import ARMS, DENSE, IGNORES, MATCH, RULE, SCALAR
from rlhf_jax.training import open_run

TOY = config.Config(
    num_seeds=2, prompts=3, length=4, vocabulary=4, sizes=(20, 60), heldout=50, fit_steps=20,
    batch=16, updates=10, length_pairs=2000, more_pairs=2000,
)  # fmt: skip
# Final shares of each arm at 50 and at 1000 pairs, and at the start.
ENDS = {RULE: (0.95, 0.99), MATCH: (0.95, 0.99), IGNORES: (0.95, 0.99)}
ENDS |= {SCALAR: (0.78, 0.98), DENSE: (0.80, 0.989)}
SIZES = config.Config(sizes=(50, 1000))


def found(ends=ENDS, credit=0.99, lead=0.03):
    """Three seeds a little apart, curves straight from 1/8."""
    noise = 1e-3 * np.arange(3)[:, None, None, None]
    last = np.array([ends[arm] for arm in ARMS]).T
    shares = 0.125 + (last - 0.125)[None, :, :, None] * np.linspace(0, 1, 5) + noise
    accuracy = np.stack([np.full((3, 2), 0.95 + lead), np.full((3, 2), 0.95)], -1)
    accuracy[..., 0] += noise[:, :, 0, 0]
    return {
        "shares": shares,
        "accuracy": accuracy,
        "credit": np.full((3, 2, 3), credit) + noise[..., 0],
        "copied": np.full(3, 0.5),
    }


def paid():
    tails = np.arange(11.0)
    flat = np.where(tails < 2, [0.71, 0.75, *[1.0] * 9], 1.0)
    return {
        "returns": np.tile(flat, (3, 1)),
        "more": np.tile(flat, (3, 1)),
        "summed": np.tile(tails + 5, (3, 1)),
        "weight": np.array([1.09, 1.1, 1.11]),
        "even": np.array([0.01, 0.0, -0.01]),
    }


def verdicts(seen, panel):
    return {c.statement: c.verdict for c in claims.all_claims(SIZES, seen, panel)}


def test_what_the_design_expects_holds():
    asked = [(c.op, c.threshold) for c in claims.all_claims(SIZES, found(), paid())]
    assert asked == [
        (">=", 0.10), *[(">", 0)] * 4, ("<", 0.5), (">=", 0.5),
        (">=", 0.97), (">", 0), *[("<=", 1e-5)] * 2, (">", 0), (">", 0.5),
    ]  # fmt: skip
    assert set(verdicts(found(), paid()).values()) == {"holds"}


@pytest.mark.parametrize(
    ("seen", "panel", "word"),
    [
        (found(ENDS | {RULE: (0.80, 0.99)}), paid(), "paper's rule minus scalar"),
        (found(ENDS | {DENSE: (0.95, 0.989)}), paid(), "part of the final gap"),
        (found(ENDS | {DENSE: (0.79, 0.98)}), paid(), "part of the gap over training"),
        (found(ENDS | {MATCH: (0.95, 0.97)}), paid(), "1000 pairs, every token"),
        (found(credit=0.9), paid(), "share of rejected tokens"),
        (found(lead=-0.03), paid(), "held-out accuracy"),
        (found(), paid() | {"returns": paid()["summed"]}, "divided by length, 5000 pairs: range"),
        (found(), paid() | {"more": paid()["summed"]}, "divided by length, 20000 pairs: range"),
        (found(), paid() | {"summed": paid()["returns"]}, "not divided: least step"),
        (found(), paid() | {"weight": paid()["even"]}, "weight of a tail token"),
    ],
)
def test_a_claim_fails_where_its_effect_is_missing(seen, panel, word):
    broken = {name: verdict for name, verdict in verdicts(seen, panel).items() if word in name}
    assert broken
    assert "holds" not in broken.values()


def test_an_answer_is_content_a_tail_and_the_end():
    found = lengths.answers_of(jnp.array([0, 2]))
    begin = [lengths.CONTENT] * lengths.CONTENT_LENGTH
    assert found.actions[0, :8].tolist() == [*begin, lengths.END, lengths.PAD]
    assert found.actions[1, :9].tolist() == [*begin, lengths.TAIL, lengths.TAIL, lengths.END]
    assert found.mask.sum(-1).tolist() == [7, 9]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run at a small size: its folder and its outcome."""
    out = tmp_path_factory.mktemp("seq2seq_rm")
    with open_run(out, slug="seq2seq_rm", config=TOY) as job:
        return out, run.run(TOY, job)


def test_a_small_run_shows_every_claim(finished):
    out, outcome = finished
    assert len(outcome.claims) == 13
    assert np.isfinite([float(claim.value) for claim in outcome.claims]).all()
    assert (out / "report.html").read_text().count("data:image/png;base64,") == 3
    kept = {path.stem: dict(np.load(path)) for path in (out / "data").glob("*.npz")}
    shares = kept["policies"]["shares"]
    assert shares.shape == (2, 2, len(ARMS), 11)
    np.testing.assert_allclose(shares[..., 0], 1 / 4, rtol=1e-5)
    assert (shares[..., -1] > 0.25).all()
    np.testing.assert_allclose(kept["lengths"]["weight"], np.log(3), atol=0.25)
    assert kept["lengths"]["more"].shape == kept["lengths"]["seen"].shape == (2, 11)
    # 3^2 e^-3 / 2 = 0.224 of the chosen answers have a tail of 2.
    np.testing.assert_allclose(kept["lengths"]["seen"][:, 2] / 2000, 0.224, atol=0.03)
    # Content agrees, the end after no tail does not: 6/7 - 1/7 and 7/8 - 1/8.
    np.testing.assert_allclose(kept["lengths"]["returns"][:, :2], [[5 / 7, 6 / 8]] * 2, rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sizes": (200, 50)}, "sizes must rise"),
        ({"num_seeds": 1}, r"num_seeds must be in \[2, inf\)"),
        ({"rate": 0.0}, r"rate must be in \(0, 1\]"),
        ({"backoff": -1.0}, r"backoff must be in \[0, inf\)"),
    ],
)
def test_values_out_of_range_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        config.Config(**change)


@pytest.mark.parametrize("name", ["default", "quick"])
def test_every_size_is_valid(name):
    assert isinstance(getattr(config, name)(), config.Config)
