"""A language lab: a transformer, its vocabulary, mesh and compiled functions. It knows no task."""

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from rlhf_jax.algos.gradient import init_state
from rlhf_jax.checks import check_range
from rlhf_jax.data.lengths import LengthPolicy, check_policy, fit_lengths
from rlhf_jax.data.padding import PaddedRows, pad_left, pad_right
from rlhf_jax.data.templates import ChatTemplate
from rlhf_jax.data.tokenizer import decode_rows
from rlhf_jax.models import (
    ScalarModel,
    Transformer,
    TransformerConfig,
    make_reward_model,
    make_transformer,
    make_value_model,
)
from rlhf_jax.policies.language import (
    LanguageDecoder,
    language_decoder,
    language_policy,
    language_reward,
    language_trajectory,
    language_value,
)
from rlhf_jax.recipes.experts import router_losses
from rlhf_jax.recipes.refusals import encode_named, quoted
from rlhf_jax.recipes.task import Task
from rlhf_jax.recipes.tokens import Case, TokenRow, prompt_tokens, token_rows
from rlhf_jax.sampling.decode import SamplingConfig, sample_many
from rlhf_jax.sampling.draws import First
from rlhf_jax.sharding import (
    batch_ways,
    check_mesh,
    compile_update,
    make_mesh,
    on_host,
    shard_params,
    shard_state,
    split_batch,
)
from rlhf_jax.training import UserError
from rlhf_jax.types import (
    Params,
    Policy,
    Prompts,
    RewardFn,
    Rollout,
    Trajectory,
    ValueFn,
    Vocabulary,
)

CHUNK = 128  # prompts answered at a time


@runtime_checkable
class LabDraw(Protocol):
    """Answers numbered first .. first + samples - 1 to each prompt, [B, samples]."""

    def __call__(
        self,
        params: Params,
        prompts: Prompts,
        key: jax.Array,
        samples: int,
        first: First = 0,
        *,
        sampling: SamplingConfig | None = None,
    ) -> Rollout: ...


class LanguageLab(NamedTuple):
    """Policy, reward model and critic, with what every language job does with them.

    seed: of every key. prompt_length, answer_length: P and T, the columns of prompts and answers.
    mesh: None on one device. model, scorer: the transformer under the policy and the one with a
    scalar under the reward. axes: logical axis names of the parameters of "policy", "reward" and
    "value". sampling: temperature 1, at most T tokens, unless a draw is given another.
    token_logps: `(params, trajectory) -> [*B, T]`. scores: `(reward params, trajectory) -> [*B]`.
    long_prompts, long_answers: what becomes of more than P or T tokens, see `data.lengths`.
    chat: template of prompts and answers in messages, or None.
    router_losses: of "policy", "reward" and "value" for a mixture of experts (`recipes.experts`).
    stops: strings that end an answer, by `recipes.stops.stopped_lab`.
    """

    seed: int
    vocabulary: Vocabulary
    prompt_length: int
    answer_length: int
    mesh: Mesh | None
    model: Transformer
    scorer: ScalarModel
    decoder: LanguageDecoder
    policy: Policy
    reward: RewardFn
    value: ValueFn
    axes: dict[str, Any]
    sampling: SamplingConfig
    draw: LabDraw
    token_logps: Any
    scores: Any
    long_prompts: LengthPolicy = "truncate_left"
    long_answers: LengthPolicy = "truncate_right"
    chat: ChatTemplate | None = None
    router_losses: dict[str, Any] = {}  # noqa: RUF012  # never changed
    stops: tuple[str, ...] = ()


def make_lab(
    config: TransformerConfig,
    vocabulary: Vocabulary,
    *,
    prompt_length: int,
    answer_length: int,
    seed: int = 0,
    mesh: Mesh | None = None,
    long_prompts: LengthPolicy = "truncate_left",
    long_answers: LengthPolicy = "truncate_right",
    chat: ChatTemplate | None = None,
) -> LanguageLab:
    """Everything that depends on sizes only; nothing is compiled before it is called.

    Args:
      prompt_length, answer_length: P and T >= 1.
      long_prompts, long_answers: policy for longer ones, see `data.lengths`. "drop" is carried out
        by `fitting_records`; a batch that still has a longer one is refused, as under "error".
      mesh: of the devices that share the work, e.g. `device_mesh()`; None for one device. Batches
        must then be multiples of its data axis.
      chat: how prompts and answers in messages become text, e.g. `hf.read_chat_template(folder)`.
    """
    check_range("[1, inf)", prompt_length=prompt_length, answer_length=answer_length)
    check_policy(long_prompts)
    check_policy(long_answers)
    model = make_transformer(config, mesh)
    scorer, critic = make_reward_model(config, mesh), make_value_model(config, mesh)
    policy, reward = language_policy(model), language_reward(scorer)
    decoder = language_decoder(model)
    sampling = SamplingConfig(
        max_new_tokens=answer_length, stop_ids=vocabulary.stop_ids, pad_id=vocabulary.pad_id
    )

    def token_logps(params: Params, trajectory: Trajectory) -> jax.Array:
        return policy.logps(params, trajectory.inputs, trajectory.actions)

    return LanguageLab(
        seed=seed,
        vocabulary=vocabulary,
        prompt_length=prompt_length,
        answer_length=answer_length,
        mesh=mesh,
        model=model,
        scorer=scorer,
        decoder=decoder,
        policy=policy,
        reward=reward,
        value=language_value(critic),
        axes={"policy": model.axes(), "reward": scorer.axes(), "value": critic.axes()},
        sampling=sampling,
        draw=make_draw(decoder, sampling, mesh),
        token_logps=jax.jit(token_logps),
        scores=jax.jit(reward.scores),
        long_prompts=long_prompts,
        long_answers=long_answers,
        chat=chat,
        router_losses=router_losses(config, {"policy": model, "reward": scorer, "value": critic}),
    )


