"""One sparse transformer for images and captions: minimise -log p(caption | image) - log p(image | caption).

Two embeddings, one for patches and one for bytes, and behind them one network: tokens of both modalities go through the
same attention and compete for the same experts. Nothing but the contrastive loss says what an image has to do with a
caption, and nothing but the entropy losses says that both modalities shall have experts.

The data are made of scikit-learn's digits, in one of 40 kinds: 10 digits, thin or bold, black or white.

Shapes: S images and captions, each a sequence of at most T tokens; N tokens in all, no padding; E experts, D width.

Source: Mustafa et al. 2022, Multimodal contrastive learning with LIMoE: the language-image mixture of experts.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lecture_lib.choice import Choice
from lecture_lib.models import Transformer
from lecture_lib.moe import MoE, global_entropy, local_entropy, switch
from lecture_lib.moe.routers import product
from lecture_lib.simplex import first, full

# Images and captions

ALPHABET = " abcdefghijklmnopqrstuvwxyz"  # of a caption; token 0 is padding
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
STROKES, COLOURS = ("thin", "bold"), ("black", "white")
TEMPLATES = ("a {stroke} {colour} {digit}", "{colour} {digit} in {stroke}", "{stroke} {digit} in {colour}")
N_KINDS = len(DIGITS) * len(STROKES) * len(COLOURS)


class Pairs(NamedTuple):
    """Images with a caption for each. Equal kinds are equal in all that captions say, though templates differ."""

    images: Tensor  # (B, 8, 8) ink from 0 to 1
    captions: Tensor  # (B, T) tokens
    kind: Tensor  # (B,) 0 to 39: for the loss, who else is right, and for measuring


def caption(kind: int, template: str = TEMPLATES[0]) -> str:
    """What to say of a kind, 0 to 39: caption(31) is "a bold white seven"."""
    if not 0 <= kind < N_KINDS:
        raise ValueError(f"kind must be from 0 to {N_KINDS - 1}, got {kind}")
    digit, stroke, colour = DIGITS[kind // 4], STROKES[kind // 2 % 2], COLOURS[kind % 2]
    return template.format(digit=digit, stroke=stroke, colour=colour)


def encode(captions: Sequence[str], length: int = 24) -> Tensor:
    """Captions as tokens (S, length): 0 is padding, then come the places in `ALPHABET`."""
    if isinstance(captions, str):
        raise TypeError(f"captions must be a list of texts, got one text, {captions!r}")
    tokens = torch.zeros(len(captions), length, dtype=torch.int64)
    for row, text in zip(tokens, captions, strict=True):
        data = text.encode()
        if not 1 <= len(data) <= length:
            raise ValueError(f"captions must be of 1 to {length} bytes, got {len(data)} in {text!r}")
        for place, byte in enumerate(data):
            if chr(byte) not in ALPHABET:
                raise ValueError(f"captions must be lower-case letters and spaces, got byte 0x{byte:02x} in {text!r}")
            row[place] = 1 + ALPHABET.index(chr(byte))
    return tokens


def draw_images(x: Tensor, kind: Tensor) -> Tensor:
    """Digits x (B, 8, 8), drawn as their kind (B,) says: bold is the darkest of each 2 x 2 pixels, white is 1 - ink."""
    bold = F.max_pool2d(F.pad(x, (0, 1, 0, 1)), 2, stride=1)
    ink = torch.where((kind // 2 % 2 == 1)[:, None, None], bold, x)
    return torch.where((kind % 2 == 1)[:, None, None], 1 - ink, ink)


def draw_pairs(x: Tensor, y: Tensor, *, size: int, generator: torch.Generator | None = None) -> Pairs:
    """`size` digits of x (n, 8, 8) with class y (n,), each in a stroke, a colour and a template drawn at random."""
    device = getattr(generator, "device", "cpu")
    numbers = (len(x), 4, len(TEMPLATES))
    draws = [torch.randint(n, (size,), generator=generator, device=device) for n in numbers]
    rows, look, template = (draw.to(x.device) for draw in draws)
    kind = 4 * y.to(x.device)[rows] + look
    return Pairs(draw_images(x[rows], kind), _TOKENS.to(x.device)[kind, template], kind)


_TOKENS = torch.stack([encode([caption(kind, template) for template in TEMPLATES]) for kind in range(N_KINDS)])

# The network


class Encoded(NamedTuple):
    """What the network says of images and captions, and who said it."""

    images: Tensor  # (B, D) of length 1
    captions: Tensor  # (C, D) of length 1
    choices: list[Choice]  # one for each sparse layer, of (N, E): all tokens of the images, then those of the captions
    is_text: Tensor  # (N,) which of the tokens are bytes


class LIMoE(nn.Module):
    """A transformer in which every second block has experts in place of its network, for both modalities at once.

    Args:
        n_experts: of each sparse layer, of `d_hidden` each; None makes it dense: one network of `d_hidden` for all.
        choose, at_test: as for `MoE`.
        capacity_factor: as for `MoE`, with the surest tokens of both modalities first (batch priority routing).
    """

    def __init__(
        self,
        d_model: int = 32,
        n_heads: int = 2,
        n_layers: int = 4,
        n_experts: int | None = 8,
        d_hidden: int = 64,
        *,
        choose: Callable[[Tensor], Choice] = switch,
        at_test: Callable[[Tensor], Choice] | None = None,
        capacity_factor: float | None = 1.25,
        length: int = 24,
    ):
        super().__init__()
        self.sparse = n_experts is not None
        self.patch = nn.Linear(4, d_model)
        self.byte = nn.Embedding(len(ALPHABET) + 1, d_model)
        self.place = nn.ParameterDict({k: 0.1 * torch.randn(n, d_model) for k, n in (("image", 16), ("text", length))})
        self.body = Transformer(d_model, n_heads, n_layers)
        for i, block in enumerate(self.body.blocks):
            if n_experts is None or i % 2 == 0:
                block.mlp = nn.Sequential(nn.Linear(d_model, d_hidden), nn.GELU(), nn.Linear(d_hidden, d_model))
            else:
                style = {"at_test": at_test, "batch_priority": True, "bias": True}
                block.mlp = MoE(d_model, d_hidden, n_experts, choose, capacity_factor, **style)
        self.heads = nn.ModuleDict({k: nn.Linear(d_model, d_model, bias=False) for k in ("image", "text")})
        self.log_scale = nn.Parameter(torch.tensor(10.0).log())  # 1 / temperature of the contrastive loss

    def forward(self, images: Tensor, captions: Tensor) -> Encoded:
        """images (B, 8, 8), captions (C, T) tokens; B and C may differ, and one of them be 0."""
        if images.ndim != 3 or images.shape[1:] != (8, 8):
            raise ValueError(f"images must have shape (B, 8, 8), got {tuple(images.shape)}")
        length = len(self.place["text"])
        if captions.ndim != 2 or captions.shape[1] > length:
            raise ValueError(f"captions must have shape (C, T) with T up to {length}, got {tuple(captions.shape)}")
        wrong = captions[(captions < 0) | (captions > len(ALPHABET))]
        if len(wrong):
            raise ValueError(f"captions must be tokens from 0 to {len(ALPHABET)}, got {wrong[0].item()}")
        if not (captions > 0).any(-1).all():
            raise ValueError("captions must hold a token each, got one of padding only")
        patches = images.unfold(1, 2, 2).unfold(2, 2, 2).reshape(-1, 16, 4)
        seen = self.patch(patches) + self.place["image"]  # (B, 16, D)
        read = self.byte(captions) + self.place["text"][: captions.shape[1]]  # (C, T, D)
        longest = max(seen.shape[1], read.shape[1])
        x = torch.cat([F.pad(part, (0, 0, 0, longest - part.shape[1])) for part in (seen, read)])  # (S, T, D)
        there = (torch.ones(len(images), 16, dtype=torch.bool, device=x.device), captions > 0)
        kept = torch.cat([F.pad(part, (0, longest - part.shape[1])) for part in there])  # (S, T)
        is_text = (torch.arange(len(x), device=x.device) >= len(images))[:, None].expand_as(kept)[kept]  # (N,)
        choices = []
        for block in self.body.blocks:
            x = x + block.attention(block.norm_1(x), kept.to(x))
            y = block.mlp(block.norm_2(x[kept]))  # tokens only: padding would take places of the experts
            if isinstance(y, tuple):
                y, choice = y
                choices.append(choice)
            x = x.masked_scatter(kept[..., None], x[kept] + y)
        mean = (self.body.norm(x) * kept[..., None]).sum(1) / kept.sum(1, keepdim=True)  # (S, D)
        images, captions = mean.split([len(images), len(captions)])
        images, captions = self.heads["image"](images), self.heads["text"](captions)
        return Encoded(F.normalize(images, dim=-1), F.normalize(captions, dim=-1), choices, is_text)


# Losses: functions of embeddings and of choices


def contrastive_loss(images: Tensor, captions: Tensor, scale: Tensor | float, same: Tensor) -> Tensor:
    r"""½ (H(q, softmax over captions) + H(qᵀ, softmax over images)) of the scores scale · cosine. InfoNCE, both ways.

    In a small batch several images have the same caption, and all of them are right: q shares a target equally among
    them. With a diagonal `same` it is CLIP's loss.

    Args:
        images, captions: (B, D) of length 1.
        scale: 1 / temperature.
        same: (B, B) booleans, whether caption j is right for image i: for each one, and for each caption an image.
    """
    if not (same.any(0).all() and same.any(1).all()):
        raise ValueError("same must hold a True in each row and column, else there is nothing to find, got one without")
    scores = product(scale * full(images), captions.mT)
    q = same.to(scores)
    both = [(scores, q), (scores.mT, q.mT)]
    return sum(F.cross_entropy(s, t / t.sum(-1, keepdim=True)) for s, t in both) / 2


def entropy_losses(choice: Choice, is_text: Tensor, threshold: float) -> Tensor:
    """Σ over both modalities: local, mean H(p(token)), and global, max(0, threshold - H(mean p)).

    Each token is to be sure of its expert, and each modality is to use at least exp(threshold) of them. A modality
    without a token adds nothing.
    """
    p = full(choice.logits).softmax(-1)
    both = (~is_text, is_text)
    return sum(local_entropy(p, mask=m) + global_entropy(p, threshold, mask=m) for m in both)


# Measures


def modality_share(choice: Choice, is_text: Tensor) -> Tensor:
    """The share of all tokens that an expert is chosen for, of images and of text: (2, E), sums to 1. No gradient."""
    chosen = (choice.weights.detach() > 0).float()
    both = [chosen[~is_text].sum(0), chosen[is_text].sum(0)]
    return torch.stack(both) / chosen.sum().clamp(min=1)


class Retrieval(NamedTuple):
    """How often search finds what it should, from 0 to 1.

    `text_to_image` is for one gallery: of more images the 10 best are easier to fill, and a caption of whose kind there
    are fewer than 10 cannot reach 1.
    """

    image_to_text: float  # of the images, those whose best of all 40 captions is their own
    text_to_image: float  # of the 10 best images for each caption, those of its kind


@torch.no_grad()
def retrieval(model: LIMoE, x: Tensor, y: Tensor, *, template: str = TEMPLATES[0]) -> Retrieval:
    """Search among digits x (n, 8, 8) of class y (n,), each drawn in all four looks, by captions of one template.

    All are encoded in one batch: where experts have a capacity, they share it.
    """
    if 4 * len(x) < 10:
        raise ValueError(f"x must hold at least 3 digits, 4 images of each, as 10 are to be found, got {len(x)}")
    kinds = torch.arange(N_KINDS, device=x.device)
    kind = 4 * y.to(x.device).repeat(4) + kinds[:4].repeat_interleave(len(y))
    captions = encode([caption(k, template) for k in range(N_KINDS)]).to(x.device)
    found = model(draw_images(x.repeat(4, 1, 1), kind), captions)
    scores = product(found.images, found.captions.mT)  # (4n, 40)
    best = kind[first(scores, 10, dim=0)]  # (10, 40)
    hits = scores.argmax(-1) == kind, best == kinds
    return Retrieval(*(hit.float().mean().item() for hit in hits))
