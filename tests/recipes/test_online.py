"""The online recipe: what is drawn again, steered, mixed in, written down, and done again."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from unigram_lab import PROMPTS, RED, TASK, keyed, reds, unigram_lab

from rlhf_jax.algos.ppo import PPOConfig
from rlhf_jax.data.tokenizer import standard_vocabulary, train_word_tokenizer
from rlhf_jax.models import TransformerConfig
from rlhf_jax.ops.kl import k3
from rlhf_jax.recipes import (
    Fit,
    KLTarget,
    Mix,
    Penalty,
    answer_rows,
    dapo,
    make_lab,
    online,
    ppo,
    prompt_rows,
    read_completions,
    rloo,
    task_reward,
    text_task,
    weighted_reward,
)
from rlhf_jax.recipes.lab import device_mesh
from rlhf_jax.recipes.online_method import sampler_weights
from rlhf_jax.sampling.decode import SamplingConfig
from rlhf_jax.training import (
    Interrupted,
    ResultsError,
    UserError,
    open_run,
    read_metrics,
    run_stage,
)
from rlhf_jax.types import Prompts

LAB = unigram_lab()
START = LAB.policy.init(None)
NUMBERS = prompt_rows(TASK, batch_size=8, seed=0)


def fit(steps, rate=0.1, **options):
    return Fit(optax.adam(rate), steps=steps, **options)


def improve(out, method, fit, *, task=TASK, reward=None, stop=lambda: 0, resume=False, **options):
    """The params, the metrics and the folder of a run of one online stage."""

    def work(stage):
        chosen = task_reward(LAB, task) if reward is None else reward
        args = (LAB, task, method, chosen, START, NUMBERS, fit)
        return {"params": online(stage, *args, key=keyed(LAB), **options)}, {}

    with open_run(out, slug="online", config={}, stop=stop, resume=resume) as run:
        params = run_stage(run, "online", work).arrays["params"]
    return np.asarray(params), read_metrics(out), out / "stages" / "online"


@pytest.mark.long
def test_dynamic_sampling_fills_its_batch(tmp_path):
    def rarely(prompts, answers):
        # Half of the prompts tell no two answers apart.
        told = [p[0] == "g" for p in prompts]
        return {"red": [a.count("red") * t for a, t in zip(answers, told, strict=True)]}

    task = text_task(PROMPTS, rarely, objective="red", heldout=8)
    _, rows, _ = improve(tmp_path / "run", dapo(LAB, samples=4), fit(3), task=task)
    for row in rows:
        assert row["groups/filled"] == row["groups/informative"] == 1.0
        assert row["groups/rounds"] >= 2
        # A round is 8 prompts, and they are full groups: at least 8 of those drawn were kept.
        assert 8 <= row["groups/kept"] * row["groups/rounds"] * 8 <= 15
        assert row["scores/drawn"] < row["scores/mean"]


@pytest.mark.long
def test_a_batch_that_stays_empty_warns_and_changes_nothing(tmp_path):
    task = text_task(PROMPTS, lambda p, a: {"same": [1] * len(a)}, objective="same", heldout=8)
    method = dapo(LAB, samples=4, rounds=2)
    with pytest.warns(UserWarning, match="groups/filled"):
        params, rows, _ = improve(tmp_path / "run", method, fit(1), task=task)
    np.testing.assert_array_equal(params, START)
    assert (rows[0]["groups/rounds"], rows[0]["groups/filled"]) == (2, 0.0)
    assert rows[0]["scores/finite"] == 0.0


@pytest.mark.long
def test_beta_moves_towards_the_target(tmp_path):
    method = rloo(LAB, samples=4, kl=Penalty(0.5))
    _, rows, _ = improve(tmp_path / "run", method, fit(4, rate=0.5), kl_target=KLTarget(0.2))
    betas, kls = ([row[name] for row in rows] for name in ("kl/beta", "kl/ref"))
    # The policy starts as the reference: KL 0, error -1, cut to -0.2; beta falls by 2%.
    assert (kls[0], betas[0]) == (0.0, 0.5)
    assert betas[1] == pytest.approx(0.5 * 0.98)
    assert kls[2] > 0.24
    assert betas[3] == pytest.approx(betas[2] * 1.02)


def test_a_target_needs_a_penalty(tmp_path):
    with pytest.raises(ValueError, match="this method has none"):
        improve(tmp_path / "run", rloo(LAB, samples=4), fit(1), kl_target=KLTarget(0.2))


MIXED = answer_rows(LAB, [{"prompt": "red", "answer": "blue blue"}], batch_size=1)


@pytest.mark.long
def test_a_mix_pulls_towards_its_rows(tmp_path):
    task = text_task(PROMPTS, lambda p, a: {"same": [1] * len(a)}, objective="same", heldout=8)
    method, mix = rloo(LAB, samples=4, epochs=2), Mix(MIXED, weight=0.5)
    sgd = Fit(optax.sgd(1.0), steps=1)
    params, rows, _ = improve(tmp_path / "run", method, sgd, task=task, mix=mix)
    # Scores are equal, so only the mix acts: two steps up its token log-likelihood, weighed 0.5.
    ids = jnp.asarray(MIXED[0].actions)[MIXED[0].mask]

    def loss(p):
        return -0.5 * jax.nn.log_softmax(p)[ids].mean()

    want = START - jax.grad(loss)(START)
    want -= jax.grad(loss)(want)
    np.testing.assert_allclose(params, want, atol=1e-6)
    assert rows[0]["loss"] == pytest.approx(0.5 * rows[0]["loss/mix"])


def test_several_rewards_are_weighed_and_named(tmp_path):
    lengths = text_task(
        PROMPTS, lambda p, a: {"words": [len(x.split()) for x in a]}, objective="words", heldout=8
    )
    reward = weighted_reward(
        {"red": (2.0, task_reward(LAB, TASK)), "long": (-0.5, task_reward(LAB, lengths))}
    )
    method = rloo(LAB, samples=2)
    _, rows, folder = improve(tmp_path / "run", method, fit(1), reward=reward, completions_every=1)
    table = read_completions(folder)
    assert len(table) == 16
    for row in table:
        words = row["answer"].split()
        assert row["scores"] == {"red/red": words.count("red"), "long/words": len(words)}
        assert row["score"] == 2.0 * words.count("red") - 0.5 * len(words)
    mean = np.mean([row["scores"]["red/red"] for row in table])
    assert rows[0]["named/red/red"] == pytest.approx(mean)


def test_another_sampler_weighs_answers_by_their_ratio():
    logits = jnp.zeros(8).at[RED].set(1.0)
    prompts = (np.ones((2, 3), np.int32), np.ones((2, 3), bool))
    cold = SamplingConfig(max_new_tokens=3, stop_ids=(2,), temperature=0.5)
    rollout = LAB.draw(logits, Prompts(prompts, np.arange(2)), keyed(LAB), 4, sampling=cold)
    weights = sampler_weights(rollout, cold)
    ids, mask = rollout.trajectory.actions, rollout.trajectory.mask
    gap = jax.nn.log_softmax(logits)[ids] - jax.nn.log_softmax(2 * logits)[ids]
    want = np.minimum(np.exp(np.sum(np.where(mask, gap, 0.0), -1)), 2.0)
    assert weights is not None
    np.testing.assert_allclose(weights, want, rtol=1e-5)
    assert len(np.unique(want)) > 2
    assert sampler_weights(rollout, LAB.sampling) is None


EVERYTHING = {"kl_target": KLTarget(0.2), "mix": Mix(MIXED, 0.1), "completions_every": 2}
METHOD = dapo(LAB, samples=4, kl=Penalty(0.1, k3), epochs=2, minibatches=2)


def left(run):
    params, rows, folder = run
    return params.tolist(), rows, (folder / "completions.jsonl").read_bytes()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "run"
    return left(improve(out, METHOD, fit(6, save_every=2), **EVERYTHING))


def test_an_interrupted_run_ends_as_a_whole_one(tmp_path, whole):
    out, seen = tmp_path / "run", []
    watched = fit(6, save_every=2, measure=lambda params, i: seen.append(i) or {})
    with pytest.raises(Interrupted):
        improve(out, METHOD, watched, stop=lambda: 2 * (len(seen) == 3), **EVERYTHING)
    assert seen == [0, 1, 2]
    again = improve(out, METHOD, fit(6, save_every=2), resume=True, **EVERYTHING)
    assert left(again) == whole
    steps = [row["step"] for row in read_completions(again[2])]
    assert steps == [step for step in (1, 3, 5) for _ in range(32)]


def test_a_task_that_raises_names_its_prompts_and_the_run_goes_on(tmp_path, whole):
    out, calls = tmp_path / "run", []

    def breaks(prompts, answers):
        calls.append(len(answers))
        if len(calls) > 7:
            raise RuntimeError("out of paper")
        return reds(prompts, answers)

    task = text_task(PROMPTS, breaks, objective="red", heldout=8)
    with pytest.raises(UserError, match=r"prompts \d+, .* failed: RuntimeError: out of paper"):
        improve(out, METHOD, fit(6, save_every=2), task=task, **EVERYTHING)
    folder = out / "stages" / "online"
    assert list(folder.glob("steps/step_*"))
    # As a process killed in the middle of a line leaves it.
    with (folder / "completions.jsonl").open("a") as file:
        file.write('{"step": 5, "prompt_in')
    assert left(improve(out, METHOD, fit(6, save_every=2), resume=True, **EVERYTHING)) == whole


@pytest.mark.long
def test_a_table_that_lost_rows_is_not_continued(tmp_path):
    out, seen = tmp_path / "run", []
    watched = fit(4, measure=lambda params, i: seen.append(i) or {})
    method, options = rloo(LAB, samples=2), {"completions_every": 1}
    with pytest.raises(Interrupted):
        improve(out, method, watched, stop=lambda: 2 if len(seen) == 2 else 0, **options)
    (out / "stages" / "online" / "completions.jsonl").unlink()
    with pytest.raises(ResultsError, match="lacks the completions of step 1"):
        improve(out, method, fit(4), resume=True, **options)


def transformer(mesh=None):
    """A language lab of the smallest kind."""
    vocabulary = standard_vocabulary(train_word_tokenizer(" ".join(PROMPTS).split()))
    sizes = {"d_model": 16, "num_layers": 1, "num_heads": 2, "num_kv_heads": 1, "head_dim": 8}
    config = TransformerConfig(vocab_size=vocabulary.size, d_ff=16, **sizes)
    return make_lab(config, vocabulary, prompt_length=3, answer_length=2, mesh=mesh)


def learn(out, lab, first, method, fit, *, name="scores/mean", **options):
    """Mean scores of the first and the last two steps."""

    def work(stage):
        reward = task_reward(lab, TASK)
        args = (lab, TASK, method, reward, first, NUMBERS, fit)
        return online(stage, *args, key=keyed(lab), **options), {}

    with open_run(out, slug="online", config={}) as run:
        run_stage(run, "online", work, like=first)
    means = [row[name] for row in read_metrics(out)]
    return np.mean(means[:2]), np.mean(means[-2:])


@pytest.mark.long
def test_ppo_with_a_critic_learns(tmp_path):
    lab = transformer()
    critic = lab.value.init(jax.random.key(1))
    method = ppo(lab, PPOConfig(beta=0.01), critic, epochs=2, minibatches=1)
    first = lab.policy.init(jax.random.key(0))
    before, after = learn(
        tmp_path / "run", lab, first, method, fit(10, 0.02), kl_target=KLTarget(0.5)
    )
    assert after > before + 0.3


@pytest.mark.long
def test_dynamic_sampling_learns_on_several_devices(tmp_path):
    lab = transformer(device_mesh())
    # Nearly uniform, so that most groups have something to tell.
    first = jax.tree.map(lambda x: 0.3 * x, lab.policy.init(jax.random.key(0)))
    method, drawn = dapo(lab, samples=4), "scores/drawn"
    before, after = learn(tmp_path / "run", lab, first, method, fit(5, 0.03), name=drawn)
    assert after > before + 0.1
