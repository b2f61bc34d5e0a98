"""X.pkl, X.pkl.json, X.pkl.zip: content, round trip, and files that the loader refuses."""
import json
import os
import pickle
import zipfile

import numpy as np
import pytest

from mmdet.errors import UserError
from mmdet.evaluation.frame_results import FrameResult, track_entries
from mmdet.evaluation.result_files import load_results, write_results
from mmdet.files import atomic_open
from mmdet.structures.masks import encode_masks
from mmdet.structures.vis_json import Video

VIDEOS = [Video(7, 12, 16, 3), Video(3, 12, 16, 2)]
CATEGORY_IDS = (40, 2, 31)


def make_frame(rng, ids, values=10):
    masks = (rng.random((len(ids), 12, 16)) < .5).astype(np.uint8)
    return FrameResult(list(ids), rng.integers(0, 3, len(ids)).tolist(),
                       rng.random((len(ids), values)).astype(np.float32),
                       [rle['counts'].decode() for rle in encode_masks(masks)])


def make_results(values=10):
    rng = np.random.default_rng(1)
    return [[make_frame(rng, (0, 1), values), FrameResult.empty(), make_frame(rng, (1, 4), values)],
            [make_frame(rng, (0,), values), make_frame(rng, (), values)]]


def write(out, results, **kwargs):
    return write_results(str(out), ((video, frames, track_entries(video, frames, CATEGORY_IDS))
                                    for video, frames in zip(VIDEOS, results)), **kwargs)


def test_pickle_is_a_plain_list_any_tool_can_read(tmp_path):
    results = make_results()
    write(tmp_path / 'x.pkl', results)
    frames = pickle.loads((tmp_path / 'x.pkl').read_bytes())
    assert type(frames) is list and len(frames) == 5
    boxes, masks = frames[2]
    assert list(boxes) == list(masks) == [1, 4]
    assert boxes[4]['bbox'].dtype == np.float32
    np.testing.assert_array_equal(boxes[4]['bbox'], results[0][2].rows[1])
    assert boxes[4]['label'] == results[0][2].labels[1]
    assert masks[4] == dict(size=[12, 16], counts=results[0][2].counts[1].encode())
    assert frames[1] == frames[4] == ({}, {})


@pytest.mark.parametrize('values', [5, 10])
def test_round_trip(tmp_path, values):
    results = make_results(values)
    write(tmp_path / 'x.pkl', results)
    loaded = load_results(str(tmp_path / 'x.pkl'), VIDEOS)
    for video, again in zip(results, loaded):
        for frame, other in zip(video, again):
            assert (frame.ids, frame.labels, frame.counts) == (other.ids, other.labels, other.counts)
            if frame.ids:
                np.testing.assert_array_equal(frame.rows, other.rows)
                assert other.rows.dtype == np.float32
    write(tmp_path / 'y.pkl', loaded)
    assert (tmp_path / 'x.pkl').read_bytes() == (tmp_path / 'y.pkl').read_bytes()
    assert (tmp_path / 'x.pkl.json').read_bytes() == (tmp_path / 'y.pkl.json').read_bytes()


def test_json_line_keeps_every_bit():
    frame = make_frame(np.random.default_rng(3), (5, 9))
    again = FrameResult.from_json(frame.to_json())
    assert (again.ids, again.labels, again.counts) == (frame.ids, frame.labels, frame.counts)
    np.testing.assert_array_equal(again.rows, frame.rows)
    assert FrameResult.from_json(FrameResult.empty().to_json()).rows.shape == (0, 5)


def test_entries_use_the_files_ids_mean_score_and_majority():
    rng = np.random.default_rng(0)
    frames = [make_frame(rng, (2,)) for _ in range(3)]
    for frame, label, score, box in zip(frames, (2, 1, 1), (.25, .5, .75), ([1, 2, 4, 6], [0, 0, 0, 0], [5, 5, 9, 7])):
        frame.labels, frame.rows[0, :5] = [label], [*box, score]
    (entry,) = track_entries(VIDEOS[0], frames, CATEGORY_IDS)
    assert (entry['video_id'], entry['category_id'], entry['score']) == (7, 2, .5)
    assert entry['segmentations'] == [dict(size=[12, 16], counts=frame.counts[0]) for frame in frames]
    assert entry['bboxes'] == [[1, 2, 4, 5], [0, 0, 1, 1], [5, 5, 5, 3]]


def test_category_tie_goes_to_the_lowest_label_and_absent_frames_are_null():
    rng = np.random.default_rng(0)
    frames = [make_frame(rng, (0,)), FrameResult.empty(), make_frame(rng, (0,))]
    frames[0].labels, frames[2].labels = [2], [0]
    (entry,) = track_entries(VIDEOS[0], frames, CATEGORY_IDS)
    assert entry['category_id'] == 40
    assert entry['segmentations'][1] is None and entry['bboxes'][1] is None


