"""VideoInferencer as a stream: what it yields, what it writes, how it ends; mostly with a stand-in for the network."""
import json
import os
import sys
import threading
import time
from itertools import islice

import cv2
import numpy as np
import pytest
import torch

from mmdet.apis import VideoInferencer, init_model
from mmdet.errors import UserError
from mmdet.evaluation import evaluate_vis
from mmdet.video.source import open_video
from mmdet.visualization import Mp4Writer
from mmdet.visualization.mp4 import pyav_has_x264
from tools.analysis_tools.measures.stub_detector import StubDetector

HEIGHT, WIDTH = 72, 128


def video(frames=7, seed=0):
    return list(np.random.default_rng(seed).integers(0, 256, (frames, HEIGHT, WIDTH, 3), dtype=np.uint8))


def lines(folder):
    return [json.loads(line) for line in (folder / 'video.jsonl').read_text().splitlines()]


def film_length(path):
    capture = cv2.VideoCapture(str(path))
    length = 0
    while capture.grab():
        length += 1
    return length


@pytest.mark.parametrize('batch', [1, 3, 10])
def test_frames_come_in_order_with_results(batch):
    arrays = video()
    clips = list(VideoInferencer(StubDetector(), batch=batch)(arrays, thresh=0.0))
    assert [len(clip) for clip in clips] == {1: [1] * 7, 3: [3, 3, 1], 10: [7]}[batch]
    frames = [frame for clip in clips for frame in clip]
    assert [frame.frame_id for frame in frames] == [frame.source_frame for frame in frames] == list(range(7))
    for frame, array in zip(frames, arrays):
        assert np.array_equal(frame.ori_img, array) and frame.ori_shape == (HEIGHT, WIDTH)
        assert frame.pred_track_instances.instances_id.tolist() == [0, 1, 2, 3, 4]


def test_it_is_a_stream():
    taken = []

    def camera():
        for number, array in enumerate(video(1) * 1000):
            taken.append(number)
            yield array

    stream = VideoInferencer(StubDetector())(camera())
    assert [clip[0].frame_id for clip in islice(stream, 5)] == [0, 1, 2, 3, 4]
    stream.close()
    assert len(taken) < 15
    assert not [thread for thread in threading.enumerate() if thread.name in ('frames', 'pictures')]


@pytest.mark.parametrize(('max_size', 'shape'), [
    (None, (1, 3, 480, 853)), (480, (1, 3, 270, 480)), (2000, (1, 3, 480, 853))])
def test_max_size_limits_what_the_network_sees(max_size, shape):
    model = StubDetector()
    clip, = VideoInferencer(model, max_size=max_size)(video(1))
    assert model.input_shape == shape
    assert clip[0].ori_img.shape == (HEIGHT, WIDTH, 3)


def test_context_frames_for_models_that_look_ahead():
    model = StubDetector(context=2)
    clips = list(VideoInferencer(model, batch=3)(video(7)))
    assert [frame.frame_id for clip in clips for frame in clip] == list(range(7))
    assert [[frame for frame, context in clip if not context] for clip in model.clips] == [[0, 1, 2], [3, 4, 5], [6]]
    assert [[frame for frame, context in clip if context] for clip in model.clips] == [[3, 4], [1, 2, 6], [4, 5]]


def test_threshold_and_classes():
    inferencer = VideoInferencer(StubDetector())  # scores 1, 1/2, 1/3, 1/4, 1/5; labels 0, 1, 2, 0, 1

    def ids(**kwargs):
        clip, = inferencer(video(1), **kwargs)
        found = clip[0].pred_track_instances
        assert len(found.masks) == len(found.bboxes) == len(found)
        return found.instances_id.tolist()

    assert ids(thresh=0.0) == [0, 1, 2, 3, 4]
    assert ids(thresh=0.3) == [0, 1, 2]
    for square in ('Square', '1', 1):
        assert ids(thresh=0.0, classes=[square]) == [1, 4]
    assert ids(thresh=0.3, classes=['disc', 'triangle']) == [0, 2]
    assert ids(thresh=1.0) == []


def test_files(tmp_path):
    frames = [clip[0] for clip in VideoInferencer(StubDetector())(
        video(), out=tmp_path, outputs=('mp4', 'gif', 'png', 'json'), thresh=0.3)]
    assert film_length(tmp_path / 'video.mp4') == film_length(tmp_path / 'video.gif') == 7
    assert len(list((tmp_path / 'video').glob('*.png'))) == 7
    picture = cv2.imread(str(tmp_path / 'video/00003.png'))
    assert picture.shape == (HEIGHT, WIDTH, 3) and (picture != frames[3].ori_img).any()
    assert [line['frame_id'] for line in lines(tmp_path)] == list(range(7))
    for line, frame in zip(lines(tmp_path), frames):
        found = frame.pred_track_instances
        assert [entry['id'] for entry in line['objects']] == found.instances_id.tolist()
        assert [entry['category_id'] for entry in line['objects']] == [11, 12, 13]
        assert [entry['category'] for entry in line['objects']] == ['disc', 'square', 'triangle']
        x1, y1, x2, y2 = found.bboxes[0].tolist()
        assert line['objects'][0]['bbox'] == [x1, y1, x2 - x1 + 1, y2 - y1 + 1]


