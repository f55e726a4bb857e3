"""Tiny random checkpoints written by `transformers`, and the same numbers from both sides."""

import functools
import os
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.models import make_transformer
from rlhf_jax.policies.language import language_decoder
from rlhf_jax.sampling.decode import SamplingConfig, sample

os.environ.setdefault("HF_HUB_OFFLINE", "1")
STORIES = Path(__file__).parents[2].parent / "shared" / "models" / "stories260k"


@functools.cache
def libraries():
    """torch and transformers, or the test is skipped."""
    pytest.importorskip("safetensors")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs, at import
        torch = pytest.importorskip("torch")
        transformers = pytest.importorskip("transformers")
    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return torch, transformers


def write_checkpoint(folder, family, *, head="CausalLM", seed=0, **settings):
    """A random model of this family, every weight and bias drawn; returns the model."""
    torch, transformers = libraries()
    config = getattr(transformers, f"{family}Config")(**settings)
    torch.manual_seed(seed)
    with quiet():
        model = (
            getattr(transformers, f"AutoModelFor{head}")
            .from_config(config, attn_implementation="eager")
            .eval()
        )
        with torch.no_grad():
            for name, weight in model.named_parameters():
                spread = 0.1 if weight.ndim == 1 else 0.3
                centre = 1.0 if weight.ndim == 1 and "norm" in name and "bias" not in name else 0.0
                weight.copy_(centre + spread * torch.randn_like(weight))
        model.save_pretrained(folder)
    return model


def load_theirs(folder, head="CausalLM"):
    """The checkpoint as `transformers` reads it, in float32."""
    torch, transformers = libraries()
    with quiet():
        auto = getattr(transformers, f"AutoModelFor{head}")
        return auto.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()


def quiet():
    """Their warnings are no errors of ours."""
    return warnings.catch_warnings(action="ignore")


def padded(rows, pad=0):
    """Left-padded ids and their mask."""
    length = max(map(len, rows))
    ids = np.array([[pad] * (length - len(row)) + list(row) for row in rows], np.int32)
    return ids, np.array([[False] * (length - len(row)) + [True] * len(row) for row in rows])


def our_logits(config, params, ids, mask):
    """[B, L, V] of our model."""
    model = make_transformer(config)

    @jax.jit
    def run(params, ids, mask):
        positions = jnp.maximum(jnp.cumsum(mask, axis=-1) - 1, 0)
        hidden = model.hidden(params, ids, positions, mask.astype(jnp.int32))
        return model.unembed(params, hidden)

    return np.asarray(run(params, jnp.asarray(ids), jnp.asarray(mask)))


def their_logits(model, ids, mask):
    """The same of a model of `transformers`."""
    torch, _ = libraries()
    mask = torch.tensor(mask.astype(np.int64))
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    with torch.no_grad(), quiet():
        ids = torch.tensor(ids.astype(np.int64))
        return model(ids, attention_mask=mask, position_ids=positions).logits.numpy()


def our_answers(config, params, ids, mask, *, length, stop_ids=()):
    """Greedy answers, each a list of ids with its stop id."""
    decoder = language_decoder(make_transformer(config))
    sampling = SamplingConfig(max_new_tokens=length, temperature=0.0, stop_ids=stop_ids)
    rows = jnp.arange(len(ids))

    @jax.jit
    def run(params, ids, mask):
        key = jax.random.key(0)
        return sample(
            decoder,
            params,
            ids,
            mask,
            key,
            config=sampling,
            prompt_indices=rows,
            sample_indices=0 * rows,
        )

    trajectory = run(params, jnp.asarray(ids), jnp.asarray(mask)).trajectory
    pairs = zip(np.asarray(trajectory.actions), np.asarray(trajectory.mask), strict=True)
    return [actions[real].tolist() for actions, real in pairs]


def their_answers(model, ids, mask, *, length, stop_ids=()):
    """The same by `generate`."""
    torch, _ = libraries()
    with torch.no_grad(), quiet():
        out = model.generate(
            torch.tensor(ids.astype(np.int64)),
            attention_mask=torch.tensor(mask.astype(np.int64)),
            max_new_tokens=length,
            do_sample=False,
            eos_token_id=list(stop_ids) or None,
            pad_token_id=0,
        )
    answers = []
    for row in out[:, ids.shape[1] :].tolist():
        ends = [i for i, token in enumerate(row) if token in stop_ids]
        answers.append(row[: ends[0] + 1] if ends else row)
    return answers
