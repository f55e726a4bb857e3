"""The rluf experiment in a small size, its product by hand, and what breaks each claim."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.rluf import claims, config, product, run, studies
from rlhf_jax.exact.constrained import constrained_optimum
from rlhf_jax.training import open_run

TINY = config.Config(
    num_seeds=2,
    messages=20_000,
    tests=2000,
    contexts=50,
    candidates=4,
    weights=(0.0, 0.2, 1.0),
    dual_steps=20,
    troll_shares=(0.0, 0.2),
)
SIZES = config.Config()
KEY = jax.random.key(0, impl="rbg")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run: its folder and its outcome."""
    out = tmp_path_factory.mktemp("rluf")
    with open_run(out, slug="rluf", config=TINY) as job:
        return out, run.run(TINY, job)


@pytest.mark.long
def test_a_small_run_has_its_claims_numbers_and_figures(finished):
    out, outcome = finished
    assert len(outcome.claims) == len(claims.all_claims(SIZES, *good()))
    numbers = [float(claim.value) for claim in outcome.claims]
    assert np.isfinite([*numbers, *jax.tree.leaves(outcome.numbers)]).all()
    assert (out / "report.html").read_text().count("data:image/png;base64,") == 4
    kept = dict(np.load(out / "data" / "products.npz"))
    assert kept["blind/sweep"].shape == (2, 3, 5)
    assert kept["blind/arms"].shape == (2, 2, 12, 2)
    # Without love the reward is the same, whatever P[Love] reads.
    for name in ("told", "shuffled"):
        same = kept[f"{name}/sweep"][:, 0, 1:], kept["blind/sweep"][:, 0, 1:]
        np.testing.assert_allclose(*same, rtol=1e-5)
    trolls = dict(np.load(out / "data" / "trolls.npz"))
    assert trolls["sweep"].shape == (2, 2, 2, 3, 5)
    assert (trolls["dropped"][:, 0, 0] == 0).all()  # there are none


def noisy(x):
    """Five products near x."""
    x = np.asarray(x, float)
    noise = np.random.default_rng(0).standard_normal((5, *[1] * x.ndim))
    return x * (1 + 1e-3 * noise)


def swept(predicted, live, helpful, unsafe, closer):
    """MEASURES by weight from 0 to 1, linear between."""
    rows = np.linspace(0, 1, len(SIZES.weights))[:, None]
    first = np.array([0.02, 0.02, 1.3, 0.006, 0.08])
    last = np.array([0.02 * (1 + predicted), 0.02 * (1 + live), helpful, unsafe, closer])
    return noisy(first + rows * (last - first))


def good():
    """Arrays of a run in which everything that is claimed is so."""
    products = {
        "blind/sweep": swept(1.3, 0.9, 0.95, 0.04, 0.26),
        "told/sweep": swept(1.05, 1.06, 0.5, 0.04, 0.03),
        "blind/closer": noisy(1.2),
        "told/closer": noisy(-0.7),
        "blind/auroc": noisy(0.84),
        "shuffled/auroc": noisy(0.5),
        "blind/correlations": noisy([[0.98, 0.9, 0.0], [0.99, 0.9, 0.0]]),
        "told/correlations": noisy(np.full((2, 3), 0.99)),
        "shuffled/correlations": noisy(np.full((2, 3), 0.1)),
        "intercepts": noisy([-2.7, -5.0, -5.0]),
        "constrained": noisy([[0.03, 0.03, 1.2, 0.05, 0.2], [0.03, 0.03, 1.2, 0.01, 0.2]]),
    }
    # Live rates by weight: the gain at 0.2 is 0.26, of trolls alone 0.1, filtered 0.25.
    sweep = np.ones((5, len(SIZES.troll_shares), 2, len(SIZES.weights), 5))
    at = claims.moderate(SIZES)
    sweep[..., at, 1] = 1.26
    sweep[:, -1, 0, at, 1], sweep[:, -1, 1, at, 1] = 1.1, 1.25
    dropped = np.tile([0.9, 0.03], (5, len(SIZES.troll_shares), 1))
    noise = 1 + 1e-4 * np.arange(5)[:, None, None]
    trolls = {"sweep": sweep * noise[..., None, None], "dropped": dropped * noise}
    return products, trolls


def test_everything_holds_where_it_should():
    assert {claim.verdict for claim in claims.all_claims(SIZES, *good())} == {"holds"}


