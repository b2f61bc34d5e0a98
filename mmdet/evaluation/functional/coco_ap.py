"""Average precision of boxes in single images, by pycocotools. Plain functions; called by ``CocoMetric``."""
from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mmdet.errors import UserError, json_kind
from mmdet.files import load_json

STATISTICS = ('AP', 'AP50', 'AP75', 'APs', 'APm', 'APl', 'AR1', 'AR10', 'AR100', 'ARs', 'ARm', 'ARl')


def read_coco(path: str) -> COCO:
    """Read and index an annotation file; ``annotations`` may be missing (test sets).

    Raises:
        UserError: the file cannot be read, is not COCO JSON, or contradicts itself; the message names the entry.
    """
    data = load_json(path)
    for key in ('images', 'categories'):
        if not isinstance(data, dict) or not isinstance(data.get(key), list) or not data[key]:
            raise UserError(f'{path} is not COCO JSON: it needs a non-empty list {key!r}; check ann_file')
        for index, entry in enumerate(data[key]):
            if not isinstance(entry, dict) or type(entry.get('id')) is not int:
                raise UserError(f'{path}: {key}[{index}] must be an object with an integer id; check ann_file')
    for category in data['categories']:
        if not isinstance(category.get('name'), str):
            raise UserError(f'{path}: category {category["id"]} has no name; give each category one')
    annotations = data.setdefault('annotations', [])
    if not isinstance(annotations, list):
        raise UserError(f"{path}: 'annotations' must be a list; check ann_file")
    image_ids, category_ids = ({entry['id'] for entry in data[key]} for key in ('images', 'categories'))
    for index, entry in enumerate(annotations):
        where = f'{path}: annotations[{index}]'
        _check_box(entry, image_ids, category_ids, where)
        entry['id'] = index + 1  # pycocotools takes id 0 for "unmatched"
        entry['iscrowd'] = int(bool(entry.get('iscrowd')))
        if not isinstance(entry.get('area'), int | float):
            entry['area'] = entry['bbox'][2] * entry['bbox'][3]
    return _indexed(data)


def coco_of_classes(truth: COCO, names: Sequence[str], source: str) -> COCO:
    """Return the annotations of the categories of these names, in this order; images stay.

    Raises:
        UserError: there is no category of one of the names. ``source`` is the name of the file in the message.
    """
    categories = {category['name']: category for category in truth.dataset['categories']}
    unknown = [name for name in names if name not in categories]
    if unknown:
        raise UserError(f'{source}: has no category {unknown[0]!r}, so its categories are not the data set\'s; give '
                        'the metric the data set\'s own ann_file')
    chosen = [categories[name] for name in names]
    ids = {category['id'] for category in chosen}
    return _indexed(truth.dataset | {'categories': chosen, 'annotations': [
        annotation for annotation in truth.dataset['annotations'] if annotation['category_id'] in ids]})


def check_detections(detections: Any, truth: COCO, name: str) -> list[dict]:
    """Check detections in COCO's result format.

    Args:
        detections: list of dicts with ``image_id``, ``category_id``, ``bbox`` (x, y, w, h in pixels) and ``score``.
        truth: annotations that the detections belong to.
        name: name of the detections in messages.

    Returns:
        The detections.

    Raises:
        UserError: an entry is not valid; the message names it.
    """
    if not isinstance(detections, list):
        raise UserError(f'{name} is {json_kind(detections)}, not a list of COCO detections')
    image_ids, category_ids = set(truth.getImgIds()), set(truth.getCatIds())
    for index, entry in enumerate(detections):
        where = f'{name}: entry {index}'
        _check_box(entry, image_ids, category_ids, where)
        if type(entry.get('score')) not in (int, float) or not np.isfinite(entry['score']):
            raise UserError(f'{where} has no finite score; is it a result of test_video.py?')
    return detections


def score_boxes(truth: COCO, detections: list[dict],
                class_agnostic: bool = False) -> tuple[dict[str, float], dict[str, float]]:
    """Compute COCO's twelve statistics, and AP by category name, in [0, 1]; −1 where nothing is annotated.

    Args:
        truth: annotations from :func:`read_coco`.
        detections: detections from :func:`check_detections`.
        class_agnostic: score all categories as one, which is then called ``object``.
    """
    found = _indexed({'images': truth.dataset['images'], 'categories': truth.dataset['categories'], 'annotations': [
        entry | {'id': index, 'area': entry['bbox'][2] * entry['bbox'][3], 'iscrowd': 0}
        for index, entry in enumerate(detections, 1)]})
    evaluation = COCOeval(truth, found, 'bbox')
    evaluation.params.useCats = int(not class_agnostic)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    # (IoU, recall, category, area, detections): all areas, 100 detections
    precision = evaluation.eval['precision'][:, :, :, 0, -1]
    per_category = {}
    names = ['object'] if class_agnostic else [truth.cats[key]['name'] for key in evaluation.params.catIds]
    for position, name in enumerate(names):
        defined = precision[:, :, position][precision[:, :, position] > -1]
        per_category[name] = float(defined.mean()) if len(defined) else -1.0
    return dict(zip(STATISTICS, map(float, evaluation.stats))), per_category


def _check_box(entry: Any, image_ids: set[int], category_ids: set[int], where: str) -> None:
    if not isinstance(entry, dict):
        raise UserError(f'{where} is not an object; check the file')
    for key, known in (('image_id', image_ids), ('category_id', category_ids)):
        if type(entry.get(key)) is not int or entry[key] not in known:
            raise UserError(f'{where}: {key} {str(entry.get(key))[:60]} is not in the annotation file')
    box = entry.get('bbox')
    if not isinstance(box, list) or len(box) != 4 or not all(
            type(value) in (int, float) and np.isfinite(value) for value in box):
        raise UserError(f'{where}: bbox {str(box)[:60]} must be x, y, width, height')


def _indexed(data: dict) -> COCO:
    coco = COCO()
    coco.dataset = data
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco
