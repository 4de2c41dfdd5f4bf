"""Checks of the exercises on merging."""

from collections.abc import Callable

import torch
from torch import Tensor

from lecture_lib.exercises.answers import NotAttempted, Wrong, tensor_of


def elect_and_merge(answer: Callable[[Tensor], Tensor]) -> str:
    """Trimmed task vectors (K, n) in, their merger (n,) out: the sign of the sum, the mean of those who agree."""
    tau = torch.tensor([
        [3.0, 1.0, 2.0, 0.0, -1.0, 0.0, 0.5],
        [-1.0, 1.0, 0.0, 0.0, -2.0, 4.0, -3.0],
        [-1.0, -5.0, 4.0, 0.0, 0.0, -1.0, 1.0],
    ])  # fmt: skip
    before, n = tau.clone(), len(tau)
    merged = tensor_of(answer(tau), (7,)).detach()
    if not torch.equal(tau, before):
        raise Wrong("the function changed the vectors that it was given; return a new one.")

    def close(agrees: Tensor, count: Tensor | int) -> bool:
        return torch.allclose(merged, torch.where(agrees, tau, 0).sum(0) / count, equal_nan=True)

    agrees = tau * tau.sum(0).sign() > 0
    if close(agrees, agrees.sum(0).clamp(min=1)):
        return "A plain mean lets many small noes shrink a large yes; here those who disagree do not count."
    everybody, votes = torch.ones_like(agrees), tau * tau.sign().sum(0).sign() > 0
    if merged.isnan().any():
        raise Wrong("there is a NaN: on some entry nobody votes, and 0/0 is not a number.")
    if close(everybody, n):
        raise Wrong("this is the plain mean: those who disagree count as well.")
    if close(everybody, (tau != 0).sum(0).clamp(min=1)):
        raise Wrong("this is the mean of all that is not zero; those of the other sign should not count.")
    if close(votes, votes.sum(0).clamp(min=1)):
        raise Wrong("the sign is that of the sum, not of the majority: one large entry may outvote two small ones.")
    if close(agrees, 1):
        raise Wrong("the sum of those who agree; take their mean.")
    if close(agrees, n) or close(agrees, (tau != 0).sum(0).clamp(min=1)):
        raise Wrong("the right entries are added up, then divided by too many: how many agree?")
    if close(~agrees & (tau != 0), (~agrees & (tau != 0)).sum(0).clamp(min=1)):
        raise Wrong("these are the ones that disagree.")
    place = int((merged - torch.where(agrees, tau, 0).sum(0) / agrees.sum(0).clamp(min=1)).abs().argmax())
    raise Wrong(f"for the entries {tau[:, place].tolist()} you get {merged[place]:.3g}: which sign has their sum?")


def soup_members(answer: Callable[[list[float], Callable[[list[int]], float]], list[int]]) -> str:
    """Who is in a greedy soup: each network's own score and a function that scores an average in, the members out."""
    # networks of two weights, the best place is (0, 0): each mistake below makes another soup
    w = torch.tensor([[2, -4], [-4, 4], [2, -3], [2, -1], [0, -3], [-3, -3], [-4, 3]], dtype=torch.float64)

    def score(members: list[int]) -> float:
        return -w[list(members)].mean(0).square().sum().item()

    alone = [score([i]) for i in range(len(w))]
    found = answer(list(alone), score)
    if found is None or found is ...:
        raise NotAttempted
    try:
        found = {int(i) for i in found}
    except (TypeError, ValueError, OverflowError, RuntimeError):  # torch raises the last
        raise Wrong(f"the result should be a list of places, it is {type(found).__name__}.") from None

    def soup(order, joins=lambda new, old: new >= old, stop=False) -> set[int]:
        members = list(order[:1])
        for i in order[1:]:
            if joins(score([*members, i]), score(members)):
                members.append(i)
            elif stop:
                break
        return set(members)

    down = sorted(range(len(w)), key=lambda i: -alone[i])
    if found == soup(down):
        return "It can never be worse, on the held-out data, than the best single network: that is where it starts."
    for wrong, hint in (
        (soup(range(len(w))), "they come in the order of the list; begin with the best."),
        (soup(down[::-1]), "they come from the worst up; begin with the best."),
        (soup(down, lambda new, old: new > old), "a network that leaves the score as it is should join."),
        (soup(down, lambda new, old: new >= max(alone)), "compare with the soup so far, not with the best network."),
        (soup(down, stop=True), "one that does not fit is left out; go on with the next."),
        (set(down), "all of them: that is the uniform soup."),
        ({down[0]}, "only the best: nobody has joined."),
    ):
        if found == wrong:
            raise Wrong(hint)
    raise Wrong(f"the members should be others than {sorted(found)}: is every candidate scored with the soup so far?")
