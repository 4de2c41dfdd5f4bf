"""A device without a device: finds lines that leave something on the CPU which should be beside the model.

    with Elsewhere():
        y = layer.to(DEVICE)(x.to(DEVICE))

Tensors on DEVICE are on the CPU in truth and have their values, so that code which looks at values runs as it is (on
`torch.device("meta")`, and with torch's fake tensors, it does not). An operation on tensors of both devices is refused,
as an accelerator refuses it. `waits` of the context are the names of the operations for whose values, or number of
values, an accelerator would have been waited for; it is no device on which `simplex.looks`.
"""

import contextlib
from unittest.mock import patch

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

DEVICE = torch.device("lazy:0")  # a name that torch knows and no machine has
CPU = torch.device("cpu")
BETWEEN = {"_to_copy", "copy_"}  # what may have tensors of both
WAITING = {"_local_scalar_dense", "bincount", "equal", "masked_select", "nonzero", "repeat_interleave"}
WAITING |= {"_unique2", "unique_consecutive", "unique_dim", "unique_dim_consecutive"}
WAITED = []
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_"}  # here a mask or places on the CPU are allowed


class _There(torch.Tensor):
    @staticmethod
    def __new__(cls, here):
        options = {"strides": here.stride(), "storage_offset": here.storage_offset(), "dtype": here.dtype}
        there = torch.Tensor._make_wrapper_subclass(cls, here.shape, device=DEVICE, **options)
        there.here = here
        return there

    def tolist(self):
        WAITED.append("tolist")
        return self.here.tolist()

    def new_tensor(self, data):
        return torch.tensor(data, dtype=self.dtype, device=DEVICE)

    def __getitem__(self, places):
        return super().__getitem__(torch.tensor(places) if isinstance(places, list) else places)

    def __deepcopy__(self, memo):
        copied = self.detach().clone()
        is_parameter = isinstance(self, torch.nn.Parameter)
        memo[id(self)] = copied = torch.nn.Parameter(copied, self.requires_grad) if is_parameter else copied
        return copied

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _call(func, args, kwargs or {})


def _call(func, args, kwargs):
    given, name = tree_leaves((args, kwargs)), func.overloadpacket.__name__
    tensors = [value for value in given if isinstance(value, torch.Tensor)]
    there = any(isinstance(value, _There) for value in tensors)
    strict = tensors[:1] if name in INDEXING else [] if name in BETWEEN else tensors
    if there and any(not isinstance(value, _There) and value.ndim for value in strict):
        raise RuntimeError(f"{func} of tensors on {DEVICE} and on cpu")
    by_mask = name in INDEXING and any(t is not None and t.dtype == torch.bool for t in args[1])
    moved = kwargs.get("device") is not None and torch.device(kwargs["device"]) != (DEVICE if there else CPU)
    if (name == "_to_copy" and moved) or (
        there and (by_mask or (name in WAITING and kwargs.get("output_size") is None))
    ):
        WAITED.append(name)
    if (device := kwargs.get("device")) is not None:
        there, kwargs = torch.device(device).type == DEVICE.type, kwargs | {"device": "cpu"}
    args, kwargs = tree_map_only(_There, lambda value: value.here, (args, kwargs))
    known = {id(value.here): value for value in given if isinstance(value, _There)}  # changed in place
    out = func(*args, **kwargs)
    return tree_map_only(torch.Tensor, lambda t: known[id(t)] if id(t) in known else _There(t), out) if there else out


def _made_here(make):
    """torch.tensor and torch.as_tensor look for the device themselves."""
    return lambda data, *args, device=None, **options: make(data, *args, **options).to(device)


class Elsewhere(TorchDispatchMode):
    waits = WAITED

    def __enter__(self):
        WAITED.clear()
        self.patches = contextlib.ExitStack()
        self.patches.enter_context(patch("torch.autocast", lambda *args, **options: contextlib.nullcontext()))
        for make in (torch.tensor, torch.as_tensor):
            self.patches.enter_context(patch.object(torch, make.__name__, _made_here(make)))
        return super().__enter__()

    def __exit__(self, *raised):
        self.patches.close()
        return super().__exit__(*raised)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return _call(func, args, kwargs or {})
