"""`rlhf serve`: an OpenAI-compatible server of a language model, a reward model or both."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from rlhf_jax.checks import check_fields
from rlhf_jax.cli.options import Dtype
from rlhf_jax.cli.reward_folders import open_reward, text_scores
from rlhf_jax.cli.reward_lab import LONGEST
from rlhf_jax.data.chat import with_turn_end
from rlhf_jax.hf import load_model
from rlhf_jax.labelling import is_loopback
from rlhf_jax.models import make_transformer
from rlhf_jax.recipes.buckets import token_lengths
from rlhf_jax.rewards.checked import need_package
from rlhf_jax.serving import Engine, Reads, Served, make_engine
from rlhf_jax.serving.served import Score
from rlhf_jax.sharding import make_mesh
from rlhf_jax.training import UserError, reading_input

TOKEN = "RLHF_SERVE_TOKEN"
USUAL = 4096  # tokens of a prompt and its answer, where config.json allows more


@dataclass(frozen=True, kw_only=True)
class Serve:
    """A server with the interface of OpenAI; any other address than loopback needs a token.

    /v1/models, /v1/completions, /v1/chat/completions with --model; /v1/reward, /v1/score, /score
    with --reward. Ctrl-C stops it.
    """

    model: Path | None = None
    """Hugging Face folder of a language model."""
    reward: Path | None = None
    """Hugging Face folder of a reward model."""
    name: str | None = None
    """Of the model in requests; by default that of the folder."""
    host: str = "127.0.0.1"
    """Address to listen at."""
    port: int = 8000
    """0 takes a free one."""
    token: str | None = None
    """What clients must send as their API key; or set RLHF_SERVE_TOKEN, which ps does not show."""
    context: int | None = None
    """Tokens of a prompt and its answer, at most; by default as config.json says, up to 4096."""
    batch: int = 16
    """Answers that are decoded together, at most."""
    dtype: Dtype = "float32"
    """Of the parameters, matrix products and caches."""
    model_parallel: int = 1
    """Devices that share the parameters."""

    def __post_init__(self) -> None:
        check_fields(self, "[0, 65535]", "port")
        check_fields(self, "[1, 1024]", "batch")
        check_fields(self, "[1, inf)", "model_parallel")
        if self.context is not None:
            check_fields(self, "[2, inf)", "context")


def serve(command: str, options: Serve) -> None:
    """Serves until it is stopped."""
    with reading_input():
        need_package("uvicorn", extra="serve")
    token = options.token or os.environ.get(TOKEN)
    if token is None and not is_loopback(options.host):
        raise UserError(
            f"--host {options.host} can be reached from other computers: give a --token, or set "
            f"{TOKEN}"
        )
    folder = options.model or options.reward
    if folder is None:
        raise UserError("rlhf serve needs --model FOLDER, --reward FOLDER or both")
    from rlhf_jax.serving.server import listen, make_server, run_server, url_of

    with reading_input():
        listening = listen(options.host, options.port)
    with listening:
        served = Served(options.name or folder.resolve().name, token=token)
        if options.model is not None:
            engine, reads = open_engine(options.model, options, batch=options.batch)
            served = served._replace(engine=engine, reads=reads)
        if options.reward is not None:
            served = served._replace(score=reward_score(options.reward))
        print(f"serving {served.name} at {url_of(listening)}/v1", flush=True)
        run_server(make_server(served), listening)


def open_engine(folder: Path, options: Any, *, batch: int) -> tuple[Engine, Reads]:
    """The engine of a folder's model, and what reads prompts for it.

    Args:
      options: with context, dtype and model_parallel.
    """
    many, devices = options.model_parallel, jax.devices()
    if many > len(devices):
        raise UserError(f"--model-parallel {many}: there are {len(devices)} devices")
    mesh = make_mesh(model=many, devices=devices[:many]) if many > 1 else None
    with reading_input():
        found = load_model(folder, mesh=mesh, dtype=options.dtype, param_dtype=options.dtype)
    vocabulary, chat = found.vocabulary, found.chat
    if vocabulary is None:
        raise UserError(f"{folder}: no tokenizer.json; a server reads texts")
    vocabulary = vocabulary if chat is None else with_turn_end(vocabulary, chat)
    allowed = found.config.max_positions or USUAL
    longest = options.context or min(USUAL, allowed)
    if found.config.position_limit is not None and longest > found.config.position_limit:
        raise UserError(
            f"--context {longest}: {folder} has {found.config.position_limit} positions"
        )
    engine = make_engine(
        make_transformer(found.config),
        found.params,
        stop_ids=vocabulary.stop_ids,
        longest=longest,
        batch=batch,
    )
    return engine, Reads(vocabulary, chat, longest, found.config.vocab_size)


def reward_score(folder: Path) -> Score:
    """Scores by a reward model's folder; ValueError for what it cannot read whole."""
    lab, params = open_reward(folder)

    def score(prompts: Sequence[Any], answers: Sequence[str]) -> list[float]:
        texts = [answer or " " for answer in answers]  # an empty answer has no token to score
        rows = [{"prompt": a, "answer": b} for a, b in zip(prompts, texts, strict=True)]
        longest = token_lengths(lab, rows).max()
        if longest > LONGEST:
            raise ValueError(f"a prompt or an answer has {longest} tokens, at most {LONGEST} fit")
        return text_scores(lab, params, prompts, texts).tolist()

    return score
