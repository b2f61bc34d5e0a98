"""Frames reach the consumers in another process unchanged; files are finished however this process ends."""
import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData
from PIL import Image

from mmdet.concurrency import process as process_module
from mmdet.concurrency.process import dumps
from mmdet.errors import UserError
from mmdet.structures import DetDataSample
from mmdet.video import frame_sink
from mmdet.video.frame_sink import FrameSink
from mmdet.visualization import SequenceVisualizer, TrackVisualizer


class Recorder:
    """Record the frames; the records are returned when it is closed."""

    needs_image = True

    def start(self):
        pass

    def __init__(self, fail_at: int | None = None, fail_closing: bool = False) -> None:
        self.fail_at, self.fail_closing, self.notes = fail_at, fail_closing, []

    def add(self, image, sample):
        if len(self.notes) == self.fail_at:
            raise UserError(f'frame {sample.frame_id} is bad')
        found = sample.pred_track_instances
        assert isinstance(found.bboxes, np.ndarray)
        self.notes.append((os.getpid(), sample.frame_id, sample.get('source_frame'),
                           None if image is None else (image.shape, int(image.sum())),
                           found.bboxes.tolist(), found.masks))

    def close(self):
        if self.fail_closing:
            raise UserError('the disk is full')
        return self.notes


def make_sample(frame_id: int) -> DetDataSample:
    sample = DetDataSample(metainfo=dict(video_id=1, frame_id=frame_id, source_frame=2 * frame_id))
    sample.pred_track_instances = InstanceData(
        bboxes=torch.full((1, 4), float(frame_id)), instances_id=torch.tensor([3]),
        masks=[dict(size=[2, 2], counts=b'04')])
    return sample


@pytest.fixture(params=['process', 'thread'])
def platform(request, monkeypatch):
    if request.param == 'thread':
        monkeypatch.setattr(frame_sink.BackgroundProcess, 'available', staticmethod(lambda: False))
    return request.param


@pytest.fixture
def images():
    return [np.random.default_rng(index).integers(0, 256, (9, 16, 3), dtype=np.uint8) for index in range(50)]


def test_frames_arrive_in_order_and_unchanged(platform, images):
    with FrameSink(Recorder(), Recorder()) as sink:
        for index, image in enumerate(images):
            sink.add(image if index else None, make_sample(index))
        first, second = sink.close()
    assert first == second and len(first) == 50
    for index, (process, frame_id, source, image, boxes, masks) in enumerate(first):
        assert (process == os.getpid()) is (platform == 'thread')
        assert (frame_id, source, boxes) == (index, 2 * index, [[float(index)] * 4])
        assert masks == [dict(size=[2, 2], counts=b'04')]
        assert image == (None if index == 0 else ((9, 16, 3), int(images[index].sum())))


def test_a_clip_at_once_is_its_frames_one_by_one(platform, images):
    samples = [make_sample(index) for index in range(12)]
    with FrameSink(Recorder()) as one_by_one, FrameSink(Recorder(), clip=5) as by_clips:
        for sample, image in zip(samples, images):
            one_by_one.add(image, sample)
            sample.ori_img = image
        for first in range(0, 12, 5):
            by_clips.add_all(samples[first:first + 5])
        (expected,), (found,) = one_by_one.close(), by_clips.close()
    assert [note[1:] for note in found] == [note[1:] for note in expected] and len(found) == 12
    with pytest.raises(RuntimeError, match='closed already'):
        by_clips.add_all(samples)


def test_a_clip_is_one_message(monkeypatch, images):
    sent = []
    monkeypatch.setattr(process_module, 'dumps', lambda message: sent.append(len(message)) or dumps(message))
    with FrameSink(Recorder(), clip=8) as sink:
        for _ in range(3):
            samples = [make_sample(index) for index in range(8)]
            for sample, image in zip(samples, images):
                sample.ori_img = image
            sink.add_all(samples)
    assert sent == [8, 8, 8]


def test_in_a_process_of_a_pool(images):
    with multiprocessing.get_context('fork').Pool(1) as pool:
        assert pool.apply(_frames_written, (images[:3],)) == [0, 1, 2]


def _frames_written(images):
    sink = FrameSink(Recorder())
    for index, image in enumerate(images):
        sink.add(image, make_sample(index))
    return [note[1] for note in sink.close()[0]]


def test_image_of_the_sample(platform, images):
    sample = make_sample(0)
    sample.ori_img = images[7]
    sink = FrameSink(Recorder())
    sink.add(None, sample)
    assert sink.close()[0][0][3] == ((9, 16, 3), int(images[7].sum()))


