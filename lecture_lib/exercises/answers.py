"""What a check says of an answer, and how it reads one."""

from torch import Tensor


class NotAttempted(Exception):
    """The three dots are still there."""


class Wrong(Exception):
    """The answer is not right; the message is a hint, not the solution."""


def tensor_of(value: object, shape: tuple[int, ...]) -> Tensor:
    if value is None or value is ...:
        raise NotAttempted
    if not isinstance(value, Tensor) or value.shape != shape:
        got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise Wrong(f"the result should be a tensor of shape {shape}, it is {got}.")
    return value.float()
