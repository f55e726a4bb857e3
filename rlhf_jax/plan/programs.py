"""The programs of a method, lowered from shapes: the same updates and draws that the recipes run.

Nothing is allocated: parameters, optimizer state and batches are `jax.ShapeDtypeStruct`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding

from rlhf_jax.algos import preference as preference_update
from rlhf_jax.algos import reward_model as reward_update
from rlhf_jax.algos import sft
from rlhf_jax.algos.gradient import init_state
from rlhf_jax.algos.ppo import PPOConfig
from rlhf_jax.models import TransformerConfig
from rlhf_jax.models.transformer import Unstacked
from rlhf_jax.ops.kl import k3
from rlhf_jax.policies.language import language_trajectory, take_caches
from rlhf_jax.recipes import Fit, adamw_cosine, guarded
from rlhf_jax.recipes.lab import LanguageLab, make_lab
from rlhf_jax.recipes.methods import Penalty, grpo, ppo
from rlhf_jax.recipes.offline import step_options
from rlhf_jax.recipes.online_method import OnlineMethod, make_prepare, make_step
from rlhf_jax.recipes.rewards import ScoreScale, model_reward
from rlhf_jax.sampling.decode import sample_many
from rlhf_jax.sharding import (
    RULES,
    batch_sharding,
    check_batch,
    check_mesh,
    compile_update,
    shard_params,
    shard_state,
)
from rlhf_jax.types import (
    AnswerLogps,
    PairLoss,
    PreferenceBatch,
    PyTree,
    Rollout,
    Trajectory,
    Vocabulary,
)

STEPS = 1000  # of the schedule; it changes no shape


class Pairs(NamedTuple):
    """A loss of pairs, with what it reads; as in `algos.preference.make_update`."""

    loss: PairLoss
    logps: AnswerLogps
    reference: bool


class Workload(NamedTuple):
    """A method on a model.

    method: sft, reward, pairs, ppo, grpo or sample. batch: rows of a step: answers, pairs or
    prompts. prompt_length, answer_length: P and T. samples: answers to a prompt. parts:
    micro-batches. pairs: the loss of "pairs".
    """

    method: str
    config: TransformerConfig
    batch: int
    prompt_length: int
    answer_length: int
    samples: int = 1
    parts: int = 1
    pairs: Pairs | None = None


class Program(NamedTuple):
    """A compiled function of a method.

    lower: `() -> jax.stages.Lowered`. arguments: its abstract arguments by name, each with its
    shardings. beside: what else is in memory while it runs, likewise.
    """

    name: str
    lower: Callable[[], Any]
    arguments: dict[str, PyTree]
    beside: dict[str, PyTree] = {}  # noqa: RUF012  # never changed


def workload_programs(job: Workload, mesh: Mesh) -> list[Program]:
    """The programs of one step of a method, in the order in which they run.

    Raises:
      ValueError: the mesh does not divide the model or the batch; it names the nearest that does.
    """
    lab = abstract_lab(job, mesh)
    check_mesh(lab.axes["policy"], _shapes(lab.policy.init), mesh)
    check_batch(jax.ShapeDtypeStruct((job.batch,), jnp.int32), mesh)
    make = {"sft": _sft, "reward": _reward, "pairs": _pairs, "sample": _sample}
    return make.get(job.method, _online)(job, lab)


def abstract_lab(job: Workload, mesh: Mesh) -> LanguageLab:
    """The lab of the recipes, without a tokenizer."""
    vocabulary = Vocabulary(tokenizer=None, pad_id=0, bos_id=None, stop_ids=(1,))
    return make_lab(
        job.config,
        vocabulary,
        prompt_length=job.prompt_length,
        answer_length=job.answer_length,
        mesh=mesh,
    )


def abstract_answers(job: Workload, *lead: int) -> Trajectory:
    """Shapes of answers with these leading axes."""

    def rows() -> Trajectory:
        sizes = [(*lead, size) for size in (job.prompt_length, job.answer_length)]
        asked, given = (jnp.zeros(size, jnp.int32) for size in sizes)
        asked_mask, given_mask = (jnp.ones(size, bool) for size in sizes)
        return language_trajectory(asked, asked_mask, given, given_mask)

    return jax.eval_shape(rows)


def _sft(job: Workload, lab: LanguageLab) -> list[Program]:
    optimizer = _optimizer()
    update = sft.make_update(lab.policy, optimizer, **step_options(lab, _fit(job)))
    params = _shapes(lab.policy.init)
    batch = abstract_answers(job, job.batch)
    return [_step(lab, update, params, lab.axes["policy"], optimizer, batch)]


def _reward(job: Workload, lab: LanguageLab) -> list[Program]:
    optimizer = _optimizer()
    options = step_options(lab, _fit(job), "reward")
    update = reward_update.make_update(lab.reward, optimizer, **options)
    answers = abstract_answers(job, job.batch)
    batch = PreferenceBatch(answers, answers)
    params = _shapes(lab.reward.init)
    return [_step(lab, update, params, lab.axes["reward"], optimizer, batch)]


def _pairs(job: Workload, lab: LanguageLab) -> list[Program]:
    assert job.pairs is not None
    loss, logps, reference = job.pairs
    optimizer = _optimizer()
    options: dict[str, Any] = {"logps": logps, "reference": reference}
    options |= step_options(lab, _fit(job))
    update = preference_update.make_update(lab.policy, optimizer, loss, **options)
    answers = abstract_answers(job, job.batch)
    known: Any = jax.ShapeDtypeStruct((job.batch,), jnp.float32) if reference else None
    batch = PreferenceBatch(answers, answers, known, known)
    params = _shapes(lab.policy.init)
    return [_step(lab, update, params, lab.axes["policy"], optimizer, batch)]


def _online(job: Workload, lab: LanguageLab) -> list[Program]:
    """Draw, score, step: a reward model of the policy's size, and the reference in memory."""
    optimizer = _optimizer()
    policy, reward_params = _shapes(lab.policy.init), _shapes(lab.reward.init)
    method = online_method(job, lab)
    trained = jax.eval_shape(method.start, policy)
    params = _placed(lab, policy, "policy")
    reward = model_reward(lab, _placed(lab, reward_params, "reward"), ScoreScale(0.0, 1.0))
    held = {"reference": params, "reward model": reward.params["model"]}
    rollout, draw = _draw(job, lab, params)
    prepare = make_prepare(lab, method, reward)
    beta = jax.ShapeDtypeStruct((), jnp.float32)
    placed = jax.tree.map(_sharded, trained, shard_params(method.axes, _mesh(lab)))
    scoring = (placed, params, reward.params, (), rollout, beta)
    batch = jax.eval_shape(prepare, *scoring)[0]
    key = jax.eval_shape(jax.random.key, 0)
    update = make_step(lab, method, optimizer, parts=job.parts)
    step = _step(lab, update, trained, method.axes, optimizer, (batch, ()), key, held=held)
    state = {name: step.arguments[name] for name in ("parameters", "optimizer")}
    critic = {} if method.policy(trained) is trained else {"critic": placed.value}
    score = Program(
        "score",
        lambda: jax.jit(prepare).lower(*scoring),
        {"parameters": placed, **held, "batch": rollout},
        {"optimizer": state["optimizer"]},
    )
    beside = {"optimizer": state["optimizer"], **critic, **held}
    return [Program(*draw, beside), score, step]


