"""Mapping from COCO categories to the categories of video data sets; used by ``COCOVIS`` and coco2yvis.py.

The category ids of the video data sets are 1-based positions in the lists below; COCO ids are those of COCO's files.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mmdet.errors import UserError


@dataclass(frozen=True)
class VideoCategories:
    """Categories of a video data set.

    Attributes:
        names: K names in the order of their ids, 1 to K.
        from_coco: category id of the video data set by COCO category id, for the COCO categories that have one.
    """

    names: tuple[str, ...]
    from_coco: dict[int, int]


YOUTUBE_VIS_2019 = VideoCategories(
    ('person', 'giant_panda', 'lizard', 'parrot', 'skateboard', 'sedan', 'ape', 'dog', 'snake', 'monkey', 'hand',
     'rabbit', 'duck', 'cat', 'cow', 'fish', 'train', 'horse', 'turtle', 'bear', 'motorbike', 'giraffe', 'leopard',
     'fox', 'deer', 'owl', 'surfboard', 'airplane', 'truck', 'zebra', 'tiger', 'elephant', 'snowboard', 'boat', 'shark',
     'mouse', 'frog', 'eagle', 'earless_seal', 'tennis_racket'),
    {1: 1, 2: 21, 3: 6, 4: 21, 5: 28, 7: 17, 8: 29, 9: 34, 17: 14, 18: 8, 19: 18, 21: 15, 22: 32, 23: 20, 24: 30,
     25: 22, 35: 33, 36: 33, 41: 5, 42: 27, 43: 40})
YOUTUBE_VIS_2021 = VideoCategories(
    ('airplane', 'bear', 'bird', 'boat', 'car', 'cat', 'cow', 'deer', 'dog', 'duck', 'earless_seal', 'elephant', 'fish',
     'flying_disc', 'fox', 'frog', 'giant_panda', 'giraffe', 'horse', 'leopard', 'lizard', 'monkey', 'motorbike',
     'mouse', 'parrot', 'person', 'rabbit', 'shark', 'skateboard', 'snake', 'snowboard', 'squirrel', 'surfboard',
     'tennis_racket', 'tiger', 'train', 'truck', 'turtle', 'whale', 'zebra'),
    {1: 26, 2: 23, 3: 5, 4: 23, 5: 1, 7: 36, 8: 37, 9: 4, 16: 3, 17: 6, 18: 9, 19: 19, 21: 7, 22: 12, 23: 2, 24: 40,
     25: 18, 34: 14, 35: 31, 36: 31, 41: 29, 42: 33, 43: 34})
OVIS = VideoCategories(
    ('Person', 'Bird', 'Cat', 'Dog', 'Horse', 'Sheep', 'Cow', 'Elephant', 'Bear', 'Zebra', 'Giraffe', 'Poultry',
     'Giant_panda', 'Lizard', 'Parrot', 'Monkey', 'Rabbit', 'Tiger', 'Fish', 'Turtle', 'Bicycle', 'Motorcycle',
     'Airplane', 'Boat', 'Vehical'),
    {1: 1, 2: 21, 3: 25, 4: 22, 5: 23, 6: 25, 8: 25, 9: 24, 17: 3, 18: 4, 19: 5, 20: 6, 21: 7, 22: 8, 23: 9, 24: 10,
     25: 11})

Target = str | Mapping[str, Sequence[str]] | None  # what COCOVIS and coco_images_to_vis accept
TARGETS = {'yvis2019': YOUTUBE_VIS_2019, 'yvis2021': YOUTUBE_VIS_2021, 'ovis': OVIS}


def find_target(target: Target, coco_categories: Sequence[Mapping], source: str) -> VideoCategories | None:
    """Return the categories that COCO categories are mapped to; None: the categories of the file are kept.

    Args:
        target: a key of :data:`TARGETS`; or a mapping from each category name of the video data set, in the order of
            the ids, to the names of the COCO categories mapped to it (possibly none); None: no mapping.
        coco_categories: ``id`` and ``name`` of each category of the COCO file.
        source: name of the COCO file for messages.

    Raises:
        UserError: the target is unknown, or a COCO name is missing in the file or mapped to two categories.
    """
    if target is None:
        return None
    if isinstance(target, str):
        if target not in TARGETS:
            raise UserError(f'target {target!r} is unknown; use one of {", ".join(TARGETS)}, a dict of category names '
                            "with lists of COCO names, or None for the file's own categories")
        return TARGETS[target]
    ident = {category['name']: category['id'] for category in coco_categories}
    from_coco: dict[int, int] = {}
    for number, (name, sources) in enumerate(target.items(), 1):
        for coco_name in sources:
            if coco_name not in ident:
                raise UserError(f'target {name!r}: {source} has no category {coco_name!r}; it has '
                                f'{", ".join(sorted(ident))}')
            if from_coco.setdefault(ident[coco_name], number) != number:
                raise UserError(f'target {name!r}: {coco_name!r} is already mapped to '
                                f'{list(target)[from_coco[ident[coco_name]] - 1]!r}; name it once')
    return VideoCategories(tuple(target), from_coco)
