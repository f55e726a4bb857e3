"""The shop world with a transformer in it: models, prompts and draws, compiled once and shared."""

import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from tokenizers import Tokenizer

from rlhf_jax.algos.gradient import init_state
from rlhf_jax.checks import check_range
from rlhf_jax.data.padding import pad_left
from rlhf_jax.data.tokenizer import (
    EOS_ID,
    PAD_ID,
    decode_rows,
    encode_prompts,
    standard_vocabulary,
)
from rlhf_jax.envs import shop
from rlhf_jax.labs.size import Size
from rlhf_jax.models import (
    ScalarModel,
    Transformer,
    make_reward_model,
    make_transformer,
    make_value_model,
)
from rlhf_jax.policies.language import (
    language_decoder,
    language_policy,
    language_reward,
    language_value,
)
from rlhf_jax.sampling.decode import Rollout, SamplingConfig, sample_many
from rlhf_jax.sharding import compile_update, make_mesh, shard_params, shard_state, split_batch
from rlhf_jax.training import UserError
from rlhf_jax.types import Params, Policy, RewardFn, TrainState, ValueFn

PROMPT_LENGTH = shop.MAX_PROMPT_WORDS + 1  # the <bos>
ANSWER_LENGTH = shop.MAX_ANSWER_WORDS + 1  # the <eos>
CHUNK = 128  # prompts answered at a time


class ShopLab(NamedTuple):
    """Policy, reward model and critic with what every experiment on the shop does with them.

    seed: of the world and of every key. tokenizer: of its words. mesh: None on one device.
    model, scorer: the transformer under the policy and the one with a scalar under the reward.
    draw: `(params, ids, mask, key, indices [B], samples [B, K]) -> Rollout [B, K]`.
    token_logps: `(params, trajectory) -> [*B, T]`. scores: `(reward params, trajectory) -> [*B]`.
    axes: logical axis names of the policy's, the reward model's and the critic's parameters.
    """

    seed: int
    tokenizer: Tokenizer
    mesh: Mesh | None
    model: Transformer
    scorer: ScalarModel
    policy: Policy
    reward: RewardFn
    value: ValueFn
    axes: dict[str, Any]
    draw: Callable[..., Rollout]
    token_logps: Callable[..., jax.Array]
    scores: Callable[..., jax.Array]


class ShopPrompts(NamedTuple):
    """Prompts as the scorer and as the model reads them: ids, mask [B, P]; indices [B]."""

    prompts: list[shop.Prompt]
    ids: np.ndarray
    mask: np.ndarray
    indices: np.ndarray


def sampling_config(*, temperature: float = 1.0) -> SamplingConfig:
    """How answers of the shop are drawn: at most ANSWER_LENGTH tokens, <eos> ends them."""
    return SamplingConfig(
        max_new_tokens=ANSWER_LENGTH, temperature=temperature, stop_ids=(EOS_ID,), pad_id=PAD_ID
    )


def make_lab(tokenizer: Tokenizer, size: Size, *, seed: int, model_parallel: int = 1) -> ShopLab:
    """Everything that depends on sizes only; nothing is compiled before it is called.

    Args:
      model_parallel: devices over which each copy of the parameters is split.
    Raises:
      UserError: model_parallel does not divide the number of devices.
    """
    devices = jax.device_count()
    if devices % model_parallel:
        raise UserError(
            f"model_parallel must divide the number of devices, {devices}, got {model_parallel}"
        )
    transformer = size.transformer(vocab_size=tokenizer.get_vocab_size())
    model = make_transformer(transformer)
    scorer, critic = make_reward_model(transformer), make_value_model(transformer)
    policy, reward = language_policy(model), language_reward(scorer)
    decoder = language_decoder(model)

    @jax.jit
    def draw(params, ids, mask, key, indices, samples):
        return sample_many(
            decoder,
            params,
            ids,
            mask,
            key,
            config=sampling_config(),
            prompt_indices=indices,
            sample_indices=samples,
        )

    @jax.jit
    def token_logps(params, trajectory):
        return policy.logps(params, trajectory.inputs, trajectory.actions)

    return ShopLab(
        seed=seed,
        tokenizer=tokenizer,
        mesh=make_mesh(model=model_parallel) if devices > 1 else None,
        model=model,
        scorer=scorer,
        policy=policy,
        reward=reward,
        value=language_value(critic),
        axes={"policy": model.axes(), "reward": scorer.axes(), "value": critic.axes()},
        draw=draw,
        token_logps=token_logps,
        scores=jax.jit(reward.scores),
    )


