"""`--reward mean_of:...`, `worst_of:...`, `penalised_of:...`: several reward models as one."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.cli.rewards import model_score, named_reward, open_reward
from rlhf_jax.hf import load_model, save_model
from rlhf_jax.training import UserError

ANSWERS = [{"prompt": f"{i}?", "answer": word} for i, word in enumerate("abcd")]


@pytest.fixture(scope="module")
def members(tmp_path_factory, model):
    """A file of answers, and two reward models with heads of their own."""
    folder, base = tmp_path_factory.mktemp("members"), load_model(model)
    (folder / "answers.jsonl").write_text("\n".join(map(json.dumps, ANSWERS)))
    for name, low in (("one", -1.0), ("two", 3.0)):
        head = {"weight": jnp.linspace(low, 1.0, 8), "bias": jnp.zeros(())}
        save_model(
            folder / name, base._replace(params={"trunk": base.params["trunk"], "head": head})
        )
    return folder


def test_members_are_standardised_over_the_answers_and_combined(members):
    files = f"{members / 'answers.jsonl'},{members / 'one'},{members / 'two'}"
    prompts, answers = ["0?", "5?", "7?"], ["a", "dd", "ba"]
    known = [[row[name] for row in ANSWERS] for name in ("prompt", "answer")]
    z = []
    for name in ("one", "two"):
        score = model_score(*open_reward(members / name))
        reference = np.array(score(*known), float)
        z.append((np.array(score(prompts, answers), float) - reference.mean()) / reference.std())
    z = np.array(z)
    for spec, expected in (
        (f"mean_of:{files}", z.mean(0)),
        (f"worst_of:{files}", z.min(0)),
        (f"penalised_of:0,{files}", z.mean(0)),
        (f"penalised_of:0.5,{files}", z.mean(0) - 0.5 * z.var(0)),
    ):
        weight, name, score, column = named_reward(f"2*{spec}")
        assert (weight, name, column) == (2.0, spec.partition(":")[0], None)
        np.testing.assert_allclose(score(prompts, answers), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("worst_of:answers.jsonl,one", "a file of answers and two reward models at least"),
        ("mean_of:", "a file of answers and two reward models at least"),
        ("penalised_of:answers.jsonl,one,two", "needs a number before the answers: LAMBDA,"),
        ("penalised_of:-1,answers.jsonl,one,two", r"lambda of penalised_of must be in \[0, inf\)"),
    ],
)
def test_a_spec_without_its_parts_is_refused(spec, message):
    with pytest.raises(UserError, match=message):
        named_reward(spec)


def test_a_member_that_scores_all_alike_is_refused(members, model):
    base = load_model(model)
    head = {"weight": jnp.zeros(8), "bias": jnp.zeros(())}
    flat = members / "flat"
    save_model(flat, base._replace(params={"trunk": base.params["trunk"], "head": head}))
    with pytest.raises(UserError, match="member 1 of 2 scores all 4 reference answers alike"):
        named_reward(f"mean_of:{members / 'answers.jsonl'},{members / 'one'},{flat}")
