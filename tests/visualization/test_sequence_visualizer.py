"""Pictures of one video after another: files, trails, faults."""
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from mmdet.errors import UserError
from mmdet.video.source import open_video
from mmdet.visualization import SequenceVisualizer, TrackVisualizer, sequence, video_name
from mmdet.visualization.mp4 import pyav_has_x264

NAMES = ('seal', 'giant panda', 'person', 'dolphin')


def test_folders_and_files_of_two_videos(tmp_path, make_video):
    first, second = make_video(400, 240, 3, 1, 'a b'), make_video(64, 48, 2, 2, 'c')
    with SequenceVisualizer(tmp_path, NAMES, 0.5, fps=5, outputs=('png', 'gif', 'mp4')) as sequence:
        for image, sample in first + second:
            sequence.add(image, sample)
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob('*') if p.is_file()) == [
        'a_b.gif', 'a_b.mp4', 'a_b/00000.png', 'a_b/00001.png', 'a_b/00002.png',
        'c.gif', 'c.mp4', 'c/00000.png', 'c/00001.png']
    assert set(sequence.close()) == {tmp_path / name for name in ('a_b', 'a_b.gif', 'a_b.mp4', 'c', 'c.gif', 'c.mp4')}
    image, sample = second[1]
    expected = TrackVisualizer(NAMES, 0.5).draw(image, sample.pred_track_instances)
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / 'c' / '00001.png')), expected)
    with Image.open(tmp_path / 'a_b.gif') as gif:
        assert gif.n_frames == 3 and gif.size == (320, 192) and gif.info['duration'] == 200


def test_videos_of_one_folder_name_do_not_mix(tmp_path, make_video):
    with SequenceVisualizer(tmp_path, outputs=('png',)) as sequence:
        for image, sample in make_video(16, 9, 2, 1, 'frames') + make_video(16, 9, 1, 2, 'frames'):
            sequence.add(image, sample)
    assert sorted(p.name for p in tmp_path.iterdir()) == ['frames', 'frames_2']
    assert len(list((tmp_path / 'frames').iterdir())) == 2


