"""The survey's taxonomy: which function of this library is which class, and a call of each.

A class is the survey's. `call` runs a row on small arrays, so no row can name what is not there. A
function may stand in several rows: methods that differ in their data share it.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from rlhf_jax import losses
from rlhf_jax.algos import moving_reference, preference, reward_ensemble, selfplay
from rlhf_jax.feedback import hierarchical, queries
from rlhf_jax.losses import links
from rlhf_jax.losses.preference import scores
from rlhf_jax.policies.tabular import tabular_policy
from rlhf_jax.sampling.draws import policy_draw
from rlhf_jax.types import PreferenceBatch, Prompts, Trajectory


class Row(NamedTuple):
    """family: the survey's class below its dimension. method: names in papers. settings: keywords
    of the call. paper: arXiv number; "" for the one in the docstring. command: of `rlhf`, where it
    is not `preference --loss NAME`. run: the call, for a function that takes more than arrays."""

    family: str
    method: str
    function: Any
    settings: Mapping[str, Any] = {}
    paper: str = ""
    command: str = ""
    run: Callable[[], Any] | None = None


B = {"beta": 0.5}
H = B | {"label_smoothing": 0.1}


def moved_reference() -> Any:
    """TR-DPO for one step, on one pair of two answers."""
    policy, optimizer = tabular_policy(1, 2), optax.sgd(0.1)
    chosen, rejected = (
        Trajectory(jnp.zeros((1, 1), int), jnp.array([[a]]), jnp.ones((1, 1), bool)) for a in (0, 1)
    )

    def loss(*logps: jax.Array) -> jax.Array:
        return losses.dpo_loss(*logps, beta=0.5)

    update = moving_reference.make_moving_reference_update(policy, optimizer, loss, rate=0.5)
    start = moving_reference.init_moving_reference(jnp.zeros((1, 2)), jnp.zeros((1, 2)), optimizer)
    return update(start, PreferenceBatch(chosen, rejected))[0].ref_params


def ranked_answers() -> Any:
    """Weights of the pairs from three answers to each of two prompts."""
    actions = jnp.tile(jnp.arange(3)[None, :, None], (2, 1, 1))
    answers = Trajectory(jnp.zeros_like(actions), actions, jnp.ones(actions.shape, bool))
    ranked = preference.rank_pairs(answers, jnp.array([[0.0, 1.0, 2.0], [1.0, 1.0, 1.0]]))
    return ranked.weights


def iterated_round() -> Any:
    """A round of iterative DPO on a table of three answers, the smaller number preferred."""
    policy, ref = tabular_policy(1, 3), jnp.zeros((1, 3))

    def judge(indices, first, second):
        return (np.asarray(first.actions) < np.asarray(second.actions))[:, 0].astype(float)

    arena = selfplay.Arena(policy, optax.sgd(0.1), policy_draw(policy), judge, ref)
    method = selfplay.iterative_dpo(arena, beta=0.5, steps=1)
    prompts = Prompts(np.zeros(4, int), np.arange(4))
    return method.round(method.init(ref), prompts, jax.random.key(0))[0].train.params


def averaged() -> Any:
    """The mean of two tables."""
    return reward_ensemble.average_members({"logits": jnp.array([[0.0, 1.0], [2.0, 3.0]])})


F_DPO, FIT = losses.f_dpo_loss, "likelihood"
# Dimension of the survey -> its rows.
ROWS: dict[str, tuple[Row, ...]] = {
    "Basic methods": (
        Row("basic", "DPO", losses.dpo_loss, B),
        Row("basic", "SLiC-HF", losses.slic_loss, {"delta": 1.0}),
        Row("basic", "SLiC hinge on log-ratios, as in RSO", losses.hinge_dpo_loss, B),
        Row("basic", "RRHF", losses.rrhf_loss),
        Row("basic", "PRO", losses.pro_loss),
    ),
    "Data strategy": (
        Row("heterogeneity", "group-robust DPO", losses.group_weights, {"eta": 0.1}),
        Row("heterogeneity", "EM-DPO", losses.mixture_loss),
        Row("heterogeneity", "MallowsPO", losses.mallows_dpo_loss, B),
        Row("distinguishability", "ODPO", losses.odpo_loss, B),
        Row("distinguishability", "beta-DPO", losses.batch_beta, B | {"alpha": 0.5, "target": 0.1}),
        Row("distinguishability", "GDPO", losses.geometric_dpo_loss, B),
        Row("distinguishability", "soft labels", losses.soft_preference_loss, B),
        Row(
            "distinguishability",
            "alpha-DPO",
            losses.alpha_dpo_loss,
            B | {"gamma": 0.3, "alpha": 0.1},
        ),
        Row("noise", "cDPO", losses.cdpo_loss, H),
        Row("noise", "robust DPO (rDPO)", losses.robust_dpo_loss, H),
        Row("noise", "ROPO", losses.ropo_loss, B | {"alpha": 6.0}),
        Row("noise", "Dr. DPO", losses.dr_dpo, {"temperature": 1.0}),
        Row("point-wise", "KTO", losses.kto_loss, B | {"kl": 0.0}, command="kto"),
        Row("point-wise", "BCO", losses.bco_loss, B | {"shift": 0.0}),
        Row("point-wise", "BCO on pairs", losses.bco_pair_loss, B),
        Row("point-wise", "NCA", losses.nca_loss, B),
        Row("point-wise", "AOT", losses.aot_unpaired_loss, B),
        Row("point-wise", "AOT on pairs", losses.aot_loss, B),
        Row("point-wise", "Cal-DPO", losses.cal_dpo_loss, B),
        Row("point-wise", "DRO", losses.dro_loss, B),
        Row("point-wise", "ULMA", losses.pointwise_dpo_loss, B),
        Row("pair-wise", "IPO", losses.ipo_loss, B),
        Row("pair-wise", "NPO, D2O", losses.npo_loss, B),
        Row("pair-wise", "DPO with ties, Rao-Kupper", losses.rao_kupper_loss, {"theta": 1.5}),
        Row("pair-wise", "DPO with ties, Davidson", losses.davidson_loss, {"nu": 0.5}),
        Row("pair-wise", "PMPO", losses.pmpo_loss, B | {"alpha": 0.5}),
        Row("list-wise", "LiPO-lambda", losses.lipo_loss, B),
        Row("list-wise", "Plackett-Luce DPO", losses.pl_dpo_loss, B),
        Row("list-wise", "LIRE", losses.lire_loss, {"temperature": 1.0}),
        Row("token", "TDPO", losses.tdpo_loss, B | {"alpha": 0.5}),
        Row("token", "TIS-DPO", losses.weighted_logps),
        Row("token", "temporal decay (D2PO)", losses.discounted_logps, {"gamma": 0.9}),
        Row("step", "Step-DPO: steps after a shared prefix", losses.dpo_loss, B, "2406.18629"),
    ),
    "Learning framework": (
        Row("offline", "CPO", losses.cpo_loss, B),
        Row("offline", "ORPO", losses.orpo_loss, B),
        Row(
            "online",
            "online DPO",
            preference.rank_pairs,
            {},
            "2402.04792",
            "online-dpo",
            ranked_answers,
        ),
        Row(
            "online",
            "iterative DPO",
            selfplay.iterative_dpo,
            command="selfplay --method iterative_dpo",
            run=iterated_round,
        ),
        Row("online", "XPO", losses.xpo_loss, B | {"alpha": 0.1}),
        Row("active", "entropy of a comparison (APL)", queries.choice_entropy, {}, "2402.08114"),
        Row("active", "disagreement of rewards", queries.disagreement),
        Row("multi-objective", "MODPO", losses.odpo_loss, B, "2310.03708"),
        Row("self-play", "NLHF (Nash-MD)", losses.nash_md_pg_loss, B, command="nash-md"),
        Row("self-play", "SPPO", losses.sppo_loss, {"eta": 1.0}),
        Row("self-play", "SPPO, hard labels", losses.sppo_hard_loss, B),
    ),
    "Constraint mechanism": (
        Row(
            "dynamic reference",
            "TR-DPO, sDPO",
            moving_reference.make_moving_reference_update,
            command="preference --reference-rate 0.01",
            run=moved_reference,
        ),
        Row("no reference", "SimPO", losses.simpo_loss, {"beta": 2.0, "gamma": 1.0}),
        Row("no reference", "SimPER", losses.simper_loss),
        Row("divergence", "f-DPO, forward KL", F_DPO, B | {"score": scores.forward_kl_score}),
        Row("divergence", "f-DPO, Jensen-Shannon", F_DPO, B | {"score": scores.js_score}),
        Row("divergence", "chi2-PO", F_DPO, B | {"score": scores.chi_squared_score}, "2407.13399"),
        Row("divergence", "GPO", losses.gpo_loss, B | {"link": links.logistic}),
        Row("divergence", "EXO", losses.exo_loss, H),
        Row("safety", "SafeDPO's order", hierarchical.lexicographic_prefs, {}, "2505.20065"),
    ),
    "Model property": (
        Row("distribution", "reward distillation", losses.rebel_loss, B, "2405.19316"),
        Row("length", "R-DPO", losses.r_dpo_loss, B | {"alpha": 0.1}),
        Row("length", "SamPO", losses.sampled_logps),
        Row("length", "LD-DPO", losses.ld_logps, {"alpha": 0.5}),
        Row("length", "SimPO", losses.simpo_loss, {"beta": 2.0, "gamma": 1.0}),
        Row(FIT, "DPOP (Smaug)", losses.dpop_loss, B | {"penalty": 1.0}),
        Row(FIT, "APO-zero", losses.apo_zero_loss, B),
        Row(FIT, "APO-down", losses.apo_down_loss, B),
        Row(
            "alignment tax",
            "mean of checkpoints",
            reward_ensemble.average_members,
            {},
            "",
            "merge",
            averaged,
        ),
    ),
}
MISSING = {
    "Data strategy": "GDPO of groups, curri-DPO, filtered DPO, RPO, Panacea, RTO, SparsePO, DMPO",
    "Learning framework": "RSO's rejection step, VPO, BPO, OFS-DPO, SPIN, DNO, BoNBoN, SRPO, HyPO",
    "Constraint mechanism": "SACPO and C-DPO (dual ascent of a cost's weight), adversarial DPO",
    "Model property": "NS-DPO's clock (weights of pairs are data), online merging",
}


def call(row: Row) -> Any:
    """What the row's function returns on small arrays."""
    if row.run is not None:
        return row.run()
    signature = inspect.signature(row.function)
    arrays = {
        name: example(name, parameter.annotation)
        for name, parameter in signature.parameters.items()
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        and parameter.default is parameter.empty
    }
    return row.function(**arrays, **row.settings)


SIZES = {"*B": 3, "K": 4, "T": 5, "S": 5, "*N": 3, "N": 3, "G": 2, "M": 2, "n": 2}


def example(name: str, annotation: Any) -> jax.Array:
    """An array of the shape in a signature, with values that its name allows."""
    if name == "key":
        return jax.random.key(0)
    shape = tuple(SIZES[axis] for axis in annotation.dim_str.split())
    places = np.arange(int(np.prod(shape))).reshape(shape)
    kind = annotation.dtypes[0]
    if "bool" in kind:
        return jnp.asarray(places % 2 == 0) if name == "desirable" else jnp.ones(shape, bool)
    if "int" in kind:
        return jnp.asarray(1 - places % 3 if name == "outcomes" else np.full(shape, 2))
    values = 0.1 + 0.7 * (places * 0.618 % 1)
    if name in ("weights", "probs"):
        values = values / values.sum(-1, keepdims=True)
    return jnp.asarray(-values if "logps" in name else values, jnp.float32)


def place(function: Any) -> str:
    """Module and name below rlhf_jax."""
    return f"{function.__module__}.{function.__name__}".removeprefix("rlhf_jax.")
