"""Metric that collects, writes and scores boxes in images; called by mmengine's validation and test loops."""
from __future__ import annotations

import json
import os
from collections.abc import Sequence
from itertools import chain
from typing import Any

from mmengine.dist import all_gather_object, broadcast_object_list, is_main_process
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log

from mmdet.errors import UserError, counted
from mmdet.evaluation.bad_frames import BadFrameCount
from mmdet.evaluation.functional.coco_ap import check_detections, coco_of_classes, read_coco, score_boxes
from mmdet.evaluation.functional.scored_tracks import load_result_json
from mmdet.files import atomic_open
from mmdet.registry import METRICS
from mmdet.structures.result_tracks import xywh_boxes


@METRICS.register_module()
class CocoMetric(BaseMetric):
    """COCO's average precision of boxes, and the result file in COCO's format.

    Args:
        ann_file: annotation file of the tested images. If it has no annotations, nothing is scored.
        metric: ``'bbox'``, also in a list, or an empty list to write results without scoring them.
        out: ``X.pkl``; the detections go to ``X.pkl.json``, a list of ``image_id``, ``category_id`` (the annotation
            file), ``bbox`` (x, y, w, h in original pixels) and ``score``. None: nothing is written.
        dump_bbox: has no effect, since boxes are always written.
        zip: not supported.
        collect_device, prefix, collect_dir: see mmengine's BaseMetric.
        class_agnostic: score all categories as one.

    Raises:
        UserError: the annotation file is damaged, or ``metric`` or ``zip`` is not supported.
    """

    default_prefix = ''

    def __init__(self, ann_file: str, metric: str | Sequence[str] = 'bbox', out: str | None = None,
                 dump_bbox: bool = False, zip: bool = False, collect_device: str = 'cpu', prefix: str | None = None,
                 collect_dir: str | None = None, class_agnostic: bool = False) -> None:
        super().__init__(collect_device, prefix, collect_dir)
        self.metrics = [metric] if isinstance(metric, str) else list(metric)
        for name in self.metrics:
            if name != 'bbox':
                raise UserError(f'metric {name!r} needs masks, which this detector does not predict; use bbox')
        if zip:
            raise UserError('--zip packs the tracks of videos; the boxes of images are in X.pkl.json')
        self.ann_file, self.out, self.class_agnostic = ann_file, out, class_agnostic
        self._truth = read_coco(ann_file)
        self._category_ids = [category['id'] for category in self._truth.dataset['categories']]
        self._bad_frames = BadFrameCount()
        self._images = dict.fromkeys(image['id'] for image in self._truth.dataset['images'])

    @BaseMetric.dataset_meta.setter
    def dataset_meta(self, dataset_meta: dict) -> None:
        """Score the categories of the data set, which may be some of those of ``ann_file``.

        Raises:
            UserError: ``ann_file`` lacks one of them.
        """
        classes = (dataset_meta or {}).get('classes')
        expected = tuple(category['name'] for category in self._truth.dataset['categories'])
        if classes is not None and tuple(classes) != expected:
            self._truth = coco_of_classes(self._truth, classes, self.ann_file)
            self._category_ids = [category['id'] for category in self._truth.dataset['categories']]
        self._dataset_meta = dataset_meta

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Add clips: dicts with ``video_data_samples``, a list of ``DetDataSample`` with ``pred_track_instances``."""
        for sample in chain.from_iterable(clip['video_data_samples'] for clip in data_samples):
            if sample.video_id not in self._images:
                raise UserError(f'{sample.img_path}: image {sample.video_id} is not in {self.ann_file}; give the '
                                'metric the data set\'s own ann_file')
            self._bad_frames.add(sample)
            found = sample.pred_track_instances
            if len(found) and int(found.labels.max()) >= len(self._category_ids):
                raise UserError(f'the model predicts class {int(found.labels.max())} (counted from 0), {self.ann_file} '
                                f'has {counted(len(self._category_ids), "category")}; test with the annotations the '
                                'model was trained for')
            boxes = xywh_boxes(found.bboxes.numpy()).tolist()
            self.results.append((sample.video_id, [
                {'image_id': sample.video_id, 'category_id': self._category_ids[label], 'bbox': box, 'score': score}
                for box, label, score in zip(boxes, found.labels.tolist(), found.scores.tolist())]))

    def evaluate(self, size: int) -> dict:
        """Merge, write and score the results of all processes; return the statistics, such as ``bbox_AP``, in each.

        Raises:
            UserError: the first process raised it; it is raised in every process.
        """
        parts = all_gather_object((self.results, self._bad_frames))
        gathered = list(chain.from_iterable(results for results, _ in parts))
        self.results.clear()
        self._bad_frames = BadFrameCount()
        outcome: list = [None]
        if is_main_process():
            try:
                BadFrameCount.check((count for _, count in parts), self.ann_file)
                outcome = [self.compute_metrics(gathered)]
            except UserError as error:
                outcome = [error]
        broadcast_object_list(outcome)
        if isinstance(outcome[0], UserError):
            raise outcome[0]
        return {f'{self.prefix}/{name}' if self.prefix else name: value for name, value in outcome[0].items()}

    def compute_metrics(self, results: list[tuple[int, list[dict]]]) -> dict:
        """Write and score the pairs (image id, detections) of all images, in any order."""
        found = dict(results)  # an image may occur twice with a sampler that pads
        if len(found) < len(self._images):
            absent = len(self._images) - len(found)
            print_log(f'not tested, counted as empty: {absent} of {counted(len(self._images), "image")}',
                      logger='current')
        detections = self._in_order(found)
        if self.out is not None:
            self._write(self.out, detections)
        return self._score(detections)

    def score_file(self, path: str) -> dict:
        """Score an existing result file (``--load_result X.pkl``: ``X.pkl.json`` is read).

        Raises:
            UserError: the file is not a COCO result file, or belongs to other images.
        """
        path = path if path.endswith('.json') else f'{path}.json'
        return self._score(check_detections(load_result_json(path), self._truth, path))

    def write_partial(self) -> list[str]:
        """Write the results of this process to ``X.partial.pkl.json`` after an interrupt, and log the path."""
        if self.out is None or not self.results or not is_main_process():
            return []
        stem, ending = os.path.splitext(self.out)
        return [self._write(f'{stem}.partial{ending}', self._in_order(dict(self.results)))]

    def _in_order(self, results: dict[int, list[dict]]) -> list[dict]:
        """Return detections in the order of the annotation file, so that the file does not depend on the processes."""
        return list(chain.from_iterable(results[image_id] for image_id in self._images if image_id in results))

    @staticmethod
    def _write(out: str, detections: list[dict]) -> str:
        with atomic_open(f'{out}.json', 'w') as file:
            json.dump(detections, file, separators=(',', ':'))
        print_log(f'Results written to {out}.json', logger='current')
        return f'{out}.json'

    def _score(self, detections: list[dict]) -> dict:
        if not self.metrics:
            return {}
        if not self._truth.dataset['annotations']:
            print_log(f'{self.ann_file} has no annotations, so nothing is scored', logger='current')
            return {}
        statistics, per_category = score_boxes(self._truth, detections, self.class_agnostic)
        rows = [*statistics.items(), *((f'AP of {name}', value) for name, value in per_category.items())]
        width = max(len(name) for name, _ in rows)
        table = '\n'.join(f'  {name:<{width}}  {"-" if value < 0 else f"{100 * value:.2f}":>6}' for name, value in rows)
        kind = ', class-agnostic' if self.class_agnostic else ''
        print_log(f'\nbbox{kind}, AP and AR in images (%)\n{table}', logger='current')
        return {f'bbox_{name}': value for name, value in statistics.items()}
