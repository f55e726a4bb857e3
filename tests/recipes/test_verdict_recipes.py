"""A language judge fitted to pairs, and PPO that is paid by its verdict over an anchor."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from word_lab import VOCABULARY, transformer_lab

from rlhf_jax.algos.ppo import PPOConfig
from rlhf_jax.algos.verdict_model import two_order_preference
from rlhf_jax.data.tokenizer import verdict_ids
from rlhf_jax.losses import (
    binary_pairwise_rewards,
    pairwise_rewards,
    verdict_margins,
    verdict_token_loss,
)
from rlhf_jax.recipes import (
    Fit,
    anchored_reward,
    online,
    osp,
    pair_rows,
    ppo,
    prompt_rows,
    self_judged,
    text_task,
    verdict_logps,
    verdict_model,
    verdicts_of,
)
from rlhf_jax.recipes.episodes import Transcripts
from rlhf_jax.recipes.rows import pair_batch
from rlhf_jax.rewards import preference_judge
from rlhf_jax.training import Stage, UserError, open_run, read_metrics
from rlhf_jax.types import Prompts

LAB = transformer_lab()
WORDS = ("green", "grey")  # verdicts
JUDGE = verdicts_of(LAB, WORDS)
START = LAB.policy.init(jax.random.key(0))
PROMPTS = ["red", "blue", "green", "grey"] * 2
MORE, LESS = ("red", "red red", "red red", "red red"), ("{}", "{} {}", "red", "red {}")
PAIRS = [
    {"prompt": p, "chosen": more, "rejected": less.format(w, w)}
    for p, w in zip(PROMPTS, ("blue", "green", "grey", "blue") * 2, strict=True)
    for more, less in zip(MORE, LESS, strict=True)
]
TASK = text_task(
    PROMPTS, lambda p, a: {"red": [x.count("red") for x in a]}, objective="red", heldout=4
)
ANCHORS = ["red"] * len(PROMPTS)
UNREAD = Transcripts(np.zeros((2, 1, 4), int), None, None)  # the anchor alone is read on the host


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A judge that prefers red to blue, and what its training logged."""
    out = tmp_path_factory.mktemp("judge")
    with open_run(out, slug="recipes", config={}) as run:
        rows = pair_rows(LAB, PAIRS, batch_size=16)
        fit = Fit(optax.adam(0.02), steps=60)
        given = (Stage(run, "judge"), LAB, rows, START, fit)
        params = verdict_model(*given, judge=JUDGE, loss=verdict_token_loss, consistency=0.01)
    return params, read_metrics(out)


@pytest.mark.long
def test_a_judge_learns_from_both_orders(trained):
    params, rows = trained
    assert rows[-1]["verdicts/accuracy"] > 0.75
    assert rows[-1]["verdicts/one_order"] > 0.75
    assert rows[-1]["loss"] < 0.5 * rows[0]["loss"]
    logps = jnp.asarray(verdict_logps(LAB, JUDGE, params, PAIRS[:3], batch_size=2))
    assert logps.shape == (3, 2, 2)
    assert (verdict_margins(logps) > 0.0).all()
    swapped = verdict_logps(LAB, JUDGE, params, PAIRS[:3], ("rejected", "chosen"), batch_size=2)
    np.testing.assert_allclose(swapped, logps[:, ::-1], atol=1e-6)
    batch = pair_batch(LAB, PAIRS[:3])
    prefs = preference_judge(two_order_preference(JUDGE), params)
    found = prefs(np.arange(3), batch.chosen, batch.rejected)
    np.testing.assert_allclose(found, jax.nn.sigmoid(verdict_margins(logps)), atol=1e-5)


@pytest.mark.long
def test_an_answer_is_paid_for_how_it_compares_with_its_anchor(trained):
    params, _ = trained
    rows = [{"prompt": p, "chosen": "red red", "rejected": "red"} for p in PROMPTS[:2]]
    batch = pair_batch(LAB, rows)
    answers = jax.tree.map(lambda a, b: jnp.stack([a, b], 1), batch.chosen, batch.rejected)
    prompts = Prompts((), np.array([0, 1]))
    logps = jnp.asarray(verdict_logps(LAB, JUDGE, params, rows, batch_size=2))
    margins = verdict_margins(logps)
    assert (margins > 0.0).all()
    forms = {
        pairwise_rewards: jax.nn.sigmoid(margins) - 0.5,
        jax.lax.stop_gradient: margins,
        binary_pairwise_rewards: np.full(2, 0.5),
    }
    for form, expected in forms.items():
        reward = anchored_reward(LAB, TASK, JUDGE, params, ANCHORS, form=form)
        given, named = reward.host(prompts, UNREAD)
        paid = reward.scores(reward.params, given, answers)
        np.testing.assert_allclose(paid[:, 0], expected, atol=1e-5)
        np.testing.assert_array_equal(paid[:, 1], 0.0)  # the anchor itself
        assert named == {}