@pytest.mark.parametrize(
    ("name", "change", "broken"),
    [
        ("blind/auroc", noisy(0.7), "AUROC of P[Love] on fresh messages"),
        ("blind/auroc", noisy(0.9), "AUROC of P[Love] on fresh messages"),
        ("blind/correlations", noisy([[0.9, 0, 0], [0.99, 0, 0]]), "policies of h, w, b, s"),
        ("blind/correlations", noisy([[0.98, 0, 0], [0.9, 0, 0]]), "policies of h, w, s"),
        ("told/correlations", noisy(np.full((2, 3), 0.9)), "P[Love] told e"),
        ("intercepts", noisy([-2.7, -4.8, -5.0]), "shifted by log kappa"),
        ("blind/sweep", swept(0.5, 0.4, 1.1, 0.04, 0.26), "Live gain of hearts"),
        ("blind/sweep", swept(1.3, 0.9, 0.0, 0.04, 0.26), "Helpfulness lost"),
        ("blind/sweep", swept(0.9, 0.9, 0.9, 0.04, 0.26), "the smallest of all weights"),
        ("blind/sweep", swept(0.9, 1.0, 0.9, 0.04, 0.26), "smallest step of its mean"),
        ("told/sweep", swept(1.06, 1.05, 1.0, 0.04, 0.03), "as a share of that at 0"),
        ("blind/closer", noisy(0.4), "Smallest coefficient"),
        ("told/closer", noisy(0.1), "Largest coefficient"),
        ("blind/sweep", swept(1.3, 0.9, 0.95, 0.04, 0.2), "Closing phrases at weight 1"),
        ("told/sweep", swept(1.06, 1.05, 0.5, 0.04, 0.1), "The same, P[Love] told e"),
        ("told/sweep", swept(1.2, 1.05, 0.5, 0.04, 0.03), "Largest |predicted - live gain|"),
        ("told/sweep", swept(1.06, 1.05, 0.5, 0.04, 0.03), "smallest step of its mean"),
        ("constrained", noisy([[0, 0, 1.1, 0.05, 0], [0, 0, 1.2, 0.01, 0]]), "Most love with"),
        ("constrained", noisy([[0, 0, 1.2, 0.01, 0], [0, 0, 1.2, 0.01, 0]]), "unsafe answers"),
        ("constrained", noisy([[0, 0, 1.2, 0.05, 0], [0, 0, 1.2, 0.02, 0]]), "second limit"),
        ("constrained", noisy([[0, 0, 1.2, 0.05, 0], [0, 0, 1.1, 0.01, 0]]), "second limit"),
    ],
)
def test_what_breaks_a_claim_of_products(name, change, broken):
    products, trolls = good()
    made = claims.all_claims(SIZES, products | {name: change}, trolls)
    assert any(broken in claim.statement for claim in made if not claim.holds)


@pytest.mark.parametrize(
    ("name", "place", "value", "broken"),
    [
        ("sweep", (slice(None), -1, 0, 2, 1), 1.25, "trolls cost"),
        ("sweep", (slice(None), -1, 1, 2, 1), 1.15, "are dropped"),
        ("dropped", (slice(None), -1, 0), 0.5, "Share of trolls that the filter drops"),
        ("dropped", (slice(None), 0, 1), 0.2, "Share of honest users"),
    ],
)
def test_what_breaks_a_claim_of_trolls(name, place, value, broken):
    products, trolls = good()
    changed = trolls[name].copy()
    changed[place] = value * (1 + 1e-4 * np.arange(5))
    made = claims.all_claims(SIZES, products, trolls | {name: changed})
    assert any(broken in claim.statement for claim in made if not claim.holds)


def messages(**columns):
    """One message, 0 where nothing is said."""
    names = ("help", "warm", "closer", "unsafe", "done")
    return product.Messages(*(jnp.array([float(columns.get(name, 0))]) for name in names))


def test_the_law_of_hearts_by_hand():
    def logit(**columns):
        probs = float(product.live_probs(messages(**columns))[0])
        return np.log(probs / (1 - probs))

    assert logit() == pytest.approx(-5.2, abs=1e-4)
    assert logit(help=1, warm=2) == pytest.approx(-5.2 + 0.9 + 2.2, abs=1e-4)
    assert logit(closer=1) == pytest.approx(-6.0, abs=1e-4)
    assert logit(closer=1, done=1) == pytest.approx(-3.7, abs=1e-4)  # no harm at the end
    assert logit(done=1, unsafe=1) == pytest.approx(-4.2, abs=1e-4)


def test_logs_have_closers_at_the_end_and_trolls_first():
    logs = product.draw_logs(SIZES, KEY, troll_share=0.1)
    done = np.asarray(logs.messages.done) == 1
    closer = np.asarray(logs.messages.closer)
    assert done.mean() == pytest.approx(0.12, abs=0.005)
    assert closer[done].mean() == pytest.approx(0.7, abs=0.01)
    assert closer[~done].mean() == pytest.approx(0.02, abs=0.002)
    assert logs.trolls.tolist() == [True] * 300 + [False] * 2700
    malicious = np.asarray(logs.trolls)[np.asarray(logs.users)]
    hearts, warm = np.asarray(logs.hearts), np.asarray(logs.messages.warm)
    assert warm[hearts & malicious].mean() < -0.5 < 0.5 < warm[hearts & ~malicious].mean()


