"""Which digit?, notebook 04: the classes with a weight are a set. Three losses, 1,000 steps each, and a cut softmax.

The criterion: of each loss the rate with the highest accuracy on validation digits at the end, mean over seeds. Cuts
are set on validation digits, too.
"""

import torch
from torch import Tensor

from lecture_lib.data import batches, digits
from lecture_lib.models import MLP
from lecture_lib.recorded.sparse_choices import SIZES, cut, cut_at
from lecture_lib.simplex import entmax, fenchel_young_loss
from lecture_lib.training import fit

ALPHAS = {"softmax": 1, "1.5-entmax": 1.5, "sparsemax": 2}
NOISE = [0.0, 0.25, 0.5]  # standard deviations of noise on the pixels, which lie in [0, 1]


def sets(weights: Tensor, label: Tensor) -> dict[str, float]:
    """Of weights (N, 10): how many classes have one, how often a single one, and whether the truth is among them."""
    named = weights > 0
    alone, truth = named.sum(-1) == 1, named.gather(-1, label[:, None]).squeeze(-1)
    return {
        "accuracy": (weights.argmax(-1) == label).double().mean().item(),
        "classes": named.sum(-1).double().mean().item(),
        "a single class": alone.double().mean().item(),
        "truth named": truth.double().mean().item(),
        "truth named, of single ones": truth[alone].double().mean().item() if alone.any() else 0.0,
    }


def train(alpha: float, *, lr: float = 3e-3, steps: int = 400, seed: int = 0) -> MLP:
    """A network trained on the first 1,000 training digits by the Fenchel-Young loss that belongs to `alpha`."""
    torch.manual_seed(seed)
    data, network = digits(), MLP(64, 64, 10)
    order = torch.Generator().manual_seed(seed)
    fit(
        network,
        lambda x, label: fenchel_young_loss(network(x.flatten(1)), label, alpha).mean(),
        batches(data.train_x[:1000], data.train_y[:1000], generator=order),
        steps=steps,
        lr=lr,
        label=f"{seed}",
    )
    return network


GRID = {"seed": range(5), "way": list(ALPHAS), "lr": [1e-3, 3e-3, 1e-2]}


@torch.no_grad()
def run(seed: int, way: str, lr: float, steps: int = 1000) -> dict:
    """The sets of one trained network at each level of noise, and those that each cut leaves."""
    with torch.enable_grad():
        network = train(ALPHAS[way], lr=lr, steps=steps, seed=seed)
    data, draw = digits(), torch.Generator().manual_seed(99)
    held = entmax(network(data.train_x[1000:].flatten(1)), ALPHAS[way])
    validation = sets(held, data.train_y[1000:])
    noise, result = torch.randn(data.test_x.shape, generator=draw), {}
    for level in NOISE:
        z = entmax(network((data.test_x + level * noise).flatten(1)), ALPHAS[way])
        cuts = [sets(cut(z, cut_at(held, size)), data.test_y) for size in SIZES]
        result[f"noise {level:g}"] = sets(z, data.test_y)
        result[f"noise {level:g}, cut"] = {name: [round(row[name], 4) for row in cuts] for name in cuts[0]}
    return {"validation": validation["accuracy"], "classes, validation": validation["classes"], **result}


def small() -> dict:
    return {"seed": 0, "way": "sparsemax", "lr": 3e-3, "steps": 50}
