"""Routers: what scores the experts. In float32 at least, whatever the dtype of the network."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lecture_lib.choice import Choice
from lecture_lib.simplex import as_integer, as_number, check_logits, full, score


class NoisyRouter(nn.Module):
    """Shazeer's scores: x W_g + noise · softplus(x W_n), Normal(0, 1), while training: (..., D) -> logits (..., E).

    For `noisy_load`, `clean_and_std` gives the two parts. Both matrices start at zero, as in the source: the noise
    balances the load until the router has learnt something.

    Source: Shazeer et al. 2017, eq. 4.
    """

    def __init__(self, d_model: int, n_experts: int, *, generator: torch.Generator | None = None):
        super().__init__()
        shape = sizes(d_model=d_model, n_experts=n_experts)
        self.w_g, self.w_n = (nn.Parameter(torch.zeros(shape)) for _ in range(2))
        self.generator = generator

    def clean_and_std(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return product(x, self.w_g), F.softplus(product(x, self.w_n))

    def forward(self, x: Tensor) -> Tensor:
        clean, std = self.clean_and_std(x)
        if not self.training:
            return clean
        if self.generator is not None:
            check_logits(clean, self.generator)
        return clean + std * clean.detach().new_empty(clean.shape).normal_(generator=self.generator)


class CosineRouter(nn.Module):
    """Scores by direction alone, on a low-dimensional sphere: s_e = cos(W x, e_e) / λ, (..., D) -> logits (..., E).

    A linear router pulls tokens towards the embeddings of experts, in their own space: one way to collapse.

    Args:
        d_low: dimension of the sphere; E/2, at least 2, if None.
        temperature: λ at the start; learnt.

    Source: Chi et al. 2022, On the representation collapse of sparse mixture of experts (X-MoE).
    """

    def __init__(self, d_model: int, n_experts: int, d_low: int | None = None, temperature: float = 0.3):
        super().__init__()
        d_model, n_experts = sizes(d_model=d_model, n_experts=n_experts)
        (d_low,) = sizes(d_low=max(2, n_experts // 2) if d_low is None else d_low)
        allowed = "a finite number > 0"
        self.start = as_number("temperature", temperature, allowed, lambda t: 0 < t < math.inf)
        self.project = nn.Linear(d_model, d_low, bias=False)
        self.embedding = nn.Parameter(F.normalize(torch.randn(n_experts, d_low), dim=-1))
        # so that the temperature stays above 0
        self.log_temperature = nn.Parameter(torch.tensor(math.log(self.start)))

    def forward(self, x: Tensor) -> Tensor:
        projected, embedding = score(self.project, x), full(self.embedding)
        cosine = product(F.normalize(projected, dim=-1), F.normalize(embedding, dim=-1).t())
        return cosine / full(self.log_temperature).exp()

    def at_start_temperature(self, choice: Choice) -> Choice:
        """For the balance loss, which the source takes at a fixed λ: a learnt one could please it by going up."""
        ratio = full(self.log_temperature).exp() / self.start
        return choice._replace(logits=choice.logits * ratio)


def product(x: Tensor, weight: Tensor) -> Tensor:
    """x @ weight in float32 at least."""
    return score(lambda rows: rows @ full(weight), x)


def sizes(**named: int) -> list[int]:
    return [as_integer(name, n, "an integer of at least 1", 1) for name, n in named.items()]