def device_mesh(
    ways: Mapping[str, int] | None = None, *, config: TransformerConfig | None = None
) -> Mesh | None:
    """All devices; None if there is one.

    Args:
      ways: arguments of `make_mesh`, e.g. `parse_mesh("fsdp=8,model=4")`. None splits parameters
        and rows over as many devices as divide the width of the model, the rows alone over others.
      config: of the model, to which the mesh must fit.
    Raises:
      UserError: another number of devices, or a parameter that does not divide.
    """
    devices = jax.device_count()
    if ways is None:
        ways = {} if config is None else {"fsdp": math.gcd(devices, config.d_model)}
    try:
        mesh = make_mesh(
            data=ways.get("data"),
            fsdp=ways.get("fsdp"),
            sequence=ways.get("sequence", 1),
            model=ways.get("model", 1),
        )
        if config is not None:
            model = make_reward_model(config)
            check_mesh(model.axes(), jax.eval_shape(model.init, jax.random.key(0)), mesh)
    except ValueError as error:
        raise UserError(str(error)) from error
    return mesh if devices > 1 else None


def make_draw(decoder: LanguageDecoder, default: SamplingConfig, mesh: Mesh | None) -> LabDraw:
    """A draw that is compiled once for each shape and each `sampling`, split over the mesh."""
    run = jax.jit(partial(sample_many, decoder), static_argnames="config")

    def draw(params, prompts, key, samples, first=0, *, sampling=None):
        ids, mask = prompts.inputs
        indices = np.asarray(prompts.indices)
        numbers = np.broadcast_to(first + np.arange(samples), (len(indices), samples))
        rows = (ids, mask, indices, numbers)
        ids, mask, indices, numbers = rows if mesh is None else split_batch(rows, mesh)
        config = default if sampling is None else sampling
        return run(
            params, ids, mask, key, config=config, prompt_indices=indices, sample_indices=numbers
        )

    return draw


def stage_key(lab: LanguageLab, name: str) -> jax.Array:
    """A key of its own for each named use."""
    return jax.random.fold_in(jax.random.key(lab.seed), zlib.crc32(name.encode()))


def make_prompts(lab: LanguageLab, task: Task, indices: np.ndarray) -> Prompts:
    """The task's prompts with these numbers as the model reads them, padded left.

    Raises:
      UserError: an empty prompt without a bos_id, a special token as a word, or messages that the
        chat template cannot read; named.
    """
    names = [f"prompt {i}" for i in indices]
    padded = encode_named(partial(_padded_prompts, lab), task.texts(indices), names)
    return Prompts(tuple(padded), np.asarray(indices))


def make_trajectories(
    lab: LanguageLab,
    prompts: Sequence[Any],
    answers: Sequence[Any],
    tools: Sequence[Any] | None = None,
) -> Trajectory:
    """Texts or messages as the policy reads them, [B]; see `recipes.tokens` for what counts.

    Raises:
      UserError: as `make_prompts`, or nothing of an answer counts; it quotes the prompt.
    """
    schemas = [None] * len(prompts) if tools is None else tools
    cases = [Case(*each) for each in zip(prompts, answers, schemas, strict=True)]
    asked, given, counted = encoded_cases(partial(_padded_rows, lab), cases)
    # With a template answers may have turns of others; then all batches have the same fields.
    valid = None if lab.chat is None else given.mask
    return language_trajectory(*map(jnp.asarray, (*asked, given.ids)), counted, valid)


def encoded_cases(encode: Callable[[Sequence[Case]], Any], cases: Sequence[Case]) -> Any:
    """`encode(cases)`; UserError quotes the prompt of the first one that it refuses."""
    names = [f"the record with the prompt {quoted(case.prompt)}" for case in cases]
    return encode_named(encode, cases, names)


def _padded_prompts(lab: LanguageLab, prompts: Sequence[Any]) -> PaddedRows:
    rows = prompt_tokens(lab.vocabulary, lab.chat, prompts)
    rows = fit_lengths(rows, lab.prompt_length, _in_a_batch(lab.long_prompts)).rows
    return pad_left(rows, lab.prompt_length, pad_id=lab.vocabulary.pad_id)