def online_method(job: Workload, lab: LanguageLab) -> OnlineMethod:
    """PPO with a critic, or GRPO with the KL in its loss, as the commands build them."""
    if job.method == "grpo":
        return grpo(lab, samples=job.samples, kl=Penalty(0.04, k3))
    config = PPOConfig(whiten_advantages=job.parts == 1)
    return ppo(lab, config, _shapes(lab.value.init))


def _draw(job: Workload, lab: LanguageLab, params: PyTree) -> tuple[Rollout, tuple]:
    """The rollout [B, K], and name, lowering and arguments of the program that draws it."""
    run = partial(sample_many, lab.decoder)
    shapes = [((job.batch, job.prompt_length), jnp.int32), ((job.batch, job.prompt_length), bool)]
    ids, mask = (jax.ShapeDtypeStruct(*each) for each in shapes)
    indices = jax.ShapeDtypeStruct((job.batch,), jnp.int32)
    numbers = jax.ShapeDtypeStruct((job.batch, job.samples), jnp.int32)
    rows = _rows(lab, (ids, mask, indices, numbers))
    key = jax.eval_shape(jax.random.key, 0)
    ids, mask, indices, numbers = rows
    options = {"config": lab.sampling, "prompt_indices": indices, "sample_indices": numbers}
    jitted = jax.jit(run, static_argnames="config")
    rollout = jax.eval_shape(
        partial(run, config=lab.sampling),
        params,
        ids,
        mask,
        key,
        **{name: options[name] for name in ("prompt_indices", "sample_indices")},
    )
    arguments = {"parameters": params, "batch": rows}
    lower = partial(jitted.lower, params, ids, mask, key, **options)
    return _rows(lab, rollout), ("draw", lower, arguments)


