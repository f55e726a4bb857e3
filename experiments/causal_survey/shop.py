"""The language panel: rewards of shop answers from pairs with a mark, by plain and robust losses.

Two answers of the shipped SFT policy, labelled by a teacher who reads gold; then a mark (more words
in one half of the pairs, a greeting in the other) is put at the chosen answer more often than at
the other one, in two environments by unequal shares. A mark is worth nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from random import Random
from typing import Any, NamedTuple

import numpy as np

from experiments.causal_survey.config import Config, ShopPanel
from rlhf_jax.algos.robust_reward import correlation_risk, vrex_risk
from rlhf_jax.envs.shop.spurious import MARKERS, with_marker
from rlhf_jax.labs.shop import gold_teacher, shop_lab, shop_task
from rlhf_jax.labs.shop_models import shipped
from rlhf_jax.labs.size import Size
from rlhf_jax.recipes import (
    Fit,
    LanguageLab,
    Task,
    adamw_cosine,
    on_trunk,
    pair_rows,
    reward_model,
    sample_pairs,
    stage_key,
)
from rlhf_jax.recipes.offline import pair_scores
from rlhf_jax.recipes.pairs import open_pairs
from rlhf_jax.recipes.robust import (
    copies_reward_model,
    copy_rows,
    environment_column,
    group_dro_reward_model,
    robust_reward_model,
)
from rlhf_jax.training import Run, Stage, UserError, run_stage
from rlhf_jax.types import Params

FEATURES = ("length", "greeting")
SIDES = ("chosen", "rejected")
ROOM = max(len(line.split()) for feature in FEATURES for line in MARKERS[feature])
TESTS = ("as trained", "no mark", "shifted")
SCORED = 64  # pairs at a time
Rows = list[dict[str, Any]]


class Shop(NamedTuple):
    """lab: with room for a marked answer. train, held: pairs without marks."""

    sizes: ShopPanel
    lab: LanguageLab
    sft: Params
    train: Rows
    held: Rows


def shop_study(config: Config, job: Run) -> dict[str, np.ndarray]:
    """loss -> accuracy [seeds, TESTS] on held-out pairs, and the pairs' right answers by loss."""
    place = open_shop(config, job)
    tests = held_sets(place)
    found: dict[str, list] = {}
    for seed in range(config.shop.num_seeds):
        lab = place.lab._replace(seed=1000 * (1 + seed) + config.seed)
        pairs = marked(place.train, config.shop.rhos, seed)
        for name, train in trainings(config.shop, lab, pairs).items():

            def work(stage: Stage, train=train, lab=lab) -> tuple[Any, dict]:
                params = train(stage, on_trunk(lab, place.sft, stage_key(lab, "reward")))
                return {"right": np.array([right(lab, params, rows) for rows in tests])}, {}

            arrays = run_stage(job, f"shop {name} {seed}", work).arrays
            found.setdefault(name, []).append(arrays["right"])
    return {name: np.array(each) for name, each in found.items()}


def open_shop(config: Config, job: Run) -> Shop:
    """Pairs of the SFT policy's answers, sampled once."""
    sizes = config.shop
    lab = shop_lab(Size(), job.out / "data", seed=config.seed)
    teacher = gold_teacher(config.seed, beta=sizes.teacher_beta, tie_gap=sizes.tie_gap)
    task, sft = shop_task(config.seed, teacher=teacher), shipped(lab, "sft")
    draw = partial(sampled, config, job, lab, task, sft)
    train, held = draw("pairs", sizes.prompts), draw("heldout_pairs", sizes.heldout)
    if len(train) < sizes.pairs:
        raise UserError(
            f"{len(train)} pairs are left after ties are dropped, fewer than shop.pairs = "
            f"{sizes.pairs}: raise shop.prompts"
        )
    wide = lab._replace(answer_length=lab.answer_length + ROOM)
    return Shop(sizes, wide, sft, train[: sizes.pairs], held)


