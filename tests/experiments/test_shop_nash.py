"""Nash methods on the shop: bits, exploitability by hand, claims, the whole run at toy size."""

from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.shop_nash import bits, claims, config, controls, evaluate, methods, world
from experiments.shop_nash import run as nash_run
from rlhf_jax.algos.selfplay import AnswerMethod, AnswerState
from rlhf_jax.envs import shop
from rlhf_jax.envs.shop.voices import VOICES, voice_answer
from rlhf_jax.labs.shop import shop_lab
from rlhf_jax.labs.size import Size
from rlhf_jax.recipes.lab import make_prompts, make_trajectories
from rlhf_jax.training import open_run

TINY = Size(d_model=16, num_layers=1, num_heads=2, num_kv_heads=1, d_ff=16)
TOY = replace(
    config.quick(),
    size=TINY,
    from_scratch=True,
    start=config.Start(rows=400, fit=config.Fit(steps=60, batch_size=16, rate=0.006)),
)
CIRCLE = np.array(  # each of three loses to one by 2 : 1, all beat the fourth
    [[1 / 2, 2 / 3, 1 / 3, 1], [1 / 3, 1 / 2, 2 / 3, 1], [2 / 3, 1 / 3, 1 / 2, 1], [0, 0, 0, 1 / 2]]
)


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    return world.short_lab(shop_lab(TINY, tmp_path_factory.mktemp("lab"), seed=0))


@pytest.fixture(scope="module")
def params(lab):
    return lab.policy.init(jax.random.key(0))


def voice_texts(prompt_numbers, voice):
    return [voice_answer(0, shop.make_prompt(0, int(i)), 0, voice) for i in prompt_numbers]


class Train(NamedTuple):
    """A train state of one number."""

    params: jax.Array


# Bits


def test_a_counter_gives_its_budget_and_no_bit_more():
    counter = bits.BitCounter("SPO", 5, (0,))
    assert bits.ask_bits(counter, np.array([1.0, 0.0, 1.0])).tolist() == [True, False, True]
    assert counter.spent == 3
    with pytest.raises(ValueError, match="SPO asks for 3 bits and has 2 left of 5"):
        bits.ask_bits(counter, np.ones(3))
    assert counter.spent == 3
    bits.ask_bits(counter, np.ones(2))
    with pytest.raises(ValueError, match="asks for 1 bits and has 0 left"):
        bits.ask_bits(counter, np.ones(1))


def test_bits_are_single_verdicts_with_the_population_s_mean():
    """20,000 bits at 0.66: their mean has a standard error of 0.0033."""
    found = bits.ask_bits(bits.BitCounter("x", 20_000, (1,)), np.full(20_000, 0.66))
    assert found.dtype == bool
    assert abs(found.mean() - 0.66) < 0.014


def test_a_restored_counter_gives_the_bits_that_an_uninterrupted_one_gives():
    whole, resumed = (bits.BitCounter("x", 200, (2,)) for _ in range(2))
    half = np.full(100, 0.5)
    first, second = bits.ask_bits(whole, half), bits.ask_bits(whole, half)
    assert (first != second).any()
    resumed.restore(100)
    assert (bits.ask_bits(resumed, half) == second).all()


@pytest.mark.parametrize("size", [config.default(), config.quick()])
def test_every_method_asks_for_the_whole_budget(lab, size):
    """rounds x prompts of a round x bits of a prompt."""
    game = size.game
    for entry in methods.entries(lab, size).values():
        assert game.bits % (game.rounds * entry.bits) == 0, entry.name


def test_a_kept_method_restores_the_counter_and_records_its_points():
    """Two bits a round; points after rounds 2 and 4 record the round itself."""
    counter = bits.BitCounter("x", 8, (0,))

    def make(arena):
        def play(state, prompts, key):
            bits.ask_bits(counter, np.ones(2))
            return state._replace(train=Train(state.train.params + 1), round=state.round + 1), {}

        return AnswerMethod(lambda params: AnswerState(Train(params), "own", jnp.array(0)), play)

    kept = methods.kept(make, counter, lambda params: {"at": params}, every=2, points=2)(None)
    state, states = kept.init(jnp.array(0.0)), []
    for _ in range(4):
        state, _ = kept.round(state, None, None)
        states.append(state)
    assert state.memory.inner == "own"
    assert state.memory.history["at"].tolist() == [2.0, 4.0]
    assert int(state.memory.bits) == counter.spent == 8
    again, _ = kept.round(states[1], None, None)  # from the checkpoint of round 2
    assert int(again.memory.bits) == counter.spent == 6
    kept.round(again, None, None)
    with pytest.raises(ValueError, match="has 0 left of 8"):
        kept.round(state, None, None)


