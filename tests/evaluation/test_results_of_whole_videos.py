"""Models whose labels and scores are known only at the end of a video: the metric stores the masks of its results."""
import json

import numpy as np
import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.structures import InstanceData
from pycocotools import mask as coco_mask

from mmdet.evaluation import YouTubeVISMetric
from mmdet.structures import DetDataSample, TrackDataSample
from mmdet.structures.masks import encode_masks

SIZE = (6, 8)
CLASSES = {40: 'a', 2: 'b', 31: 'c'}
LENGTH = 3


def square(column: int) -> np.ndarray:
    mask = np.zeros((1, *SIZE), np.uint8)
    mask[0, 1:4, column:column + 2] = 1
    return mask


def objects(queries: list[int], masks: list[np.ndarray]) -> InstanceData:
    return InstanceData(bboxes=torch.tensor([[0., 0, 1, 1]] * len(queries)).reshape(-1, 4),
                        scores=torch.full((len(queries),), 0.3), labels=torch.zeros(len(queries), dtype=torch.long),
                        instances_id=torch.tensor(queries), masks=[encode_masks(mask)[0] for mask in masks])


def video_clips() -> list[TrackDataSample]:
    """Return clips with queries 3, 5 and 8; in the last frame, with the results of the video, 3 has no mask."""
    candidates = [objects([3, 5, 8], [square(0), square(2), square(4)]) for _ in range(2)]
    candidates.append(objects([5, 8], [square(2), square(5)]))
    frames = []
    for frame_id, found in enumerate(candidates):
        sample = DetDataSample(metainfo=dict(video_id=7, frame_id=frame_id, video_length=LENGTH, ori_shape=SIZE))
        sample.pred_track_instances, sample.video_candidates = found[:1], found
        frames.append(sample)
    frames[-1].video_tracks = InstanceData(instances_id=torch.tensor([8, 3, 8]), labels=torch.tensor([1, 0, 2]),
                                           scores=torch.tensor([0.875, 0.5, 0.25]))
    return [TrackDataSample(video_data_samples=frames[:2]), TrackDataSample(video_data_samples=frames[2:])]


def metric_of(folder, **kwargs) -> YouTubeVISMetric:
    masks = [encode_masks(square(column))[0] for column in (4, 4, 5)]
    annotations = folder / 'annotations.json'
    annotations.write_text(json.dumps(dict(
        videos=[dict(id=7, height=SIZE[0], width=SIZE[1], file_names=['0.jpg', '1.jpg', '2.jpg'])],
        categories=[dict(id=ident, name=name) for ident, name in CLASSES.items()],
        annotations=[dict(id=1, video_id=7, category_id=2, iscrowd=0, bboxes=[[4, 1, 2, 3]] * 2 + [[5, 1, 2, 3]],
                          segmentations=[dict(size=list(SIZE), counts=mask['counts'].decode()) for mask in masks])])))
    return YouTubeVISMetric(str(annotations), metric=['segm', 'bbox'], **kwargs)


def test_tracks_get_the_video_s_labels_and_scores_and_their_queries_masks(tmp_path):
    out = tmp_path / 'out.pkl'
    evaluator = Evaluator(metric_of(tmp_path, out=str(out), dump_bbox=True))
    evaluator.dataset_meta = dict(classes=tuple(CLASSES.values()))
    for clip in video_clips():
        evaluator.process([clip])
    statistics = evaluator.evaluate(LENGTH)
    assert statistics['segm_AP'] == pytest.approx(1)  # the best track is the annotated object
    entries = json.loads((tmp_path / 'out.pkl.json').read_text())
    assert [(entry['category_id'], entry['score']) for entry in entries] == [(2, 0.875), (40, 0.5), (31, 0.25)]
    for entry, columns in zip(entries, ((4, 4, 5), (0, 0, None), (4, 4, 5))):
        for segmentation, box, column in zip(entry['segmentations'], entry['bboxes'], columns):
            expected = np.zeros(SIZE, np.uint8) if column is None else square(column)[0]
            np.testing.assert_array_equal(coco_mask.decode(segmentation), expected)
            assert box == ([0, 0, 0, 0] if column is None else [0, 0, 2, 2])
    again = metric_of(tmp_path)
    assert again.score_file(str(out)) == statistics


def test_a_video_without_results_has_no_tracks(tmp_path):
    evaluator = Evaluator(metric_of(tmp_path, out=str(tmp_path / 'out.pkl')))
    first, last = video_clips()
    last[0].video_tracks = last[0].video_tracks[:0]
    for clip in (first, last):
        evaluator.process([clip])
    evaluator.evaluate(LENGTH)
    assert json.loads((tmp_path / 'out.pkl.json').read_text()) == []
