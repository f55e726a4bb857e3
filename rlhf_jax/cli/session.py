"""What every training command does around its recipe: model and lab, run folder, results."""

import importlib
import re
import shutil
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from rlhf_jax.cli.arguments import flat
from rlhf_jax.cli.options import Adapter, Model, Output, Sampling
from rlhf_jax.cli.processes import NAMES
from rlhf_jax.data.chat import with_turn_end
from rlhf_jax.hf import Pretrained, load_model, read_config, save_model
from rlhf_jax.hf.vocabulary import read_chat_template, read_vocabulary
from rlhf_jax.models import LoRAConfig, TransformerConfig, make_lora
from rlhf_jax.policies.language import language_reward
from rlhf_jax.recipes import (
    LanguageLab,
    device_mesh,
    fitting_records,
    lora_lab,
    make_lab,
    on_trunk,
    stage_key,
)
from rlhf_jax.recipes.lab import check_batches
from rlhf_jax.recipes.lengths import FittingRecords
from rlhf_jax.recipes.rows import Records
from rlhf_jax.sampling.decode import SamplingConfig
from rlhf_jax.sharding import parse_mesh
from rlhf_jax.training import (
    Run,
    UserError,
    open_run,
    reading_input,
    run_seconds,
    run_stage,
    stop_on_signals,
    tree_digest,
)
from rlhf_jax.training.checkpoints import write_json
from rlhf_jax.training.processes import check_same, on_first, process
from rlhf_jax.types import Params, Vocabulary

# Options of where a run goes and is computed, not of what it computes.
SESSION = ("out", "resume", "log", *NAMES)


def open_model(options: Model) -> Pretrained:
    """The model of a command, with its vocabulary and chat template.

    Raises:
      UserError: the folder has no model that can be read.
    """
    with reading_input():
        config = read_config(options.model)  # of what is wrong with a folder, it says the most
        vocabulary, chat = read_vocabulary(options.model), read_chat_template(options.model)
        base = load_model(
            options.model,
            mesh=open_mesh(options, config),
            dtype=options.dtype,
            param_dtype=options.param_dtype or options.dtype,
        )
    try:
        vocabulary = vocabulary if chat is None else with_turn_end(vocabulary, chat)
    except ValueError as error:
        raise UserError(f"{options.model}: {error}; repair its template or delete it") from error
    return base._replace(vocabulary=vocabulary, chat=chat)


def open_mesh(options: Model, config: TransformerConfig) -> Mesh | None:
    """The mesh of --mesh, or one that fits the model; None on one device.

    Raises:
      UserError: the mesh is not written as one, or does not fit devices or model.
    """
    with reading_input():
        ways = None if options.mesh is None else parse_mesh(options.mesh)
    try:
        return device_mesh(ways, config=config)
    except UserError as error:
        raise UserError(f"--mesh: {error}") from error


def vocabulary_of(base: Pretrained) -> Vocabulary:
    """Of a model that `open_model` read."""
    assert base.vocabulary is not None
    return base.vocabulary


def open_lab(
    options: Any,
    base: Pretrained,
    files: Sequence[tuple[Path | str, Sequence[dict]]],
    *,
    answers: bool = True,
) -> tuple[LanguageLab, list[Records]]:
    """A lab with as many columns as the files need, and the records of each that it reads.

    A note for each file says how many are dropped or cut by the policies of the options.

    Args:
      options: with a part `model`.
      files: names and all of their records, with a "prompt" and answers if they have any.
      answers: False for records of prompts: the lab then has columns for the longest answer.
    Raises:
      UserError: a record that is too long under "error", or no records left.
    """
    lab = make_lab(
        replace(base.config, remat=options.model.remat),
        vocabulary_of(base),
        prompt_length=options.model.prompt_length,
        answer_length=options.model.answer_length,
        seed=options.model.seed,
        mesh=open_mesh(options.model, base.config),
        long_prompts=options.model.long_prompts,
        long_answers=options.model.long_answers,
        chat=base.chat,
    )
    check_batches(lab, options)
    rows = {str(name): len(records) for name, records in files}
    check_same("its data or mesh", {"rows": rows, "mesh": lab.mesh and dict(lab.mesh.shape)})
    found = [_fitting(lab, name, records, answers) for name, records in files]
    for one, (name, _) in zip(found, files, strict=True):
        tokens = one.total if answers else one.longest[0] + lab.answer_length
        _check_positions(base, name, tokens)
    prompt, answer = (max(each) for each in zip(*(one.longest for one in found), strict=True))
    answer = answer if answers else lab.answer_length
    limit = base.config.max_positions
    if limit is not None and prompt + answer > limit:
        print(f"note: rows of up to {prompt + answer} tokens; the model was made for {limit}")
    kept: list[Records] = [one.records for one in found]
    if not answers:
        pairs = zip(found, files, strict=True)
        kept = [[rows[i] for i in one.kept] for one, (_, rows) in pairs]
    return lab._replace(prompt_length=prompt, answer_length=answer), kept


def _fitting(
    lab: LanguageLab, name: Path | str, records: Sequence[dict], answers: bool
) -> FittingRecords:
    """The records that the lab reads by its policies, with a note."""
    rows = records if answers else [{"prompt": row["prompt"], "answer": "."} for row in records]
    try:
        with reading_input():
            found = fitting_records(lab, rows)
    except UserError as error:
        raise UserError(f"{name}: {_as_flags(str(error))}") from error
    counts = {
        "{} dropped": found.dropped,
        f"{{}} prompts cut to {lab.prompt_length} tokens": found.prompts,
        f"{{}} answers cut to {lab.answer_length} tokens": found.answers,
    }
    if parts := [text.format(count) for text, count in counts.items() if count]:
        print(f"note: {name}: {len(records)} rows, of the too long ones {', '.join(parts)}")
    return found


def _check_positions(base: Pretrained, name: Path | str, tokens: int) -> None:
    """UserError for a row that is longer than the model can be."""
    limit = base.config.position_limit
    if limit is not None and tokens > limit:
        raise UserError(
            f"{name}: a prompt with its answer has up to {tokens} tokens, and the model has "
            f"{limit} positions: lower --prompt-length or --answer-length"
        )


def _as_flags(message: str) -> str:
    """Names of a lab's lengths and policies as those of the options."""
    return re.sub(r"\b(prompt|answer)_length|\blong_(prompts|answers)\b", _flag, message)


def _flag(found: re.Match[str]) -> str:
    return "--" + found[0].replace("_", "-")


@contextmanager
def open_session(command: str, options: Any, output: Output) -> Generator[Run, None, None]:
    """The run of a command, with its config.json and trackers; signals ask it to stop."""
    facts = {name: value for name, value in flat(options).items() if name not in SESSION}
    libraries = {name: _library(name) for name in output.log}
    with ExitStack() as held:
        stop = held.enter_context(stop_on_signals())
        run = held.enter_context(
            open_run(
                output.out,
                slug=command,
                config=facts,
                resume=output.resume,
                stop=stop,
                progress=True,
            )
        )
        if process() == 0:
            write_json(output.out / "config.json", {"command": command, "options": facts})
            for library in libraries.values():
                run.writer.trackers.append(_tracker(library, output.out, facts, held))
        yield run


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(f"--log {name} needs the package {name}: pip install {name}") from error


def _tracker(
    library: Any, out: Path, facts: dict[str, Any], held: ExitStack
) -> Callable[[str, int, dict[str, float]], None]:
    """Sends metrics to wandb or trackio, two libraries with the same interface."""
    session = library.init(project="rlhf_jax", name=out.name, config=facts)
    held.callback(library.finish)
    return lambda stage, step, values: session.log(
        {f"{stage}/{key}": value for key, value in values.items()}, step=step
    )