def sampled(
    config: Config, job: Run, lab: LanguageLab, task: Task, sft: Params, split: str, count: int
) -> Rows:
    """Labelled pairs of the first prompts of a split."""
    name, indices = f"causal_survey_{split}", np.array(task.splits[split][:count])
    facts = {"beta": config.shop.teacher_beta, "tie_gap": config.shop.tie_gap}

    def sample(_: Stage) -> tuple[Any, dict]:
        about = {"name": name, "split": "train", "facts": facts, "remedy": "lower shop.tie_gap"}
        return {}, {"pairs": len(sample_pairs(job, lab, task, sft, indices, **about))}

    run_stage(job, f"shop {split}", sample)
    rows = open_pairs(job.out / "data", name, "train")
    return [dict(rows[i]) for i in range(len(rows))]


# ---- Marks.


def marked(pairs: Sequence[Mapping[str, Any]], rhos: Sequence[float], seed: int) -> Rows:
    """Pairs in as many environments as there are rhos, in turn, with marks.

    A mark is at the chosen answer with probability (1 + rho) / 2 and at the other one with
    (1 - rho) / 2. "marks" says at which of them, "feature" and "wordings" which one.
    """
    found = []
    for i, row in enumerate(pairs):
        rng, number = Random(f"causal_survey/{seed}/{i}/{row['prompt']}"), i % len(rhos)
        feature = FEATURES[i // len(rhos) % len(FEATURES)]
        draws = [(rng.random(), rng.randrange(2)) for _ in SIDES]
        signs = zip(draws, (1.0, -1.0), strict=True)
        marks = [draw < 0.5 * (1.0 + sign * rhos[number]) for (draw, _), sign in signs]
        about = {"feature": feature, "wordings": [wording for _, wording in draws]}
        found.append(put({**row, **about, "environment": number}, marks))
    return found


def put(row: Mapping[str, Any], marks: Sequence[bool]) -> dict[str, Any]:
    """The pair with marks at these answers; "plain" has both without."""
    plain = row.get("plain", [row[side] for side in SIDES])
    texts = [
        with_marker(text, row["feature"], wording) if mark else text
        for text, mark, wording in zip(plain, marks, row["wordings"], strict=True)
    ]
    return {**row, **dict(zip(SIDES, texts, strict=True)), "plain": plain, "marks": list(marks)}


def copies_of(row: Mapping[str, Any]) -> Rows:
    """The pair, and the same with marks exactly where there were none."""
    return [dict(row), put(row, [not mark for mark in row["marks"]])]


def held_sets(place: Shop) -> list[Rows]:
    """Of TESTS."""
    sizes = place.sizes
    return [
        marked(place.held, sizes.rhos, -1),
        list(place.held),
        marked(place.held, (sizes.shifted,), -2),
    ]


# ---- Rewards.


def trainings(
    sizes: ShopPanel, lab: LanguageLab, pairs: Rows
) -> dict[str, Callable[[Stage, Params], Params]]:
    """loss -> its training; all with the same pairs, steps and order."""
    fit = Fit(adamw_cosine(sizes.rate, sizes.steps), sizes.steps)
    ids, names = environment_column(pairs)
    count = {"count": len(names)}
    given = {"environments": ids}
    flags = {"features": np.array([float(a) - float(b) for a, b in (r["marks"] for r in pairs)])}

    def rows(columns: Mapping[str, np.ndarray] | None = None) -> Any:
        return pair_rows(lab, pairs, batch_size=sizes.batch_size, columns=columns)

    def robust(risk: Any, columns: Mapping[str, np.ndarray]) -> Any:
        return lambda stage, first: robust_reward_model(
            stage, lab, rows(columns), first, fit, risk=risk
        )

    copies = copy_rows(lab, [copies_of(row) for row in pairs], batch_size=sizes.batch_size)
    return {
        "ERM": lambda stage, first: reward_model(stage, lab, rows(), first, fit),
        "V-REx": robust(partial(vrex_risk, **count, penalty=sizes.vrex), given),
        "group DRO": lambda stage, first: group_dro_reward_model(
            stage, lab, rows(given), first, fit, **count, eta=sizes.eta
        ),
        "correlation": robust(partial(correlation_risk, penalty=sizes.correlation), flags),
        "copies": lambda stage, first: copies_reward_model(stage, lab, copies, first, fit),
    }


def right(lab: LanguageLab, params: Params, rows: Rows) -> np.ndarray:
    """[N] 1 where the chosen answer has the higher score, 1/2 at a tie."""
    scores = pair_scores(lab, params, rows, batch_size=SCORED).astype(float)
    return 0.5 * (1.0 + np.sign(scores[:, 0] - scores[:, 1]))
