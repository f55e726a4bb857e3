"""The size of a lab's transformer, as options of an experiment."""

from dataclasses import dataclass

from rlhf_jax.models.config import FloatName, Remat, TransformerConfig


@dataclass(frozen=True, kw_only=True)
class Size:
    """The transformer under policy, reward model and critic; see models.TransformerConfig.

    As it stands it is the size of the models of `labs.shop_models`.
    """

    d_model: int = 96
    num_layers: int = 3
    num_heads: int = 4
    num_kv_heads: int = 2
    d_ff: int = 256
    remat: Remat = "dots"
    dtype: FloatName = "float32"

    def __post_init__(self):
        if self.num_heads > 0 and self.d_model % (2 * self.num_heads):
            raise ValueError(f"d_model must be a multiple of 2 x num_heads, got {self.d_model}")
        self.transformer(vocab_size=1)

    def transformer(self, *, vocab_size: int) -> TransformerConfig:
        """The config of the model; ValueError for sizes that no model has."""
        return TransformerConfig(
            vocab_size=vocab_size,
            d_model=self.d_model,
            num_layers=self.num_layers,
            num_heads=self.num_heads,
            num_kv_heads=self.num_kv_heads,
            head_dim=self.d_model // max(self.num_heads, 1),
            d_ff=self.d_ff,
            remat=self.remat,
            dtype=self.dtype,
        )
