"""The size of a lab's transformer, as options of an experiment; light to import."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Size:
    """The transformer under policy, reward model and critic; see models.TransformerConfig."""

    d_model: int = 64
    num_layers: int = 2
    num_heads: int = 4
    num_kv_heads: int = 2
    d_ff: int = 192
    remat: bool = False
    dtype: str = "float32"

    def __post_init__(self):
        for name in ("d_model", "num_layers", "num_heads", "num_kv_heads", "d_ff"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.d_model % (2 * self.num_heads):
            raise ValueError(f"d_model must be a multiple of 2 x num_heads, got {self.d_model}")