# The voice game


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        ([1, 0, 0, 0], 1 / 3),  # its best answer wins 2/3
        ([1 / 3, 1 / 3, 1 / 3, 0], 0.0),
        ([0.6, 0.2, 0.2, 0], 2 / 15),  # voice 2: 0.6 2/3 + 0.2 1/3 + 0.2 1/2 = 17/30
        ([0, 0, 0, 1], 1.0),
        ([0.5, 0, 0, 0.5], 2 / 3),  # voice 2: 0.5 2/3 + 0.5 = 5/6
    ],
)
def test_exploitability_by_hand(shares, expected):
    found = world.exploitability(np.array([shares] * 2), CIRCLE)
    np.testing.assert_allclose(found, [expected] * 2, atol=1e-12)


def test_turns_by_hand():
    """Voices 0, 2, 1 and 0 again are one turn, there and back is none, two of three steps 2/3."""
    pure = np.eye(4)
    circle = pure[[0, 2, 1, 0]][:, None]
    back = pure[[0, 2, 0]][:, None]
    two = np.stack([pure[[0, 2, 1]], pure[[0, 1, 2]]], axis=1)  # either way round
    np.testing.assert_allclose(world.turns(circle), [1.0])
    np.testing.assert_allclose(world.turns(back), [0.0], atol=1e-12)
    np.testing.assert_allclose(world.turns(two), [2 / 3, 2 / 3])
    assert world.turns(np.stack([circle, circle])).shape == (2, 1)


def test_the_regularised_nash_policy_is_a_fixed_point_of_each_prompt():
    """log pi = log mu + P pi / beta - log Z, and less KL brings it nearer to thirds."""
    shares = np.array([[0.6, 0.2, 0.2, 0.0], [0.5, 0.1, 0.35, 0.05]])
    found = world.regularised_shares(shares, CIRCLE, beta=0.1)
    logits = np.log(np.maximum(shares, 1e-12)) + found @ CIRCLE.T / 0.1
    wanted = np.exp(logits - logits.max(-1, keepdims=True))
    np.testing.assert_allclose(found, wanted / wanted.sum(-1, keepdims=True), atol=1e-9)
    small = world.regularised_shares(shares, CIRCLE, beta=0.005)
    assert (world.exploitability(small, CIRCLE) < world.exploitability(found, CIRCLE)).all()
    np.testing.assert_allclose(small[:, :3], 1 / 3, atol=0.03)


@pytest.mark.long
def test_shares_are_products_of_the_words_of_an_opening(lab, params):
    """Word by word, from the logits after each prefix."""
    indices = np.array([7, 8])
    shares = np.asarray(world.make_shares(lab, indices)(params))
    assert shares.shape == (2, 4)
    np.testing.assert_allclose(shares.sum(-1), 1.0, atol=1e-6)
    prompt = world.game_task(0).texts(indices)[1]
    for voice, opening in enumerate(VOICES):
        row = make_trajectories(lab, [prompt], [opening])
        logits = lab.policy.logits(params, row.inputs)[0]
        chances = jax.nn.softmax(logits)[jnp.arange(len(row.actions[0])), row.actions[0]]
        expected = float(jnp.prod(chances[: len(opening.split())]))
        np.testing.assert_allclose(shares[1, voice], expected, rtol=1e-4)


def test_voices_go_round_and_a_text_without_one_loses():
    prompts = np.arange(6)
    first, second, third = (voice_texts(prompts, voice) for voice in range(3))
    for one, other in ((first, second), (second, third), (third, first)):
        prefs = world.population_prefs(0, prompts, one, other, beta=10.0)
        back = world.population_prefs(0, prompts, other, one, beta=10.0)
        np.testing.assert_allclose(prefs + back, 1.0)
        assert np.abs(prefs - 0.5).min() > 0.1
        silent = world.population_prefs(0, prompts, ["hello !"] * 6, one, beta=10.0)
        assert (silent < 0.01).all()
    winner = [world.voice_prefs(10.0)[i, (i + 1) % 3] for i in range(3)]
    np.testing.assert_allclose(winner, winner[0])
    assert abs(winner[0] - 0.5) > 0.15


