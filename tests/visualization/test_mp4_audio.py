"""MP4 files of drawn videos keep the audio and the times of the frames; the audio clicks at every whole second."""
import multiprocessing
import os
import signal
from fractions import Fraction

import numpy as np
import pytest

from mmdet.apis import VideoInferencer
from mmdet.video.source import open_video
from mmdet.visualization import Mp4Writer, audio
from mmdet.visualization.mp4 import pyav_has_x264
from tools.analysis_tools.measures.stub_detector import StubDetector

av = pytest.importorskip('av')
pytestmark = pytest.mark.skipif(not pyav_has_x264(), reason='needs PyAV: pip install av')
RATE, SECONDS = 16000, 4
TIMES = np.cumsum([0, *[0.04, 0.1, 0.06] * 19])  # seconds, at a variable rate; the last is 3.8


def film(path, codec='aac', with_audio=True):
    """A video with frames at ``TIMES`` and, if ``with_audio``, clicks of 50 ms at 0, 1, 2 and 3 seconds."""
    with av.open(str(path), 'w') as file:
        video = file.add_stream('libx264', rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, 'yuv420p'
        video.codec_context.time_base = Fraction(1, 1000)
        sound = file.add_stream(codec, rate=RATE) if with_audio else None
        if sound is not None:
            sound.layout = 'mono'
        for number, time in enumerate(TIMES):
            picture = av.VideoFrame.from_ndarray(np.full((48, 64, 3), number, np.uint8), format='bgr24')
            picture.pts, picture.time_base = round(time * 1000), Fraction(1, 1000)
            file.mux(video.encode(picture))
        file.mux(video.encode())
        if sound is not None:
            clock = np.arange(RATE * SECONDS) / RATE
            wave = (20000 * np.sin(2 * np.pi * 1000 * clock) * (clock % 1 < 0.05)).astype(np.int16)
            for start in range(0, len(wave), 1024):
                samples = av.AudioFrame.from_ndarray(wave[None, start:start + 1024], format='s16', layout='mono')
                samples.rate, samples.pts, samples.time_base = RATE, start, Fraction(1, RATE)
                file.mux(sound.encode(samples))
            file.mux(sound.encode())
    return path


def clicks(path):
    """Return the codec, the times of the clicks and the duration of the audio in seconds."""
    with av.open(str(path)) as file:
        stream, = file.streams.audio
        frames = list(file.decode(stream))
        wave = np.abs(np.concatenate([frame.to_ndarray().reshape(-1) for frame in frames]).astype(float))
        loud = np.flatnonzero(wave > wave.max() / 3)
        starts = loud[np.diff(loud, prepend=-RATE) > RATE // 4] / RATE + frames[0].time
        return stream.codec_context.codec.canonical_name, starts.tolist(), len(wave) / RATE


def frame_times(path):
    with av.open(str(path)) as file:
        return [frame.time for frame in file.decode(video=0)]


def draw(path, out, **arguments):
    for _ in VideoInferencer(StubDetector())(path, out=out, outputs=['mp4'], **arguments):
        pass
    return out / f'{path.stem}.mp4'


def copied(path, *chosen):
    """Write the chosen frames (start, end, stride) of a video as they are, with its audio."""
    source, target = open_video(path, *chosen), path.with_name('copied.mp4')
    with Mp4Writer(target, source.fps, path) as writer:
        for frame in source:
            writer.write(frame.image, frame.time)
    return target


@pytest.mark.parametrize(('name', 'codec', 'kept'), [
    ('a.mp4', 'aac', 'aac'), ('b.mkv', 'libmp3lame', 'mp3'), ('c.mov', 'pcm_s16le', 'aac'), ('d.mkv', 'flac', 'aac')])
def test_audio_and_variable_frame_times_are_kept(tmp_path, name, codec, kept):
    """Audio is copied, or encoded again where MP4 files or browsers do not have its codec."""
    drawn = copied(film(tmp_path / name, codec))
    assert frame_times(drawn) == pytest.approx(TIMES, abs=1e-3)
    found, starts, duration = clicks(drawn)
    assert found == kept and duration == pytest.approx(SECONDS, abs=0.35)
    assert starts[-3:] == pytest.approx([1, 2, 3], abs=0.08)  # MP3 pads up to 0.07 s


def test_audio_of_a_part_begins_with_its_first_frame(tmp_path):
    """From frame 24 at 1.6 s on, every second frame: the clicks are those at 2 and 3 s."""
    drawn = copied(film(tmp_path / 'a.mp4'), 24, 48, 2)
    assert frame_times(drawn) == pytest.approx(TIMES[24:48:2] - TIMES[24], abs=1e-3)
    _, starts, duration = clicks(drawn)
    assert starts == pytest.approx([2 - TIMES[24], 3 - TIMES[24]], abs=0.02)
    assert duration == pytest.approx(TIMES[46] - TIMES[24], abs=0.35)


def test_drawn_videos_have_the_audio(tmp_path):
    drawn = draw(film(tmp_path / 'a.mp4'), tmp_path / 'out', end=30)
    assert frame_times(drawn) == pytest.approx(TIMES[:30], abs=1e-3)
    assert clicks(drawn)[1][1] == pytest.approx(1, abs=0.02)


def test_a_video_without_audio_and_one_at_another_rate_have_none(tmp_path):
    silent, loud = film(tmp_path / 'silent.mp4', with_audio=False), film(tmp_path / 'loud.mp4')
    for drawn in (copied(silent), draw(loud, tmp_path / 'out', fps=50, end=5)):
        with av.open(str(drawn)) as file:
            assert [stream.type for stream in file.streams] == ['video']


def test_audio_that_cannot_be_read_is_left_out_with_one_line(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(audio, 'print_log', lambda text, **_: said.append(text))
    (tmp_path / 'a.mp4').write_bytes(b'no video')
    with Mp4Writer(tmp_path / 'out.mp4', 10, tmp_path / 'a.mp4') as writer:
        for number in range(3):
            writer.write(np.zeros((48, 64, 3), np.uint8), number / 10)
    assert frame_times(tmp_path / 'out.mp4') == pytest.approx([0, 0.1, 0.2])
    assert len(said) == 1 and 'a.mp4: its audio is left out' in said[0]


def test_a_damaged_video_keeps_the_audio_before_the_damage(tmp_path):
    path = film(tmp_path / 'a.mkv')
    data = path.read_bytes()
    path.write_bytes(data[:len(data) * 6 // 10])
    drawn = copied(path)
    assert len(frame_times(drawn)) > 10
    with av.open(str(drawn)) as file:
        assert [stream.type for stream in file.streams] == ['video', 'audio']


def write_and_die(path, source):
    with Mp4Writer(path, 25, source) as writer:
        for number, time in enumerate(TIMES):
            writer.write(np.full((48, 64, 3), number, np.uint8), float(time))
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_kill_leaves_audio_and_frames_of_the_finished_fragments(tmp_path):
    source, path = film(tmp_path / 'a.mp4'), tmp_path / 'out.mp4'
    process = multiprocessing.get_context('fork').Process(target=write_and_die, args=(path, source))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    times = frame_times(path)
    assert len(times) >= 25 and times == pytest.approx(TIMES[:len(times)], abs=1e-3)
    assert clicks(path)[1][1] == pytest.approx(1, abs=0.02)
