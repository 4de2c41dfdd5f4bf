"""What a layer of experts costs."""

import json

from lecture_lib.widgets.base import Checked, Widget, fallback, integer, module, number, style

# What papers say: the numbers of a layer, its experts gated, of three matrices; how many such layers; billions of
# weights in all and for a token; what the other weights are. Switch-Base's 12 layers are every other one of two stacks
# of 12, and it costs the FLOPs of T5-Base, whose 0.2 billion weights all run.
_NUMBERS = ("d_model", "d_hidden", "n_experts", "k", "shared", "layers", "total", "active", "rest", "source")
MODELS = {
    name: dict(zip(_NUMBERS, numbers, strict=True))
    for name, *numbers in (
        ("Switch-Base", 768, 2048, 128, 1, 0, 12, 7.4, 0.2, "attention, embeddings, dense layers", "Fedus et al. 2022"),
        ("Mixtral 8x7B", 4096, 14336, 8, 2, 0, 32, 47, 13, "attention, embeddings", "Jiang et al. 2024"),
        ("OLMoE-1B-7B", 2048, 1024, 64, 8, 0, 16, 6.9, 1.3, "attention, embeddings", "Muennighoff et al. 2024"),
        ("DeepSeek-V3", 7168, 2048, 256, 8, 1, 58, 671, 37, "attention, embeddings, dense layers", "DeepSeek-AI 2024"),
    )
}


class ExpertCalculator(Widget):
    """What a layer of experts costs: `lecture_lib.moe.MoE` with experts of two matrices and no biases, by six sliders.

    A menu sets the numbers of published models. Where D, H, E and k are those of one, its layer is drawn: experts are
    gated, of three matrices, a shared one runs for every token. A line says what such layers are of the network.

    Parameters in all and active for a token, FLOPs, bytes; and what the capacity drops, if each token draws its k
    experts uniformly at random and apart from the others. Then the load of one expert is Binomial(N, k / E), and the
    share expected to be dropped is exact. A router that has learnt is not random: measure its share.

    Args:
        d_model, d_hidden: D and H, the widths of a token and of an expert's hidden layer.
        n_experts, k: E, and how many of them a token chooses.
        capacity_factor: an expert has so many times its mean number of tokens as slots, rounded up.
        n_tokens: N.

    All follow their sliders.

    Raises:
        traitlets.TraitError: naming the argument, what is allowed and what was given; on later assignments as well.
    """

    _esm = f"const MODELS = {json.dumps(MODELS)};\n{module('measured', 'expert_calculator')}"
    _css = style("measured")
    d_model = Checked(256, *integer(16, 8192))
    d_hidden = Checked(1024, *integer(16, 16384))
    n_experts = Checked(8, *integer(8, 256))
    k = Checked(1, *integer(1, 8))
    capacity_factor = Checked(1.25, *number(0.5, 4))
    n_tokens = Checked(4096, *integer(64, 65536))

    def __init__(self, d_model=256, d_hidden=1024, n_experts=8, k=1, capacity_factor=1.25, n_tokens=4096):
        super().__init__(
            d_model=d_model,
            d_hidden=d_hidden,
            n_experts=n_experts,
            k=k,
            capacity_factor=capacity_factor,
            n_tokens=n_tokens,
        )

    def __repr__(self) -> str:
        return f"ExpertCalculator({self.d_model}, {self.d_hidden}, n_experts={self.n_experts}, k={self.k})"

    def _fallback(self) -> str:
        names = ("d_model", "d_hidden", "n_experts", "k")
        model = next((m for m in MODELS.values() if all(m[name] == getattr(self, name) for name in names)), None)
        router, expert = self.d_model * self.n_experts, (3 if model else 2) * self.d_model * self.d_hidden
        shared = model["shared"] if model else 0
        total, active = (router + (count + shared) * expert for count in (self.n_experts, self.k))
        rows = [
            ("total parameters", f"{total:,}"),
            ("active for a token", f"{active:,}"),
            ("bytes, as float32", f"{4 * total:,}"),
            ("FLOPs for a token", f"{2 * active:,}"),
        ]
        text = f"{self.n_experts} experts of {self.d_model} × {self.d_hidden}, {self.k} of them for a token:"
        return fallback("calculator of what a layer of experts costs", text, [], rows)