def _padded_rows(
    lab: LanguageLab, cases: Sequence[Case]
) -> tuple[PaddedRows, PaddedRows, np.ndarray]:
    """Prompts, answers, and which tokens of the answers count."""
    rows, pad_id = fitted_rows(lab, cases), lab.vocabulary.pad_id
    return (
        pad_left([row.prompt for row in rows], lab.prompt_length, pad_id=pad_id),
        pad_right([row.answer for row in rows], lab.answer_length, pad_id=pad_id),
        pad_right([row.counted for row in rows], lab.answer_length).ids.astype(bool),
    )


def fitted_rows(lab: LanguageLab, cases: Sequence[Case]) -> list[TokenRow]:
    """Tokens of the cases, at most P and T of each."""
    rows = token_rows(lab.vocabulary, lab.chat, cases)

    def fitted(parts: Sequence[Sequence[int]], length: int, policy: LengthPolicy):
        return fit_lengths(parts, length, _in_a_batch(policy)).rows

    prompts = fitted([row.prompt for row in rows], lab.prompt_length, lab.long_prompts)
    answers = fitted([row.answer for row in rows], lab.answer_length, lab.long_answers)
    counted = fitted([row.counted for row in rows], lab.answer_length, lab.long_answers)
    for i, prompt in enumerate(prompts):
        if not prompt:
            raise ValueError(f"row {i}: empty prompt; begin every prompt with <bos>")
    parts = zip(prompts, answers, counted, strict=True)
    return [TokenRow(list(prompt), list(answer), list(flags)) for prompt, answer, flags in parts]


def _in_a_batch(policy: LengthPolicy) -> LengthPolicy:
    """A batch has all of its rows: none can be dropped any more."""
    return "error" if policy == "drop" else policy


def decode_texts(lab: LanguageLab, actions: jax.Array | np.ndarray) -> list[str]:
    """The text of each answer, from token ids [N, T]."""
    return decode_rows(lab.vocabulary, np.asarray(on_host(actions)).tolist(), lab.stops)


def adamw_cosine(learning_rate: float, steps: int) -> optax.GradientTransformation:
    """AdamW with a short warm-up and a cosine to a tenth, gradients clipped to norm 1."""
    check_range("(0, 1]", learning_rate=learning_rate)
    warmup = max(1, min(20, steps // 10))
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, learning_rate, warmup, max(steps, warmup + 1), 0.1 * learning_rate
    )
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule, weight_decay=0.01))


def start_training(
    lab: LanguageLab,
    params: Params,
    axes: Any,
    optimizer: optax.GradientTransformation,
    update,
    *,
    init: Any = init_state,
) -> tuple[Any, Any]:
    """The first state, `init(params, optimizer)`, and the compiled update, on the lab's mesh.

    The params are copied: the update reuses the memory of its state.
    """
    state = init(jax.tree.map(jnp.array, params), optimizer)
    if lab.mesh is None:
        return _placed(state), compile_update(update)
    check_mesh(axes, params, lab.mesh)
    shardings = shard_state(state, params, shard_params(axes, lab.mesh), lab.mesh)
    compiled = compile_update(update, mesh=lab.mesh, state_shardings=shardings)
    return jax.device_put(state, shardings), compiled


def hold_params(lab: LanguageLab, params: Params, axes: Any) -> Params:
    """The params on the lab's devices, for steps that read them again and again.

    The result of a stage is in NumPy: as an argument of a compiled function it would be transferred
    in each step. Shapes in place of arrays, as of a plan, stay as they are.
    """
    if any(isinstance(x, jax.ShapeDtypeStruct) for x in jax.tree.leaves(params)):
        return params
    if lab.mesh is None:
        return jax.tree.map(jnp.asarray, params)
    return jax.device_put(params, shard_params(axes, lab.mesh))


def _placed(state: Any) -> Any:
    """All of the state on the device of its params, if they are bound to one, as those of `hf` are.

    An update returns all of its state that way, and would be compiled again for it.
    """
    bound = [x.sharding for x in jax.tree.leaves(state) if x.committed]
    return jax.device_put(state, bound[0]) if bound else state


def check_batches(lab: LanguageLab, config: Any) -> None:
    """Raises UserError for a `batch_size` within the config that the lab's devices can't share."""
    ways = batch_ways(lab.mesh)
    for name, part in vars(config).items():
        if getattr(part, "batch_size", 0) % ways:
            raise UserError(
                f"{name}.batch_size must be a multiple of {ways}, the devices that share a batch, "
                f"got {part.batch_size}"
            )


def chunk_of(lab: LanguageLab, total: int) -> int:
    """Prompts answered at a time: CHUNK, or the fewest above `total` that the devices can share."""
    ways = batch_ways(lab.mesh)
    return min(CHUNK, ways * math.ceil(total / ways))


def wrapped(indices: np.ndarray, start: int, size: int) -> np.ndarray:
    """`size` entries from `start`, going round at the end: every chunk has one shape."""
    return np.take(indices, np.arange(start, start + size), mode="wrap")
