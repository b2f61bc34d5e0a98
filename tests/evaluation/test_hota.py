"""HOTA in cases whose value follows from its definition; skipped where the optional TrackEval is not installed."""
import json
import sys

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from mmdet.errors import UserError
from mmdet.evaluation.functional import read_ground_truth, read_predictions
from mmdet.evaluation.hota import NAMES, evaluate_hota

FRAMES = 4


def mask(x, width=10):
    image = np.zeros((20, 60), np.uint8, order='F')
    image[5:15, x:x + width] = 1
    rle = coco_mask.encode(image)
    return dict(size=[20, 60], counts=rle['counts'].decode())


def track(xs, category_id=3, video_id=1, **fields):
    segmentations = [x if x is None else mask(x) for x in xs]
    return dict(video_id=video_id, category_id=category_id, segmentations=segmentations, **fields)


@pytest.fixture(scope='module')
def truth():
    """Return annotations of two objects of two categories in four frames."""
    return read_ground_truth(dict(
        videos=[dict(id=1, height=20, width=60, length=FRAMES), dict(id=9, height=20, width=60, length=FRAMES)],
        categories=[dict(id=3, name='cat'), dict(id=8, name='cat too')],
        annotations=[dict(id=1, **track([0] * 4)), dict(id=2, **track([40] * 4, 8))]))


def score(truth, entries, **kwargs):
    pytest.importorskip('trackeval')
    return evaluate_hota(truth, read_predictions(entries, truth), **kwargs)


def test_annotations_as_result(truth):
    result = score(truth, [track([0] * 4, score=0.9), track([40] * 4, 8, score=0.8)])
    assert result == pytest.approx(dict.fromkeys(NAMES, 1))


def test_a_track_broken_in_two(truth):
    """Detection is perfect; object 1's halves: AssA 2/4 for each of its 4 frames, object 2's 1: mean 3/4."""
    result = score(truth, [track([0, 0, None, None], score=0.9), track([None, None, 0, 0], score=0.9),
                           track([40] * 4, 8, score=0.8)])
    assert result['DetA'] == pytest.approx(1) and result['AssA'] == pytest.approx(0.75)
    assert result['HOTA'] == pytest.approx(0.75**0.5)
    assert result['MOTA'] == pytest.approx(1 - 1 / 8)  # one id switch in 8 annotated objects
    assert result['IDF1'] == result['IDR'] == result['IDP'] == pytest.approx(6 / 8)  # one half counts as another object


def test_boxes_are_compared_without_masks(truth):
    """Boxes 10 wide of which the second track's are moved by 2: IoU 8/12, a hit at the thresholds .05 to .65."""
    boxes = [[[x, 5, 10, 10]] * FRAMES for x in (0, 40, 42)]
    only_boxes = read_ground_truth(dict(
        videos=[dict(id=1, height=20, width=60, length=FRAMES)], categories=[dict(id=3, name='cat')],
        annotations=[dict(id=number, video_id=1, category_id=3, bboxes=rows) for number, rows in enumerate(boxes[:2])],
    ), need_masks=False)
    found = [dict(video_id=1, category_id=3, score=0.9, bboxes=rows) for rows in (boxes[0], boxes[2])]
    pytest.importorskip('trackeval')
    result = evaluate_hota(only_boxes, read_predictions(found, only_boxes, 'bbox'), metric='bbox')
    assert result['MOTA'] == result['IDF1'] == pytest.approx(1)
    assert result['MOTP'] == pytest.approx((1 + 8 / 12) / 2)
    assert result['DetRe'] == pytest.approx((13 * 1 + 6 * 0.5) / 19)


def test_threshold_drops_false_tracks(truth):
    entries = [track([0] * 4, score=0.9), track([40] * 4, 8, score=0.8), track([25] * 4, score=0.1),
               track([25] * 4, 8, video_id=9, score=0.1)]
    assert score(truth, entries)['DetA'] == pytest.approx(0.5)  # 8 hits, 8 false
    assert score(truth, entries, score_thr=0.5)['HOTA'] == pytest.approx(1)


def test_nothing_found(truth):
    assert score(truth, [])['HOTA'] == 0


@pytest.fixture
def without(tmp_path, monkeypatch):
    """Return a function that hides a package; a substitute for TrackEval imports scipy as TrackEval does."""
    for name in [name for name in sys.modules if name.partition('.')[0] in ('scipy', 'trackeval')]:
        monkeypatch.delitem(sys.modules, name)
    (tmp_path / 'trackeval').mkdir()
    (tmp_path / 'trackeval' / '__init__.py').write_text('from scipy.optimize import linear_sum_assignment')
    monkeypatch.syspath_prepend(tmp_path)
    return lambda package: monkeypatch.setitem(sys.modules, package, None)


def test_without_trackeval(truth, without):
    without('trackeval')
    with pytest.raises(UserError, match=r'--hota needs the package trackeval.*pip install trackeval==1\.3\.0'):
        evaluate_hota(truth, [])


def test_without_scipy_scipy_is_named_before_anything_is_read(tmp_path, without):
    from tools.vis_eval import main
    without('scipy')
    for name in ('result', 'truth'):
        (tmp_path / f'{name}.json').write_text('not JSON')
    with pytest.raises(UserError, match=r'and that needs scipy, which is not .*: pip install trackeval=='):
        main([str(tmp_path / 'result.json'), str(tmp_path / 'truth.json'), '--hota'])


def test_command_line(tmp_path, capsys):
    pytest.importorskip('trackeval')
    from tools.vis_eval import main
    entries = [track([0] * 4, score=0.9), track([25] * 4, score=0.1)]
    (tmp_path / 'result.json').write_text(json.dumps(entries))
    (tmp_path / 'truth.json').write_text(json.dumps(dict(
        videos=[dict(id=1, height=20, width=60, length=FRAMES)], categories=[dict(id=3, name='cat')],
        annotations=[dict(id=1, **track([0] * 4))])))
    main([str(tmp_path / 'result.json'), str(tmp_path / 'truth.json'), '--hota', '--hota-thresh', '0.5', '--out',
          str(tmp_path / 'numbers.json')])
    assert 'HOTA  100.00' in capsys.readouterr().out
    assert json.loads((tmp_path / 'numbers.json').read_text())['hota']['HOTA'] == pytest.approx(1)