@pytest.mark.long
def test_a_fit_finds_the_law_if_it_is_told():
    logs = product.draw_logs(SIZES, KEY, troll_share=0.0)
    # In float32 the sums over 300,000 rows lose digits where XLA does not optimise, as in tests.
    with jax.enable_x64(True):
        features = product.love_features(logs.messages, told=True).astype(float)
        ones = jnp.ones(len(features))
        theta = studies.fit_love(features, logs.hearts, ones)
        law = jnp.array([-5.2, 0.9, 1.1, -0.8, -0.5, 1.5, 0.8])
        probs = jax.nn.sigmoid(features @ theta)
        information = (features.T * probs * (1 - probs)) @ features
        # Wald's statistic: chi squared of 7 degrees of freedom is below 24.3 with P = 0.999.
        assert float((theta - law) @ information @ (theta - law)) < 24.3
        # Rows of weight 0 are not there.
        half = jnp.arange(len(features)) % 2 == 0
        other = studies.fit_love(features, logs.hearts ^ ~half, half.astype(float))
        same = studies.fit_love(features[::2], logs.hearts[::2], ones[::2])
    np.testing.assert_allclose(other, same, rtol=1e-9)


@pytest.mark.long
def test_limits_by_dual_ascent_are_those_of_the_bisection():
    small = config.Config(contexts=200, candidates=6, least_help=0.9, dual_steps=600)
    candidates = product.draw_candidates(small, KEY)
    scores = product.love_features(candidates, told=True) @ jnp.array(
        [-5.2, 0.9, 1.1, -0.8, -0.5, 1.5, 0.8]
    )
    limits = jnp.array([-small.least_help, jnp.inf])
    found, multipliers = studies.constrained(small, candidates, scores, limits)
    love = studies.standard_rewards(candidates, scores)[..., 2]
    even = jnp.full(small.contexts, 1 / small.contexts)
    exact = constrained_optimum(
        love,
        -candidates.help,
        jnp.zeros_like(love),
        even,
        beta=small.beta,
        threshold=-small.least_help,
    )
    assert found[2] == pytest.approx(small.least_help, abs=1e-3)
    assert multipliers.tolist() == pytest.approx([float(exact.multiplier), 0.0], abs=0.01)


def test_standard_rewards_have_one_unit():
    candidates = product.draw_candidates(TINY, KEY)
    found = studies.standard_rewards(candidates, candidates.warm - 3.0)
    np.testing.assert_allclose(found.mean((0, 1)), np.zeros(3), atol=1e-5)
    np.testing.assert_allclose(found.std((0, 1)), np.ones(3), rtol=1e-4)
    safe = np.asarray(candidates.unsafe) == 0
    assert found[..., 1][safe].min() > found[..., 1][~safe].max()


def test_correlations_by_hand():
    # predicted 0, 1, 2 and live 1, 3, 2: r = 0.5 = Spearman's; the line is 1.5 + 0.5 x
    found = studies.correlations(jnp.array([[0.0, 1.0], [1.0, 3.0], [2.0, 2.0]]))
    np.testing.assert_allclose(found, [0.5, 0.5, 1.5], atol=1e-6)


def test_gains_are_relative_to_no_love():
    sweep = np.array([[0.02, 0.01, 1.0, 0.0, 0.1], [0.03, 0.011, 0.5, 0.0, 0.3]])
    np.testing.assert_allclose(claims.gains(sweep, "predicted"), [0.0, 0.5])
    np.testing.assert_allclose(claims.promised(sweep), [0.0, 0.4])
    np.testing.assert_allclose(claims.column(sweep, "closer"), [0.1, 0.3])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": (0.0, 0.5, 1.0)}, r"weights must have 0\.2"),
        ({"weights": (0.1, 0.2, 1.0)}, "weights must ascend from 0"),
        ({"troll_shares": (0.1, 0.2)}, "troll_shares must ascend from 0"),
        ({"troll_shares": (0.0,)}, "troll_shares must ascend from 0"),
        ({"messages": 1001}, "messages must be a multiple of messages_per_user"),
        ({"tests": 2050}, "tests must be a multiple of 100"),
        ({"arms": 11}, r"arms must be in \[12, inf\)"),
        ({"drop_below": 0.0}, r"drop_below must be in \(-inf, 0\)"),
    ],
)
def test_values_out_of_range_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        config.Config(**change)


@pytest.mark.parametrize("name", ["default", "quick"])
def test_every_size_is_valid(name):
    assert isinstance(getattr(config, name)(), config.Config)