@pytest.mark.long
def test_pairwise_ppo_beats_the_anchor(trained, tmp_path):
    """The policy of the same transformer says red more often."""
    params, _ = trained
    reward = anchored_reward(LAB, TASK, JUDGE, params, dict(enumerate(ANCHORS)))
    method = ppo(LAB, PPOConfig(beta=0.01), LAB.value.init(jax.random.key(1)), epochs=2)
    numbers, fit = prompt_rows(TASK, batch_size=16, seed=0), Fit(optax.adam(0.02), steps=15)
    with open_run(tmp_path / "run", slug="recipes", config={}) as run:
        given = (Stage(run, "ppo"), LAB, TASK, method, reward, START, numbers, fit)
        online(*given, key=jax.random.key(2))
    means = [row["scores/mean"] for row in read_metrics(tmp_path / "run")]
    assert np.mean(means[-3:]) > np.mean(means[:3]) + 0.05
    assert -0.5 <= min(means) <= max(means) <= 0.5


@pytest.mark.long
@pytest.mark.parametrize("refreshed", [False, True])
def test_a_policy_that_judges_itself_says_red_more_often(trained, tmp_path, refreshed):
    """OSP: one transformer answers and compares, frozen or with its current weights."""
    params, _ = trained
    reward = self_judged(LAB, JUDGE, params)
    method = osp(LAB, samples=4, beta=0.1, judge=JUDGE if refreshed else None)
    numbers, fit = prompt_rows(TASK, batch_size=16, seed=0), Fit(optax.adam(0.01), steps=12)
    with open_run(tmp_path / "run", slug="recipes", config={}) as run:
        given = (Stage(run, "osp"), LAB, TASK, method, reward, params, numbers, fit)
        after = online(*given, key=jax.random.key(2))
    rows = read_metrics(tmp_path / "run")
    assert np.mean([row["scores/mean"] for row in rows]) == pytest.approx(0.5, abs=1e-3)
    assert all(row["pairs/decided"] == 1.0 for row in rows)
    assert all(0 < row["pairs/entropy"] <= np.log(2) + 1e-5 for row in rows)
    assert rows[0]["loss"] == pytest.approx(np.log(2), abs=1e-5)  # the policy is the reference
    batch = pair_batch(LAB, [{"prompt": p, "chosen": "red", "rejected": "blue"} for p in PROMPTS])
    first, second = (
        [LAB.token_logps(x, side).sum(-1).mean() for x in (params, after)]
        for side in (batch.chosen, batch.rejected)
    )
    assert first[1] - second[1] > first[0] - second[0]


def test_a_prompt_without_an_anchor_is_named():
    for anchors in (ANCHORS[:3], {0: "blue"}, [*ANCHORS[:3], "", *ANCHORS[4:]]):
        reward = anchored_reward(LAB, TASK, JUDGE, START, anchors)
        with pytest.raises(UserError, match="prompt 3 has no anchor"):
            reward.host(Prompts((), np.array([0, 3])), UNREAD)


def test_verdicts_are_two_tokens():
    ids = verdict_ids(VOCABULARY, WORDS)
    assert [VOCABULARY.tokenizer.id_to_token(i) for i in ids] == list(WORDS)
    assert verdicts_of(LAB, WORDS) is JUDGE  # one judge, one compilation
    for words, message in (
        (("green", "purple"), "the verdict 'purple' is unknown"),
        (("red red", "blue"), "the verdict 'red red' must be one token, is 2"),
        (("red", "red"), "the verdicts 'red' and 'red' are the same token"),
        (("", "red"), "the verdict '' must be one token, is 0"),
    ):
        with pytest.raises(UserError, match=message):
            verdicts_of(LAB, words)
    without = replace(LAB.vocabulary, bos_id=None, stop_ids=(0, 1, 2))
    with pytest.raises(UserError, match="a pairwise judge needs a vocabulary with a bos_id"):
        verdicts_of(LAB._replace(vocabulary=without), WORDS)
