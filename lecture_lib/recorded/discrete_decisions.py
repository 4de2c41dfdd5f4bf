"""Which half, notebook 01: a small transformer reads digits, and half of it is left out.

Networks of four kinds, each trained for 400 steps with three learning rates: the whole one, and three that have a fixed
half of the patches, of the blocks, or of the parts from their first step on.

The criterion: of each kind the rate with the best mean accuracy on validation digits, over seeds. What is found by
trying is found on validation digits, too. Reported are test digits.

Shapes: B images, 16 patches of 2 x 2 pixels, 4 blocks, in each 8 parts: 4 heads and 4 slices of the MLP.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lecture_lib.data import batches, digits
from lecture_lib.models import Block, Transformer
from lecture_lib.training import fit

KINDS = ("whole", "8 patches", "2 blocks", "half of the parts")
GRID = {"seed": range(5), "kind": KINDS, "lr": [1e-3, 3e-3, 1e-2]}
SHARES = (0.75, 0.5, 0.25)
SETTINGS = [f"{n:04b}" for n in range(16)]  # of four blocks: 1 runs, 0 is skipped
DRAWS = 5  # random halves, each the same for all images
N_TRAIN = 1000  # the other 257 training digits are for validation


def cut(images: Tensor) -> Tensor:
    """Sixteen patches of 2 x 2 pixels: (B, 8, 8) -> (B, 16, 4)."""
    return F.unfold(images.unsqueeze(1), 2, stride=2).transpose(1, 2)


class Reader(nn.Module):
    """A transformer over patches: (B, 8, 8) -> logits (B, 10), from the mean of the patches at the end."""

    def __init__(self, d_model: int = 32, n_layers: int = 4):
        super().__init__()
        self.embed = nn.Linear(4, d_model)
        self.place = nn.Parameter(0.5 * torch.randn(16, d_model))
        self.body, self.head = Transformer(d_model, 4, n_layers), nn.Linear(d_model, 10)

    def tokens(self, images: Tensor) -> Tensor:
        return self.embed(cut(images)) + self.place  # (B, 16, D)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.body(self.tokens(images)).mean(1))


def partly(net: Reader, images: Tensor, patches=None, blocks=None, parts=None) -> Tensor:
    """The logits of a network of which some is left out. Only patches are not executed: this measures no cost.

    Args:
        patches: (B, 16), as many ones in each row: the patches that are kept.
        blocks: (B, 4), ones for the blocks that run.
        parts: (B, 4, 8), ones for the heads and slices that run.
    """
    x = net.tokens(images)
    if patches is not None:
        rows = patches.expand(len(x), -1).nonzero()[:, 1].reshape(len(x), -1)
        x = x.gather(1, rows.unsqueeze(-1).expand(-1, -1, x.shape[-1]))
    for i, block in enumerate(net.body.blocks):
        y = block(x) if parts is None else with_parts(block, x, parts[:, i])
        x = y if blocks is None else x + blocks[:, i, None, None] * (y - x)
    return net.head(net.body.norm(x).mean(1))


def with_parts(block: Block, x: Tensor, on: Tensor) -> Tensor:
    """A block whose four heads and four slices have the weights `on` (B, 8)."""
    said = block.attention.heads(block.norm_1(x)) * on[:, :4, None, None]  # (B, H, T, D/H)
    x = x + block.attention.output(said.transpose(-3, -2).flatten(-2))
    up, act, down = block.mlp
    hidden = act(up(block.norm_2(x))).unflatten(-1, (4, -1)) * on[:, None, 4:, None]
    return x + down(hidden.flatten(-2))


def largest(score: Tensor, k: int) -> Tensor:
    """Ones for the k largest of the last dimension."""
    return torch.zeros_like(score).scatter(-1, score.topk(k).indices, 1.0)


def at_random(*shape: int, share: float = 0.5, generator: torch.Generator | None = None) -> Tensor:
    """Ones for a random share of the last dimension, another one in each row."""
    return largest(torch.rand(shape, generator=generator), round(share * shape[-1]))


def random_parts(n: int, share: float = 0.5, generator: torch.Generator | None = None) -> Tensor:
    """Of each block the share of the heads, and of the slices: (n, 4, 8)."""
    return at_random(n, 4, 2, 4, share=share, generator=generator).flatten(2)


def rules(images: Tensor, train_x: Tensor) -> dict[str, Tensor]:
    """Scores of the patches, (B, 16) by image or (1, 16) for all images."""
    mean, spread = cut(train_x.mean(0, keepdim=True)), cut(train_x.std(0).unsqueeze(0))
    column = torch.arange(16) % 4
    return {
        "most ink": cut(images).sum(-1),
        "most surprising": (cut(images) - mean).abs().sum(-1),
        "top half": -torch.arange(16.0).unsqueeze(0),
        "middle columns": ((column == 1) | (column == 2)).float().unsqueeze(0),
        "most varied": spread.sum(-1),
    }


def removed_one_by_one(cost: Callable[[Tensor], float], n: int, k: int) -> Tensor:
    """k of n gates: from all open, close the one whose closing costs least, n - k times. (1, n)"""
    on = torch.ones(1, n)
    for _ in range(n - k):
        closed = {i: on.index_fill(1, torch.tensor([i]), 0) for i in on.nonzero()[:, 1].tolist()}
        on = min(closed.values(), key=cost)
    return on


def train(kind: str = "whole", lr: float = 3e-3, steps: int = 400, seed: int = 0) -> tuple[Reader, dict]:
    """A network, and what of it is left out from the start: arguments of `partly`, for one image."""
    data = digits()
    torch.manual_seed(seed)
    net = Reader(n_layers=2 if kind == "2 blocks" else 4)
    fixed = {}
    if kind == "8 patches":
        fixed = {"patches": largest(rules(data.test_x[:1], data.train_x[:N_TRAIN])["most varied"], 8)}
    if kind == "half of the parts":
        fixed = {"parts": torch.tensor([1.0, 1, 0, 0, 1, 1, 0, 0]).expand(1, 4, 8)}
    few = data.train_x[:N_TRAIN], data.train_y[:N_TRAIN]
    stream = batches(*few, generator=torch.Generator().manual_seed(seed))
    fit(
        net,
        lambda x, y: F.cross_entropy(partly(net, x, **fixed), y),
        stream,
        steps=steps,
        lr=lr,
        label=f"{kind} {seed}",
    )
    return net.eval(), fixed


@torch.no_grad()
def which_half(net: Reader, seed: int) -> dict:
    """Test accuracies of the whole network after training, when some of it is left out."""
    data, generator = digits(), torch.Generator().manual_seed(seed)
    train_x, x, y = data.train_x[:N_TRAIN], data.test_x, data.test_y
    kept_apart, label = data.train_x[N_TRAIN:], data.train_y[N_TRAIN:]

    def right(**some: Tensor) -> float:
        return (partly(net, x, **some).argmax(-1) == y).float().mean().item()

    def loss(**some: Tensor) -> float:
        return F.cross_entropy(partly(net, kept_apart, **some), label).item()

    n, draw = len(x), {"generator": generator}
    drawn = {
        "input": lambda n, share: {"patches": at_random(n, 16, share=share, **draw)},
        "layer": lambda n, share: {"blocks": at_random(n, 4, share=share, **draw)},
        "block": lambda n, share: {"parts": random_parts(n, share, **draw)},
    }
    result = {"by image": {kind: [right(**way(n, share)) for share in SHARES] for kind, way in drawn.items()}}
    result["for all"] = {k: sum(right(**way(1, 0.5)) for _ in range(DRAWS)) / DRAWS for k, way in drawn.items()}
    result["patches"] = {rule: right(patches=largest(s, 8)) for rule, s in rules(x, train_x).items()}
    found = removed_one_by_one(lambda on: loss(patches=on), 16, 8)
    result["patches"]["removed one by one"] = right(patches=found)
    every = {name: torch.tensor([[float(bit) for bit in name]]) for name in SETTINGS}
    result["blocks"] = {name: right(blocks=on) for name, on in every.items()}
    result["loss of blocks"] = {name: loss(blocks=on) for name, on in every.items()}
    result["change"] = changes(net, train_x)

    alone = torch.tensor([loss(parts=1 - one.reshape(1, 4, 8)) for one in torch.eye(32)])  # without one part
    norms = [(b.attention.output.weight, b.mlp[2].weight) for b in net.body.blocks]
    size = torch.stack([w.unflatten(1, (4, -1)).norm(dim=(0, 2)) for pair in norms for w in pair])
    scores = {"costly to remove": alone, "large weights": size}
    result["parts"] = {rule: right(parts=largest(s.reshape(1, 4, 2, 4), 2).flatten(2)) for rule, s in scores.items()}
    return result


def changes(net: Reader, images: Tensor) -> list[float]:
    """How much each block changes what passes through it: the mean of |block(x) - x| / |x|."""
    x, found = net.tokens(images), []
    for block in net.body.blocks:
        y = block(x)
        found.append(((y - x).norm(dim=-1) / x.norm(dim=-1)).mean().item())
        x = y
    return found


def run(seed: int, kind: str, lr: float, steps: int = 400) -> dict:
    """One training: accuracy on validation and test digits, and for the whole network what each half is worth."""
    net, fixed = train(kind, lr, steps, seed)
    data = digits()
    with torch.no_grad():
        right = [partly(net, x, **fixed).argmax(-1) for x in (data.train_x[N_TRAIN:], data.test_x)]
    result = {"validation": (right[0] == data.train_y[N_TRAIN:]).float().mean().item()}
    result["test"] = (right[1] == data.test_y).float().mean().item()
    return result | (which_half(net, seed) if kind == "whole" else {})


def small() -> dict:
    return {"seed": 0, "kind": "2 blocks", "lr": 3e-3, "steps": 20}