def check_batches(lab: ShopLab, config: Any) -> None:
    """Raises UserError for a `batch_size` within the config that the lab's devices can't share."""
    ways = 1 if lab.mesh is None else lab.mesh.shape["data"]
    for name, part in vars(config).items():
        if getattr(part, "batch_size", 0) % ways:
            raise UserError(
                f"{name}.batch_size must be a multiple of {ways}, the devices that share a batch, "
                f"got {part.batch_size}"
            )


def stage_key(lab: ShopLab, name: str) -> jax.Array:
    """A key of its own for each named use."""
    return jax.random.fold_in(jax.random.key(lab.seed), zlib.crc32(name.encode()))


def make_prompts(lab: ShopLab, indices: np.ndarray) -> ShopPrompts:
    """The prompts with these numbers, padded left."""
    prompts = [shop.make_prompt(lab.seed, int(i)) for i in indices]
    rows = encode_prompts(standard_vocabulary(lab.tokenizer), [prompt.text for prompt in prompts])
    ids, mask = pad_left(rows, PROMPT_LENGTH, pad_id=PAD_ID)
    return ShopPrompts(prompts, ids, mask, np.asarray(indices))


def answer(
    lab: ShopLab, params: Params, prompts: ShopPrompts, key: jax.Array, samples: np.ndarray
) -> Rollout:
    """Answers numbered `samples` [K] to each prompt, [B, K]."""
    numbers = np.broadcast_to(samples, (len(prompts.prompts), len(samples)))
    rows = (prompts.ids, prompts.mask, prompts.indices, numbers)
    if lab.mesh is not None:
        rows = split_batch(rows, lab.mesh)
    ids, mask, indices, numbers = rows
    return lab.draw(params, ids, mask, key, indices, numbers)


def texts_of(lab: ShopLab, actions: jax.Array | np.ndarray) -> list[str]:
    """The text of each answer, from token ids [N, T]."""
    return decode_rows(standard_vocabulary(lab.tokenizer), np.asarray(actions).tolist())


def wrapped(indices: np.ndarray, start: int, size: int) -> np.ndarray:
    """`size` entries from `start`, going round at the end: every chunk has one shape."""
    return np.take(indices, np.arange(start, start + size), mode="wrap")


def gold_scores(
    lab: ShopLab, indices: np.ndarray, texts: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    """The six axes [N, 6] and the overall gold score [N] of each text."""
    found = [
        shop.score(shop.make_prompt(lab.seed, int(i)), text)
        for i, text in zip(indices, texts, strict=True)
    ]
    return np.stack([s.vector() for s in found]), np.array([s.overall for s in found])


def check_scores(indices: np.ndarray, scores: np.ndarray) -> None:
    """Stops at a reward model's score that is not finite: it would be the best or the worst of all.

    Args:
      indices, scores: [N] prompts' numbers and [N] or [N, K] scores of answers to them.
    Raises:
      UserError: naming the first such prompt.
    """
    wrong = ~np.isfinite(scores).reshape(len(indices), -1).all(-1)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise UserError(
            f"prompt {indices[row]}: the reward model's scores must be finite, got "
            f"{scores[row].tolist()} ({wrong.sum()} of {len(indices)} prompts have such scores): "
            "lower its learning rate"
        )


def adamw_cosine(learning_rate: float, steps: int) -> optax.GradientTransformation:
    """AdamW with a short warm-up and a cosine to a tenth, gradients clipped to norm 1."""
    check_range("(0, 1]", learning_rate=learning_rate)
    warmup = max(1, min(20, steps // 10))
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, learning_rate, warmup, max(steps, warmup + 1), 0.1 * learning_rate
    )
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule, weight_decay=0.01))


def start_training(
    lab: ShopLab, params: Params, axes: Any, optimizer: optax.GradientTransformation, update
) -> tuple[TrainState, Callable]:
    """The first state and the compiled update, on the mesh if there is one.

    The params are copied: the update reuses the memory of its state.
    """
    state = init_state(jax.tree.map(jnp.array, params), optimizer)
    if lab.mesh is None:
        return state, compile_update(update)
    shardings = shard_state(state, params, shard_params(axes, lab.mesh), lab.mesh)
    compiled = compile_update(update, mesh=lab.mesh, state_shardings=shardings)
    return jax.device_put(state, shardings), compiled