def test_what_is_read_of_an_answer():
    recommend = next(i for i in range(50) if shop.make_prompt(0, i).task == "recommend")
    other = next(i for i in range(50) if shop.make_prompt(0, i).task == "howto")
    listed = shop.make_prompt(0, recommend).products[0].name
    absent = next(
        name
        for name in world.NAMES
        if name not in {p.name for p in shop.make_prompt(0, recommend).products}
    )
    assert world.read(0, recommend, f"{VOICES[1]} i recommend {listed} .")[::2] == (1, True)
    assert world.read(0, recommend, f"i recommend {absent} .")[::2] == (None, False)
    assert world.read(0, recommend, f"{VOICES[0]} hello !")[::2] == (0, False)
    assert world.read(0, other, "hello !").listed is None


def test_a_frozen_mixture_ignores_who_learns(lab, params):
    """Two policies with one answer each; every call draws all from one, and both are drawn from."""
    task = world.game_task(0)
    prompts = make_prompts(lab, task, np.arange(8))  # as many as the devices of the tests
    others = [lab.policy.init(jax.random.key(seed)) for seed in (5, 6)]
    draw = evaluate.frozen_draw(lab, others)
    keys = [jax.random.fold_in(jax.random.key(0), i) for i in range(12)]

    def drawn(who, one):
        return {np.asarray(who(one, prompts, key, 1).token_logps).tobytes() for key in keys}

    found, of_each = drawn(draw, params), [drawn(lab.draw, one) for one in others]
    assert found <= of_each[0] | of_each[1]
    assert found & of_each[0]
    assert found & of_each[1]


@pytest.mark.long
def test_the_best_score_is_right_about_two_thirds_of_a_circle():
    """Of three pairs of voices at 2 : 1 a score has two in order: (2/3 + 2/3 + 1/3) / 3 = 5/9."""
    found = evaluate.two_voices(config.default())
    assert not any(row["chosen"].split()[0] == row["rejected"].split()[0] for row in found.records)
    for prefs, best, score in ((found.prefs, 2 / 3, 5 / 9), (found.one_judge, 1.0, 1.0)):
        margins = evaluate.best_scores(found.features, prefs)
        assert abs(np.maximum(prefs, 1 - prefs).mean() - best) < 0.03
        # The fit is of likelihood: where a circle leaves nearly no margin, gold decides the sign.
        assert abs((0.5 + np.sign(margins) * (prefs - 0.5)).mean() - score) < 0.05


# Claims on invented data


def gaps(label, last, average=None, turns=0.1, prompts=20):
    """From means [S, P], with a little spread over prompts."""
    noise = np.linspace(-0.01, 0.01, prompts)
    means = np.asarray(last, float)[..., None]
    other = means if average is None else np.asarray(average, float)[..., None]
    rounds = np.broadcast_to(turns, len(means))[:, None] + noise
    return claims.Gaps(label, means + noise, other + noise, rounds)


FAIR = gaps("fair", [[0.1, 0.06]] * 3)
PURE = gaps("pure", [[0.2, 0.31]] * 3)


def test_rlhf_is_pure_in_every_run_or_the_claim_fails():
    assert claims.purity_claim(PURE, FAIR).verdict == "holds"
    assert claims.purity_claim(gaps("x", [[0.3], [0.3], [0.1]]), FAIR).verdict == "fails"
    assert claims.purity_claim(gaps("x", [[0.3], [0.3], [0.25]]), FAIR).verdict == "undecided"
    # A baseline that is as pure decides nothing.
    assert claims.purity_claim(PURE, PURE).verdict == "undecided"


def test_spo_goes_round_and_its_average_does_not():
    spo = gaps("SPO", [[0.1, 0.3]] * 2, [[0.1, 0.03]] * 2, turns=[1.2, 0.9])
    steady = gaps("steady", [[0.1, 0.06]] * 2, turns=0.2)
    rlhf = gaps("rlhf", [[0.2, 0.3]] * 2, turns=0.3)
    verdicts = [c.verdict for c in claims.cycle_claims(spo, rlhf, steady)]
    assert verdicts == ["holds", "holds"]
    assert [c.verdict for c in claims.cycle_claims(steady, rlhf, steady)] == ["fails", "holds"]
    assert [c.verdict for c in claims.cycle_claims(rlhf, rlhf, steady)] == ["fails", "fails"]
    # One of two runs that does not go round is enough to fail.
    once = gaps("SPO", [[0.1, 0.3]] * 2, turns=[1.2, 0.3])
    assert claims.cycle_claims(once, rlhf, steady)[0].verdict == "fails"
    # A regularised method that goes round as well, or an average as good as RLHF's, tells nothing.
    assert [c.verdict for c in claims.cycle_claims(spo, spo, spo)] == ["undecided"] * 2


