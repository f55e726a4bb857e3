"""The methods that are compared, three or more from each dimension of the survey."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy.special import expit, xlogy

from experiments.dpo_survey.config import Config
from rlhf_jax import losses
from rlhf_jax.algos import preference, unpaired
from rlhf_jax.algos.gradient import init_state
from rlhf_jax.algos.moving_reference import init_moving_reference, make_moving_reference_update
from rlhf_jax.losses.preference.scores import chi_squared_score
from rlhf_jax.policies.tabular import tabular_policy
from rlhf_jax.types import PairLoss, Params, PreferenceBatch

# (config, log-probs, reference log-probs [N, S, A]) -> [N, S, A, A] weight of each pair to ask for.
Asking = Callable[[Config, np.ndarray, np.ndarray], np.ndarray]


class Trainer(NamedTuple):
    """init: `ref_logits -> state`; update: `(state, batch) -> (state, metrics)`; params: of it."""

    init: Callable[[Params], Any]
    update: Callable[[Any, PreferenceBatch], tuple[Any, Any]]
    params: Callable[[Any], Params]


class Variant(NamedTuple):
    """dimension: of the survey. train: `config -> Trainer`. asks: which pairs it has labelled after
    the first round; None for pairs drawn once, uniformly."""

    dimension: str
    train: Callable[[Config], Trainer]
    asks: Asking | None = None


def variants() -> dict[str, Variant]:
    """By name, in the order of the page."""
    return basic() | data() | framework() | constraint() | properties()


def basic() -> dict[str, Variant]:
    """DPO, and what it is compared with."""
    return {
        "DPO": Variant("basic", lambda c: pairs(c, ratios(losses.dpo_loss, beta=c.beta))),
        "hinge": Variant("basic", lambda c: pairs(c, ratios(losses.hinge_dpo_loss, beta=c.beta))),
        "SFT": Variant("basic", lambda c: pairs(c, likelihood)),
    }


def data() -> dict[str, Variant]:
    """Data strategy: noise, labels of single answers, other ways to read a pair."""
    noisy = {"cDPO": losses.cdpo_loss, "rDPO": losses.robust_dpo_loss}
    return {name: Variant("data", partial(_noisy, loss)) for name, loss in noisy.items()} | {
        "ROPO": Variant(
            "data", lambda c: pairs(c, ratios(losses.ropo_loss, beta=c.beta, alpha=6.0))
        ),
        "IPO": Variant("data", lambda c: pairs(c, ratios(losses.ipo_loss, beta=c.beta))),
        "NCA": Variant("data", lambda c: pairs(c, ratios(losses.nca_loss, beta=c.beta))),
        "KTO": Variant("data", kto),
    }


def framework() -> dict[str, Variant]:
    """Learning framework: SFT in the same step, self-play, pairs of the policy's own, chosen."""
    return {
        "CPO": Variant("framework", lambda c: pairs(c, cpo(c.beta))),
        "ORPO": Variant("framework", lambda c: pairs(c, means(losses.orpo_loss, c.odds_weight))),
        "SPPO": Variant(
            "framework", lambda c: pairs(c, ratios(losses.sppo_hard_loss, beta=c.beta))
        ),
        "online DPO": Variant("framework", basic()["DPO"].train, asks=own_answers),
        "active DPO": Variant("framework", basic()["DPO"].train, asks=uncertain),
    }


def constraint() -> dict[str, Variant]:
    """Constraint mechanism: no reference, one that moves, other divergences."""
    chi = partial(losses.f_dpo_loss, score=chi_squared_score)
    exo = partial(losses.exo_loss, label_smoothing=0.001)
    return {
        "SimPO": Variant(
            "constraint",
            lambda c: pairs(c, means(losses.simpo_loss, c.simpo_beta, gamma=c.simpo_gamma)),
        ),
        "TR-DPO": Variant("constraint", tr_dpo),
        "chi2-PO": Variant("constraint", lambda c: pairs(c, ratios(chi, beta=c.beta))),
        "EXO": Variant("constraint", lambda c: pairs(c, ratios(exo, beta=c.beta))),
    }


def properties() -> dict[str, Variant]:
    """Model property: length, and the likelihood of the chosen answer."""
    return {
        "R-DPO": Variant("property", lambda c: pairs(c, r_dpo(c.beta, c.length_price))),
        "DPOP": Variant(
            "property",
            lambda c: pairs(c, ratios(losses.dpop_loss, beta=c.beta, penalty=c.penalty)),
        ),
        "APO-down": Variant(
            "property", lambda c: pairs(c, ratios(losses.apo_down_loss, beta=c.beta))
        ),
    }


# ---- Losses of a pair, with the lengths of both answers beside the log-probs.


