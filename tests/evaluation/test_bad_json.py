"""Faulty annotation and result files: a one-line error that names the entry, or the correct score."""
import copy
import json
import pickle
import random
import zipfile
from pathlib import Path

import pytest

from mmdet.errors import UserError
from mmdet.evaluation.functional import evaluate_vis, load_result_json, read_ground_truth

GOLDEN = json.loads((Path(__file__).parents[1] / 'data' / 'golden' / 'vis_eval_22.json').read_text())


@pytest.fixture
def truth():
    return copy.deepcopy(GOLDEN['ground_truth'])


@pytest.fixture
def result():
    return copy.deepcopy(GOLDEN['predictions'])


def change(entry, **values):
    entry.update(values)


RESULT_FAULTS = {
    'unknown video': (lambda r: change(r[3], video_id=99), r'entry 3: video_id 99'),
    'video id as text': (lambda r: change(r[3], video_id='1'), r"entry 3: video_id '1' must be an integer"),
    'video id true': (lambda r: change(r[3], video_id=True), r'entry 3: video_id True'),
    'unknown category': (lambda r: change(r[3], category_id=0), r'entry 3: category_id 0'),
    'no category': (lambda r: r[3].pop('category_id'), r'entry 3: category_id None'),
    'track too short': (lambda r: r[3]['segmentations'].pop(),
                        r'entry 3: segmentations has \d entries, video \d has \d frames'),
    'track too long': (lambda r: r[3]['segmentations'].append(None), r'entry 3: segmentations has'),
    'no track': (lambda r: r[3].pop('segmentations'), r'entry 3: segmentations is null'),
    'NaN score': (lambda r: change(r[3], score=float('nan')), r'entry 3: score nan must be a finite number'),
    'infinite score': (lambda r: change(r[3], score=float('inf')), r'entry 3: score'),
    'huge score': (lambda r: change(r[3], score=10**400), r'entry 3: score'),
    'score as text': (lambda r: change(r[3], score='.5'), r'entry 3: score'),
    'score null': (lambda r: change(r[3], score=None), r'entry 3: score'),
    'entry twice': (lambda r: r.append(r[3]), r'entry 24 repeats entry 3'),
    'entry of COCO': (lambda r: change(r[3], image_id=r[3].pop('video_id')),
                      r'entry 3 has image_id instead of video_id: it is a COCO result, of images; give a list of '
                      'tracks of videos'),
    'entry null': (lambda r: r.append(None), r'entry 24 is null'),
    'wrong size': (lambda r: change(r[3], segmentations=[dict(size=[1, 1], counts='1')] * len(r[3]['segmentations'])),
                   r'entry 3, segmentations\[0\]: RLE size \[1, 1\] is not .*\[\d+, \d+\]; do'),
    'boxes too short': (lambda r: change(r[3], bboxes=[None]), r'entry 3: bboxes has 1 entry'),
    'box of three': (lambda r: change(r[3], bboxes=[[1, 2, 3]] * len(r[3]['segmentations'])), r'entry 3, bboxes\[0\]'),
    'box with NaN': (lambda r: change(r[3], bboxes=[[1, 2, 3, float('nan')]] * len(r[3]['segmentations'])),
                     r'bboxes\[0\]'),
    'negative box': (lambda r: change(r[3], bboxes=[[1, 2, 3, -1]] * len(r[3]['segmentations'])), r'bboxes\[0\]'),
}


@pytest.mark.parametrize(('spoil', 'message'), RESULT_FAULTS.values(), ids=RESULT_FAULTS)
def test_bad_result(truth, result, spoil, message):
    spoil(result)
    with pytest.raises(UserError, match=message) as caught:
        evaluate_vis(truth, result)
    assert '\n' not in str(caught.value)


TRUTH_FAULTS = {
    'a list': (lambda t: [], r'not YouTube-VIS'),
    'no videos': (lambda t: t.pop('videos'), r"non-empty list 'videos'"),
    'videos null': (lambda t: change(t, videos=None), r"non-empty list 'videos'"),
    'video twice': (lambda t: t['videos'].append(t['videos'][0]), r'videos\[8\] and \[0\] have the same id 1'),
    'video without size': (lambda t: t['videos'][2].pop('height'), r'video 3: image size None'),
    'video without length': (lambda t: (t['videos'][2].pop('length'), t['videos'][2].pop('file_names')),
                             r'video 3 needs'),
    'category twice': (lambda t: t['categories'].append(t['categories'][0]),
                       r'categories\[4\] and \[0\] have the same id'),
    'category without name': (lambda t: t['categories'][1].pop('name'), r'categories\[1\] has no name'),
    'annotations a dict': (lambda t: change(t, annotations={'a': 1}), r"'annotations' must be a list"),
    'annotation of no video': (lambda t: change(t['annotations'][2], video_id=77), r'annotation 3: video_id 77'),
    'annotation too short': (lambda t: t['annotations'][2]['segmentations'].pop(),
                             r'annotation 3: segmentations has'),
    'areas too short': (lambda t: t['annotations'][2]['areas'].pop(), r'annotation 3: areas has'),
    'area as text': (lambda t: t['annotations'][2]['areas'].__setitem__(0, '5'), r'annotation 3, areas\[0\]'),
    'area below 0': (lambda t: t['annotations'][2]['areas'].__setitem__(0, -5), r'annotation 3, areas\[0\]: -5 must'),
    'crowd of 2': (lambda t: change(t['annotations'][2], iscrowd=2), r'annotation 3: iscrowd'),
    'crowd a list': (lambda t: change(t['annotations'][2], iscrowd=[]), r'annotation 3: iscrowd'),
    'unknown occlusion': (lambda t: t['annotations'][2]['occlusion'].__setitem__(0, 'half'), r"occlusion\[0\]: 'half'"),
    'occlusion of 2': (lambda t: t['annotations'][2]['occlusion'].__setitem__(0, 2), r'occlusion\[0\]: 2 must lie'),
    'occlusion here and there': (lambda t: t['annotations'][2].pop('occlusion'),
                                 r'annotation 3 has no occlusion'),
    'nothing annotated': (lambda t: change(t, annotations=[]), r'has no annotations'),
}


