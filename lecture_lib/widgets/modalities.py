"""Who uses which expert, of images and captions."""

import numpy as np
import traitlets

from lecture_lib.widgets.base import Checked, fallback, integer, module
from lecture_lib.widgets.measured import Measured, packed, short


class Modalities(Measured):
    """One network for images and captions: the expert of each patch and of each byte, and who else goes there.

    A slider goes through the inputs. Beside the input is a picture for each sparse layer: its tokens with the number
    and the tint of their expert, and below, for each expert, its share of all image tokens and of all text tokens. The
    line above says how many bits the expert of a token tells about its modality, where both modalities count alike.

    Args:
        inputs: up to 32: images (side, side) from 0 to 1, up to 16 pixels a side, or captions of up to 27 characters.
        experts: for each of the inputs (L, T) integers from 0, the expert of each token in L sparse layers, 1 to 2: for
            an image its patches, row by row on a square grid, for a caption its characters.
        share: (L, 2, E) of all image tokens, and of all text tokens, the share of each of 2 to 8 experts.
        layers: their L names, short ones.
        titles: one for each of the inputs, such as what was found for it.
        input: where the slider stands, from 0, and follows it.

    Raises:
        traitlets.TraitError: naming the argument, what is allowed and what was given.
    """

    _esm = module("measured", "modalities")
    input = Checked(0, *integer(0, 31))

    def __init__(self, inputs, experts, share, *, layers, titles, input=0):
        lists = {"inputs": inputs, "experts": experts, "layers": layers, "titles": titles}
        for name, values in lists.items():
            if isinstance(values, str) or not hasattr(values, "__len__") or not hasattr(values, "__getitem__"):
                raise self._error(name, "a list", short(repr(values)))
        inputs, experts, layers, titles = map(list, lists.values())
        if not 2 <= len(inputs) <= 32:
            raise self._error("inputs", "2 to 32 images and captions", f"{len(inputs)} of them")
        allowed = "(L, 2, E) shares from 0 to 1, for 1 or 2 layers, image and text, and 2 to 8 experts"
        share = self._array("share", share, (range(1, 3), 2, range(2, 9)), allowed, 0, 1)
        if not np.allclose(share.sum(-1), 1, atol=1e-3):
            raise self._error("share", "of sum 1 over the experts", f"of sums {short(str(share.sum(-1).tolist()))}")
        for name, values, count in (("layers", layers, len(share)), ("titles", titles, len(inputs))):
            if len(values) != count:
                raise self._error(name, f"{count} texts", f"{len(values)}")
        if len(experts) != len(inputs):
            raise self._error("experts", f"(L, T) integers for each of {len(inputs)} inputs", f"{len(experts)} of them")
        data, rows = [], []
        for i, (value, its_experts) in enumerate(zip(inputs, experts, strict=True)):
            given, tokens = self._input(f"inputs[{i}]", value)
            counts = " or ".join(map(str, tokens))
            allowed = f"(L, T) integers from 0 to {share.shape[2] - 1}, of {len(share)} layers and {counts} tokens"
            shape, name = (len(share), range(1, 257)), f"experts[{i}]"
            array = self._array(name, its_experts, shape, allowed, 0, share.shape[2] - 1)
            if array.shape[1] not in tokens or (array % 1).any():
                raise self._error(name, allowed, f"of shape {array.shape}, or no integers")
            data.append(given)
            rows.append(array.astype(int).tolist())
        super().__init__(
            _data={
                "inputs": data,
                "experts": rows,
                "share": share.tolist(),
                "layers": [self._text(f"layers[{i}]", name) for i, name in enumerate(layers)],
                "titles": [self._text(f"titles[{i}]", title) for i, title in enumerate(titles)],
            },
            input=input,
        )

    @classmethod
    def _input(cls, name, value) -> tuple[dict, list[int]]:
        """An input as the module gets it, and how many tokens it may have: characters, or patches in a square grid."""
        if isinstance(value, str):
            if not (1 <= len(value) <= 27 and value.isascii() and value.isprintable()):
                raise cls._error(name, "a caption of 1 to 27 printable ASCII characters", short(repr(value)))
            return {"text": value}, [len(value)]
        allowed = "a caption, or an image (side, side) from 0 to 1 of up to 16 pixels a side"
        image = cls._array(name, value, (range(1, 17), range(1, 17)), allowed, 0, 1)
        if image.shape[0] != image.shape[1]:
            raise cls._error(name, allowed, f"of shape {image.shape}")
        given = {"ink": packed((255 * image).round().astype(np.uint8)), "side": len(image)}
        return given, [grid**2 for grid in range(1, len(image) + 1) if len(image) % grid == 0]

    @traitlets.validate("input")
    def _one_of_the_inputs(self, proposal):
        if not 0 <= proposal["value"] < len(self._data["inputs"]):
            raise self._error("input", f"from 0 to {len(self._data['inputs']) - 1}", str(proposal["value"]))
        return proposal["value"]

    def __repr__(self) -> str:
        return f"Modalities({len(self._data['inputs'])} inputs, {len(self._data['layers'])} layers)"

    def _fallback(self) -> str:
        data = self._data
        rows = [
            (name, kind, *(f"{share:.0%}" for share in row))
            for name, both in zip(data["layers"], data["share"], strict=True)
            for kind, row in zip(("image", "text"), both, strict=True)
        ]
        names = ("layer", "tokens", *(f"expert {e}" for e in range(len(data["share"][0][0]))))
        text = "The share of each expert in all tokens of a modality:"
        return fallback("picture of the experts of images and captions", text, names, rows)
