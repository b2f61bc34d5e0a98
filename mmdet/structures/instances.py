"""Create and select samples and instances in a small part of the time that the methods of their classes need.

``InstanceData`` compares the length of each new field with that of all others, and selects from lists by adding slices:
75 µs for seven fields, and 85 µs more to select from them, beside about 1 ms for a whole frame on a GPU. Metainfo is
copied recursively, which takes 20 µs for a frame.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from mmengine.structures import BaseDataElement, InstanceData
from torch import Tensor

Sample = TypeVar('Sample', bound=BaseDataElement)


def make_instances(fields: dict[str, Any]) -> InstanceData:
    """Return ``InstanceData(**fields)``. The fields must have equal lengths, which is not checked."""
    instances = InstanceData()
    for name, value in fields.items():
        instances.set_field(value, name)
    return instances


def add_metainfo(sample: BaseDataElement, metainfo: dict[str, Any]) -> None:
    """Add metainfo as ``sample.set_metainfo(metainfo)`` does, without copies of the values."""
    for name, value in metainfo.items():
        sample.set_field(value, name, field_type='metainfo')


def copy_sample(sample: Sample) -> Sample:
    """Return a sample with the same metainfo and fields, as ``sample.new()`` does, without copies of the values."""
    copy = type(sample)()
    add_metainfo(copy, sample.metainfo)
    for name, value in sample.items():
        copy.set_field(value, name)
    return copy


def select_instances(instances: InstanceData, rows: Sequence[int]) -> InstanceData:
    """Return copies of the given rows, as ``instances[rows]`` does, of fields that are tensors on the CPU or lists."""
    indices = np.array(rows, np.int64)  # NumPy selects from small arrays in a third of torch's time
    chosen = make_instances({name: _rows(value, indices) if isinstance(value, Tensor) else [value[row] for row in rows]
                             for name, value in instances.items()})
    add_metainfo(chosen, instances.metainfo)
    return chosen


def _rows(value: Tensor, indices: np.ndarray) -> Tensor:
    if value.dtype == torch.bfloat16:  # NumPy has no such type
        return value[torch.from_numpy(indices)]
    return torch.from_numpy(value.numpy().take(indices, axis=0))
