"""The language panel: the shipped `sft` of the shop and unsafe requests, with a learned cost.

A few steps of SFT make an assistant that often does what an unsafe request asks. Its reward pays
for that, as customers who want it would. The cost of an answer is 1 where a signed cost model,
trained on judgements of pairs, is above 0. Policies are trained against a limit on the mean cost,
with pessimism and without, and then put to safety tests on prompts that no training saw.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.hc_rlhf.config import Config, ShopPanel
from experiments.hc_rlhf.studies import Trials, returned
from rlhf_jax.algos import cost_model
from rlhf_jax.envs import shop
from rlhf_jax.envs.shop.reading import read_answer
from rlhf_jax.exact.upper_bounds import BoundKind
from rlhf_jax.feedback.signals import safety_labels
from rlhf_jax.labs.shop import SPLITS, shop_lab
from rlhf_jax.labs.shop_models import shipped
from rlhf_jax.labs.size import Size
from rlhf_jax.recipes import (
    CostLimits,
    Fit,
    LanguageLab,
    Limit,
    Penalty,
    Task,
    adamw_cosine,
    answer_rows,
    cost_inflation,
    measure,
    on_trunk,
    online,
    pair_rows,
    prompt_rows,
    rloo,
    stage_key,
    supervised,
    task_reward,
)
from rlhf_jax.recipes.offline import built, fit_rows, pair_scores, step_options
from rlhf_jax.recipes.rows import answer_batch, in_chunks
from rlhf_jax.training import Run, Stage, read_metrics, run_stage
from rlhf_jax.types import Params

START, PLAIN, PESSIMISTIC = "start", "Lagrangian", "HC (0,2)"
TRAINED = (PLAIN, PESSIMISTIC)
COST, SAFE = "flagged", 0.5  # harmless axis at which an answer has the gold cost 0
MODES = ("good", "complying", "curt", "rude")  # of the answers that are judged
BOUNDS: tuple[BoundKind, ...] = ("t", "clopper_pearson")
Arrays = dict[str, np.ndarray]


class Place(NamedTuple):
    """lab and sft: shipped. train, heldout: unsafe prompts."""

    world: int
    sizes: ShopPanel
    lab: LanguageLab
    sft: Params
    train: Sequence[shop.Prompt]
    heldout: Sequence[shop.Prompt]


def open_place(config: Config, job: Run) -> Place:
    """The shipped model, and unsafe prompts of disjoint splits."""
    sizes, world = config.shop, config.seed
    lab = shop_lab(Size(), job.out / "data", seed=world)
    train = unsafe_prompts(world, "train", sizes.prompts)
    heldout = unsafe_prompts(world, "heldout", sizes.tests * sizes.test_size)
    return Place(world, sizes, lab, shipped(lab, "sft"), train, heldout)


def unsafe_prompts(world: int, split: str, count: int) -> list[shop.Prompt]:
    """The first so many requests of a split that should be declined."""
    found: list[shop.Prompt] = []
    for number in SPLITS[split]:
        prompt = shop.make_prompt(world, number)
        if prompt.task == "refuse":
            found.append(prompt)
        if len(found) == count:
            break
    return found


def shop_panel(config: Config, job: Run) -> tuple[dict[str, Arrays], dict[str, Any]]:
    """ "<policy> <seed>" -> `answered` and, of trained ones, the cost and multiplier of each step;
    and what the cost model is worth."""
    place = open_place(config, job)
    start = run_stage(job, "shop start", lambda each: (fit_start(each, place), {})).arrays
    cost = run_stage(job, "shop cost", partial(fit_cost, place))
    found: dict[str, Arrays] = {}
    for seed in range(place.sizes.seeds):
        policies = {START: start} if seed == 0 else {}
        for method in TRAINED:
            name = f"shop {method} {seed}"
            work = partial(fit_policy, place, start, cost.arrays, method, seed)
            policies[method] = run_stage(job, name, lambda each, work=work: (work(each), {})).arrays
        for method, params in policies.items():
            # Other prompts' answers for each policy: no test is of the same draws.
            looks = partial(answered, place, params, start, cost.arrays, f"{method} {seed}")
            seen = run_stage(job, f"shop answers of {method} {seed}", lambda _, f=looks: (f(), {}))
            found[f"{method} {seed}"] = dict(seen.arrays)
            if method != START:
                found[f"{method} {seed}"] |= path_of(job, f"shop {method} {seed}")
    return found, dict(cost.info)


def fit_start(each: Stage, place: Place) -> Params:
    """`sft` after answers of the corpus, a share of which complies."""
    sizes, world = place.sizes, place.world
    prompts = unsafe_prompts(world, "sft", sizes.demos)
    records = []
    for i, prompt in enumerate(prompts):
        complies = int((i + 1) * sizes.comply) > int(i * sizes.comply)
        answer = shop.mode_answer(world, prompt, i, "complying" if complies else "good")
        records.append({"prompt": prompt.text, "answer": answer})
    fit = Fit(adamw_cosine(sizes.sft_rate, sizes.sft_steps), sizes.sft_steps)
    rows = answer_rows(place.lab, records, batch_size=sizes.batch_size)
    return supervised(each, place.lab, rows, place.sft, fit)


def judged_pairs(place: Place, split: str) -> tuple[list[dict[str, str]], Arrays, np.ndarray]:
    """Pairs with the less harmful answer chosen, whether each is unsafe by `safety_labels`, and
    the gold costs [N, 2] of chosen and rejected: 0.5 less the harmless axis."""
    sizes, world = place.sizes, place.world
    prompts = unsafe_prompts(world, split, sizes.pairs)
    texts, gold = [], []
    for i, prompt in enumerate(prompts):
        modes = (MODES[i % 4], MODES[(i // 4) % 4])
        both = [shop.mode_answer(world, prompt, 2 * i + j, mode) for j, mode in enumerate(modes)]
        texts.append(both)
        gold.append([shop.score(prompt, text) for text in both])
    values = np.array([[one.helpful for one in both] for both in gold], np.float32)
    costs = np.array([[SAFE - one.harmless for one in both] for both in gold], np.float32)
    key = stage_key(place.lab, f"judges of {split}")
    given = (jnp.asarray(values), jnp.asarray(costs))
    labels = safety_labels(key, *given, beta=sizes.teacher_beta)
    worse, unsafe = np.asarray(labels.worse), np.asarray(labels.unsafe)
    at = np.arange(len(worse))
    records = [
        {"prompt": prompt.text, "chosen": both[1 - w], "rejected": both[w]}
        for prompt, both, w in zip(prompts, texts, worse, strict=True)
    ]
    sides = {"chosen_unsafe": unsafe[at, 1 - worse], "rejected_unsafe": unsafe[at, worse]}
    columns = {name: x.astype(np.float32) for name, x in sides.items()}
    return records, columns, np.stack([costs[at, 1 - worse], costs[at, worse]], axis=1)


def fit_cost(place: Place, each: Stage) -> tuple[Params, dict[str, float]]:
    """A signed cost model on the trunk of `sft`; on held-out pairs the accuracy of comparisons
    whose gold costs differ, and of the signs."""
    sizes, lab = place.sizes, place.lab
    records, columns, _ = judged_pairs(place, "pairs")
    fit = Fit(adamw_cosine(sizes.cost_rate, sizes.cost_steps), sizes.cost_steps)
    update = built(
        cost_model.make_update, lab.reward, fit.optimizer, **step_options(lab, fit, "reward")
    )
    rows = pair_rows(lab, records, batch_size=sizes.batch_size, columns=columns)
    head = on_trunk(lab, place.sft, stage_key(lab, "cost"))
    params = fit_rows(each, lab, update, rows, head, fit, part="reward")
    held, _, gold = judged_pairs(place, "heldout_pairs")
    scores = pair_scores(lab, params, held, batch_size=sizes.batch_size)
    differ = gold[:, 0] != gold[:, 1]
    right = (scores[:, 0] < scores[:, 1]) == (gold[:, 0] < gold[:, 1])
    signs = float(np.mean((scores > 0.0) == (gold > 0.0)))
    return params, {"accuracy": float(right[differ].mean()), "signs": signs}


def shop_prompts(place: Place, cost: Params) -> Task:
    """Training prompts, then held-out ones; scores "served", which is the objective, "harm" by
    gold, and `COST` by the model."""
    prompts = [*place.train, *place.heldout]
    count = len(place.train)

    def score(indices: np.ndarray, answers: Sequence[str]) -> Mapping[str, Any]:
        asked = [prompts[int(i)] for i in indices]
        harm = [
            float(bool(read_answer(prompt, text).harms))
            for prompt, text in zip(asked, answers, strict=True)
        ]
        fluent = [shop.score(p, text).fluent for p, text in zip(asked, answers, strict=True)]
        served = [a + place.sizes.pay * b for a, b in zip(fluent, harm, strict=True)]
        return {"served": served, "harm": harm, COST: flags(place, cost, asked, answers)}

    return Task(
        texts=lambda indices: [prompts[int(i)].text for i in indices],
        splits={"train": range(count), "heldout": range(count, len(prompts))},
        score=score,
        objective="served",
    )


def flags(
    place: Place, cost: Params, prompts: Sequence[shop.Prompt], answers: Sequence[str]
) -> np.ndarray:
    """[N] 1 where the cost model is above 0; an answer without a word has the cost 0."""
    written = np.array([bool(text.strip()) for text in answers])
    rows = [
        {"prompt": prompt.text, "answer": text}
        for prompt, text in zip(prompts, answers, strict=True)
        if text.strip()
    ]
    found = np.zeros(len(answers))
    if rows:
        size = place.sizes.batch_size * place.sizes.samples
        costs = in_chunks(
            lambda part: place.lab.scores(cost, answer_batch(place.lab, part)), rows, size=size
        )
        found[written] = costs > 0.0
    return found


def limits_of(sizes: ShopPanel, method: str) -> CostLimits:
    """On the share of flagged answers; pessimistic by twice the margin of the test."""
    plain = CostLimits(
        {COST: sizes.limit},
        rate=sizes.dual_rate,
        proportional=sizes.gain,
        start=sizes.first_multiplier,
        buffer=sizes.buffer,
    )
    if method == PLAIN:
        return plain
    inflation = cost_inflation(sizes.buffer, sizes.test_size, delta=sizes.delta)
    return plain._replace(inflation=inflation)


def fit_policy(
    place: Place, start: Params, cost: Params, method: str, seed: int, each: Stage
) -> Params:
    """RLOO on `shop_prompts` under the limit, the KL to its start in the reward."""
    sizes, lab = place.sizes, place.lab
    task = shop_prompts(place, cost)
    return online(
        each,
        lab,
        task,
        rloo(lab, samples=sizes.samples, kl=Penalty(sizes.kl)),
        task_reward(lab, task),
        start,
        prompt_rows(task, batch_size=sizes.batch_size, seed=seed),
        Fit(adamw_cosine(sizes.rl_rate, sizes.rl_steps), sizes.rl_steps),
        key=jax.random.fold_in(stage_key(lab, "shop policies"), seed),
        limits=limits_of(sizes, method),
    )


def answered(place: Place, params: Params, start: Params, cost: Params, name: str) -> Arrays:
    """One answer to each held-out prompt, [N]: reward, harm, flagged, log-ratio to the start; and
    for each bound of `BOUNDS` which of the safety tests, [bounds, tests], return the policy."""
    sizes, task = place.sizes, shop_prompts(place, cost)
    indices = np.asarray(task.splits["heldout"])
    key = stage_key(place.lab, f"shop answers of {name}")
    seen = measure(place.lab, task, params, start, indices, key)
    found = {each: np.asarray(seen.named[each])[:, 0] for each in ("served", "harm", COST)}
    found["kl"] = np.asarray(seen.log_ratios)[:, 0]
    return found | {"returned": tests_of(sizes, found[COST])}


def tests_of(sizes: ShopPanel, costs: np.ndarray) -> np.ndarray:
    """[bounds, tests] whether a test of its own `test_size` costs returns the policy."""
    samples = costs.reshape(sizes.tests, sizes.test_size)
    trials = Trials(samples, samples.mean(axis=1))
    limits = [Limit(sizes.limit, kind, (0.0, 1.0)) for kind in BOUNDS]
    return np.array([returned(trials, limit, sizes.delta) for limit in limits])


def path_of(job: Run, stage: str) -> Arrays:
    """Mean cost and multiplier at each step of a training."""
    rows = [row for row in read_metrics(job.out) if row["stage"] == stage]
    return {
        name: np.array([float(row[f"{name}/{COST}"]) for row in rows])
        for name in ("cost", "multiplier")
    }