def test_result_list_scores_as_the_videos_own_tracks(tmp_path):
    """Taken as ground truth, the file's masks give AP 1: the list has every mask in its place."""
    for _ in VideoInferencer(StubDetector())(video(), out=tmp_path, outputs=['json'], thresh=0.1):
        pass
    entries = json.loads((tmp_path / 'video.json').read_text())
    truth = dict(
        videos=[dict(id=1, height=HEIGHT, width=WIDTH, length=7)],
        categories=[dict(id=number, name=str(number)) for number in (11, 12, 13)],
        annotations=[dict(id=number, video_id=1, category_id=11 + number % 3,
                          segmentations=[line['objects'][number]['segmentation'] for line in lines(tmp_path)])
                     for number in range(5)])
    assert evaluate_vis(truth, entries).statistics['AP'] == pytest.approx(1)
    assert [entry['score'] for entry in entries] == pytest.approx([1, 1 / 2, 1 / 3, 1 / 4, 1 / 5])


def test_tracks_with_gaps_keep_their_frames(tmp_path):
    class Blinking(StubDetector):
        """Object 0 is there in frames 2 and 5 of 7 only, object 1 from frame 4 on."""

        def _objects(self, frame_id, height, width):
            found = super()._objects(frame_id, height, width)
            return found[torch.tensor([i for i, seen in enumerate([(2, 5), (4, 5, 6)]) if frame_id in seen]).long()]

    for _ in VideoInferencer(Blinking())(video(), out=tmp_path, outputs=['json'], thresh=0.0):
        pass
    entries = json.loads((tmp_path / 'video.json').read_text())
    assert [[mask is not None for mask in entry['segmentations']] for entry in entries] == [
        [frame in (2, 5) for frame in range(7)], [frame >= 4 for frame in range(7)]]
    masks = {(line['frame_id'], found['id']): found['segmentation']
             for line in lines(tmp_path) for found in line['objects']}
    assert entries[0]['segmentations'][5] == masks[5, 0] and entries[1]['segmentations'][6] == masks[6, 1]


def test_no_object_at_all(tmp_path):
    for _ in VideoInferencer(StubDetector(objects=0))(video(2), out=tmp_path, outputs=['json']):
        pass
    assert json.loads((tmp_path / 'video.json').read_text()) == [] and len(lines(tmp_path)) == 2


@pytest.mark.parametrize('ending', ['close', 'interrupt', 'source'])
def test_ending_early_leaves_readable_files(tmp_path, ending):
    def camera():
        yield from video(7)
        raise OSError('unplugged')

    stream = VideoInferencer(StubDetector())(camera(), out=tmp_path, outputs=('mp4', 'gif', 'json'))
    if ending == 'source':
        with pytest.raises(OSError, match='unplugged'):
            list(stream)
        expected = 7
    else:
        expected = len(list(islice(stream, 4)))
        deadline = time.monotonic() + 20
        written = tmp_path / 'video.jsonl'
        while (not written.exists() or len(lines(tmp_path)) < 4) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(lines(tmp_path)) == 4  # another process flushes them as they come
        if ending == 'close':
            stream.close()
        else:
            with pytest.raises(KeyboardInterrupt):
                stream.throw(KeyboardInterrupt)
    assert len(lines(tmp_path)) == expected
    assert film_length(tmp_path / 'video.mp4') == film_length(tmp_path / 'video.gif') == expected
    entries = json.loads((tmp_path / 'video.json').read_text())
    assert {len(entry['segmentations']) for entry in entries} == {expected}


def test_real_model_gives_the_same_alone_and_in_batches(toy_config, toy_root):
    """The stream adds nothing of its own: frames one by one or four at once, the objects are the same."""
    torch.manual_seed(0)
    model = init_model(toy_config, device='cpu')
    torch.nn.init.constant_(model.bbox_head.fcos_cls.bias, -1.0)
    folder = sorted((toy_root / 'valid_images').iterdir())[0]
    results = []
    for batch in (1, 4):
        clips = list(VideoInferencer(model, batch=batch)(folder, thresh=0.0))
        results.append([frame.pred_track_instances for clip in clips for frame in clip])
    assert any(len(found) for found in results[0])
    for alone, together in zip(*results):
        assert alone.instances_id.tolist() == together.instances_id.tolist()
        assert torch.allclose(alone.bboxes, together.bboxes, atol=1e-3)


@pytest.mark.parametrize(('make', 'words'), [
    (dict(batch=0), '--batch 0'), (dict(max_size=3), '--max-size 3')])
