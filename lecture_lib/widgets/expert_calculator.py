"""What a layer of experts costs."""

from lecture_lib.widgets.base import Checked, Widget, fallback, integer, module, number, style


class ExpertCalculator(Widget):
    """What a layer of experts costs: `lecture_lib.moe.MoE` with experts of two matrices and no biases, by six sliders.

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

    _esm = module("measured", "expert_calculator")
    _css = style("measured")
    d_model = Checked(256, *integer(16, 4096))
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
        router, expert = self.d_model * self.n_experts, 2 * self.d_model * self.d_hidden
        total, active = router + self.n_experts * expert, router + self.k * expert
        rows = [
            ("total parameters", f"{total:,}"),
            ("active for a token", f"{active:,}"),
            ("bytes, as float32", f"{4 * total:,}"),
            ("FLOPs for a token", f"{2 * active:,}"),
        ]
        text = f"{self.n_experts} experts of {self.d_model} × {self.d_hidden}, {self.k} of them for a token:"
        return fallback("calculator of what a layer of experts costs", text, [], rows)