def ratios(loss: Callable[..., Any], **numbers: float) -> PairLoss:
    """A loss of log-probs under policy and reference."""

    def of_ratios(chosen, rejected, ref_chosen, ref_rejected, *, chosen_lengths, rejected_lengths):
        return loss(chosen, rejected, ref_chosen, ref_rejected, **numbers)

    return of_ratios


def means(loss: Callable[..., Any], beta: float, **numbers: float) -> PairLoss:
    """A loss of log-probs per token, without a reference."""

    def of_means(chosen, rejected, *refs, chosen_lengths, rejected_lengths):
        return loss(chosen / chosen_lengths, rejected / rejected_lengths, beta=beta, **numbers)

    return of_means


def r_dpo(beta: float, price: float) -> PairLoss:
    """R-DPO, which reads the difference of the lengths."""

    def of_lengths(chosen, rejected, *refs, chosen_lengths, rejected_lengths):
        gaps = chosen_lengths - rejected_lengths
        return losses.r_dpo_loss(chosen, rejected, *refs, gaps, beta=beta, alpha=price)

    return of_lengths


def cpo(beta: float) -> PairLoss:
    """CPO with its likelihood of the chosen answer."""

    def of_sums(chosen, rejected, *refs, chosen_lengths, rejected_lengths):
        return losses.cpo_loss(chosen, rejected, beta=beta) + losses.sft_loss(chosen)

    return of_sums


def likelihood(chosen, rejected, *refs, chosen_lengths, rejected_lengths):
    """Supervised training on the chosen answers."""
    return losses.sft_loss(chosen)


# ---- Ways to train.


def pairs(config: Config, loss: PairLoss) -> Trainer:
    """The usual update on pairs."""
    policy, optimizer = tabular_policy(config.prompts, config.answers), optax.adam(config.rate)
    update = preference.make_update(policy, optimizer, loss)
    return Trainer(lambda ref: init_state(ref, optimizer), update, lambda state: state.params)


def _noisy(loss: Callable[..., Any], config: Config) -> Trainer:
    return pairs(config, ratios(loss, beta=config.beta, label_smoothing=config.flip_rate))


def tr_dpo(config: Config) -> Trainer:
    """DPO with a reference that follows."""
    policy, optimizer = tabular_policy(config.prompts, config.answers), optax.adam(config.rate)
    loss = ratios(losses.dpo_loss, beta=config.beta)
    update = make_moving_reference_update(policy, optimizer, loss, rate=config.follow)
    return Trainer(
        lambda ref: init_moving_reference(ref, ref, optimizer),
        update,
        lambda state: state.train.params,
    )


def kto(config: Config) -> Trainer:
    """KTO at z0 = 0: a pair is one good and one bad answer."""
    policy, optimizer = tabular_policy(config.prompts, config.answers), optax.adam(config.rate)
    loss: Any = partial(losses.kto_loss, kl=0.0, beta=config.beta)
    update = unpaired.make_update(policy, optimizer, loss)

    def step(state, batch: PreferenceBatch):
        return update(state, single_answers(batch))

    return Trainer(lambda ref: init_state(ref, optimizer), step, lambda state: state.params)


def single_answers(batch: PreferenceBatch) -> unpaired.UnpairedBatch:
    """Both answers of each pair, [2, *B]: the chosen one is good."""
    weights = jnp.stack([jnp.asarray(batch.weights)] * 2)
    return unpaired.UnpairedBatch(
        answers=jax.tree.map(lambda *x: jnp.stack(x), batch.chosen, batch.rejected),
        labels=jnp.stack([jnp.ones(weights.shape[1:], bool), jnp.zeros(weights.shape[1:], bool)]),
        ref_logps=jnp.stack(
            [jnp.asarray(batch.ref_chosen_logps), jnp.asarray(batch.ref_rejected_logps)]
        ),
        weights=weights,
    )


# ---- Pairs that a method asks for, from its log-probs [N, S, A].


def own_answers(config: Config, logps: np.ndarray, ref_logps: np.ndarray) -> np.ndarray:
    """Two different answers of the policy to a prompt drawn uniformly."""
    probs = np.exp(logps)
    both = probs[..., :, None] * probs[..., None, :] * ~np.eye(logps.shape[-1], dtype=bool)
    return both / both.sum((-1, -2), keepdims=True)


def uncertain(config: Config, logps: np.ndarray, ref_logps: np.ndarray) -> np.ndarray:
    """The half of all pairs in whose label the policy's entropy is largest, uniformly."""
    values = config.beta * (logps - ref_logps)
    wins = expit(values[..., :, None] - values[..., None, :])
    entropy = -xlogy(wins, wins) - xlogy(1 - wins, 1 - wins)
    different = np.broadcast_to(~np.eye(logps.shape[-1], dtype=bool), wins.shape)
    middle = np.array([np.median(x[d]) for x, d in zip(entropy, different, strict=True)])
    return different * (entropy >= middle[:, None, None, None])