def test_error_reaches_the_caller_once(platform, images):
    sink = FrameSink(Recorder(fail_at=2))
    with pytest.raises(UserError, match=r'^frame 2 is bad$'):
        for index in range(1000):
            sink.add(images[0], make_sample(index))
    assert len(sink.close()[0]) == 2
    assert sink.close() == []
    with pytest.raises(RuntimeError, match='closed already'):
        sink.add(images[0], make_sample(0))


def test_close_raises_errors_too(platform, images):
    sink = FrameSink(Recorder(fail_at=0))
    sink.add(images[0], make_sample(0))
    with pytest.raises(UserError, match='frame 0 is bad'):
        sink.close()
    with pytest.raises(UserError, match='the disk is full'):
        FrameSink(Recorder(), Recorder(fail_closing=True)).close()


class FaultyVisualizer(TrackVisualizer):
    """Fail at frames of the fault's number."""

    def __init__(self, fault):
        super().__init__()
        self.fault = fault

    def paint_on(self, image, objects, scale=1.0):
        if image[0, 0, 0] == 2:
            if self.fault == 'error':
                raise UserError('no paint is left')
            os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(('fault', 'message'), [
    ('error', r'^no paint is left$'),
    ('killed', r'^a process that draws the pictures was ended; is the memory full\?$')])
@pytest.mark.parametrize('outputs', [('mp4',), ('png', 'gif')])
def test_fault_of_a_painter_is_one_line_and_earlier_frames_are_written(tmp_path, fault, message, outputs):
    sink = FrameSink(SequenceVisualizer(tmp_path, outputs=outputs, visualizer=FaultyVisualizer(fault), painters=2))
    with pytest.raises(UserError, match=message):
        for index in range(1000):
            sink.add(np.full((18, 32, 3), min(index, 2), np.uint8), make_sample(index))
    with contextlib.suppress(UserError):  # that of the other file
        sink.close()
    if 'mp4' in outputs:
        assert cv2.VideoCapture(str(tmp_path / 'video_1.mp4')).get(cv2.CAP_PROP_FRAME_COUNT) == 2
    else:
        assert sorted(path.name for path in (tmp_path / 'video_1').iterdir()) == ['00000.png', '00001.png']


def test_images_are_sent_only_to_consumers_that_use_them(platform, images):
    recorder = Recorder()
    recorder.needs_image = False
    sink = FrameSink(recorder)
    sink.add(images[0], make_sample(0))
    (note,), = sink.close()
    assert note[3] is None


def test_preparation_comes_before_the_first_frame_and_its_error_is_raised(platform, images):
    class Unprepared(Recorder):
        def start(self):
            raise UserError('no encoder')

    sink = FrameSink(Unprepared())
    with pytest.raises(UserError, match='no encoder'):
        for index in range(1000):
            sink.add(images[0], make_sample(index))
    assert sink.close() == [[]]


SCRIPT = textwrap.dedent('''
    import os, signal, sys
    import numpy as np
    from mmengine.structures import InstanceData
    from mmdet.structures import DetDataSample
    from mmdet.video.frame_sink import FrameSink
    from mmdet.visualization import SequenceVisualizer
    sink = FrameSink(SequenceVisualizer(sys.argv[1], outputs=('png', 'gif', 'mp4'), painters=2))
    for frame_id in range(3):
        sample = DetDataSample(metainfo=dict(video_id=1, frame_id=frame_id, img_path='v/x.jpg'))
        sample.pred_track_instances = InstanceData()
        sink.add(np.full((18, 32, 3), 80 * frame_id, np.uint8), sample)
    if sys.argv[2] == 'error':
        raise KeyboardInterrupt
    os.kill(os.getpid(), signal.SIGKILL)
''')


@pytest.mark.slow
@pytest.mark.parametrize('how', ['error', 'killed'])
def test_process_that_ends_without_closing_leaves_whole_files(how, tmp_path):
    ended = subprocess.run([sys.executable, '-c', SCRIPT, str(tmp_path), how], capture_output=True, text=True,
                           timeout=60)
    assert ('KeyboardInterrupt' in ended.stderr) is (how == 'error')
    deadline = time.monotonic() + 20
    while not _whole(tmp_path) and time.monotonic() < deadline:  # after a kill the other process may need a moment
        time.sleep(0.05)
    assert _whole(tmp_path)


def _whole(folder: Path) -> bool:
    film = cv2.VideoCapture(str(folder / 'v.mp4'))
    try:
        with Image.open(folder / 'v.gif') as gif:
            frames = gif.n_frames
    except (OSError, EOFError):
        return False
    return frames == film.get(cv2.CAP_PROP_FRAME_COUNT) == len(list((folder / 'v').glob('*.png'))) == 3
