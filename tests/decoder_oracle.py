"""A decoder written out in NumPy, token by token and head by head, and tiny configs to try it on.

KINDS covers every option of `TransformerConfig` at least once.
"""

import math
from functools import partial

import jax
import numpy as np

from rlhf_jax.models import MoEConfig, RopeScaling, TransformerConfig

V, LAYERS, WINDOW = 13, 3, 3

tiny = partial(
    TransformerConfig,
    vocab_size=V,
    d_model=16,
    num_layers=LAYERS,
    num_heads=4,
    num_kv_heads=2,
    head_dim=6,
    d_ff=20,
)

KINDS = {
    "plain": tiny(),
    "gpt": tiny(
        activation="gelu_tanh",
        gated_mlp=False,
        norm="layer",
        qkv_bias=True,
        out_bias=True,
        mlp_bias=True,
        positions="learned",
        max_positions=11,
        num_kv_heads=4,
        head_dim=5,
        norm_eps=1e-5,
    ),
    "window": tiny(
        sliding_window=WINDOW,
        mlp_bias=True,
        rope_theta=100.0,
        rope_scaling=RopeScaling(kind="yarn", factor=4.0, original_max_positions=30),
        num_kv_heads=1,
        tied_embeddings=False,
    ),
    "head-norms": tiny(
        qk_norm="head",
        qkv_bias=True,
        activation="gelu",
        rope_theta=20.0,
        rope_scaling=RopeScaling(kind="llama3", factor=8.0, original_max_positions=16),
    ),
    "experts": tiny(
        moe=MoEConfig(experts=5, experts_per_token=2),
        rope_scaling=RopeScaling(kind="linear", factor=3.0),
    ),
    "alternating": tiny(
        activation="gelu_tanh",
        norm_offset=True,
        norm_placement="both",
        qk_norm="head",
        sliding_window=WINDOW,
        layer_windows=(True, False, True),
        rope_scaling=RopeScaling(kind="linear", factor=2.0),
        rope_local_theta=10.0,
        attention_scale=0.7,
        attention_softcap=2.0,
        final_softcap=1.5,
        embed_scale=True,
    ),
    "post-norms": tiny(
        norm_placement="post",
        qk_norm="full",
        rope_scaling=RopeScaling(kind="dynamic", factor=2.0, original_max_positions=40),
    ),
}


def oracle_hidden(params, config, ids, positions):
    """Final hidden states [L, d] of one unpadded document, in float64."""
    params = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    trunk, positions = params["trunk"], np.asarray(positions)
    x = trunk["embed"][np.asarray(ids)]
    if config.embed_scale:
        x = x * math.sqrt(config.d_model)
    if config.positions == "learned":
        x = x + trunk["positions"][positions]
    for n in range(config.num_layers):
        p = jax.tree.map(lambda w, n=n: w[n], trunk["layers"])
        local = config.sliding_window is not None
        if config.layer_windows is not None:
            local = config.layer_windows[n]
        attend, feed = partial(attention, local=local), experts if config.moe else mlp
        for name, branch in (("attention", attend), ("mlp", feed)):
            y = norm(x, p[f"{name}_norm"], config) if f"{name}_norm" in p else x
            y = np.stack(list(branch(y, p[name], config, positions)))
            post = p.get(f"{name}_post_norm")
            x = x + (y if post is None else norm(y, post, config))
    return norm(x, trunk["norm"], config)


def norm(x, p, config):
    """LayerNorm or RMSNorm over the axes that the scale has."""
    axes = tuple(range(-p["scale"].ndim, 0))
    gain = p["scale"] + (1 if config.norm_offset else 0)
    if config.norm == "layer":
        x = x - x.mean(axes, keepdims=True)
        return x / np.sqrt(x.var(axes, keepdims=True) + config.norm_eps) * gain + p["bias"]
    return x / np.sqrt((x**2).mean(axes, keepdims=True) + config.norm_eps) * gain


