"""Architecture, sizes and numerics of a decoder-only transformer.

One configurable decoder; the families of published models are settings of it. Besides the sizes:

    GPT-2      norm "layer", positions "learned", activation "gelu_tanh", no gated_mlp, biases
    Llama      rope_scaling (from 3.1)
    Mistral    sliding_window
    Qwen 2     qkv_bias
    Qwen 3     qk_norm "head"; its mixtures of experts: moe
    Mixtral    moe
    Gemma      activation "gelu_tanh", norm_offset, embed_scale
    Gemma 2    the same, norm_placement "both", attention_scale, soft caps, layer_windows
    Gemma 3    the same without soft caps, qk_norm "head", rope_local_theta
    OLMo 2     norm_placement "post", qk_norm "full"
"""

from dataclasses import dataclass
from typing import Literal, get_args, get_origin, get_type_hints

from rlhf_jax.checks import check_fields

FloatName = Literal["float32", "bfloat16"]
Activation = Literal["silu", "gelu", "gelu_tanh"]
NormKind = Literal["rms", "layer"]
NormPlacement = Literal["pre", "post", "both"]
QKNorm = Literal["head", "full"]
Positions = Literal["rope", "learned"]
Remat = Literal["nothing", "dots_with_no_batch_dims", "dots", "everything"]
RopeKind = Literal["linear", "dynamic", "yarn", "llama3"]


@dataclass(frozen=True, kw_only=True)
class RopeScaling:
    """Rotary frequencies f changed for documents longer than those of pretraining.

    kind: "linear" uses f / factor. "dynamic" uses f for up to `original_max_positions` tokens; see
      `models.rotary` for longer documents. "yarn" interpolates by frequency and scales queries and
      keys. "llama3" interpolates by wavelength.
    factor: longest document of the scaled model over `original_max_positions`.
    original_max_positions: longest document in pretraining; all kinds but "linear" need it.
    low_freq_factor, high_freq_factor: "llama3": wavelengths above `original_max_positions` /
      low_freq_factor are scaled, those below `original_max_positions` / high_freq_factor are not.
    beta_fast, beta_slow: "yarn": features that turn more often than beta_fast times in
      `original_max_positions` tokens keep f, those below beta_slow get f / factor.
    attention_factor: "yarn": multiplies rotated queries and keys; None is 0.1 log(factor) + 1.
    truncate: "yarn": whether the range between beta_fast and beta_slow grows to whole features.
    """

    kind: RopeKind
    factor: float
    original_max_positions: int | None = None
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float | None = None
    truncate: bool = True

    def __post_init__(self) -> None:
        check_names(self)
        check_fields(self, "[1, inf)", "factor")
        check_fields(self, "(0, inf)", "low_freq_factor", "high_freq_factor")
        check_fields(self, "(0, inf)", "beta_fast", "beta_slow")
        _check_optional(self, "[1, inf)", "original_max_positions")
        _check_optional(self, "(0, inf)", "attention_factor")
        if self.kind != "linear" and self.original_max_positions is None:
            raise ValueError(f"rope scaling {self.kind!r} needs original_max_positions")
        if self.low_freq_factor >= self.high_freq_factor:
            raise ValueError("low_freq_factor must be less than high_freq_factor")


