"""The language panel of rl_perspective: its world, a policy that slips, claims that fail."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.rl_perspective import config as perspective_config
from experiments.rl_perspective.brackets import (
    BRACKETS,
    expert_costs,
    expert_text,
    prompt_texts,
    text_costs,
    token_costs,
)
from experiments.rl_perspective.config import Config, Language
from experiments.rl_perspective.language import PPO, SFT, SLIPPED, START, open_place
from experiments.rl_perspective.panel import language_claims, run_language
from rlhf_jax.recipes import make_prompts
from rlhf_jax.training import open_run

LENGTHS = np.array(perspective_config.language().language.lengths, float)
TINY = Language(
    lengths=(4, 8, 16),
    num_seeds=2,
    d_model=8,
    tokens=128,
    start_steps=1,
    ppo_steps=1,
    prompts=4,
    answers=16,
)


def test_costs_by_hand():
    # Two stand open after the slip "[", so 1/8 until one is closed; "]" closes nothing, 1/8 once.
    assert token_costs(["(", "[", "]", ")", "]"]) == [0.0, 0.125, 0.0, 0.0, 0.125]
    # The outer one stays open: every later pair costs 1/8 where it is open.
    assert token_costs(["(", "[", "]", "(", ")", "("]) == [0.0, 0.125, 0.0, 0.125, 0.0, 0.125]
    assert max(token_costs(["("] * 20)) == 1.0
    np.testing.assert_array_equal(text_costs("( ) (", 5), [0, 0, 0, 1, 1])
    np.testing.assert_array_equal(text_costs("( ) ) )", 3), [0, 0, 0.125])


def test_the_expert_costs_nothing_without_slips_and_in_proportion_to_the_length_with_them():
    rng = np.random.default_rng(0)
    assert expert_costs(rng, 64, 0.0, 20).sum() == 0
    assert len(expert_text(rng, 7, 0.5).split()) == 7
    short, long = (expert_costs(rng, length, 0.1, 400).mean() for length in (16, 64))
    assert 3.0 < long / short < 5.5


def test_prompts_are_all_different_and_closed():
    prompts = prompt_texts(0)
    assert len(set(prompts)) == 64
    assert prompts != prompt_texts(1)
    assert all(sum(token_costs(prompt.split())) == 0 for prompt in prompts)


@pytest.fixture(scope="module")
def place():
    return open_place(Config(panel=True, language=TINY), 4)


def test_a_policy_slips_at_its_rate_and_writes_brackets_alone(place):
    lab = place.slippery
    params = jax.tree.map(lambda x: 40 * x, lab.policy.init(jax.random.key(0)))  # sure of a word
    prompts = make_prompts(lab, place.task, np.arange(2))
    rollout = lab.draw(params, prompts, jax.random.key(1), 3)
    inputs = rollout.trajectory.inputs
    probs = jnp.exp(lab.policy.logits(params, inputs))
    np.testing.assert_allclose(probs.sum(-1), 1.0, rtol=1e-5)
    ids = [lab.vocabulary.tokenizer.token_to_id(word) for word in BRACKETS]
    own = np.exp(place.clean.policy.logits(params, inputs))[..., ids]
    np.testing.assert_allclose(probs[..., ids], 0.9 * own + 0.1 / 4, rtol=1e-4)
    # The sampler is the policy: slips have the log-probs that the update reads.
    actions = rollout.trajectory.actions
    np.testing.assert_allclose(
        lab.token_logps(params, rollout.trajectory), rollout.token_logps, atol=1e-4
    )
    assert set(np.unique(actions)) <= set(ids)
    assert rollout.trajectory.mask.all()


def made_up_costs(power: float, scale: float = 0.05) -> np.ndarray:
    """[seeds, lengths] that grow as length^power."""
    return np.tile(scale * (LENGTHS / LENGTHS[0]) ** power, (3, 1))


def claimed(**changed: np.ndarray):
    steep, flat = made_up_costs(2.0), made_up_costs(1.0, 0.04)
    found = {START: 2 * steep, SFT: steep, SLIPPED: 1.02 * flat, PPO: flat, "expert": 0.9 * flat}
    found |= {"SFT, no slips": 0.1 * steep} | changed
    return language_claims(perspective_config.language(), found)


def test_a_clone_in_the_place_of_ppo_fails_and_so_does_one_that_recovers():
    # 0.04 x 16 of 0.05 x 256 is 0.05: PPO must be below it.
    cheaper = made_up_costs(1.0, 0.03)
    assert [c.verdict for c in claimed(**{PPO: cheaper})] == ["holds"] * 5
    clone = claimed(**{PPO: made_up_costs(2.0)})
    assert [c.verdict for c in clone] == ["holds", "holds", "fails", "fails", "fails"]
    recovering = claimed(**{SFT: made_up_costs(1.0), "SFT, no slips": made_up_costs(1.0, 0.001)})
    assert [c.verdict for c in recovering][:2] == ["holds", "fails"]


def test_a_clone_that_errs_without_slips_says_nothing():
    (gate,) = claimed(**{"SFT, no slips": 0.8 * made_up_costs(2.0)})
    assert gate.verdict == "fails"


@pytest.mark.long
def test_a_tiny_run_judges_every_method_at_every_length(tmp_path):
    config = Config(panel=True, language=TINY)
    with open_run(tmp_path, slug="rl_perspective", config=config) as job:
        outcome = run_language(config, job)
    shapes = {name: np.shape(costs) for name, costs in outcome.numbers.items()}
    assert shapes == dict.fromkeys(
        (START, SFT, SLIPPED, PPO, "expert", "SFT, no slips"), (TINY.num_seeds, 3)
    )
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lengths": (16, 32)}, "lengths must rise and be at least three"),
        ({"explore": 0.0}, r"explore must be in \(0, 1\)"),
        ({"tokens": 4000}, "tokens must be a multiple of prompts times every length"),
        ({"tokens": 1024}, "at least 2048 for the minibatches"),
        ({"answers": 8}, r"answers must be in \[16, inf\)"),
    ],
)
def test_sizes_of_the_panel_that_cannot_be_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        Language(**change)
