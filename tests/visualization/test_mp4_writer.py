"""MP4 files: codec, time, size, colours; a killed process, a full disk, a missing encoder; a real browser."""
import base64
import contextlib
import multiprocessing
import os
import resource
import signal
import sys

import cv2
import numpy as np
import pytest

from mmdet.errors import UserError
from mmdet.visualization import Mp4Writer
from mmdet.visualization.mp4 import find_codec, opencv_has_h264, pyav_has_x264, to_i420
from tests.helpers.browser import CHROMIUM, DRIVER, Browser

try:
    import av
except ImportError:
    av = None

needs_pyav = pytest.mark.skipif(not pyav_has_x264(), reason='needs PyAV: pip install av')
# colours far apart, as rows of patches (BGR)
PATCHES = np.array(
    [[[30, 30, 200], [40, 180, 40], [200, 60, 30]], [[128, 128, 128], [0, 0, 0], [255, 255, 255]]], np.uint8)


@pytest.fixture(params=[pytest.param('pyav', marks=needs_pyav), 'opencv'])
def encoder(request, monkeypatch):
    """Run a test with each encoder."""
    find_codec.cache_clear()
    if request.param == 'opencv':
        monkeypatch.setattr('mmdet.visualization.mp4.pyav_has_x264', lambda: False)
    yield request.param
    find_codec.cache_clear()


def write_mp4(path, frames, fps=12.5):
    with Mp4Writer(path, fps) as writer:
        for frame in frames:
            writer.write(frame)


def read_mp4(path) -> tuple[float, float, list[np.ndarray]]:
    """Read with OpenCV: number of frames, frames per second, the frames."""
    video = cv2.VideoCapture(str(path))
    count, fps = video.get(cv2.CAP_PROP_FRAME_COUNT), video.get(cv2.CAP_PROP_FPS)
    frames = []
    while (read := video.read())[0]:
        frames.append(read[1])
    return count, fps, frames


def patches(width: int, height: int) -> np.ndarray:
    return cv2.resize(PATCHES, (width, height), interpolation=cv2.INTER_NEAREST)


@needs_pyav
@pytest.mark.parametrize('height', range(16, 24))
def test_every_row_is_written_whatever_the_height(tmp_path, height):
    """Also the colours of the last rows, and where the frame was converted before."""
    frame = patches(48, height)
    for name, written in (('bgr', frame), ('i420', to_i420(frame))):
        write_mp4(tmp_path / f'{name}.mp4', [written] * 3)
        _, _, found = read_mp4(tmp_path / f'{name}.mp4')
        assert found[0].shape == (height + height % 2, 48, 3)
        bottom = found[0][height - 3:height].astype(int) - frame[-3:]
        assert abs(bottom[:, [8, 24, 40]]).max() < 40
    assert (tmp_path / 'bgr.mp4').read_bytes() == (tmp_path / 'i420.mp4').read_bytes()


@pytest.mark.parametrize('size', [(64, 48), (63, 47), (16, 9), (1, 1)])
@pytest.mark.parametrize('fps', [12.5, 0.5, 29.97])
def test_mp4_is_readable(tmp_path, make_scene, encoder, size, fps):
    frames = [make_scene(*size, time, objects=min(size) // 9)[0] for time in range(7)]
    write_mp4(tmp_path / 'a.mp4', frames, fps)
    count, found_fps, read = read_mp4(tmp_path / 'a.mp4')
    assert (count, len(read)) == (7, 7)
    assert found_fps == pytest.approx(fps)
    width, height = size
    assert read[0].shape == (height + height % 2, width + width % 2, 3)
    assert cv2.absdiff(read[0][:height, :width], frames[0]).mean() < 25


def test_frames_of_another_size_are_resized(tmp_path, encoder):
    write_mp4(tmp_path / 'a.mp4', [patches(96, 64), patches(48, 128), patches(95, 63)])
    _, _, frames = read_mp4(tmp_path / 'a.mp4')
    assert [frame.shape for frame in frames] == [(64, 96, 3)] * 3
    for frame in frames:
        assert cv2.absdiff(frame, patches(96, 64)).mean() < 6


@needs_pyav
@pytest.mark.parametrize(('fps', 'written'), [
    (25, '25'), (29.97, '2997/100'), (30000 / 1001, '30000/1001'), (0.5, '1/2'), (1 / 3, '1/3'), (0.01, '1/100')])
def test_h264_as_browsers_need_it(tmp_path, fps, written):
    write_mp4(tmp_path / 'a.mp4', [patches(63, 47)] * 5, fps)
    with av.open(str(tmp_path / 'a.mp4')) as file:
        stream, = file.streams
        assert (stream.name, stream.pix_fmt, stream.width, stream.height) == ('h264', 'yuv420p', 64, 48)
        assert (str(stream.average_rate), stream.frames) == (written, 5)
        assert float(stream.duration * stream.time_base) == pytest.approx(5 / fps)
        assert [frame.time for frame in file.decode(stream)] == pytest.approx([index / fps for index in range(5)])


@needs_pyav
def test_colors_are_right_and_tagged(tmp_path):
    write_mp4(tmp_path / 'a.mp4', [patches(96, 64)] * 3)
    with av.open(str(tmp_path / 'a.mp4')) as file:
        codec = file.streams.video[0].codec_context
        # sRGB pictures, BT.601 (SMPTE 170M) in video range
        assert (codec.color_primaries, codec.color_trc, codec.colorspace, codec.color_range) == (1, 13, 6, 1)
        by_pyav = next(file.decode(video=0)).to_ndarray(format='bgr24')
    for frame in (by_pyav, read_mp4(tmp_path / 'a.mp4')[2][0]):
        centers = frame[16::32, 16::32].astype(int)
        assert np.abs(centers - PATCHES).max() <= 6  # read as BT.709, green would be off by 20


def write_and_die(path):
    with Mp4Writer(path, 10) as writer:
        for index in range(100):
            writer.write(patches(160, 90) // (1 + index % 3))
        os.kill(os.getpid(), signal.SIGKILL)


def in_a_fork(function, *args) -> int:
    process = multiprocessing.get_context('fork').Process(target=function, args=args)
    process.start()
    process.join(60)
    if process.exitcode is None:
        process.kill()
    return process.exitcode


@needs_pyav
def test_a_kill_leaves_all_but_the_last_seconds(tmp_path):
    assert in_a_fork(write_and_die, tmp_path / 'a.mp4') == -signal.SIGKILL
    count, fps, frames = read_mp4(tmp_path / 'a.mp4')
    assert count == len(frames) >= 60 and fps == 10
    for index, frame in enumerate(frames):
        assert cv2.absdiff(frame, patches(160, 90) // (1 + index % 3)).mean() < 6
    with av.open(str(tmp_path / 'a.mp4')) as file:
        assert len(list(file.decode(video=0))) == len(frames)


def write_in_child(writer):
    cv2.setNumThreads(0)  # OpenCV's threads do not exist in a fork
    with writer:
        for _ in range(30):
            writer.write(patches(320, 180))


def test_a_writer_may_be_used_in_a_fork(tmp_path, encoder):
    write_mp4(tmp_path / 'a.mp4', [patches(320, 180)] * 30)  # whatever an encoder starts is there before the fork
    assert in_a_fork(write_in_child, Mp4Writer(tmp_path / 'b.mp4', 10)) == 0
    assert len(read_mp4(tmp_path / 'b.mp4')[2]) == 30


def test_folder_in_place_of_the_file(tmp_path, encoder):
    (tmp_path / 'a.mp4').mkdir()
    with pytest.raises(UserError, match=r'cannot write .*/a\.mp4 .*: choose another folder') as caught:
        write_mp4(tmp_path / 'a.mp4', [patches(16, 16)])
    assert '\n' not in str(caught.value)


@contextlib.contextmanager
def files_end_at(size: int):
    """Limit the file size of this process, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@needs_pyav
@pytest.mark.parametrize('missing', [40_000, 100])  # bytes: found by a frame; found by the end of the file
def test_full_disk_is_an_error_and_the_written_frames_are_readable(tmp_path, missing):
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (96, 96, 3), np.uint8) for _ in range(40)]
    write_mp4(tmp_path / 'whole.mp4', frames, 4)
    end = (tmp_path / 'whole.mp4').stat().st_size - missing
    with files_end_at(end), pytest.raises(UserError, match=r'cannot write .*/a\.mp4 \(File too large\)'):
        write_mp4(tmp_path / 'a.mp4', frames, 4)
    assert 12 <= len(read_mp4(tmp_path / 'a.mp4')[2]) <= 40


@needs_pyav
@pytest.mark.parametrize('fps', [1e-9, 1e12])
def test_fps_that_mp4_does_not_support(tmp_path, fps):
    with pytest.raises(UserError, match=r'cannot write .*/a\.mp4 \(H\.264, 16x16, .* fps\): choose another'):
        write_mp4(tmp_path / 'a.mp4', [patches(16, 16)], fps)


def test_choice_of_the_encoder(tmp_path, monkeypatch, encoder):
    """PyAV's H.264 first, tried without another process; a machine with neither says so once, and how to get it."""
    said, tried = [], []
    monkeypatch.setattr('mmdet.visualization.mp4.print_log', lambda text, **_: said.append(text))
    for found, codec in ((True, 'avc1'), (False, 'mp4v')):
        find_codec.cache_clear()
        monkeypatch.setattr('mmdet.visualization.mp4.opencv_has_h264', lambda found=found: tried.append(1) or found)
        assert {find_codec(), find_codec()} == {'libx264' if encoder == 'pyav' else codec}
    assert (len(tried), len(said)) == ((0, 0) if encoder == 'pyav' else (2, 1))
    assert all('pip install -U av' in text for text in said)


# plays a video to its end; → its error if it has one, else its size, its length in seconds, the middles of the patches
PLAYED = """
return new Promise(resolve => {
    const video = document.querySelector('video');
    video.onerror = () => resolve(video.error.message);
    video.onended = () => {
        const [width, height] = [video.videoWidth, video.videoHeight];
        const context = new OffscreenCanvas(width, height).getContext('2d');
        context.drawImage(video, 0, 0);
        const pixel = (row, column) => Array.from(
            context.getImageData((column + 0.5) * width / 3, (row + 0.5) * height / 2, 1, 1).data.slice(0, 3));
        resolve([width, height, video.currentTime, [0, 1].map(row => [0, 1, 2].map(column => pixel(row, column)))]);
    };
    video.src = video.dataset.src;
    video.playbackRate = 16;
    video.play();
});
"""


@needs_pyav
@pytest.mark.skipif(not (CHROMIUM and DRIVER), reason='needs the Debian packages chromium and chromium-driver')
@pytest.mark.xdist_group('browser')
def test_a_browser_plays_it_in_the_right_colors(tmp_path):
    write_mp4(tmp_path / 'whole.mp4', [patches(96, 64)] * 25, 25)
    assert in_a_fork(write_and_die, tmp_path / 'killed.mp4') == -signal.SIGKILL
    with Browser(tmp_path / 'profile') as browser:
        for name, size, seconds in (('whole', [96, 64], [1, 1]), ('killed', [160, 90], [6, 10])):
            data = base64.b64encode((tmp_path / f'{name}.mp4').read_bytes()).decode()
            page = tmp_path / f'{name}.html'
            page.write_text(f'<video muted data-src="data:video/mp4;base64,{data}"></video>')
            browser.open(page.as_uri(), 800)
            if not browser.run('return document.createElement("video").canPlayType("video/mp4; codecs=avc1.64001f")'):
                pytest.skip('this Chromium was built without H.264')
            played = browser.run(PLAYED)
            assert played[:2] == size and seconds[0] - 0.01 <= played[2] <= seconds[1] + 0.01
            if name == 'whole':
                assert np.abs(np.array(played[3])[..., ::-1] - PATCHES).max() <= 6


def test_pyav_may_be_missing_or_old(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, 'av', None)
        assert not pyav_has_x264()
    if av is not None:
        monkeypatch.setitem(av.library_versions, 'libavformat', (61, 7, 100))
        assert not pyav_has_x264()


def test_checking_opencv_prints_nothing(capfd):
    assert opencv_has_h264() in (True, False)
    assert capfd.readouterr() == ('', '')


def times_of(path):
    with av.open(str(path)) as file:
        return [frame.time for frame in file.decode(video=0)]


@needs_pyav
@pytest.mark.parametrize('fps', [25, 30000 / 1001, 1000, 0.5, 10000])
def test_frames_are_shown_at_their_times(tmp_path, fps):
    times = np.cumsum([0.5, 0.033, 0.033, 0.1, 0.01, 1.4, 0.0004, 0.033]).tolist()
    with Mp4Writer(tmp_path / 'a.mp4', fps) as writer:
        for time in times:
            writer.write(patches(32, 16), time)
    assert times_of(tmp_path / 'a.mp4') == pytest.approx([time - 0.5 for time in times], abs=1e-4)


@needs_pyav
@pytest.mark.parametrize('fps', [25, 30000 / 1001, 24000 / 1001, 1000, 7.5])
def test_times_at_a_constant_rate_are_exact(tmp_path, fps):
    with Mp4Writer(tmp_path / 'a.mp4', fps) as writer:
        for index in range(30):
            writer.write(patches(32, 16), round(index / fps, 6))
    with av.open(str(tmp_path / 'a.mp4')) as file:
        stream, = file.streams
        assert float(stream.average_rate) == pytest.approx(fps, rel=1e-6)
        assert float(stream.duration * stream.time_base) == pytest.approx(30 / fps)
    assert times_of(tmp_path / 'a.mp4') == pytest.approx([index / fps for index in range(30)])


@needs_pyav
def test_times_that_do_not_increase_do_not_end_the_file(tmp_path):
    with Mp4Writer(tmp_path / 'a.mp4', 10) as writer:
        for time in (3, 3.1, 3.1, 3.0, 3.3):
            writer.write(patches(32, 16), time)
    times = times_of(tmp_path / 'a.mp4')
    assert len(times) == 5 and (np.diff(times) > 0).all() and times[-1] == pytest.approx(0.3)


@needs_pyav
@pytest.mark.skipif(sys.platform != 'linux', reason='file names are bytes on Linux')
@pytest.mark.parametrize('name', [b'caf\xe9.mp4', ('猫' * 66 + '.mp4').encode(), 'a\u202fb\u3000c.mp4'.encode(),
                                  b'%d:1.mp4'])
def test_unusual_file_names(name, tmp_path):
    path = tmp_path / os.fsdecode(name)
    write_mp4(path, [patches(64, 48)] * 5)
    path.rename(tmp_path / 'plain.mp4')
    assert len(read_mp4(tmp_path / 'plain.mp4')[2]) == 5


def test_opencv_refuses_a_name_that_it_would_crash_at(tmp_path, monkeypatch):
    find_codec.cache_clear()
    monkeypatch.setattr('mmdet.visualization.mp4.pyav_has_x264', lambda: False)
    with pytest.raises(UserError, match=r'caf\\udce9\.mp4: OpenCV takes paths in UTF-8 only'):
        write_mp4(tmp_path / os.fsdecode(b'caf\xe9.mp4'), [patches(32, 16)])
    find_codec.cache_clear()


def test_opencv_writes_a_constant_rate(tmp_path, monkeypatch):
    find_codec.cache_clear()
    monkeypatch.setattr('mmdet.visualization.mp4.pyav_has_x264', lambda: False)
    with Mp4Writer(tmp_path / 'a.mp4', 10) as writer:
        for time in (0, 5, 7):
            writer.write(patches(32, 16), time)
    find_codec.cache_clear()
    assert len(read_mp4(tmp_path / 'a.mp4')[2]) == 3