def finish(
    run: Run,
    base: Pretrained,
    params: Params,
    *,
    numbers: Mapping[str, Mapping[str, Any]],
    stage: str,
    beside: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Writes OUT/model, summary.json and report.html, and prints the numbers.

    Args:
      numbers: name of a measurement -> "before" and "after", numbers or [mean, low, high].
      beside: "numbers" that are measured after the training only, and "reliability": name ->
        number of "pairs" and "bins", as of `calibration_error`.
    """
    # Here, because matplotlib takes a second to import, and the first step need not wait for it.
    from rlhf_jax.cli.pages import write_report

    later = {name: {"after": value} for name, value in beside.get("numbers", {}).items()}
    numbers = {name: dict(found) for name, found in {**numbers, **later}.items()}
    _write_model(run.out / "model", base._replace(params=jax.tree.map(jnp.asarray, params)))
    summary = {
        "command": run.slug,
        "options": run.config,
        "numbers": numbers,
        "reliability": beside.get("reliability", {}),
        "reference_sha256": tree_digest(base.params),
        "model_sha256": tree_digest(params),
        "seconds": run_seconds(run),
        "compiled": run.compiles.as_json(),
        "seconds_by_part": run.clock.totals,
        "environments": run.environments,
    }
    if process() != 0:
        return
    write_json(run.out / "summary.json", summary)
    write_report(run.out, summary, stage=stage)
    print("\n".join([run.compiles.note(), *run.clock.notes()]))
    for name, found in numbers.items():
        print(f"{name}: " + ", ".join(f"{when} {shown(x)}" for when, x in found.items()))
    print(f"model: {run.out / 'model'}\nreport: {run.out / 'report.html'}")


def _write_model(folder: Path, model: Pretrained) -> None:
    """Writes the model's folder, unless it is there."""

    def is_missing() -> bool:
        if (folder / "config.json").is_file():  # the file that is written last
            return False
        shutil.rmtree(folder, ignore_errors=True)
        return True

    if on_first(is_missing):
        save_model(folder, model)


class Start(NamedTuple):
    """Where a training starts; for a policy that is also the reference.

    lab: of `params`, which are the model's or adapters. merge: them -> params of the model.
    """

    lab: LanguageLab
    params: Params
    merge: Callable[[Params], Params]


def start_policy(options: Adapter, lab: LanguageLab, base: Pretrained) -> Start:
    """The model itself, or adapters that leave it as it is.

    Raises:
      UserError: a pattern of targets that matches no matrix.
    """
    return _start(options, lab, base.params, "policy")


def start_reward(options: Adapter, lab: LanguageLab, base: Pretrained) -> Start:
    """A new head on the model's trunk: both are trained, or the head and adapters of the trunk.

    The head has no bias, as that of a sequence classifier.

    Raises:
      UserError: a pattern of targets that matches no matrix.
    """
    first = on_trunk(lab, base.params, stage_key(lab, "reward"))
    return _start(options, without_bias(lab), first, "reward")


def without_bias(lab: LanguageLab) -> LanguageLab:
    """The lab with scores that ignore the bias of their head, which then stays 0."""

    def scalars(params: Params, *inputs: jax.Array) -> jax.Array:
        head = {**params["head"], "bias": jnp.zeros_like(params["head"]["bias"])}
        return lab.scorer.scalars({**params, "head": head}, *inputs)

    scorer = lab.scorer._replace(scalars=scalars)
    reward = language_reward(scorer)
    return lab._replace(scorer=scorer, reward=reward, scores=jax.jit(reward.scores))


def _start(
    options: Adapter, lab: LanguageLab, params: Params, part: Literal["policy", "reward"]
) -> Start:
    """These params, or adapters of them; a head of scores is trained whole."""
    if not options.lora_rank:
        return Start(lab, params, lambda trained: trained)
    config = LoRAConfig(
        rank=options.lora_rank,
        alpha=options.lora_alpha,
        targets=options.lora_targets,
        trained=("head/*",) if part == "reward" else (),
    )
    with reading_input():
        lora = make_lora(config, lab.axes[part])
    small = lora_lab(lab, lora, params, part=part)
    adapter = getattr(small, part).init(stage_key(lab, "lora"))
    sizes = [sum(x.size for x in jax.tree.leaves(each)) for each in (adapter, params)]
    print(f"adapters: {sizes[0]} parameters, {sizes[0] / sizes[1]:.1%} of the model's {sizes[1]}")
    # The result of a stage is in NumPy.
    return Start(
        small, adapter, lambda trained: lora.merge(params, jax.tree.map(jnp.asarray, trained))
    )


def sampling_of(lab: LanguageLab, options: Sampling) -> SamplingConfig:
    """How a lab draws with these options."""
    return replace(
        lab.sampling,
        max_new_tokens=lab.answer_length,
        temperature=options.temperature,
        top_k=options.top_k,
        top_p=options.top_p,
        rows=options.decode_rows or None,
    )


def new_file(path: Path | None) -> None:
    """UserError unless the file of --out, if there is one, can be written and is not there yet."""
    if path is None:
        return
    if path.exists():
        raise UserError(f"{path} exists: choose another --out")
    if not path.parent.is_dir():
        raise UserError(f"{path}: no such folder {path.parent}: make it or choose another --out")


def shown(value: Any) -> str:
    """0.61 [0.58, 0.64], or one number."""
    if isinstance(value, list | tuple):
        mean, low, high = value
        return f"{mean:.4g} [{low:.4g}, {high:.4g}]"
    return f"{value:.4g}"


def measured(run: Run, name: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """JSON numbers as a stage of their own, which a resumed run does not measure again."""
    return run_stage(run, name, lambda stage: ({}, work())).info
