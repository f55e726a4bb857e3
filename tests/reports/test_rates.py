"""Fitted rates: known slopes, the interval over seeds, claims, panels and errors."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.algos.games import nash_mp
from rlhf_jax.algos.games.oracles import exact_oracle
from rlhf_jax.algos.games.runs import log_spaced_times, run_updates
from rlhf_jax.envs.games import random_reference, rock_paper_scissors
from rlhf_jax.exact.regularised_nash import regularised_nash
from rlhf_jax.ops.kl import exact_kl
from rlhf_jax.reports.panels import panels
from rlhf_jax.reports.rates import Rate, bound_claim, fit_rate, rate_claim, rate_panel, study_rate

TIMES = np.arange(1.0, 41.0)


@pytest.mark.parametrize("slope", [-2.0, -1.0, -0.5, 0.3])
def test_a_power_law_is_found(slope):
    """v = c t^slope, c different for each seed: the interval has no width."""
    scales = np.array([0.1, 1.0, 30.0])
    rate = fit_rate(TIMES, scales[:, None] * TIMES**slope, law="power")
    np.testing.assert_allclose(rate.slopes, slope, rtol=1e-12)
    np.testing.assert_allclose((rate.slope, rate.low, rate.high), slope, rtol=1e-12)
    np.testing.assert_allclose(np.exp(rate.levels), scales, rtol=1e-12)


@pytest.mark.parametrize("factor", [0.5, 0.9, 0.999])
def test_a_linear_rate_is_found(factor):
    rate = fit_rate(TIMES, 7.0 * factor**TIMES, law="linear")
    np.testing.assert_allclose(rate.factor, factor, rtol=1e-12)
    np.testing.assert_allclose(np.exp(rate.levels), 7.0, rtol=1e-12)


def test_by_hand():
    """Two seeds of slopes -1 and -2: mean -1.5, t of one degree of freedom, 12.706 * 0.5."""
    rate = fit_rate([1, 2, 4], [[1, 1 / 2, 1 / 4], [1, 1 / 4, 1 / 16]], law="power")
    np.testing.assert_allclose(rate.slopes, [-1.0, -2.0], rtol=1e-12)
    np.testing.assert_allclose((rate.low, rate.high), (-1.5 - 6.3531, -1.5 + 6.3531), rtol=1e-5)


def test_the_interval_covers_as_often_as_it_says():
    """400 studies of 8 seeds, slopes from N(-1, 0.2): 95% within three standard errors, 3.3%."""
    slopes = -1.0 + 0.2 * np.random.default_rng(0).standard_normal((400, 8, 1))
    rates = [fit_rate(TIMES, TIMES**each, law="power") for each in slopes]
    covered = np.mean([rate.low <= -1.0 <= rate.high for rate in rates])
    assert abs(covered - 0.95) < 0.033


def test_one_seed_has_no_interval_and_no_claim():
    rate = fit_rate(TIMES, 1 / TIMES, law="power")
    np.testing.assert_allclose(rate.slope, -1.0)
    assert np.isnan(rate.low)
    assert np.isnan(rate.high)
    assert rate_claim("c", rate, 0, source="T").verdict == "undecided"


def test_the_start_leaves_out_the_transient():
    values = np.where(TIMES < 10, 1e3, 1 / TIMES)
    assert fit_rate(TIMES, values, law="power").slope < -2
    np.testing.assert_allclose(fit_rate(TIMES, values, law="power", start=10).slope, -1.0)


def test_what_is_infinite_before_the_start_does_not_matter():
    values = np.where(TIMES < 3, np.inf, 1 / TIMES)
    rate = fit_rate(TIMES, [values, values], law="power", start=3)
    np.testing.assert_allclose(rate.slope, -1.0)
    panel = rate_panel("a", TIMES, [values, values], rate, claimed=-1, start=3)
    assert np.isfinite(panel.series["median and middle 80% over 2 seeds"].y[2:]).all()


def test_the_floor_ends_a_run_at_its_first_rounding_error():
    """Past the floor a run may rise above it again: that is noise, not the run."""
    values = 0.5**TIMES
    values[20:] = 1e-6 * (1 + np.arange(20) % 2)
    assert fit_rate(TIMES, values, law="linear").factor > 0.6
    np.testing.assert_allclose(fit_rate(TIMES, values, law="linear", floor=1e-6).factor, 0.5)


def test_a_run_counts_until_it_is_exactly_zero():
    values = np.where(TIMES < 20, 0.5**TIMES, 0.0)
    np.testing.assert_allclose(fit_rate(TIMES, values, law="linear").factor, 0.5)


def test_leading_axes_are_seeds():
    values = TIMES ** np.array([[-1.0, -2.0], [-3.0, -4.0]])[..., None]
    np.testing.assert_allclose(fit_rate(TIMES, values, law="power").slopes, [-1, -2, -3, -4])


@pytest.mark.parametrize(
    ("times", "values", "options", "message"),
    [
        (TIMES, np.ones((2, 3)), {}, r"values \[S, N\] differ: \(40,\) and \(2, 3\)"),
        (TIMES, np.ones((0, 40)), {}, r"differ: \(40,\) and \(0, 40\)"),
        (TIMES[::-1], np.ones(40), {}, "times must ascend"),
        (TIMES - 1, np.ones(40), {}, "a power law needs times > 0, got 0"),
        (TIMES, np.where(TIMES == 7, np.nan, 1), {}, "seed 0: a value is not finite.*t = 7"),
        (TIMES, [TIMES, np.inf * TIMES], {}, "seed 1: a value is not finite, first at t = 1"),
        (TIMES, 1 / TIMES, {"start": 39}, "seed 0: 2 values above 0 from t = 39 on"),
        (TIMES, [TIMES, 1 / TIMES], {"floor": 0.5}, "seed 1: 1 values above 0.5 from t = 0 on"),
    ],
)
def test_errors_name_what_is_wrong(times, values, options, message):
    with pytest.raises(ValueError, match=message):
        fit_rate(times, values, law="power", **options)


def test_a_law_that_is_none_is_refused():
    with pytest.raises(ValueError, match="law must be 'power' or 'linear', got 'sublinear'"):
        inspect.unwrap(fit_rate)(TIMES, 1 / TIMES, law="sublinear")  # without its type check


def test_claims_are_about_the_slow_end():
    """An interval of [-1.1, -0.9] does not show 1 / T; with a slack of 0.1 it does."""
    rate = Rate("power", -1.0, -1.1, -0.9, np.array([-1.0]), np.array([0.0]))
    assert rate_claim("c", rate, -1, source="T").verdict == "undecided"
    assert rate_claim("c", rate, -1.2, source="T").verdict == "fails"
    assert rate_claim("c", rate, -1, slack=0.11, source="T").holds
    assert rate_claim("c", rate, -0.9, source="T").holds
    claim = rate_claim("c", rate, -1, slack=0.25, source="T")
    assert (claim.statement, claim.value, claim.op, claim.threshold) == ("c", -1.0, "<=", -0.75)


def test_a_bound_is_held_at_every_time_of_every_seed():
    values = np.array([[1.0, 0.5, 0.25], [1.0, 0.9, 1e-9]])
    assert bound_claim("c", values, [1.0, 0.9, 0.3], source="T").holds
    assert bound_claim("c", values, 2 * values, source="T").value == 0.5
    broken = bound_claim("c", values, [1.0, 0.6, 0.3], source="T")
    assert not broken.holds
    assert broken.value == 1.5
    assert not bound_claim("c", values, [1.0, 0.9, 0.2], source="T").holds
    assert bound_claim("c", [1.0, 0.5, 1e-9], [1.0, 0.5, 1e-12], floor=1e-8, source="T").holds
    assert not bound_claim("c", [1.0, np.nan], [2.0, 2.0], source="T").holds


def test_a_bound_that_the_baseline_keeps_too_decides_nothing():
    values = np.array([[0.5, 0.25]])
    for start, verdict in ((2.0, "holds"), (0.9, "undecided")):
        stays = ("staying at the start", np.full((1, 2), start))
        claim = bound_claim("c", values, [1.0, 1.0], source="T", baseline=stays)
        assert (claim.verdict, claim.baseline) == (verdict, (stays[0], start))


def test_one_bad_run_of_a_baseline_is_not_enough_to_break_the_bound():
    """Shares 0.5, 0.5, 0.5 and 4: the last breaks it, the low end of their mean, 0.5, does not."""
    runs = np.array([[0.5, 0.2]] * 3 + [[4.0, 0.2]])
    for worse, verdict in ((0.0, "undecided"), (2.0, "holds")):
        baseline = ("stays", runs + worse)
        claim = bound_claim("c", [[0.5, 0.25]], [1.0, 1.0], source="T", baseline=baseline)
        assert claim.baseline is not None
        assert claim.baseline[0] == "stays, mean, low end of its interval"
        assert (claim.verdict, float(claim.baseline[1])) == (verdict, 0.5 + worse)


def test_the_panel_shows_median_band_line_and_bound():
    scales = np.arange(1.0, 12.0)[:, None]
    values = scales / TIMES
    rate = fit_rate(TIMES, values, law="power", start=5)
    panel = rate_panel(
        "Hedge", TIMES, values, rate, claimed=-0.5, bound=2 * values, start=5, floor=1e-9
    )
    (seeds,), (line,) = panel.series.values(), panel.guides.values()
    assert seeds.meaning == "median and middle 80% over 11 seeds"
    np.testing.assert_allclose(seeds.y, 6 / TIMES)
    np.testing.assert_allclose(seeds.low, 2 / TIMES)
    np.testing.assert_allclose(seeds.high, 10 / TIMES)
    (bound,) = panel.bounds.values()
    assert line.x[0] == 5
    np.testing.assert_allclose(line.y, np.exp(np.log(scales).mean()) / line.x)
    np.testing.assert_allclose(bound.y, 12 / TIMES)
    assert panel.title == "Hedge\nslope: claimed -0.5, measured -1 [-1, -1]"
    assert (panel.log_x, panel.log_y, panel.floor) == (True, True, 1e-9)


def test_a_linear_rate_is_told_as_a_factor_on_semi_log_axes():
    values = 0.8**TIMES * np.array([[1.0], [2.0]])
    study = study_rate("EGPO", TIMES, values, law="linear", claimed=float(np.log(0.9)), source="T")
    assert study.panel.title == "EGPO\nfactor: claimed 0.9, measured 0.8 [0.8, 0.8]"
    assert (study.panel.log_x, study.panel.log_y, study.panel.floor) == (False, True, None)
    (claim,) = study.claims
    assert claim.holds
    assert claim.statement == "EGPO: slope"
    assert "theorem" not in study.panel.bounds


def test_a_baseline_that_converges_too_leaves_both_claims_undecided():
    """2 / t and a bound of 3 / t, beside runs that stay at 1, break the bound from t = 4 on."""
    values, bound = 2.0 / TIMES * np.ones((2, 1)), 3.0 / TIMES
    verdicts = [
        [
            claim.verdict
            for claim in study_rate(
                "Hedge",
                TIMES,
                values,
                law="power",
                claimed=-1,
                slack=0.01,
                bound=bound,
                source="T",
                baseline=("staying", runs),
            ).claims
        ]
        for runs in (np.ones_like(values), 0.9 * values)
    ]
    assert verdicts == [["holds"] * 2, ["undecided"] * 2]


@pytest.mark.long
def test_one_call_on_the_records_of_a_run():
    """EGPO's KL(pi* || pi_t) from four references; the bound starts at KL(pi* || mu)."""
    prefs, beta, times = rock_paper_scissors(), 0.5, log_spaced_times(30, 12)
    refs = random_reference(jax.random.split(jax.random.key(0), 4), 3)
    stars = jnp.asarray(regularised_nash(prefs, refs, beta=beta), jnp.float32)
    eta = 2 / (1 + 2 * beta)

    def run(ref, star):
        method = nash_mp(ref, eta=eta, beta=beta)
        return run_updates(
            method.update,
            method.init(ref),
            exact_oracle(prefs),
            jax.random.key(0),
            times=times,
            record=lambda state, _: exact_kl(star, state.logps),
        )[1]

    bound = exact_kl(stars, refs)[:, None] * (1 - eta * beta) ** np.array(times)
    study = study_rate(
        "EGPO",
        times,
        jax.jit(jax.vmap(run))(refs, stars),
        law="linear",
        claimed=float(np.log(1 - eta * beta)),
        bound=bound,
        floor=1e-6,
        source="T",
    )
    assert [claim.statement for claim in study.claims] == [
        "EGPO: slope",
        "EGPO: largest share of the bound",
    ]
    assert all(claim.holds for claim in study.claims)
    assert float(study.claims[1].value) > 0.2
    assert 0.1 < study.rate.factor < 0.5
    figure = panels([study.panel])
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["median and middle 80% over 4 seeds", "bound: theorem", "guide: fit"]
