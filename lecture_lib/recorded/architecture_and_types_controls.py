"""Controls for architectural bias, notebook 15: windows without neighbours, larger windows, and rates past the grid.

Data, steps and criterion are those of `architecture_and_types`: 300 moved digits, 500 steps, the rate with the highest
accuracy on validation images at the last step. "no neighbours" reads nine values that lie 3 apart in the first layer
and 2 apart in the second; parameters and FLOPs are those of the convolution with pooling, and so are all moves.
"windows of 4 x 4" moves on by two places and does not pool: each value of an image is still read, by four windows.
"""

from torch import nn

from lecture_lib.recorded.architecture_and_types import NETWORKS, train


def convolution(c_0: int, c_1: int, window: int, apart: tuple[int, int] = (1, 1)) -> nn.Module:
    """Two convolutions, a linear head: (B, 8, 8) -> (B, 10). Windows of 3 x 3 are pooled, those of 4 x 4 move by two.

    Args:
        apart: how far the values of a window lie from each other, in either layer.
    """

    def layer(c_in: int, c_out: int, gap: int) -> list[nn.Module]:
        if window == 4:
            return [nn.Conv2d(c_in, c_out, 4, 2, 1), nn.ReLU()]
        return [nn.Conv2d(c_in, c_out, 3, 1, gap, gap), nn.ReLU(), nn.MaxPool2d(2)]

    layers = [*layer(1, c_0, apart[0]), *layer(c_0, c_1, apart[1])]
    return nn.Sequential(nn.Unflatten(1, (1, 8)), *layers, nn.Flatten(), nn.Linear(4 * c_1, 10))


CONTROLS = {
    "no neighbours": lambda: convolution(21, 24, 3, (3, 2)),
    "windows of 4 x 4": lambda: convolution(16, 18, 4),
}
NETWORKS.update(CONTROLS)  # `train` finds them by name
RATES = {name: [3e-3, 1e-2, 3e-2] for name in CONTROLS} | {"MLP": [6e-2], "windows + sharing + pooling": [1e-3]}
CASES = {f"{name}, {lr:g}": (name, lr) for name, rates in RATES.items() for lr in rates}
GRID = {"seed": range(5), "case": list(CASES)}


def run(seed: int, case: str, steps: int = 500) -> dict[str, list[float]]:
    """The accuracy of one training after each quarter of its steps."""
    name, lr = CASES[case]
    history = train(name, "moved", 300, steps, lr=lr, seed=seed)[1]
    return {part: [round(row[part], 4) for row in history] for part in ("validation", "test")}


def small() -> dict:
    return {"seed": 0, "case": "no neighbours, 0.01", "steps": 40}