def test_wrong_settings(make, words):
    with pytest.raises(UserError, match=words):
        VideoInferencer(StubDetector(), **make)


def test_unknown_device(toy_config):
    with pytest.raises(UserError, match='--device cuda:77: not a device of this machine'):
        VideoInferencer(toy_config, device='cuda:77')


@pytest.mark.parametrize(('call', 'words'), [
    (dict(thresh=1.5), '--thresh 1.5'), (dict(fps=0.), '--fps 0'), (dict(fps=1e6), '--fps'),
    (dict(trails=-1), '--trails -1'), (dict(stride=0), r'--stride 0: .*give 1 \(all of them\) or more'),
    (dict(start=-1), '--start -1: '), (dict(start=5, end=5), '--end 5: must be larger than --start 5'),
    (dict(outputs=['mov']), "unknown output 'mov'"),
    (dict(classes=['squar']), '--classes squar: .* there are square'), (dict(classes=['3']), '--classes 3')])
def test_wrong_arguments_show_at_once(call, words):
    inferencer = VideoInferencer(StubDetector())
    with pytest.raises(UserError, match=words):
        inferencer(video(1), **call)


@pytest.mark.parametrize('name', ['cat/00000.png', 'cat.mp4'])
def test_the_video_itself_is_not_overwritten(tmp_path, name):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    if name.endswith('png'):
        cv2.imwrite(str(path), video(1)[0])
        path = path.parent
    else:
        with Mp4Writer(path, 10) as writer:
            writer.write(video(1)[0])
    inferencer = VideoInferencer(StubDetector())
    with pytest.raises(UserError, match='itself, a video that is read, would be overwritten'):
        inferencer(path, out=tmp_path / '.', outputs=['mp4', 'png'])
    assert len(list(inferencer(path, out=tmp_path / 'elsewhere', outputs=['json']))) == 1


def test_folder_that_cannot_be_written(tmp_path):
    (tmp_path / 'file').write_text('')
    for outputs in (['json'], ['png']):
        with pytest.raises(UserError, match='cannot'):
            list(VideoInferencer(StubDetector())(video(1), out=tmp_path / 'file', outputs=outputs))


def test_times_of_a_video_are_those_of_its_results_and_its_picture(tmp_path):
    """Variable frame rate, read, drawn and written."""
    pytest.importorskip('av')
    from tests.helpers.films import write_film
    times = [0, 33, 100, 110, 900, 933]
    path = write_film(tmp_path / 'film.mp4', 6, milliseconds=times)
    frames = [clip[0] for clip in VideoInferencer(StubDetector())(path, out=tmp_path / 'out', outputs=('mp4', 'json'))]
    seconds = pytest.approx([time / 1000 for time in times], abs=1e-3)
    assert [frame.time for frame in frames] == seconds
    assert [json.loads(line)['time'] for line in (tmp_path / 'out/film.jsonl').read_text().splitlines()] == seconds
    assert [frame.time for frame in open_video(tmp_path / 'out/film.mp4')] == seconds
    list(VideoInferencer(StubDetector())(path, out=tmp_path / 'even', outputs=('mp4',), fps=10))
    assert [frame.time for frame in open_video(tmp_path / 'even/film.mp4')] == pytest.approx(
        [index / 10 for index in range(6)])


def test_names_of_many_bytes_reach_all_files(tmp_path):
    folder = tmp_path / ('猫' * 80)
    folder.mkdir()
    cv2.imwrite(str(folder / '0.png'), video(1)[0])
    outputs = ('mp4', 'gif', 'png', 'json')
    list(VideoInferencer(StubDetector())(folder, out=tmp_path / 'out', outputs=outputs))
    assert sorted(path.suffix for path in (tmp_path / 'out').iterdir()) == ['', '.gif', '.json', '.jsonl', '.mp4']


@pytest.mark.skipif(sys.platform != 'linux', reason='file names are bytes on Linux')
@pytest.mark.parametrize('name', [b'caf\xe9', 'Aufnahme 9-41\u202fAM\u00a0\u3000'.encode(), b'vid[1] %d'])
def test_folders_of_any_name_are_read_and_written(name, tmp_path):
    folder, out = tmp_path / os.fsdecode(name), tmp_path / os.fsdecode(b'out ' + name)
    folder.mkdir()
    for index, image in enumerate(video(2)):
        (folder / f'{index}.png').write_bytes(cv2.imencode('.png', image)[1].tobytes())
    if b'\xe9' in name and not pyav_has_x264():
        pytest.skip('OpenCV writes no such name')
    assert len(list(VideoInferencer(StubDetector())(folder, out=out, outputs=('mp4', 'gif', 'png', 'json')))) == 2
    assert sorted(path.suffix for path in out.iterdir()) == ['', '.gif', '.json', '.jsonl', '.mp4']
    assert len(list(out.glob('*/*.png'))) == 2 and len(list(open_video(next(out.glob('*.mp4'))))) == 2