@pytest.mark.parametrize(('exponent', 'expected'), [(0.0, (0.5, 0.5)), (1.0, (0.5, 0.5 / 3)), (2.0, (0.5, 0.5 / 9))])
def test_the_score_of_a_track_falls_with_its_length_on_request(exponent, expected):
    """The first of two tracks of equal scores is in all three frames, the second in one."""
    rng = np.random.default_rng(0)
    frames = [make_frame(rng, ids) for ids in ((0,), (0, 1), (0,))]
    for frame in frames:
        frame.rows[:, 4] = 0.5
    entries = track_entries(VIDEOS[0], frames, CATEGORY_IDS, exponent)
    assert [entry['score'] for entry in entries] == pytest.approx(list(expected))


def test_more_classes_than_categories():
    frame = make_frame(np.random.default_rng(0), (0,))
    frame.labels = [3]
    with pytest.raises(UserError, match=r'class 3 .* has 3 categories'):
        track_entries(VIDEOS[0], [frame], CATEGORY_IDS)


def test_boxes_and_archive_are_written_on_request(tmp_path):
    assert write(tmp_path / 'x.pkl', make_results()) == [str(tmp_path / 'x.pkl'), str(tmp_path / 'x.pkl.json')]
    plain = json.loads((tmp_path / 'x.pkl.json').read_text())
    assert [sorted(entry) for entry in plain] == [['category_id', 'score', 'segmentations', 'video_id']] * 4
    written = write(tmp_path / 'y.pkl', make_results(), dump_bbox=True, archive=True)
    with_boxes = json.loads((tmp_path / 'y.pkl.json').read_text())
    assert all(len(entry['bboxes']) == len(entry['segmentations']) for entry in with_boxes)
    with zipfile.ZipFile(written[2]) as archive:
        assert archive.namelist() == ['results.json']
        assert archive.read('results.json') == (tmp_path / 'y.pkl.json').read_bytes()


def test_nothing_found_is_still_a_result(tmp_path):
    write(tmp_path / 'x.pkl', [[FrameResult.empty()] * 3, [FrameResult.empty()] * 2])
    assert json.loads((tmp_path / 'x.pkl.json').read_text()) == []
    assert len(load_results(str(tmp_path / 'x.pkl'), VIDEOS)) == 2


def test_a_failed_write_leaves_the_former_file(tmp_path):
    path = tmp_path / 'folder' / 'x.pkl'
    write(path, make_results())
    before = path.read_bytes()

    def broken():
        yield from zip(VIDEOS[:1], make_results(), [[]])
        raise RuntimeError('model failed')

    with pytest.raises(RuntimeError, match='model failed'):
        write_results(str(path), broken())
    assert path.read_bytes() == before
    assert sorted(os.listdir(path.parent)) == ['x.pkl', 'x.pkl.json']