def _sample(job: Workload, lab: LanguageLab) -> list[Program]:
    """Reading the prompts, and one token of every answer."""
    params = _placed(lab, _shapes(lab.policy.init), "policy")
    prompt = (job.batch, job.prompt_length)
    ids, mask = (jax.ShapeDtypeStruct(prompt, kind) for kind in (jnp.int32, bool))
    ids, mask = _rows(lab, (ids, mask))
    decoder, length = lab.decoder, job.prompt_length + job.answer_length

    def read_prompts(params: PyTree, ids: Any, mask: Any) -> PyTree:
        caches = decoder.prefill(decoder.read(params), ids, mask, length)
        return take_caches(caches, jnp.repeat(jnp.arange(job.batch), job.samples))

    cache = _rows(lab, jax.eval_shape(read_prompts, params, ids, mask))
    last = _rows(lab, (jax.ShapeDtypeStruct((job.batch * job.samples,), jnp.int32),) * 2)
    weights = _for_decoding(lab, jax.eval_shape(decoder.read, params))
    step = jax.jit(decoder.step, donate_argnums=1)
    return [
        Program(
            "prefill",
            lambda: jax.jit(read_prompts).lower(params, ids, mask),
            {"parameters": params, "batch": (ids, mask)},
        ),
        Program(
            "decode",
            lambda: step.lower(weights, cache, *last),
            {
                "parameters": weights.params,
                "unstacked": weights.layers,
                "cache": cache,
                "batch": last,
            },
        ),
    ]


def _for_decoding(lab: LanguageLab, weights: Unstacked) -> Unstacked:
    """What `decoder.read` leaves: split over "model" alone, but for the stack of layers."""
    axes, mesh = lab.axes["policy"], _mesh(lab)
    stack, rules = axes["trunk"]["layers"], {**RULES, "embed": None}
    inner = jax.tree.map(lambda names: names[1:], stack, is_leaf=lambda x: isinstance(x, tuple))
    whole = shard_params(axes, mesh, rules)
    whole["trunk"]["layers"] = shard_params(stack, mesh)
    layers = shard_params(inner, mesh, rules)
    return Unstacked(
        _with_shardings(weights.params, whole),
        tuple(_with_shardings(each, layers) for each in weights.layers),
    )


def _step(
    lab: LanguageLab,
    update: Any,
    params: PyTree,
    axes: PyTree,
    optimizer: Any,
    batch: PyTree,
    *rest: Any,
    held: dict[str, PyTree] | None = None,
) -> Program:
    """The compiled update that `start_training` gives, on shapes."""
    state = jax.eval_shape(lambda params: init_state(params, optimizer), params)
    shardings = shard_state(state, params, shard_params(axes, _mesh(lab)), _mesh(lab))
    compiled = compile_update(update, mesh=_mesh(lab), state_shardings=shardings)
    placed = _with_shardings(state, shardings)
    arguments = {
        "parameters": placed.params,
        "optimizer": placed.opt_state,
        "batch": _rows(lab, batch),
    }
    return Program("step", lambda: compiled.lower(state, batch, *rest), arguments, held or {})


def _mesh(lab: LanguageLab) -> Mesh:
    assert lab.mesh is not None
    return lab.mesh


def _optimizer() -> Any:
    return guarded(adamw_cosine(1e-5, STEPS))


def _fit(job: Workload) -> Fit:
    return Fit(_optimizer(), STEPS, parts=job.parts)


def _shapes(init: Callable[[jax.Array], PyTree]) -> PyTree:
    """Parameters as shapes."""
    return jax.eval_shape(init, jax.random.key(0))


def _placed(lab: LanguageLab, params: PyTree, part: str) -> PyTree:
    """Parameters of a part of the lab with their shardings."""
    return _with_shardings(params, shard_params(lab.axes[part], _mesh(lab)))


def _with_shardings(tree: PyTree, shardings: PyTree) -> PyTree:
    """One sharding may stand for a whole part of the tree."""
    return jax.tree.map(
        lambda one, part: jax.tree.map(lambda x: _sharded(x, one), part), shardings, tree
    )


def _sharded(x: jax.ShapeDtypeStruct, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)


def _rows(lab: LanguageLab, batch: PyTree) -> PyTree:
    """A batch split over the devices as `split_batch` does it."""
    return jax.tree.map(lambda x: _sharded(x, batch_sharding(x, _mesh(lab))), batch)


def bytes_per_chip(tree: PyTree) -> int:
    """Of arrays with shardings; () and typed keys count nothing."""

    def size(x: Any) -> int:
        shape = x.shape if x.sharding is None else x.sharding.shard_shape(x.shape)
        return int(np.prod(shape)) * x.dtype.itemsize

    return sum(size(x) for x in jax.tree.leaves(tree))
