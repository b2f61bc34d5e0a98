"""PNG, GIF and MP4 files of frames: content, size, time, frames of any number."""
import os
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from mmdet.errors import UserError
from mmdet.visualization import GifWriter, Mp4Writer, PngWriter, TrackVisualizer
from mmdet.visualization.gif import BURST_BYTES, BYTES_PER_SECOND


def read_gif(path) -> tuple[list[np.ndarray], list[int]]:
    """Frames as BGR, and their durations in milliseconds."""
    frames, durations = [], []
    with Image.open(path) as gif:
        for index in range(gif.n_frames):
            gif.seek(index)
            frames.append(np.array(gif.convert('RGB'))[..., ::-1])
            durations.append(gif.info['duration'])
    return frames, durations


def test_png_frames_are_exact(tmp_path, make_scene):
    image, _ = make_scene(64, 48)
    with PngWriter(tmp_path / 'a' / 'b') as writer:
        writer.write(image)
        writer.write(image[::-1])
        writer.write(image, 7)
        writer.write(image)
    names = sorted(p.name for p in (tmp_path / 'a' / 'b').iterdir())
    assert names == ['00000.png', '00001.png', '00007.png', '00008.png']
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / 'a' / 'b' / '00001.png')), image[::-1])


def test_png_threads_write_the_same(tmp_path, make_scene):
    images = [make_scene(64, 48, time)[0] for time in range(12)]
    with PngWriter(tmp_path, threads=2) as writer:
        for image in images:
            writer.write(image)
    for index, image in enumerate(images):
        np.testing.assert_array_equal(cv2.imread(str(tmp_path / f'{index:05d}.png')), image)


def test_gif_of_much_motion_is_small_and_accurate(tmp_path, make_scene):
    visualizer = TrackVisualizer(trail_length=10)
    frames = [visualizer.draw(*make_scene(320, 180, time)) for time in range(50)]
    with GifWriter(tmp_path / 'a.gif', fps=10) as writer:
        for frame in frames:
            writer.write(frame)
    assert (tmp_path / 'a.gif').stat().st_size < 3_000_000
    written, durations = read_gif(tmp_path / 'a.gif')
    assert len(written) == 50 and durations == [100] * 50
    assert all(cv2.absdiff(a, b).mean() < 6 for a, b in zip(written, frames))


def test_gif_of_noise_keeps_size_and_time(tmp_path):
    rng = np.random.default_rng(0)
    with GifWriter(tmp_path / 'a.gif', fps=12) as writer:
        for _ in range(24):
            writer.write(rng.integers(0, 256, (320, 320, 3), np.uint8))
    assert (tmp_path / 'a.gif').stat().st_size < 2 * BYTES_PER_SECOND + BURST_BYTES
    _, durations = read_gif(tmp_path / 'a.gif')
    assert sum(durations) == pytest.approx(2000, abs=20)
    assert 5 * BYTES_PER_SECOND + BURST_BYTES < 3_000_000  # allowed size of a GIF of five seconds


@pytest.mark.parametrize(('fps', 'frames', 'kept'), [
    (6, 12, 12), (12.5, 10, 10), (25, 50, 25), (30, 90, 37.5), (0.5, 2, 2)])
def test_gif_frame_rate_and_duration(tmp_path, fps, frames, kept):
    with GifWriter(tmp_path / 'a.gif', fps) as writer:
        for index in range(frames):
            writer.write(np.full((12, 16, 3), index * 2, np.uint8))
    written, durations = read_gif(tmp_path / 'a.gif')
    assert abs(len(written) - kept) < 1
    assert sum(durations) == pytest.approx(1000 * frames / fps, abs=20)


def test_gif_after_a_cut_has_right_colors(tmp_path):
    rng = np.random.default_rng(0)
    scenes = [(40, 40, 200), (200, 180, 30)]
    frames = [np.clip(rng.normal(scenes[index // 40], 6, (40, 60, 3)), 0, 255).astype(np.uint8) for index in range(80)]
    with GifWriter(tmp_path / 'a.gif', 10) as writer:
        for frame in frames:
            writer.write(frame)
    written, _ = read_gif(tmp_path / 'a.gif')
    assert max(cv2.absdiff(a, b).mean() for a, b in zip(written, frames)) < 8


def test_gif_with_and_without_motion(tmp_path):
    still = np.full((20, 30, 3), (10, 200, 90), np.uint8)
    moved = still.copy()
    moved[5:9, 20:28] = (250, 20, 30)
    with GifWriter(tmp_path / 'a.gif', 10) as writer:
        for frame in (still, still, moved, still):
            writer.write(frame)
    written, durations = read_gif(tmp_path / 'a.gif')
    assert sum(durations) == 400
    np.testing.assert_allclose(written[-1], still, atol=6)
    np.testing.assert_allclose(written[-2], moved, atol=6)


def test_gif_resizes_wide_frames(tmp_path):
    with GifWriter(tmp_path / 'a.gif', 10) as writer:
        writer.write(np.zeros((90, 641, 3), np.uint8))
        writer.write(np.zeros((100, 100, 3), np.uint8))  # another size is resized
    assert read_gif(tmp_path / 'a.gif')[0][1].shape == (45, 320, 3)


@pytest.mark.parametrize('frames', [1, 5, 33, 40])
def test_gif_stopped_anywhere_is_readable(tmp_path, make_scene, frames):
    with pytest.raises(KeyboardInterrupt), GifWriter(tmp_path / 'a.gif', 10) as writer:
        for time in range(frames):
            writer.write(make_scene(32, 18, time, objects=1)[0])
        raise KeyboardInterrupt
    assert len(read_gif(tmp_path / 'a.gif')[0]) == frames
    writer.close()


def test_no_frames_no_file(tmp_path):
    for writer in (GifWriter(tmp_path / 'a.gif', 10), Mp4Writer(tmp_path / 'a.mp4', 10)):
        writer.close()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('make', [
    PngWriter, lambda path: GifWriter(path / 'a.gif', 10), lambda path: Mp4Writer(path / 'a.mp4', 10)])
def test_folder_that_is_a_file(tmp_path, make):
    (tmp_path / 'file').write_text('')
    with pytest.raises(UserError, match=re.escape(str(tmp_path / 'file'))):
        make(tmp_path / 'file')


@pytest.mark.parametrize('fps', [0, -1, float('nan'), float('inf')])
def test_wrong_fps(tmp_path, fps):
    for writer in (GifWriter, Mp4Writer):
        with pytest.raises(UserError, match='fps'):
            writer(tmp_path / 'a', fps)


def resident() -> int:
    """Return the resident memory of this process in bytes."""
    return int(Path('/proc/self/statm').read_text().split()[1]) * os.sysconf('SC_PAGE_SIZE')


def test_memory_does_not_grow_with_the_frames(tmp_path):
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (90, 160, 3), np.uint8) // 64 * 64 for _ in range(8)]
    with GifWriter(tmp_path / 'a.gif', 12) as gif, PngWriter(tmp_path, threads=2) as png:
        for index in range(500):
            if index == 100:
                before = resident()
            gif.write(frames[index % 8])
            png.write(frames[index % 8], index % 4)
        grown = resident() - before
    assert grown < 10_000_000  # the 400 frames have 17 MB


def test_gif_frames_are_shown_at_their_times(tmp_path):
    with GifWriter(tmp_path / 'a.gif', 10) as gif:
        for index, time in enumerate((2, 2.1, 2.5, 2.51, 4.5)):
            gif.write(np.full((8, 8, 3), 60 * index, np.uint8), time)
    with Image.open(tmp_path / 'a.gif') as image:
        durations = []
        for frame in range(image.n_frames):
            image.seek(frame)
            durations.append(image.info['duration'])
    assert durations == [100, 400, 2000, 100]  # 2.51 is left out: more than 12.5 frames a second