def test_disk_errors_are_one_line(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(os, 'fsync', full)
    message = r'x\.pkl: not written, the disk is full'
    with pytest.raises(UserError, match=message), atomic_open(str(tmp_path / 'x.pkl')) as file:
        file.write(b'abc')
    assert os.listdir(tmp_path) == []


def test_a_folder_that_is_a_file_is_one_line(tmp_path):
    (tmp_path / 'x').touch()
    with pytest.raises(UserError, match=r'x/y\.pkl: cannot be written \('), atomic_open(tmp_path / 'x' / 'y.pkl'):
        raise AssertionError('must not get here')


class Evil:
    """Run a command when a plain pickle.load reads it."""

    def __init__(self, marker, function=os.system):
        self.marker, self.function = marker, function

    def __reduce__(self):
        return self.function, (f'touch {self.marker}',)


def hostile_pickles(marker):
    """Return malicious result files by name."""
    array = np.zeros(10, np.float32)
    return {
        'system command': pickle.dumps([Evil(marker)]),
        'system command in a frame': pickle.dumps([({0: dict(bbox=Evil(marker), label=0)}, {})] * 5),
        'eval': pickle.dumps([Evil(marker, eval)]),
        'getattr': pickle.dumps(getattr),
        'object array': pickle.dumps([np.array([None], object)]),
        'record array': pickle.dumps([np.zeros(2, 'f4,i4')]),
        'array out of band': pickle.dumps([array], protocol=5),
        'dotted name': b'\x80\x04\x8c\x05numpy\x8c\x0fndarray.__new__\x93.',
        'array as class': b'\x80\x04\x8c\x15numpy._core.multiarray\x8c\x0c_reconstruct\x93)\x81.',
        'state of the wrong kind': b'\x80\x04\x8c\x05numpy\x8c\x07ndarray\x93)\x81K\x01b.',
        'endless memo': b'\x80\x02r\xff\xff\xff\xff.',
        'cut off': pickle.dumps([({}, {})] * 5)[:-4],
        'empty': b'',
        'not a pickle': b'{"video_id": 1}',
    }


@pytest.mark.parametrize('name', hostile_pickles(''))
def test_hostile_pickle_is_refused_and_runs_nothing(tmp_path, name):
    path, marker = tmp_path / 'x.pkl', tmp_path / 'owned'
    path.write_bytes(hostile_pickles(marker)[name])
    with pytest.raises(UserError, match=r'x\.pkl: is not a result file') as caught:
        load_results(str(path), VIDEOS)
    assert '\n' not in str(caught.value)
    assert not marker.exists()


def test_the_hostile_pickle_works_where_it_can(tmp_path):
    """Show that the files of the test above would run code if they were unpickled."""
    marker = tmp_path / 'owned'
    pickle.loads(hostile_pickles(marker)['system command'])
    assert marker.exists()


ROW = np.zeros(10, np.float32)
RLE = dict(size=[12, 16], counts=b'P6')
STRANGE_FRAMES = {
    'no pair': 5,
    'three parts': ({}, {}, {}),
    'lists': ([], []),
    'ids differ': ({0: dict(bbox=ROW, label=0)}, {1: RLE}),
    'id as text': ({'0': dict(bbox=ROW, label=0)}, {'0': RLE}),
    'box is a list': ({0: dict(bbox=[0] * 10, label=0)}, {0: RLE}),
    'seven values': ({0: dict(bbox=ROW[:7], label=0)}, {0: RLE}),
    'different lengths': ({0: dict(bbox=ROW, label=0), 1: dict(bbox=ROW[:5], label=0)}, {0: RLE, 1: RLE}),
    'matrix': ({0: dict(bbox=np.zeros((2, 5), np.float32), label=0)}, {0: RLE}),
    **{f'uncertainty {value}': ({0: dict(bbox=np.array([0] * 5 + [value] * 5, np.float32), label=0)}, {0: RLE})
       for value in (-1., np.nan, np.inf)},
    'label negative': ({0: dict(bbox=ROW, label=-1)}, {0: RLE}),
    'no label': ({0: dict(bbox=ROW)}, {0: RLE}),
    'box only': ({0: ROW}, {0: RLE}),
    'mask null': ({0: dict(bbox=ROW, label=0)}, {0: None}),
    'counts a list': ({0: dict(bbox=ROW, label=0)}, {0: dict(size=[12, 16], counts=[192])}),
    'other size': ({0: dict(bbox=ROW, label=0)}, {0: dict(size=[16, 12], counts=b'P6')}),
}


@pytest.mark.parametrize('frame', STRANGE_FRAMES.values(), ids=STRANGE_FRAMES)
def test_strange_frames_are_named(tmp_path, frame):
    path = tmp_path / 'x.pkl'
    path.write_bytes(pickle.dumps([({}, {})] * 3 + [frame, ({}, {})], protocol=4))
    with pytest.raises(UserError, match=r'x\.pkl: frame 3 \(video 3\)'):
        load_results(str(path), VIDEOS)


def test_a_result_for_other_videos(tmp_path):
    write(tmp_path / 'x.pkl', make_results())
    with pytest.raises(UserError, match='holds 5 frames, the annotation file has 3 frames; is it a result for other'):
        load_results(str(tmp_path / 'x.pkl'), VIDEOS[:1])
    with pytest.raises(UserError, match=r'x\.pkl: frame 0 \(video 7\): .* \[12, 16\], the video \[24, 32\]; .*other'):
        load_results(str(tmp_path / 'x.pkl'), [Video(7, 24, 32, 3), VIDEOS[1]])
    with pytest.raises(UserError, match='cannot be read'):
        load_results(str(tmp_path / 'none.pkl'), VIDEOS)


@pytest.mark.parametrize('ending', ['json', 'zip'])
def test_tracks_instead_of_frames(tmp_path, ending):
    write(tmp_path / 'x.pkl', make_results(), archive=True)
    with pytest.raises(UserError, match=rf'x\.pkl\.{ending}: holds tracks, not frames; give the \.pkl'):
        load_results(str(tmp_path / f'x.pkl.{ending}'), VIDEOS)


@pytest.mark.parametrize(('content', 'found'), [
    ([dict(video_id=1)] * 3, 'tracks'), (dict(a=1), 'a dict'), ('text', 'a str')])
def test_pickles_of_other_things_than_frames(tmp_path, content, found):
    (tmp_path / 'x.pkl').write_bytes(pickle.dumps(content))
    with pytest.raises(UserError, match=rf'x\.pkl: holds {found}, not frames; give the \.pkl that test_video'):
        load_results(str(tmp_path / 'x.pkl'), VIDEOS)


def test_files_of_numpy_1_are_read(tmp_path):
    write(tmp_path / 'x.pkl', make_results())
    older = pickle.dumps(pickle.loads((tmp_path / 'x.pkl').read_bytes()), protocol=3)
    (tmp_path / 'old.pkl').write_bytes(older.replace(b'numpy._core.', b'numpy.core.'))
    np.testing.assert_array_equal(load_results(str(tmp_path / 'old.pkl'), VIDEOS)[0][0].rows, make_results()[0][0].rows)