@pytest.mark.parametrize(('spoil', 'message'), TRUTH_FAULTS.values(), ids=TRUTH_FAULTS)
def test_bad_ground_truth(truth, result, tmp_path, spoil, message):
    replaced = spoil(truth)
    path = tmp_path / 'annotations.json'
    path.write_text(json.dumps([] if replaced == [] else truth))
    with pytest.raises(UserError, match=message) as caught:
        evaluate_vis(str(path), result)
    assert str(caught.value).startswith(str(path))
    assert '\n' not in str(caught.value)


def test_boxes_must_be_annotated_to_be_scored(truth, result):
    del truth['annotations'][4]['bboxes']
    with pytest.raises(UserError, match='metric segm'):
        evaluate_vis(truth, result, 'bbox')
    with pytest.raises(UserError, match="metric 'masks'"):
        evaluate_vis(truth, result, 'masks')


@pytest.mark.parametrize('content', [b'', b'{', b'\xff\xfe\x00', b'[' * 100000, b'[1' + b'0' * 5000 + b']', b'{"a": }'],
                         ids=['empty', 'cut off', 'binary', 'nested', 'long number', 'not JSON'])
def test_not_json(tmp_path, content):
    path = tmp_path / 'result.json'
    path.write_bytes(content)
    with pytest.raises(UserError, match=r'result\.json: (is not JSON|cannot be)') as caught:
        load_result_json(path)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('protocol', [2, 4])
def test_a_pickle_instead_of_json(tmp_path, protocol):
    path = tmp_path / 'x.pkl'
    path.write_bytes(pickle.dumps([({}, {})], protocol=protocol))
    with pytest.raises(UserError, match=r'x\.pkl: is a pickle, not JSON; give the \.json file'):
        load_result_json(path)


def test_archives(tmp_path, truth, result):
    good, other, broken = tmp_path / 'good.zip', tmp_path / 'other.zip', tmp_path / 'broken.zip'
    for path, member in ((good, 'results.json'), (other, 'foo.json')):
        with zipfile.ZipFile(path, 'w') as archive:
            archive.writestr(member, json.dumps(result))
    broken.write_bytes(good.read_bytes()[:200])
    assert evaluate_vis(truth, good).statistics == evaluate_vis(truth, result).statistics
    missing = tmp_path / 'none.zip'
    for path, message in ((other, 'holds no results.json'), (broken, 'unpacked'), (missing, 'No such file')):
        with pytest.raises(UserError, match=message):
            load_result_json(path)


def test_ground_truth_without_annotations_can_be_outlined(truth):
    del truth['annotations']
    outline = read_ground_truth(truth)
    assert not outline.tracks and not outline.has_occlusion and len(outline.videos) == 8


VALUES = [None, True, -1, 0, 3, 2**40, 1e300, float('nan'), '', 'x', 'PPPP', '0' * 50, [], [[]], [1, 2], {},
          {'size': [1, 1]}]


def spoil_somewhere(node, rng):
    """Replace, remove or duplicate a random element of a JSON value."""
    while True:
        keys = list(node) if isinstance(node, dict) else range(len(node))
        key = rng.choice(keys)
        if isinstance(node[key], (dict, list)) and node[key] and rng.random() < .8:
            node = node[key]
            continue
        action = rng.randrange(3)
        if action == 0:
            node[key] = rng.choice(VALUES)
        elif action == 1:
            del node[key]
        elif isinstance(node, list):
            node.insert(key, copy.deepcopy(node[key]))
        return


@pytest.mark.slow
def test_random_damage_gives_a_number_or_an_error():
    rng = random.Random(0)
    errors = 0
    for trial in range(300):
        data = dict(truth=copy.deepcopy(GOLDEN['ground_truth']), result=copy.deepcopy(GOLDEN['predictions'][:6]))
        spoil_somewhere(data['truth' if trial % 2 else 'result'] or [0], rng)
        try:
            value = evaluate_vis(data['truth'], data['result']).statistics['AP']
        except UserError as error:
            errors += 1
            assert '\n' not in str(error)
        else:
            assert 0 <= value <= 1
    assert errors > 100
