"""Families of toy videos: shapes, textures and backgrounds that belong together. No two families share any of them."""
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mmdet.datasets.toy import organic_shapes, toy_shapes


@dataclass(frozen=True)
class ToyFamily:
    """What the objects and the background of a video look like.

    Args:
        shapes: whether points of object coordinates (u, v) lie in the object, by class name.
        textures: names of the textures.
        paint: colours of the pixels of an object, see :func:`.toy_shapes.paint`.
        background: background of a video by size, ease and random generator, see :func:`.toy_shapes.background`.
    """

    shapes: dict[str, toy_shapes.Shape]
    textures: tuple[str, ...]
    paint: Callable[[str, np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray]
    background: Callable[[tuple[int, int], bool, np.random.Generator], np.ndarray]


FAMILIES = {name: ToyFamily(module.SHAPES, module.TEXTURES, module.paint, module.background)
            for name, module in (('geometric', toy_shapes), ('organic', organic_shapes))}