def test_a_regularised_policy_is_near_the_exact_one_or_not():
    exact, far, near = np.full(20, 0.06), np.full(20, 0.2), np.full(20, 0.09)
    assert claims.regular_claim(FAIR, exact, far).verdict == "holds"
    assert claims.regular_claim(PURE, exact, far).verdict == "fails"
    assert claims.regular_claim(gaps("x", [[0.06], [0.2]]), exact, far).verdict == "fails"
    # SFT that is as near makes the comparison worthless.
    assert claims.regular_claim(FAIR, exact, near).verdict == "undecided"
    # Below the exact policy counts as away from it.
    low = claims.regular_claim(gaps("x", [[0.0]]), np.full(20, 0.08), far)
    assert low.verdict == "fails"
    assert np.isclose(float(low.value), 0.08)


def test_a_score_is_wrong_about_a_circle_and_right_about_one_judge():
    bayes, wrong = np.full(90, 2 / 3), np.tile([2 / 3, 2 / 3, 1 / 3], 30)
    found = {"bayes": bayes, "best_score": wrong}
    found |= {"one_judge_bayes": np.ones(90), "one_judge_score": np.ones(90)}
    claim = claims.accuracy_claim(found)
    assert claim.verdict == "holds"
    assert np.isclose(float(claim.value), 1 / 9)
    assert claims.accuracy_claim(found | {"best_score": bayes}).verdict == "fails"
    # A score that is as wrong before one judge was not fitted.
    assert claims.accuracy_claim(found | {"one_judge_score": wrong}).verdict == "undecided"


def test_the_gate_is_closed_to_a_model_that_cannot_play():
    good, bad = np.ones(200, bool), np.tile([True, False], 100)
    assert [c.verdict for c in claims.competence_claims(good, good, 0.0)] == ["holds"] * 2
    assert [c.verdict for c in claims.competence_claims(bad, bad, 0.0)] == ["fails"] * 2
    assert claims.competence_claims(good, good, 1.0)[0].verdict == "undecided"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: config.Game(eta=300.0), r"eta \* beta must be in \(0, 1\]"),
        (lambda: config.Game(rate=0.0), "rate must be in"),
        (lambda: config.Game(rounds=7), "rounds must divide bits"),
        (lambda: config.Fit(steps=1, batch_size=1, rate=1e30), "rate must be in"),
        (lambda: config.Start(shares=(0.5, 0.5, 0.5)), "shares must be of three voices"),
        (lambda: config.Control(dpo_betas=()), "dpo_betas must name a KL weight"),
        (lambda: config.Control(dpo_betas=(0.0,)), r"dpo_betas must be in \(0, inf\)"),
        (lambda: config.Config(control=config.Control(phases=5)), "phases must divide game.bits"),
    ],
)
def test_options_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.long
def test_the_whole_run_at_toy_size(tmp_path, monkeypatch):
    counters = []
    of = methods.counter_of

    def counted(*given):
        counters.append(of(*given))
        return counters[-1]

    for module in (methods, controls, nash_run):
        monkeypatch.setattr(module, "counter_of", counted)
    with open_run(tmp_path, slug="shop_nash", config=TOY) as job:
        outcome = nash_run.run(TOY, job)
    assert outcome.table is not None
    assert len(outcome.table.rows) == 12
    assert len(outcome.claims) == 2 + 3 + 4 + 1
    spent = {counter.name: counter.spent for counter in counters}
    assert spent.pop("learned") == 0  # its judge is a model of the offline bits
    assert set(spent.values()) == {TOY.game.bits}
    assert len(spent) == 10
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 2
    with np.load(tmp_path / "data" / "curves.npz") as curves:
        assert curves["spo_low/shares"].shape == (1, TOY.game.points, TOY.game.prompts, 4)
