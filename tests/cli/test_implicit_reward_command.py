"""`--reward implicit:FOLDER,REFERENCE`: the reward that a trained policy implies."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from rlhf_jax.cli import main
from rlhf_jax.cli.implicit import open_implicit
from rlhf_jax.cli.reward_lab import reward_lab
from rlhf_jax.cli.rewards import named_reward, scored_task
from rlhf_jax.cli.step_rewards import paid_steps, step_specs
from rlhf_jax.hf import load_model, save_model
from rlhf_jax.models import make_transformer
from rlhf_jax.ops.logprobs import sequence_logps
from rlhf_jax.recipes.rows import answer_batch
from rlhf_jax.training import UserError, read_metrics

PROMPTS, ANSWERS = ["0?", "5?", "7?"], ["a", "dd", "abc"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory, model):
    """The model with other weights, as training leaves it."""
    folder, base = tmp_path_factory.mktemp("trained") / "model", load_model(model)
    leaves, tree = jax.tree.flatten(base.params)
    rng = np.random.default_rng(0)
    leaves = [x + 0.3 * rng.standard_normal(x.shape).astype(np.float32) for x in leaves]
    save_model(folder, base._replace(params=jax.tree.unflatten(tree, leaves)))
    return folder


def logps(folder):
    """[3] log-probs of the answers, by the folder's own policy."""
    found = load_model(folder)
    lab = reward_lab(folder, found, 0)._replace(prompt_length=4, answer_length=8)
    rows = [{"prompt": a, "answer": b} for a, b in zip(PROMPTS, ANSWERS, strict=True)]
    batch = answer_batch(lab, rows)
    return sequence_logps(lab.policy.logps(found.params, batch.inputs, batch.actions), batch.mask)


@pytest.mark.long
def test_the_score_is_the_log_ratio_of_both_models(model, trained):
    weight, name, score, column = named_reward(f"0.1*implicit:{trained},{model}")
    assert (weight, name, column) == (0.1, "implicit", None)
    expected = np.asarray(logps(trained) - logps(model))
    assert np.abs(expected).min() > 0.01
    found = np.array(score(PROMPTS, ANSWERS), float)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    same = named_reward(f"implicit:{model},{model}")[2]
    np.testing.assert_array_equal(np.array(same(PROMPTS, ANSWERS), float), 0.0)


@pytest.mark.long
def test_ppo_pays_each_token_its_own_part(tmp_path, model, files, trained):
    out = tmp_path / "ppo"
    words = ["ppo", "--model", model, "--prompts", files / "prompts.txt", "--out", out]
    words += ["--answer-length", "4", "--steps", "2", "--batch-size", "8", "--step-rewards"]
    assert main([*map(str, words), "--reward", f"0.5*implicit:{trained},{model}"]) == 0
    rows = [row for row in read_metrics(out) if row["stage"] == "ppo"]
    assert len(rows) == 2
    assert all(np.isfinite(row["loss"]) for row in rows)
    lab = reward_lab(model, load_model(model), 0)._replace(prompt_length=4, answer_length=8)
    records = [{"prompt": prompt} for prompt in PROMPTS]
    specs = [f"0.5*implicit:{trained},{model}"]
    task = scored_task(specs, records, heldout=0.5)
    reward = paid_steps(step_specs(specs), lab, task)
    assert reward.steps is not None
    rows = [{"prompt": a, "answer": b} for a, b in zip(PROMPTS, ANSWERS, strict=True)]
    batch = jax.tree.map(lambda x: x[:, None], answer_batch(lab, rows))
    paid = np.asarray(reward.steps(reward.params, {"implicit": ()}, batch))[:, 0]
    expected = 0.5 * np.asarray(logps(trained) - logps(model))
    np.testing.assert_allclose(paid.sum(-1), expected, rtol=1e-4, atol=1e-4)
    assert (np.count_nonzero(paid, axis=-1) == [2, 3, 4]).all()


@pytest.mark.long
def test_what_is_no_pair_of_models_is_named(tmp_path, model, trained):
    for rest in (f"{trained}", f"{trained},{model},{model}"):
        with pytest.raises(UserError, match="must be implicit:FOLDER,REFERENCE"):
            open_implicit(rest)
    with pytest.raises(UserError, match="nowhere"):
        named_reward(f"implicit:{trained},nowhere")
    base = load_model(model)
    config = replace(base.config, num_layers=base.config.num_layers + 1)
    deep = base._replace(config=config, params=make_transformer(config).init(jax.random.key(0)))
    save_model(tmp_path / "deep", deep)
    with pytest.raises(UserError, match="different shapes or tokenizers"):
        open_implicit(f"{trained},{tmp_path / 'deep'}")
