"""Results of more videos than the annotations, annotations with boxes only, and class-agnostic scores."""
import json
import logging
from pathlib import Path

import pytest
from mmengine.logging import MMLogger

from mmdet.console import ConsoleFormatter
from mmdet.datasets import YVISDataset
from mmdet.errors import UserError
from mmdet.evaluation.functional import evaluate_vis
from mmdet.evaluation.functional.coco_ap import read_coco, score_boxes
from mmdet.evaluation.metrics import YouTubeVISMetric
from tests.evaluation.squares import SIZE, annotation, prediction, square, truth
from tools.analysis_tools import error_analysis
from tools.vis_eval import main

SEEN = [square(0), square(5)]


@pytest.fixture
def files(tmp_path):
    """A result of videos 1 and 7; video 1 is annotated, and so is video 2, in which nothing was found."""
    content = truth(annotation(1, SEEN), annotation(2, SEEN, video=2), videos=(1, 2))
    result = [prediction(SEEN), prediction(SEEN, video=7), prediction(SEEN, video=7, score=.2)]
    for name, part in (('result', result), ('truth', content)):
        (tmp_path / f'{name}.json').write_text(json.dumps(part))
    return [str(tmp_path / 'result.json'), str(tmp_path / 'truth.json')]


def test_more_videos_than_the_annotations_are_refused_without_the_flag(files):
    with pytest.raises(UserError, match='entry 1: video_id 7 is not in the annotation file'):
        main(files)


def test_common_videos_are_scored_and_the_others_counted(files, tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr('mmdet.evaluation.functional.scored_tracks.print_log', lambda text, **_: said.append(text))
    out = tmp_path / 'numbers.json'
    assert main([*files, '--common-videos', '--out', str(out)]) == 0
    assert len(said) == 1 and 'left out: 2 of 3 entries, of 1 video not in' in said[0]
    # one of two objects is found: precision 1 up to recall .5, which are 51 of 101 points
    assert json.loads(out.read_text())['segm']['statistics']['AP'] == pytest.approx(51 / 101)


def test_common_videos_in_python_and_in_the_error_analysis(files):
    result = evaluate_vis(files[1], files[0], common_videos=True)
    assert result.statistics['AR1'] == pytest.approx(0.5)
    assert error_analysis.main([*files, '--common_videos', '--resamples', '2']) == 0
    with pytest.raises(UserError, match=r'video_id 7 is not in the annotation file; .* with --common-videos'):
        error_analysis.main(files)


@pytest.mark.parametrize('threshold', ['-0.1', '30', 'nan'])
def test_a_threshold_that_is_no_score_is_one_line(files, threshold):
    with pytest.raises(UserError, match=r'--hota-thresh .* from 0 to 1'):
        main([*files, '--hota', f'--hota-thresh={threshold}'])


def test_no_common_video_is_one_line(files):
    content = json.loads(Path(files[0]).read_text())[1:]
    with pytest.raises(UserError, match=r'result: none of its entries belongs to a video of .*truth\.json'):
        evaluate_vis(files[1], content, common_videos=True)


@pytest.fixture
def boxes_only():
    """Two objects, of which the second is predicted with half of its width: IoU .5."""
    first, second = [[0, 0, 20, 20], None], [[100, 0, 20, 20], [100, 0, 20, 20]]
    content = truth()
    content['annotations'] = [dict(id=number, video_id=1, category_id=1, iscrowd=0, bboxes=rows)
                              for number, rows in enumerate((first, second), 1)]
    halves = [[100, 0, 10, 20]] * 2
    found = [dict(video_id=1, category_id=1, score=score, bboxes=rows) for rows, score in ((first, .9), (halves, .8))]
    return content, found


def test_annotations_with_boxes_only_are_scored_with_bbox(boxes_only, tmp_path):
    content, found = boxes_only
    scores = evaluate_vis(content, found, 'bbox').statistics
    assert scores['AP50'] == pytest.approx(1) and scores['AP75'] == pytest.approx(51 / 101)
    masks = [prediction([square(0), None], .9), prediction([square(100)] * 2, .8)]
    assert evaluate_vis(content, masks, 'bbox').statistics['AP'] == pytest.approx(1)  # the masks' boxes
    for name, part in (('truth', content), ('result', found)):
        (tmp_path / f'{name}.json').write_text(json.dumps(part))
    assert main([str(tmp_path / 'result.json'), str(tmp_path / 'truth.json'), '--metric', 'bbox']) == 0
    metric = YouTubeVISMetric(str(tmp_path / 'truth.json'), metric='bbox')
    assert len(metric._ground_truth().tracks) == 2


def test_annotations_with_boxes_only_have_no_masks_to_score(boxes_only):
    content, found = boxes_only
    with pytest.raises(UserError, match=r'annotation 1 has bboxes but no segmentations; .* score boxes only'):
        evaluate_vis(content, found)
    del content['annotations'][0]['bboxes']
    with pytest.raises(UserError, match='annotation 1 has neither segmentations nor bboxes'):
        evaluate_vis(content, found, 'bbox')


def test_class_agnostic_metric_of_a_test(tmp_path):
    """Masks of the right place and the wrong class: AP 0 by class, 1 without classes."""
    content = truth(annotation(1, SEEN), categories=(1, 2))
    (tmp_path / 'truth.json').write_text(json.dumps(content))
    wrong = prediction(SEEN, category=2)
    for class_agnostic, expected in ((False, 0), (True, 1)):
        metric = YouTubeVISMetric(str(tmp_path / 'truth.json'), class_agnostic=class_agnostic)
        metric._stream = lambda videos, frames_of, kept: iter(kept.append(wrong) or ())
        assert metric._write_and_score(None, None)['segm_AP'] == pytest.approx(expected)


def test_class_agnostic_boxes_of_images(tmp_path):
    box = dict(image_id=1, bbox=[0, 0, 20, 20])
    (tmp_path / 'coco.json').write_text(json.dumps(dict(
        images=[dict(id=1, height=SIZE, width=SIZE)], categories=[dict(id=3, name='cat'), dict(id=4, name='dog')],
        annotations=[box | dict(id=1, category_id=3)])))
    content = read_coco(str(tmp_path / 'coco.json'))
    found = [box | dict(category_id=4, score=.9)]
    assert score_boxes(content, found)[0]['AP'] == 0
    statistics, per_category = score_boxes(content, found, class_agnostic=True)
    assert statistics['AP'] == pytest.approx(1) and per_category == {'object': pytest.approx(1)}


def test_a_data_set_for_tests_needs_no_masks(toy_root, tmp_path):
    content = json.loads((toy_root / 'annotations/instances_valid.json').read_text())
    for entry in content['annotations']:
        del entry['segmentations']
    (tmp_path / 'boxes.json').write_text(json.dumps(content))
    arguments = dict(ann_file=str(tmp_path / 'boxes.json'), data_prefix=dict(img_path=str(toy_root / 'valid_images')))
    assert len(YVISDataset(**arguments, test_mode=True)) == sum(len(v['file_names']) for v in content['videos'])
    with pytest.raises(UserError, match='has bboxes but no segmentations'):
        YVISDataset(**arguments)


def test_lines_of_the_console_have_no_time_stamps(files):
    assert main([*files, '--common-videos']) == 0
    consoles = [handler for handler in MMLogger.get_current_instance().handlers
                if type(handler) is logging.StreamHandler]
    assert consoles and all(isinstance(handler.formatter, ConsoleFormatter) for handler in consoles)
