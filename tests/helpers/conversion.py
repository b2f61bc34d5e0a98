"""Runs converters of annotations on small generated inputs, whose images have 30×20 pixels."""
from __future__ import annotations

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from mmdet.errors import UserError
from mmdet.structures.masks import decode_masks

TOOLS = Path(__file__).resolve().parents[2] / 'tools' / 'dataset_converters'
HEIGHT, WIDTH = 20, 30


def convert(root: Path, tool: str, *arguments: object) -> dict:
    """Run a converter; return the content of the file that it writes below ``root``."""
    out = root / 'out' / 'vis.json'
    main = runpy.run_path(str(TOOLS / f'{tool}.py'))['main']
    assert main([*map(str, arguments), '--out', str(out)]) == 0
    return json.loads(out.read_text())


def refuse(root: Path, words: str, tool: str, *arguments: object) -> None:
    """Run a converter that must report one line, which matches ``words``, and write nothing."""
    with pytest.raises(UserError, match=words) as error:
        convert(root, tool, *arguments)
    assert '\n' not in str(error.value) and not (root / 'out').exists()


def area(x: int, y: int, w: int, h: int) -> np.ndarray:
    """Return the mask (20, 30) of a rectangle."""
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[y:y + h, x:x + w] = True
    return mask


def masks_of(annotation: dict) -> list[np.ndarray | None]:
    return [None if rle is None else decode_masks([rle])[0].astype(bool) for rle in annotation['segmentations']]


def save_images(folder: Path, count: int, first: int = 0, pattern: str = '{:05d}.jpg') -> None:
    folder.mkdir(parents=True)
    for number in range(first, first + count):
        Image.new('RGB', (WIDTH, HEIGHT)).save(folder / pattern.format(number))


def rle_text(mask: np.ndarray) -> str:
    return coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))['counts'].decode()
