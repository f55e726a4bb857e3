"""TRL's DPO trainer: every `loss_type`, f-divergence and weighting it has."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from trl import DPOConfig, DPOTrainer

from benchmarks.parity import torch_table
from benchmarks.parity.batches import load
from benchmarks.parity.compare import Objective, Run
from benchmarks.parity.draw import PAIRS
from benchmarks.parity.table_policy import Pair, pair, pooled_nll
from rlhf_jax.losses import links
from rlhf_jax.losses import preference as losses
from rlhf_jax.losses.preference import scores
from rlhf_jax.ops.logprobs import log_collision

BETA, SMOOTHING = 0.8, 0.1
SOURCE = "TRL DPOTrainer"
PairLoss = Callable[[Pair], jax.Array]  # one number per pair, or one for the batch


def run_dpo(**options) -> Run:
    """`DPOTrainer`, constructed for real, on the text of the pairs."""
    weights = load("weights")
    trainer = DPOTrainer(
        model=torch_table.table_model(weights.policy),
        ref_model=torch_table.table_model(weights.reference),
        args=torch_table.arguments(DPOConfig, **({"beta": BETA} | options)),
        train_dataset=torch_table.dataset(**torch_table.columns("chosen", "rejected")),
        processing_class=torch_table.tokenizer(),
    )
    return torch_table.run_trainer(trainer)


def f_margins(score: Callable[[jax.Array], jax.Array]) -> PairLoss:
    """beta times the gap of f-divergence scores."""
    return lambda p: (
        BETA
        * (
            score(p.chosen.logps - p.ref_chosen.logps)
            - score(p.rejected.logps - p.ref_rejected.logps)
        )
    )


def alpha_score(alpha: float) -> Callable[[jax.Array], jax.Array]:
    """The score of one alpha-divergence."""
    return lambda log_ratios: scores.alpha_score(log_ratios, alpha=alpha)


def averaged_scores(p: Pair, score: Callable[[jax.Array], jax.Array]) -> jax.Array:
    """Score of a whole answer divided by its length, chosen minus rejected."""
    chosen = score(p.chosen.logps - p.ref_chosen.logps) / p.chosen.lengths
    return chosen - score(p.rejected.logps - p.ref_rejected.logps) / p.rejected.lengths


def ld_dpo(p: Pair) -> jax.Array:
    """LD-DPO: the tokens beyond the shorter answer's length weigh alpha."""
    shared = jnp.minimum(p.chosen.lengths, p.rejected.lengths)
    logps = [losses.ld_logps(x.token_logps, x.mask, shared, alpha=0.4) for x in p]
    return losses.dpo_loss(*logps, beta=BETA)


def wpo(p: Pair) -> jax.Array:
    """WPO: the pair's loss times how likely its two answers are under the policy, per token."""
    chosen, rejected = (
        losses.wpo_weights(x.token_logps, log_collision(x.logits), x.mask)
        for x in (p.chosen, p.rejected)
    )
    return chosen * rejected * losses.dpo_loss(*p.logps, beta=BETA)


def mixed(p: Pair) -> jax.Array:
    """A weighted sum of three loss types, as in MPO."""
    return (
        0.8 * losses.dpo_loss(*p.logps, beta=BETA)
        + 0.2 * losses.bco_pair_loss(*p.logps, beta=BETA)
        + 1.0 * pooled_nll(p.chosen)
    )


SMOOTHED = {"label_smoothing": SMOOTHING}
PER_TOKEN = "per-token means passed: TRL divides each log-ratio by the length of its answer"

LOSS_TYPES: dict[str, tuple[dict, PairLoss, str]] = {
    "sigmoid": ({}, lambda p: losses.dpo_loss(*p.logps, beta=BETA), "dpo_loss"),
    "hinge": ({}, lambda p: losses.hinge_dpo_loss(*p.logps, beta=BETA), "hinge_dpo_loss"),
    "ipo": ({}, lambda p: losses.ipo_loss(*p.means, beta=BETA), f"ipo_loss; {PER_TOKEN}"),
    "exo_pair": (SMOOTHED, lambda p: losses.exo_loss(*p.logps, beta=BETA, **SMOOTHED), "exo_loss"),
    "nca_pair": ({}, lambda p: losses.nca_loss(*p.logps, beta=BETA), "nca_loss"),
    "robust": (
        SMOOTHED,
        lambda p: losses.robust_dpo_loss(*p.logps, beta=BETA, **SMOOTHED),
        "robust_dpo_loss",
    ),
    "bco_pair": (
        {},
        lambda p: losses.bco_pair_loss(*p.logps, beta=BETA),
        "bco_pair_loss, shift 0: TRL has no running mean here",
    ),
    "sppo_hard": ({}, lambda p: losses.sppo_hard_loss(*p.logps, beta=BETA), "sppo_hard_loss"),
    "aot": (
        SMOOTHED,
        lambda p: losses.aot_loss(*p.logps, beta=BETA, label_smoothing=SMOOTHING),
        "aot_loss",
    ),
    "aot_unpaired": (
        SMOOTHED,
        lambda p: losses.aot_unpaired_loss(*p.logps, beta=BETA, label_smoothing=SMOOTHING),
        "aot_unpaired_loss",
    ),
    "apo_zero": ({}, lambda p: losses.apo_zero_loss(*p.logps, beta=BETA), "apo_zero_loss"),
    "apo_down": ({}, lambda p: losses.apo_down_loss(*p.logps, beta=BETA), "apo_down_loss"),
    "discopop": (
        {"beta": 0.1},  # at BETA, temperature 0.05 blows rounding up twenty-fold
        lambda p: losses.discopop_loss(*p.logps, beta=0.1, temperature=0.05),
        "discopop_loss",
    ),
    "sft": ({}, lambda p: pooled_nll(p.chosen), "sft_loss, the tokens of the batch pooled"),
    "sigmoid_norm": ({}, lambda p: losses.dpo_loss(*p.means, beta=BETA), f"dpo_loss; {PER_TOKEN}"),
}