@dataclass(frozen=True, kw_only=True)
class MoEConfig:
    """Mixture of experts in place of the MLP of every layer; d_ff is the width of one expert.

    experts: E. experts_per_token: k, the experts with the largest router probabilities.
    normalise_weights: whether the k probabilities are divided by their sum.
    load_balance_weight: factor of the load-balance loss for training; see `Transformer`.
    """

    experts: int
    experts_per_token: int
    normalise_weights: bool = True
    load_balance_weight: float = 0.0

    def __post_init__(self) -> None:
        check_fields(self, "[1, inf)", "experts")
        check_fields(self, f"[1, {self.experts}]", "experts_per_token")
        check_fields(self, "[0, inf)", "load_balance_weight")


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """The static settings of a transformer.

    vocab_size: V. d_model: d, width of the residual stream. num_layers: number of layers.
    num_heads, num_kv_heads: query heads and shared key/value heads; the second divides the first.
    head_dim: h, even with rotary positions, which turn pairs of features.
    d_ff: hidden width of the MLP, or of one expert.
    activation, gated_mlp: act(x W_gate) * x W_up if gated (SwiGLU with "silu"), else act(x W_up).
      "gelu_tanh" is the tanh approximation.
    norm: "layer" subtracts the mean and has a bias.
    norm_offset: whether norms multiply by 1 + scale in place of scale.
    norm_placement: whether norms stand before attention and MLP, after them, or both.
    norm_eps: added to the mean square in the norm.
    qk_norm: norm of queries and keys before they are rotated, of each head or of all heads as one
      vector.
    qkv_bias, out_bias, mlp_bias: biases on the projections into and out of attention and on those
      of the MLP.
    positions: "learned" adds a trained vector for each position to the embedding.
    max_positions: longest document, in tokens. Learned positions need it, and a row with a later
      position is NaN; rotary positions don't read it.
    rope_theta: base of the rotary wavelengths, 2 pi theta^(2i / h) tokens for pair i.
    rope_scaling: for documents longer than those of pretraining.
    rope_local_theta: theta of local layers, which then have no rope_scaling; None: as other layers.
    sliding_window: local layers attend to this many tokens, the token itself included.
    layer_windows: True for local layers; None: all layers are local if there is a sliding_window.
    attention_scale: factor of the attention scores; None is h^-1/2.
    attention_softcap, final_softcap: c in c tanh(x / c), of attention scores and of logits.
    embed_scale: whether embeddings are multiplied by d^1/2 where they are read.
    tied_embeddings: whether the unembedding is the embedding, as one leaf of the parameters.
    moe: a mixture of experts in place of the MLP.
    remat: what is kept of each layer for the backward pass, which computes the rest again; the
      policy `<remat>_saveable` of `jax.checkpoint_policies`. "nothing" keeps one residual per
      layer, for a third more arithmetic; "dots" keeps matrix products, "dots_with_no_batch_dims"
      those with weights only, and both keep what attention gives.
    dtype: of matrix products and the residual stream. Norms, softmax and logits are float32.
    param_dtype: of the stored parameters.
    """

    vocab_size: int
    d_model: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    d_ff: int
    activation: Activation = "silu"
    gated_mlp: bool = True
    norm: NormKind = "rms"
    norm_offset: bool = False
    norm_placement: NormPlacement = "pre"
    norm_eps: float = 1e-6
    qk_norm: QKNorm | None = None
    qkv_bias: bool = False
    out_bias: bool = False
    mlp_bias: bool = False
    positions: Positions = "rope"
    max_positions: int | None = None
    rope_theta: float = 10_000.0
    rope_scaling: RopeScaling | None = None
    rope_local_theta: float | None = None
    sliding_window: int | None = None
    layer_windows: tuple[bool, ...] | None = None
    attention_scale: float | None = None
    attention_softcap: float | None = None
    final_softcap: float | None = None
    embed_scale: bool = False
    tied_embeddings: bool = True
    moe: MoEConfig | None = None
    remat: Remat = "dots"
    dtype: FloatName = "float32"
    param_dtype: FloatName = "float32"

    def __post_init__(self) -> None:
        names = ("vocab_size", "d_model", "num_layers", "num_heads", "num_kv_heads", "head_dim")
        check_fields(self, "[1, inf)", *names, "d_ff")
        check_fields(self, "(0, inf)", "rope_theta", "norm_eps")
        check_names(self)
        _check_optional(self, "[1, inf)", "max_positions", "sliding_window")
        floats = ("rope_local_theta", "attention_scale", "attention_softcap", "final_softcap")
        _check_optional(self, "(0, inf)", *floats)
        if self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"num_heads ({self.num_heads}) must be a multiple of num_kv_heads "
                f"({self.num_kv_heads})"
            )
        self._check_positions()
        self._check_windows()
        if self.moe and (self.mlp_bias or not self.gated_mlp):
            raise ValueError("experts are gated and have no biases: no mlp_bias, gated_mlp True")

    def _check_positions(self) -> None:
        if self.positions == "rope":
            if self.head_dim % 2:
                raise ValueError(f"head_dim must be even for rotary embedding, got {self.head_dim}")
        elif self.max_positions is None:
            raise ValueError("learned positions need max_positions, the size of their table")
        elif self.rope_scaling or self.rope_local_theta:
            raise ValueError("rope_scaling and rope_local_theta need positions 'rope'")

    def _check_windows(self) -> None:
        if self.sliding_window is None and (self.layer_windows or self.rope_local_theta):
            raise ValueError("layer_windows and rope_local_theta need a sliding_window")
        if self.layer_windows is not None and len(self.layer_windows) != self.num_layers:
            raise ValueError(
                f"layer_windows must have one entry for each of the {self.num_layers} layers, got "
                f"{len(self.layer_windows)}"
            )

    @property
    def position_limit(self) -> int | None:
        """A row with a token at this position or later is NaN; None: no position is too late."""
        if self.positions == "learned":
            return self.max_positions
        dynamic = self.rope_scaling is not None and self.rope_scaling.kind == "dynamic"
        return self.rope_scaling.original_max_positions if dynamic else None

    @property
    def local_layers(self) -> tuple[bool, ...]:
        """For each layer, whether it attends to the sliding window only."""
        if self.layer_windows is not None:
            return self.layer_windows
        return (self.sliding_window is not None,) * self.num_layers


def check_names(config: object) -> None:
    """Every field with a Literal type has one of its names, or None where the type allows it."""
    for field, hint in get_type_hints(type(config)).items():
        parts = (hint, *get_args(hint))
        names = [name for part in parts if get_origin(part) is Literal for name in get_args(part)]
        value = getattr(config, field)
        if names and value not in names and not (value is None and type(None) in parts):
            raise ValueError(f"{field} must be one of {', '.join(names)}, got {value!r}")


def _check_optional(config: object, interval: str, *names: str) -> None:
    """Those of the fields that are not None are in the interval."""
    check_fields(config, interval, *(n for n in names if getattr(config, n) is not None))
