"""COCO AP of boxes: perfect and missing results, the result file, wrong input."""
import json

import pytest
import torch
from mmengine.structures import InstanceData

from mmdet.errors import UserError
from mmdet.evaluation.metrics import CocoMetric
from mmdet.structures import DetDataSample

# by image id: x, y, w, h and category
BOXES = {7: [([10, 20, 40, 40], 5)], 9: [([0, 0, 30, 50], 5), ([50, 10, 100, 100], 2)], 4: []}


@pytest.fixture
def truth(tmp_path):
    """Write an annotation file of three images of 200×150, categories 2 and 5 in the order 5, 2."""
    path = tmp_path / 'coco.json'
    path.write_text(json.dumps({
        'images': [{'id': ident, 'file_name': f'{ident}.png', 'height': 150, 'width': 200} for ident in BOXES],
        'categories': [{'id': 5, 'name': 'five'}, {'id': 2, 'name': 'two'}],
        'annotations': [{'id': i, 'image_id': ident, 'bbox': box, 'category_id': category}
                        for i, (ident, box, category) in enumerate(
                            (ident, *entry) for ident, entries in BOXES.items() for entry in entries)]}))
    return path


def found(image_id: int, boxes: list, score: float = 0.9) -> dict:
    """Return the result of a model for an image: boxes x, y, w, h with categories 5 (label 0) and 2 (label 1)."""
    rows = torch.tensor([[x, y, x + w - 1, y + h - 1] for (x, y, w, h), _ in boxes], dtype=torch.float32).reshape(-1, 4)
    labels = torch.tensor([0 if category == 5 else 1 for _, category in boxes], dtype=torch.long)
    sample = DetDataSample(
        metainfo=dict(video_id=image_id, frame_id=0, img_path=f'{image_id}.png', ori_shape=(150, 200)),
        pred_track_instances=InstanceData(bboxes=rows, labels=labels, scores=torch.full((len(boxes),), score)))
    return dict(video_data_samples=[sample])


def run(metric, results: dict) -> dict:
    for image_id, boxes in results.items():
        metric.process(None, [found(image_id, boxes)])
    return metric.evaluate(len(results))


def test_perfect_boxes(truth):
    scores = run(CocoMetric(str(truth)), BOXES)
    # no object is small; one is medium, one is large
    assert {name: round(value, 6) for name, value in scores.items()} == {
        'bbox_AP': 1, 'bbox_AP50': 1, 'bbox_AP75': 1, 'bbox_APs': -1, 'bbox_APm': 1, 'bbox_APl': 1,
        'bbox_AR1': 1, 'bbox_AR10': 1, 'bbox_AR100': 1, 'bbox_ARs': -1, 'bbox_ARm': 1, 'bbox_ARl': 1}


@pytest.mark.parametrize(('results', 'expected', 'why'), [
    ({7: [], 9: [], 4: []}, 0, 'nothing found'),
    ({}, 0, 'nothing tested'),
    (BOXES | {9: BOXES[9][:1]}, 0.5, 'one category missed'),
    ({7: [([10, 20, 40, 40], 2)], 9: [([0, 0, 30, 50], 2), ([50, 10, 100, 100], 5)], 4: []}, 0, 'categories swapped'),
    (BOXES | {9: [([0, 0, 30, 50], 5), ([50, 10, 100, 71], 2)]}, 0.75, 'overlap 0.71: right at half of the thresholds'),
])
def test_other_boxes(truth, results, expected, why):
    assert run(CocoMetric(str(truth)), results)['bbox_AP'] == pytest.approx(expected), why


def test_the_file_has_the_annotation_files_ids_and_is_scored_again(truth, tmp_path):
    out = str(tmp_path / 'results.pkl')
    scores = run(CocoMetric(str(truth), out=out), dict(reversed(BOXES.items())))
    entries = json.loads((tmp_path / 'results.pkl.json').read_text())
    assert [(entry['image_id'], entry['bbox'], entry['category_id']) for entry in entries] == [
        (ident, box, category) for ident, boxes in BOXES.items() for box, category in boxes]
    assert CocoMetric(str(truth)).score_file(out) == scores
    assert CocoMetric(str(truth)).score_file(f'{out}.json') == scores


def test_an_interrupted_test_keeps_what_it_has(truth, tmp_path):
    metric = CocoMetric(str(truth), out=str(tmp_path / 'results.pkl'))
    assert metric.write_partial() == []
    metric.process(None, [found(9, BOXES[9])])
    path, = metric.write_partial()
    assert path == str(tmp_path / 'results.partial.pkl.json')
    assert len(json.loads((tmp_path / 'results.partial.pkl.json').read_text())) == 2


def test_without_annotations_nothing_is_scored(truth):
    data = json.loads(truth.read_text())
    del data['annotations']
    truth.write_text(json.dumps(data))
    assert run(CocoMetric(str(truth)), BOXES) == {}
    assert run(CocoMetric(str(truth), metric=[]), BOXES) == {}


@pytest.mark.parametrize(('arguments', 'message'), [(dict(metric='segm'), 'use bbox'), (dict(zip=True), '--zip')])
def test_wrong_arguments(truth, arguments, message):
    with pytest.raises(UserError, match=message):
        CocoMetric(str(truth), **arguments)


@pytest.mark.parametrize(('change', 'message'), [
    (lambda data: data.pop('images'), 'images'),
    (lambda data: data['categories'][0].pop('name'), 'has no name'),
    (lambda data: data['annotations'][1].update(image_id=8), r'annotations\[1\]: image_id 8'),
    (lambda data: data['annotations'][1].update(bbox=[1, 2, 3]), r'annotations\[1\]: bbox'),
    (lambda data: data['annotations'].append(3), r'annotations\[3\]')])
def test_damaged_annotations_are_named(truth, change, message):
    data = json.loads(truth.read_text())
    change(data)
    truth.write_text(json.dumps(data))
    with pytest.raises(UserError, match=message):
        CocoMetric(str(truth))


@pytest.mark.parametrize(('content', 'message'), [
    ({}, 'not a list'), ([{}], 'entry 0'), ([{'image_id': 7, 'category_id': 5, 'bbox': [0, 0, 1, 1]}], 'score'),
    ([{'image_id': 1, 'category_id': 5, 'bbox': [0, 0, 1, 1], 'score': 1}], 'image_id 1')])
def test_damaged_results_are_named(truth, tmp_path, content, message):
    path = tmp_path / 'results.json'
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=message):
        CocoMetric(str(truth)).score_file(str(path))


def test_results_for_other_images_or_classes(truth):
    metric = CocoMetric(str(truth))
    with pytest.raises(UserError, match='image 1 is not in'):
        metric.process(None, [found(1, [])])
    wrong = found(7, BOXES[7])
    wrong['video_data_samples'][0].pred_track_instances.labels += 2
    with pytest.raises(UserError, match='predicts class 2'):
        metric.process(None, [wrong])
    with pytest.raises(UserError, match='categories'):
        metric.dataset_meta = dict(classes=('two', 'six'))


def test_a_test_without_one_readable_image_is_an_error(truth):
    metric = CocoMetric(str(truth))
    for image_id in BOXES:
        clip = found(image_id, [])
        clip['video_data_samples'][0].set_metainfo(dict(bad_frame=True))
        metric.process(None, [clip])
    with pytest.raises(UserError, match=r'no frame of .*coco\.json could be read \(3 frames\)'):
        metric.evaluate(3)
