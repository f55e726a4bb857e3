"""The language panel: a small transformer that writes brackets, SFT against PPO by length.

Slips are part of every policy: its tokens come from (1 - slip) pi + slip / 4. So answers are draws
of the policy itself, and no method can learn to write without them.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.rl_perspective.brackets import (
    BRACKETS,
    PROMPT_PAIRS,
    PROMPTS,
    expert_costs,
    expert_text,
    prompt_texts,
    text_costs,
)
from experiments.rl_perspective.config import Config, Language
from rlhf_jax.algos.ppo import PPOConfig
from rlhf_jax.data.tokenizer import standard_vocabulary, train_word_tokenizer
from rlhf_jax.labs.size import Size
from rlhf_jax.ops.logprobs import token_logps
from rlhf_jax.recipes import (
    Fit,
    LanguageLab,
    Reward,
    Task,
    adamw_cosine,
    answer_rows,
    make_lab,
    on_trunk,
    online,
    prompt_rows,
    sample_texts,
    stage_key,
    supervised,
    text_task,
)
from rlhf_jax.recipes.episodes import Transcripts, score_transcripts
from rlhf_jax.recipes.lab import make_draw
from rlhf_jax.recipes.methods import gae_of_steps, ppo
from rlhf_jax.sharding import on_host
from rlhf_jax.training import Run, Stage, run_stage
from rlhf_jax.types import Params, Policy, Prompts

PROMPT_TOKENS = 1 + 2 * PROMPT_PAIRS  # <bos>, and brackets with what closes them
HELDOUT = 16  # prompts
NEVER = -1e9  # logit of what is no bracket
START, SFT, SLIPPED, PPO = "SFT, the start", "SFT", "SFT, slips shown", "PPO"


class Place(NamedTuple):
    """One length. clean, slippery, judged: labs with policies that never slip, that slip as in
    training, and as they are judged."""

    sizes: Language
    length: int
    task: Task
    clean: LanguageLab
    slippery: LanguageLab
    judged: LanguageLab

    def seeded(self, seed: int) -> "Place":
        """The same for another seed of weights, batches and draws; nothing is compiled again."""
        labs = (self.clean, self.slippery, self.judged)
        return Place(self.sizes, self.length, self.task, *(lab._replace(seed=seed) for lab in labs))


# ---- World: a lab that slips, a task, a reward.


def bracket_lab(sizes: Language, length: int) -> LanguageLab:
    """A transformer with one id for each bracket."""
    vocabulary = standard_vocabulary(train_word_tokenizer(BRACKETS))
    size = Size(
        d_model=sizes.d_model,
        num_layers=2,
        num_heads=2,
        d_ff=2 * sizes.d_model,
        remat="everything",
    )
    return make_lab(
        size.transformer(vocab_size=vocabulary.size),
        vocabulary,
        prompt_length=PROMPT_TOKENS,
        answer_length=length,
    )


def slipping_lab(lab: LanguageLab, words: Sequence[str], slip: float) -> LanguageLab:
    """The lab with a policy that writes these words alone: (1 - slip) pi + slip / their number."""
    ids = np.array([lab.vocabulary.tokenizer.token_to_id(word) for word in words])

    def mixed(logits: jax.Array) -> jax.Array:
        own = jax.nn.log_softmax(logits[..., ids].astype(jnp.float32)) + np.log1p(-slip)
        if slip > 0:
            own = jnp.logaddexp(own, np.log(slip / len(ids)))
        return jnp.full(logits.shape, NEVER, jnp.float32).at[..., ids].set(own)

    def logits(params, inputs):
        return mixed(lab.policy.logits(params, inputs))

    def logps(params, inputs, actions):
        return token_logps(logits(params, inputs), actions)

    def step(*state):
        found, caches = lab.decoder.step(*state)
        return mixed(found), caches

    decoder = lab.decoder._replace(step=step)
    return lab._replace(
        decoder=decoder,
        policy=Policy(lab.policy.init, logits, logps),
        draw=make_draw(decoder, lab.sampling, lab.mesh),
        token_logps=jax.jit(lambda params, x: logps(params, x.inputs, x.actions)),
    )


def bracket_task(seed: int, length: int) -> Task:
    """So many brackets to write; the objective is less their total cost."""

    def score(_: Sequence[str], answers: Sequence[str]) -> dict[str, list[float]]:
        return {"cost": [float(text_costs(answer, length).sum()) for answer in answers]}

    return text_task(prompt_texts(seed), score, objective={"cost": -1.0}, heldout=HELDOUT)


def cost_reward(lab: LanguageLab, task: Task, length: int) -> Reward:
    """Less the cost of each token, paid at that token."""

    def host(prompts: Prompts, found: Transcripts) -> tuple[np.ndarray, Mapping[str, np.ndarray]]:
        texts, named = score_transcripts(lab, task, np.asarray(prompts.indices), on_host(found))
        costs = [[text_costs(text, length) for text in row] for row in texts]
        return -np.array(costs, np.float32), named

    return Reward(
        (),
        host,
        scores=lambda params, given, trajectory: jnp.sum(given, -1),
        steps=lambda params, given, trajectory: given,
    )


def open_place(config: Config, length: int) -> Place:
    """The labs and the task of a length."""
    sizes = config.language
    lab = bracket_lab(sizes, length)
    labs = [slipping_lab(lab, BRACKETS, slip) for slip in (0.0, sizes.explore, sizes.slip)]
    return Place(sizes, length, bracket_task(config.seed, length), *labs)


# ---- Learners: all on as many answers.


def demonstrations(place: Place, seed: int, slip: float, count: int) -> list[dict[str, str]]:
    """Of the expert, on the training prompts in turn."""
    rng = np.random.default_rng((seed, place.length, int(slip > 0)))
    prompts = place.task.texts(np.arange(PROMPTS - HELDOUT))
    return [
        {"prompt": prompts[i % len(prompts)], "answer": expert_text(rng, place.length, slip)}
        for i in range(count)
    ]


def fit_clone(place: Place, slip: float, steps: int, stage: Stage) -> Params:
    """SFT, each demonstration once. Where they have slips the policy has them too, so that what the
    transformer learns is the expert without them."""
    lab = place.slippery if slip > 0 else place.clean
    batch = place.sizes.tokens // place.length
    records = demonstrations(place, lab.seed, slip, steps * batch)
    fit = Fit(adamw_cosine(place.sizes.sft_rate, steps), steps, save_every=steps)
    rows = answer_rows(lab, records, batch_size=batch)
    return supervised(stage, lab, rows, lab.policy.init(stage_key(lab, "weights")), fit)


def fit_ppo(place: Place, start: Params, stage: Stage) -> Params:
    """PPO on the costs of its own answers, from a clone; answers and clone's demonstrations are
    together as many as the other clones have."""
    sizes, lab = place.sizes, place.slippery
    settings = PPOConfig(
        beta=sizes.kl,
        gamma=sizes.gamma,
        value_coef=1.0,
        value_clip_eps=float("inf"),
    )
    method = ppo(
        lab,
        settings,
        on_trunk(lab, start, stage_key(lab, "critic")),
        samples=sizes.tokens // place.length // sizes.prompts,
        credit=gae_of_steps,
        epochs=sizes.epochs,
        minibatches=sizes.minibatches,
    )
    updates = sizes.ppo_steps * sizes.epochs * sizes.minibatches
    fit = Fit(adamw_cosine(sizes.ppo_rate, updates), sizes.ppo_steps, save_every=sizes.ppo_steps)
    rows = prompt_rows(place.task, batch_size=sizes.prompts, seed=lab.seed)
    reward = cost_reward(lab, place.task, place.length)
    key = stage_key(lab, "ppo")
    return online(stage, lab, place.task, method, reward, start, rows, fit, key=key)


def drawn_cost(lab: LanguageLab, place: Place, params: Params) -> float:
    """Mean total cost of answers to held-out prompts; the same draws for every method."""
    prompts = place.task.texts(np.asarray(place.task.splits["heldout"]))
    samples = place.sizes.answers // len(prompts)
    found = sample_texts(lab, params, prompts, stage_key(lab, "judged"), samples=samples)
    return float(np.mean([text_costs(text, place.length).sum() for row in found for text in row]))


def language_costs(config: Config, job: Run) -> dict[str, np.ndarray]:
    """Mean total cost by method, [seeds, lengths]; the expert's; "SFT, no slips" of the SFT policy
    that is judged without any."""
    found = [place_costs(open_place(config, length), job) for length in config.language.lengths]
    return {name: np.stack([each[name] for each in found], axis=1) for name in found[0]}


def place_costs(place: Place, job: Run) -> dict[str, np.ndarray]:
    """The same of one length, [seeds]."""
    rows = [seed_costs(place.seeded(seed), job) for seed in range(place.sizes.num_seeds)]
    found = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    draws = [
        expert_costs(
            np.random.default_rng((seed, place.length)),
            place.length,
            place.sizes.slip,
            place.sizes.answers,
        ).mean()
        for seed in range(place.sizes.num_seeds)
    ]
    return found | {"expert": np.array(draws)}


def seed_costs(place: Place, job: Run) -> dict[str, float]:
    """The four trainings of a length and a seed, and what each costs."""
    sizes, seed = place.sizes, place.judged.seed
    total = sizes.start_steps + sizes.ppo_steps

    def fitted(name: str, work) -> Params:
        def done(stage: Stage) -> tuple[Params, dict]:
            return work(stage), {}

        return run_stage(job, f"{name}, {place.length} brackets, seed {seed}", done).arrays

    start = fitted(START, partial(fit_clone, place, 0.0, sizes.start_steps))
    trained = {
        START: start,
        SFT: fitted(SFT, partial(fit_clone, place, 0.0, total)),
        SLIPPED: fitted(SLIPPED, partial(fit_clone, place, sizes.explore, total)),
        PPO: fitted(PPO, partial(fit_ppo, place, start)),
    }
    costs = {name: drawn_cost(place.judged, place, params) for name, params in trained.items()}
    return costs | {"SFT, no slips": drawn_cost(place.clean, place, trained[SFT])}