def written(folder):
    """Return the bytes of all files by name."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob('*') if path.is_file()}


def draw(folder, frames, **options):
    with SequenceVisualizer(folder, visualizer=TrackVisualizer(trail_length=9), **options) as sequence:
        for image, sample in frames:
            sequence.add(image, sample)
    return written(folder)


def test_trails_are_reset_with_each_video(tmp_path, make_video):
    first, second = make_video(32, 18, 5, 1, 'a'), make_video(32, 18, 2, 2, 'b')
    together = draw(tmp_path / 'together', first + second)
    assert together == draw(tmp_path / 'a', first) | draw(tmp_path / 'b', second)


def test_videos_of_known_length_may_alternate(tmp_path, make_video):
    """As in a test of several videos at once: the files equal those of one video after the other."""
    first, second = make_video(32, 18, 3, 1, 'a'), make_video(32, 18, 4, 2, 'b')
    for frames in (first, second):
        for _, sample in frames:
            sample.set_metainfo(dict(video_length=len(frames)))
    turns = [frame for pair in zip(first, second) for frame in pair] + second[3:]
    options = dict(outputs=('png', 'gif', 'mp4'))
    assert draw(tmp_path / 'turns', turns, **options) == draw(tmp_path / 'order', first + second, **options)


@pytest.mark.parametrize('outputs', [('png', 'gif', 'mp4'), ('mp4',), ('gif', 'mp4')])
def test_files_do_not_depend_on_the_number_of_painters(tmp_path, make_video, outputs):
    """Trails, videos that alternate, odd sides, a change of size, and a picture of another size for the GIF."""
    first, second = make_video(401, 240, 5, 1, 'a') + make_video(64, 48, 7, 1, 'a')[5:], make_video(63, 49, 7, 2, 'b')
    for frames in (first, second):
        for _, sample in frames:
            sample.set_metainfo(dict(video_length=len(frames)))
    frames = [frame for pair in zip(first, second) for frame in pair]
    options = dict(outputs=[output for output in outputs if output != 'mp4' or pyav_has_x264()])
    alone, one, three = (draw(tmp_path / str(painters), frames, painters=painters, **options)
                         for painters in (0, 1, 3))
    assert alone == one == three and len({Path(name).suffix for name in alone}) == len(options['outputs'])


@pytest.mark.parametrize(('cores', 'painters'), [(1, 0), (2, 0), (4, 1), (16, 4), (64, 8)])
def test_painters_by_cores(cores, painters, monkeypatch):
    monkeypatch.setattr(sequence.os, 'sched_getaffinity', lambda pid: set(range(cores)))
    assert sequence.painter_processes() == painters


def test_no_painters_where_nothing_can_be_forked(monkeypatch):
    monkeypatch.setattr(sequence.BackgroundProcess, 'available', staticmethod(lambda: False))
    assert sequence.painter_processes() == 0


def test_a_video_is_complete_with_its_last_frame(tmp_path, make_video):
    frames = make_video(32, 18, 2, 1, 'a')
    for _, sample in frames:
        sample.set_metainfo(dict(video_length=2))
    with SequenceVisualizer(tmp_path, outputs=('gif',)) as sequence:
        for image, sample in frames:
            sequence.add(image, sample)
        with Image.open(tmp_path / 'a.gif') as gif:
            assert gif.n_frames == 2


def test_image_from_sample_or_file(tmp_path, make_video):
    (image, sample), (other, on_disk) = make_video(32, 18, 2)
    sample.set_field(image, 'ori_img')
    on_disk.set_metainfo({'img_path': str(tmp_path / 'x.png')})
    cv2.imwrite(str(tmp_path / 'x.png'), other)
    with SequenceVisualizer(tmp_path, outputs=('png',), visualizer=TrackVisualizer(score_thr=2.)) as sequence:
        sequence.add(None, sample)
        sequence.add(None, on_disk)
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / 'video' / '00000.png')), image)
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / 'video' / '00001.png')), other)


def test_missing_image(tmp_path, make_video):
    sequence = SequenceVisualizer(tmp_path, outputs=('png',))
    with pytest.raises(UserError, match=r'cannot read the image /data/video/00000\.jpg'):
        sequence.add(None, make_video(32, 18, 1)[0][1])


def test_unknown_output(tmp_path):
    with pytest.raises(UserError, match='png, gif, mp4'):
        SequenceVisualizer(tmp_path, outputs=('avi',))


@pytest.mark.parametrize(('path', 'name'), [
    ('/data/JPEGImages/0f1a/00000.jpg', '0f1a'), ('x.jpg', 'video_7'), (None, 'video_7'),
    ('/a/..hidden/x.jpg', 'hidden'), ('/a/Möwe & co/x.jpg', 'Möwe_co'), ('/a/../x.jpg', 'video_7'),
    ('/a/' + 'l' * 300 + '/x.jpg', 'l' * 100)])
def test_video_name(path, name):
    assert video_name(path, 7) == name


@pytest.mark.parametrize('use_times', [True, False])
def test_times_of_samples(tmp_path, make_video, use_times):
    frames = make_video(32, 18, 4)
    for (_, sample), time in zip(frames, (0, 0.2, 1.0, 1.1)):
        sample.set_metainfo({'time': time})
    with SequenceVisualizer(tmp_path, fps=10, outputs=('mp4', 'gif'), use_times=use_times) as sequence:
        for image, sample in frames:
            sequence.add(image, sample)
    with Image.open(tmp_path / 'video.gif') as gif:
        assert gif.info['duration'] == (200 if use_times else 100)
    if pyav_has_x264():
        found = [frame.time for frame in open_video(tmp_path / 'video.mp4')]
        assert found == pytest.approx([0, 0.2, 1.0, 1.1] if use_times else [0, 0.1, 0.2, 0.3])


def test_no_folder_is_left_without_frames(tmp_path):
    with SequenceVisualizer(tmp_path / 'out', outputs=('png', 'gif', 'mp4')) as sequence:
        pass
    assert sequence.close() == [] and not (tmp_path / 'out').exists()


def test_an_image_file_is_read_as_its_annotations_are(tmp_path, make_video):
    """Rotated by its EXIF orientation only if the sample has that size."""
    image = np.random.default_rng(0).integers(0, 256, (18, 32, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(image[..., ::-1]).save(tmp_path / 'x.png', exif=exif)
    for shape in ((18, 32), (32, 18)):
        _, sample = make_video(32, 18, 1)[0]
        sample.set_metainfo({'img_path': str(tmp_path / 'x.png'), 'ori_shape': shape})
        with SequenceVisualizer(tmp_path / str(shape), outputs=('png',),
                                visualizer=TrackVisualizer(score_thr=2.)) as sequence:
            sequence.add(None, sample)
        picture, = (tmp_path / str(shape)).glob('*/*.png')
        assert cv2.imread(str(picture)).shape[:2] == shape