def attention(x, p, config, positions, *, local):
    """One output [d] after another."""
    shared = config.num_heads // config.num_kv_heads
    q, k, v = (
        np.einsum("ld,dhk->lhk", x, p[name]) + p.get(f"{name}_bias", 0)
        for name in ("query", "key", "value")
    )
    if config.qk_norm:
        q, k = norm(q, p["query_norm"], config), norm(k, p["key_norm"], config)
    if config.positions == "rope":
        angles = [[a * t for a in frequencies(config, local)] for t in positions]
        q, k = turned(q, angles, config, local), turned(k, angles, config, local)
    scale = config.attention_scale or 1 / math.sqrt(config.head_dim)
    for i in range(len(x)):
        first = max(0, i - config.sliding_window + 1) if local else 0
        out = np.zeros(config.d_model)
        for h in range(config.num_heads):
            scores = scale * k[first : i + 1, h // shared] @ q[i, h]
            if config.attention_softcap:
                scores = config.attention_softcap * np.tanh(scores / config.attention_softcap)
            weights = np.exp(scores - scores.max())
            out += weights / weights.sum() @ v[first : i + 1, h // shared] @ p["out"][h]
        yield out + p.get("out_bias", 0)


def turned(x, angles, config, local):
    """Complex numbers x_i + i x_(i + h/2) of every head times e^(i angle)."""
    half = config.head_dim // 2
    z = (x[..., :half] + 1j * x[..., half:]) * np.exp(1j * np.array(angles))[:, None]
    scaling = config.rope_scaling
    yarn = scaling and scaling.kind == "yarn" and not (local and config.rope_local_theta)
    size = 0.1 * math.log(scaling.factor) + 1 if yarn else 1
    return size * np.concatenate([z.real, z.imag], -1)


def frequencies(config, local):
    """Radians per token of each pair, after scaling."""
    h, scaling = config.head_dim, config.rope_scaling
    own = local and config.rope_local_theta
    theta = own or config.rope_theta
    plain = [theta ** (-2 * i / h) for i in range(h // 2)]
    if own or scaling is None or scaling.kind == "dynamic":
        return plain
    if scaling.kind == "linear":
        return [f / scaling.factor for f in plain]
    return [_blended(f, i, theta, config) for i, f in enumerate(plain)]


def _blended(f, i, theta, config):
    """A frequency between f and f / factor."""
    scaling, old = config.rope_scaling, config.rope_scaling.original_max_positions
    if scaling.kind == "llama3":
        wavelength = 2 * math.pi / f
        if wavelength < old / scaling.high_freq_factor:
            return f
        if wavelength > old / scaling.low_freq_factor:
            return f / scaling.factor
        smooth = old / wavelength - scaling.low_freq_factor
        smooth /= scaling.high_freq_factor - scaling.low_freq_factor
        return (1 - smooth) * f / scaling.factor + smooth * f
    low, high = (
        config.head_dim * math.log(old / (2 * math.pi * beta)) / (2 * math.log(theta))
        for beta in (scaling.beta_fast, scaling.beta_slow)
    )
    low, high = max(math.floor(low), 0), min(math.ceil(high), config.head_dim - 1)
    ramp = min(max((i - low) / (high - low), 0), 1)
    return f / scaling.factor * ramp + f * (1 - ramp)


def act(x, name):
    """The activation of one number."""
    if name == "silu":
        return x / (1 + math.exp(-x))
    if name == "gelu":
        return x * (1 + math.erf(x / math.sqrt(2))) / 2
    return x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2


def mlp(x, p, config, positions):
    """One output [d] after another."""
    for row in x:
        up = row @ p["up"] + p.get("up_bias", 0)
        gate = row @ p["gate"] + p.get("gate_bias", 0) if config.gated_mlp else up
        inner = np.array([act(g, config.activation) for g in gate])
        inner = inner * up if config.gated_mlp else inner
        yield inner @ p["down"] + p.get("down_bias", 0)


def experts(x, p, config, positions):
    """Every expert on every token, with weight 0 for those that are not chosen."""
    for row in x:
        logits = row @ p["router"]
        probs = np.exp(logits) / np.exp(logits).sum()
        chosen = np.argsort(-probs)[: config.moe.experts_per_token]
        total = probs[chosen].sum() if config.moe.normalise_weights else 1
        out = np.zeros(config.d_model)
        for e in chosen:
            one = {name: p[name][e] for name in ("gate", "up", "down")}
            out += probs[e] / total * next(mlp([row], one, config, positions))
        yield out


def cap(logits, config):
    """The soft cap of the logits."""
    c = config.final_softcap
    return logits if c is None else c * np.tanh(logits / c)