def f_divergence(name: str) -> dict[str, object]:
    """TRL's options for one f-divergence; alpha 0.7 is neither its default nor a limit."""
    options: dict[str, object] = {"f_divergence_type": name}
    return options | ({"f_alpha_divergence_coef": 0.7} if name == "alpha_divergence" else {})


F_DPO = "f_dpo_loss and its score"
LINK = "the link of `losses.links` on beta times the gap of scores"
CONSTANT = (
    "scores divided by length before the gap: the constant of f', 1 here, no longer cancels, so "
    "TRL's loss depends on a constant that the divergence leaves free"
)
FORWARD, JS, ALPHA = scores.forward_kl_score, scores.js_score, alpha_score(0.7)
F_LOSSES: list[tuple[str, str, PairLoss, str]] = [
    (
        "sigmoid",
        "forward_kl",
        lambda p: losses.f_dpo_loss(*p.logps, beta=BETA, score=FORWARD),
        F_DPO,
    ),
    ("sigmoid", "js_divergence", lambda p: losses.f_dpo_loss(*p.logps, beta=BETA, score=JS), F_DPO),
    (
        "sigmoid",
        "alpha_divergence",
        lambda p: losses.f_dpo_loss(*p.logps, beta=BETA, score=ALPHA),
        F_DPO,
    ),
    ("hinge", "js_divergence", lambda p: links.hinge(f_margins(JS)(p)), LINK),
    (
        "discopop",
        "forward_kl",
        lambda p: links.discopop(f_margins(FORWARD)(p), temperature=0.05),
        LINK,
    ),
    (
        "robust",
        "js_divergence",
        lambda p: links.robust_logistic(f_margins(JS)(p), **SMOOTHED),
        LINK,
    ),
    ("exo_pair", "alpha_divergence", lambda p: links.exo(f_margins(ALPHA)(p), **SMOOTHED), LINK),
    (
        "sigmoid_norm",
        "forward_kl",
        lambda p: links.logistic(BETA * averaged_scores(p, lambda u: 1.0 + FORWARD(u))),
        CONSTANT,
    ),
    (
        "ipo",
        "alpha_divergence",
        lambda p: links.squared(averaged_scores(p, ALPHA), jnp.full(PAIRS, 0.5 / BETA)),
        CONSTANT,
    ),
]

WEIGHTED: list[tuple[str, dict, PairLoss, str]] = [
    ("LD-DPO", {"ld_alpha": 0.4}, ld_dpo, "dpo_loss of ld_logps"),
    ("WPO", {"use_weighting": True}, wpo, "dpo_loss times wpo_weights"),
    (
        "sigmoid + bco_pair + sft",
        {"loss_type": ["sigmoid", "bco_pair", "sft"], "loss_weights": [0.8, 0.2, 1.0]},
        mixed,
        "the sum of the three",
    ),
]


def objective(name: str, options: dict, loss: PairLoss, note: str) -> Objective:
    """One row: TRL's trainer under `options`, and the mean of our loss over the pairs."""
    return Objective(
        name,
        SOURCE,
        lambda: run_dpo(**options),
        lambda params: jnp.mean(loss(pair(params))),
        load("weights").policy,
        note,
    )


def objectives() -> list[Objective]:
    """All rows of this trainer."""
    rows = [
        objective(name, options | {"loss_type": name}, loss, note)
        for name, (options, loss, note) in LOSS_TYPES.items()
    ]
    for name, divergence, loss, note in F_LOSSES:
        smoothed = SMOOTHED if name in ("robust", "exo_pair") else {}
        options = smoothed | f_divergence(divergence) | {"loss_type": name}
        rows.append(objective(f"{name}, {divergence}", options, loss, note))
    return rows + [objective(*row) for row in WEIGHTED]
