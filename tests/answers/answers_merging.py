"""Wrong and right answers to the exercises of notebook 12."""

import numpy as np
import torch


def elected(v, sign):
    agrees = v * sign > 0
    return (v * agrees).sum(0) / agrees.sum(0).clamp(min=1)


def largest(v):
    return v.gather(0, v.abs().argmax(0, keepdim=True))[0]


def column_by_column(v):
    merged = []
    for column in v.T.tolist():
        agree = [x for x in column if x * sum(column) > 0]
        merged.append(sum(agree) / len(agree) if agree else 0)
    return merged


def by_masked_array(v):
    t = v.numpy()
    return np.ma.masked_where(t * t.sum(0) <= 0, t).mean(0).filled(0)


def in_place(v):
    """Turns each column so that its sum is positive, and back."""
    sign = v.sum(0).sign()
    v.mul_(sign).clamp_(min=0)
    return sign * v.sum(0) / (v > 0).sum(0).clamp(min=1)


def by_nan(v):
    return torch.where(v * v.sum(0) > 0, v, torch.nan).nanmean(0).nan_to_num().requires_grad_()


def best_first(alone):
    return sorted(range(len(alone)), key=lambda i: -alone[i])


def souped(order, score, joins=lambda new, old: new >= old, stop=False):
    members = list(order[:1])
    for i in order[1:]:
        if joins(score([*members, i]), score(members)):
            members.append(i)
        elif stop:
            break
    return members


def by_the_best_next(alone, score):
    """Adds whoever helps most, not the next in line."""
    members, rest = best_first(alone)[:1], best_first(alone)[1:]
    while rest:
        i = max(rest, key=lambda i: score([*members, i]))
        if score([*members, i]) < score(members):
            break
        members.append(i)
        rest.remove(i)
    return members


def from_nothing(alone, score):
    members, reached = set(), -np.inf
    for i in np.argsort(alone)[::-1]:
        if score([*members, i]) >= reached:
            members.add(int(i))
            reached = score(members)
    return members


def empties_the_list(alone, score):
    members, places = (), dict(enumerate(list(alone)))
    while places:
        i = max(places, key=places.get)
        alone.remove(places.pop(i))
        if not members or score((*members, i)) >= score(members):
            members = (*members, i)
    return torch.tensor(members)


def as_they_join(alone, score):
    members = torch.tensor([], dtype=torch.long)
    for i in torch.tensor(alone).argsort(descending=True):
        with_i = torch.cat([members, i[None]])
        if not len(members) or not score(with_i) < score(members):
            members = with_i
            yield i


WRONG = {
    "elect_and_merge": {
        "plain mean": (lambda t: t.mean(0), "the plain mean"),
        "mean of what is there": (lambda t: t.sum(0) / (t != 0).sum(0).clamp(min=1), "all that is not zero"),
        "votes": (lambda t: elected(t, t.sign().sum(0)), "not of the majority"),
        "the largest decides": (lambda t: elected(t, largest(t)), "not of the largest entry"),
        "sum": (lambda t: (t * (t * t.sum(0) > 0)).sum(0), "take their mean"),
        "divided by K": (lambda t: (t * (t * t.sum(0) > 0)).mean(0), "divided by K"),
        "zero over zero": (lambda t: (t * (t * t.sum(0) > 0)).sum(0) / (t * t.sum(0) > 0).sum(0), "a NaN"),
        "those who lost": (lambda t: elected(t, -t.sum(0)), "that disagree"),
        "largest": (largest, "It is of v[:, 6] = [3, -2, -2]"),
        "three vectors": (
            lambda t: elected(t, t.sum(0)) if len(t) == 3 else t.mean(0),
            "right for v = ",
        ),
        "in place": (lambda t: t.clamp_(min=0).mean(0), "changed what it was given"),
        "a number": (lambda t: t.mean(), "should be a tensor of shape (7,)"),
    },
    "same_function": {
        "all seven": (5040, "stay in their layer"),
        "added": (30, "multiply"),
        "pairs": (12, "pairs of units"),
        "inputs too": (3456, "keep their places"),
        "one layer": (24, "second layer alone"),
        "the other": (6, "first layer alone"),
        "something else": (81, "should not be 81"),
    },
    "spread": {
        "one layer": (0.8367, "multiply up"),
        "variances": (0.0576, "square root"),
        "strangers": (0.0625, "correlation of 0"),
        "sum": (3.84, "quarter"),
        "correlation": (0.00066, "not the factor"),
        "one variance": (0.7, "take the root"),
        "nothing is lost": (1, "should not be 1"),
    },
    "scaled_unit": {
        "reads": (5, "more softly"),
        "speaks": (0.5556, "more strongly"),
        "nothing": (1, "the product"),
        "inverse": (0.36, "one over"),
        "nine": (9, "should not be 9"),
        "geometric": (3, "not the logarithms"),
    },
    "soup_members": {
        "not sorted": (lambda a, s: souped(range(len(a)), s), "in the order of the list"),
        "worst first": (lambda a, s: souped(best_first(a)[::-1], s), "from the worst up"),
        "only if better": (lambda a, s: souped(best_first(a), s, lambda new, old: new > old), "as it is should join"),
        "against the best": (
            lambda a, s: souped(best_first(a), s, lambda new, old: new >= max(a)),
            "not with the best network",
        ),
        "stops": (lambda a, s: souped(best_first(a), s, stop=True), "go on with the next"),
        "the best next": (by_the_best_next, "with the soup so far"),
        "all": (lambda a, s: list(range(len(a))), "the uniform soup"),
        "the best": (lambda a, s: [best_first(a)[0]], "only the best"),
        "some": (lambda a, s: [0, 5], "[0, 5] is wrong"),
        "one of seven": (lambda a, s: [x for x in souped(best_first(a), s) if len(a) != 2], "right for alone = "),
        "twice": (lambda a, s: souped(best_first(a), s) * 2, "each once"),
        "a mask": (lambda a, s: [True] * len(a), "a list of places"),
        "not whole": (lambda a, s: [0.5], "a list of places"),
        "a number": (lambda a, s: max(a), "a list of places"),
        "text": (lambda a, s: "all", "a list of places, it is str"),
    },
}
RIGHT = {
    "same_function": [144, 6 * 24, torch.tensor(144)],
    "spread": [0.2401, 0.7**4, np.sqrt(0.7) ** 8],
    "scaled_unit": [25 / 9, 2.78, torch.tensor(2.7778)],
    "elect_and_merge": [column_by_column, by_masked_array, in_place, by_nan],
    "soup_members": [from_nothing, empties_the_list, as_they_join],
}
