"""The page to try models on: its parts, its requests through Gradio, and in a browser where Chromium is installed."""
import builtins
import importlib.util
import json
import re
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch
from PIL import Image

from mmdet.apis import VideoInferencer, init_model
from mmdet.apis.web_demo import GRADIO, Models, Outcome, Step, annotate, build_page, check_upload, launch_page
from mmdet.errors import UserError, counted
from mmdet.visualization import Mp4Writer
from tests.helpers.browser import CHROMIUM, DRIVER, Browser
from tools.web_demo import build_parser, main

needs_gradio = pytest.mark.skipif(importlib.util.find_spec('gradio') is None,
                                  reason='needs Gradio, pip install .[web]')
FRAMES = 8
SHAPES = Path(__file__).resolve().parents[2] / 'data/shapes.mp4'
PLAYLIST = '#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{}\n#EXT-X-ENDLIST\n'
CLASSES = ('disc', 'square', 'triangle')


@pytest.fixture(scope='module')
def inferencer(toy_config):
    torch.manual_seed(0)
    model = init_model(toy_config, device='cpu')
    torch.nn.init.constant_(model.bbox_head.fcos_cls.bias, -1.0)
    model.dataset_meta = dict(classes=CLASSES)
    return VideoInferencer(model, max_size=96)


@pytest.fixture(scope='module')
def film(tmp_path_factory):
    path = tmp_path_factory.mktemp('film') / 'film.mp4'
    base, drift = np.random.default_rng(0).integers(0, 200, (2, 9, 16, 3))
    with Mp4Writer(path, 10) as writer:
        for frame in range(FRAMES):
            image = np.clip(base + frame * 0.05 * (drift - base), 0, 255).astype(np.uint8)
            writer.write(image.repeat(8, 0).repeat(8, 1))
    return path


def outcome(*args, **options):
    *steps, last = annotate(*args, **options)
    assert all(isinstance(step, Step) for step in steps) and isinstance(last, Outcome)
    return last


def test_a_video_becomes_files_timeline_and_steps(inferencer, film, tmp_path, monkeypatch):
    monkeypatch.setattr('mmdet.apis.web_demo.PREVIEW_SECONDS', 0)
    *steps, last = annotate(inferencer, str(film), tmp_path, thresh=0.01, max_frames=5)
    assert [(step.done, step.total) for step in steps] == [(done, 5) for done in range(1, 6)]
    assert all(step.picture.shape == (72, 128, 3) for step in steps)
    assert any((step.picture != steps[0].picture).any() for step in steps[1:])
    assert last.mp4.read_bytes()[4:8] == b'ftyp'
    tracks = json.loads(last.json.read_text())
    assert tracks and len(tracks[0]['segmentations']) == 5
    assert last.timeline.count('class="row"') == min(len(tracks), 100)
    assert last.summary == f'5 frames, {len(tracks)} tracks above 0.01; processing ends after 5 frames.'
    whole = outcome(inferencer, str(film), tmp_path / 'whole', thresh=1.0, max_frames=FRAMES)
    assert whole.summary == f'{FRAMES} frames, 0 tracks above 1.'


def test_two_requests_at_the_same_time_have_the_result_of_one_alone(inferencer, film, tmp_path):
    def text(name):
        return outcome(inferencer, str(film), tmp_path / name, thresh=0.01).json.read_text()

    alone = text('alone')
    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(text, ('a', 'b'))) == [alone, alone]


def test_threshold_and_classes(inferencer, film, tmp_path):
    none = outcome(inferencer, str(film), tmp_path / 'none', thresh=1.0)
    assert json.loads(none.json.read_text()) == [] and 'No object was found' in none.timeline
    disc = outcome(inferencer, str(film), tmp_path / 'disc', thresh=0.01, classes=('disc',))
    assert {track['category_id'] for track in json.loads(disc.json.read_text())} <= {1, 5}
    with pytest.raises(UserError, match='discs: the model knows no such class; there are disc'):
        outcome(inferencer, str(film), tmp_path / 'wrong', classes=('discs',))


def test_a_model_is_loaded_once_at_its_first_use():
    loads = []

    def build(name):
        time.sleep(0.05)
        loads.append(name)
        return VideoInferencer.__new__(VideoInferencer)

    models = Models({'a': (('a.py',), ()), 'b': (('b.py',), ('cat', 'dog'))}, build)
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(models.load, ['a'] * 4))
    assert loads == ['a.py'] and all(model is found[0] for model in found)
    assert models.class_names('b') == ['cat', 'dog'] and loads == ['a.py']
    with pytest.raises(UserError, match="'c' is not a model of this page; there are a, b"):
        models.load('c')


@pytest.mark.parametrize(('words', 'message'), [
    (['configs/memcnp_toy_shapes.py'], 'CHECKPOINT is missing after'), (['--models'], 'the page has no model'),
    (['--thresh', '2'], '--thresh 2'), (['--models', 'nothing'], 'invalid choice')])
def test_wrong_command_lines(words, message, capsys):
    with pytest.raises((SystemExit, UserError)) as raised:
        main(words)
    assert message in capsys.readouterr().err + str(raised.value)


@pytest.mark.parametrize(('absent', 'words'), [
    ('gradio', r'the page needs the package gradio, .*: pip install gradio==[\d.]+$'),
    ('pandas', r'gradio, and that needs pandas, which is not installed; install both: pip install gradio==[\d.]+$')])
def test_without_gradio_one_line_says_what_to_install(monkeypatch, absent, words):
    original = builtins.__import__

    def fail(name, *args, **options):
        if name == 'gradio':
            raise ModuleNotFoundError(f'No module named {absent!r}', name=absent)
        return original(name, *args, **options)

    monkeypatch.setattr(builtins, '__import__', fail)
    with pytest.raises(UserError, match=words):
        main([])


def test_the_extra_installs_the_gradio_that_is_named():
    assert f'web = ["{GRADIO}"]' in (Path(__file__).resolve().parents[2] / 'pyproject.toml').read_text()


def test_default_of_the_command_is_local():
    args = build_parser().parse_args([])
    assert args.host == '127.0.0.1' and args.models is None and args.jobs == 2


WAITED = 60  # seconds
FAKE_CAMERA = ('--use-fake-device-for-media-stream', '--use-fake-ui-for-media-stream')

RECORDED = 'return document.querySelector("#video video")?.src.endsWith(".webm")'
SHOWN_MARK = """
const mark = document.createElement('span');
mark.className = 'error';
document.querySelector('#summary').append(mark);
return getComputedStyle(mark).display;
"""
# A camera whose list, pictures and end come when the test calls for them, or whose use is denied (address ?denied), or
# that browsers do not offer at insecure addresses (?insecure).
SLOW_CAMERA = """(() => {
if (location.search == '?insecure')
  return Object.defineProperty(navigator, 'mediaDevices', {value: undefined, configurable: true});
const devices = navigator.mediaDevices, canvas = document.createElement('canvas');
const listed = new Promise(resolve => { window.showList = resolve; });
const context = canvas.getContext('2d');
const stream = canvas.captureStream(0), [track] = stream.getTracks();
const enumerate = devices.enumerateDevices.bind(devices);
devices.enumerateDevices = async () => { await listed; return enumerate(); };
devices.getUserMedia = async () => {
  if (location.search == '?denied') throw new DOMException('Permission denied', 'NotAllowedError');
  return stream;
};
window.showPictures = () => setInterval(() => {
  context.fillStyle = `rgb(${Math.random() * 255}, 0, 0)`;
  context.fillRect(0, 0, canvas.width, canvas.height);
  track.requestFrame();
}, 50);
window.disconnect = () => track.stop();
})();
"""


class User:
    """A user of the page in a browser."""

    def __init__(self, browser, address):
        self.browser = browser
        browser.open(address, 1280, 1100)
        self.wait('return !!document.querySelector("#video input[type=file]")')

    def wait(self, script):
        return until(lambda: self.browser.run(script))

    def start(self, awaited=()):
        """Start the request and wait for the annotated video; set an event at each of the first different pictures."""
        self.browser.click('#start')
        pictures = set()

        def is_done():
            if picture := self.browser.run('return document.querySelector("#picture img")?.src'):
                pictures.add(picture)
            for event in awaited[:len(pictures)]:
                event.set()
            return self.browser.run('return !!document.querySelector("#result video")?.videoWidth')

        until(is_done)

    def open_camera(self):
        self.browser.click('#video [aria-label="Capture from camera"]')
        self.wait('return [...document.querySelectorAll("#video button")].some(b => b.innerText.includes("Webcam"))')
        self.browser.click('#video button:not([aria-label])')

    def record(self):
        self.wait('return !!document.querySelector("#video .capture-button")')
        self.browser.click('#video .capture-button')
        self.wait('return document.querySelector("#video .capture-button").innerText.trim() == "Stop"')

    def press_stop(self):
        self.browser.click('#video .capture-button')

    def wait_for_text(self, selector, text):
        self.wait(f'return document.querySelector("{selector}").innerText.includes({json.dumps(text)})')

    def download(self, kind, folder):
        self.browser.devtools('Browser.setDownloadBehavior', behavior='allow', downloadPath=str(folder))
        self.browser.click(f'#{kind}')
        return until(lambda: list(Path(folder).glob(f'*.{kind}')))[0]


@pytest.fixture(scope='module')
def uploads(tmp_path_factory):
    """Folder of the files that are uploaded to the page."""
    folder = tmp_path_factory.mktemp('uploads')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('GRADIO_TEMP_DIR', str(folder))
        yield folder


@pytest.fixture(scope='module')
def page(inferencer, uploads):
    """Address of a page with one model."""
    page = build_page(Models({'toy': ((), CLASSES)}, lambda: inferencer), thresh=0.01, max_frames=FRAMES)
    try:
        yield launch_page(page, wait=False)
    finally:
        page.close()


def until(condition):
    """Wait for a condition and return its value."""
    end = time.monotonic() + WAITED
    while not (value := condition()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return value


@needs_gradio
def test_requests_over_the_interface(page, uploads, inferencer, film, tmp_path):
    """What the page shows, without a browser: picture, video, timeline, files and a text."""
    from gradio_client import Client, handle_file
    client = Client(page, verbose=False, download_files=str(tmp_path / 'downloads'))
    expected = outcome(inferencer, str(film), tmp_path / 'alone', thresh=0.01)
    *_, timeline, mp4, result, text = client.predict(handle_file(str(film)), 'toy', 0.01, [], api_name='/annotate')
    assert Path(result['value']).read_text() == expected.json.read_text()
    assert Path(mp4['value']).read_bytes() == expected.mp4.read_bytes()
    assert (timeline, text) == (str(expected.timeline), expected.summary)
    for name, content, words in ((None, None, 'choose or record a video first, and wait until it is uploaded'),
                                 ('empty.mp4', '', 'empty.mp4: is empty (0 bytes); copy or record it again'),
                                 ('текст 影.mp4', 'text', 'текст 影.mp4: cannot be opened; is it a complete video?'),
                                 ('list.m3u8', PLAYLIST.format(film), 'list.m3u8: cannot be opened; '),
                                 ('text.png', 'text', 'the image text.png is damaged or cut off (4 bytes)')):
        if name:
            (tmp_path / name).write_text(content)
        video = handle_file(str(tmp_path / name)) if name else None
        *_, files, text = client.predict(video, 'toy', 0.01, [], api_name='/annotate')
        assert text.startswith(f'**Error:** {words}') and '\n' not in text and str(uploads) not in text
        assert not files.get('value')
    *_, text = client.predict(handle_file(str(film)), 'toy', 0.01, ['discs'], api_name='/annotate')
    assert text.startswith('**Error:** classes discs: the model knows no such class')


@needs_gradio
def test_unusual_uploads_have_results(page, film, tmp_path):
    """One frame, a GIF, an image, a long name and a name without extension; a damaged video says what is missing."""
    from gradio_client import Client, handle_file
    client = Client(page, verbose=False, download_files=str(tmp_path / 'downloads'))
    picture = Image.new('RGB', (64, 48))
    picture.save(tmp_path / 'picture.png')
    picture.save(tmp_path / 'moving.gif', save_all=True, append_images=[Image.new('RGB', (64, 48), 'red')])
    with Mp4Writer(tmp_path / 'one.mp4', 10) as writer:
        writer.write(np.asarray(picture))
    for name, data in (('x' * 251 + '.mp4', film.read_bytes()), ('noname', film.read_bytes()),
                       ('<b>#1 %20 [é].mp4', film.read_bytes()), ('cut.mp4', SHAPES.read_bytes()[:50_000])):
        (tmp_path / name).write_bytes(data)
    for name, count in (('picture.png', 1), ('moving.gif', 2), ('one.mp4', 1), ('x' * 251 + '.mp4', FRAMES),
                        ('noname', FRAMES), ('<b>#1 %20 [é].mp4', FRAMES)):
        *_, mp4, _, text = client.predict(handle_file(str(tmp_path / name)), 'toy', 0.5, [], api_name='/annotate')
        assert text.startswith(f'{counted(count, "frame")}, ') and 'damaged' not in text
        assert Path(mp4['value']).read_bytes()[4:8] == b'ftyp'
    *_, text = client.predict(handle_file(str(tmp_path / 'cut.mp4')), 'toy', 0.5, [], api_name='/annotate')
    assert re.search(r' above 0.5. The video is damaged: .*it is cut off after 0.* of 3.60 seconds', text)


@pytest.mark.parametrize('name', ['', '*', '*.mp4', 'deleted.mp4'])
def test_only_an_uploaded_file_is_read(name, film):
    """Gradio also accepts its folder of all uploads, a glob in it, and files that were deleted."""
    with pytest.raises(UserError, match=r'does not exist on the server \(uploads are deleted after 60 minutes\)'):
        check_upload(str(film.parent / name))
    check_upload(str(film))


@needs_gradio
def test_a_request_cannot_name_uploads_of_others(page, uploads):
    import httpx
    others = dict(path=f'{uploads}/*/*.mp4', meta={'_type': 'gradio.FileData'})
    with httpx.Client(base_url=f'{page}gradio_api/call/', timeout=WAITED, trust_env=False) as client:
        event = client.post('annotate', json=dict(data=[others, 'toy', 0.5, []])).json()['event_id']
        assert '**Error:** *.mp4: does not exist on the server' in client.get(f'annotate/{event}').text


@needs_gradio
def test_a_cancelled_upload_leaves_no_file(page, uploads):
    address = urlsplit(page)
    with socket.create_connection((address.hostname, address.port), WAITED) as connection:
        connection.sendall(b'POST /gradio_api/upload HTTP/1.1\r\nHost: page\r\nContent-Length: 9999\r\n'
                           b'Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n'
                           b'Content-Disposition: form-data; name="files"; filename="film.mp4"\r\n\r\nfirst part')
        until(lambda: list(uploads.glob('tmp*')))
    until(lambda: not list(uploads.glob('tmp*')))


@needs_gradio
def test_a_failure_of_the_server_is_one_line(page, monkeypatch, film):
    from gradio_client import Client, handle_file

    def fail(*args, **options):
        raise RuntimeError('the GPU is gone')

    monkeypatch.setattr('mmdet.apis.web_demo.annotate', fail)
    *_, text = Client(page, verbose=False).predict(handle_file(str(film)), 'toy', 0.5, [], api_name='/annotate')
    assert text == '**Error:** the server failed (RuntimeError); its log has the details'


def paced(shown, *args, **options):
    """Annotate a video; after each of the first steps, wait for an event."""
    for number, step in enumerate(annotate(*args, **options)):
        yield step
        if number < len(shown):
            assert shown[number].wait(WAITED)


def endless(stopped):
    """Yield black pictures until the generator is closed, and report that."""
    try:
        while True:
            yield Step(1, None, np.zeros((48, 64, 3), np.uint8))
            time.sleep(0.01)
    finally:
        stopped.set()


@pytest.mark.slow
@pytest.mark.skipif(not (CHROMIUM and DRIVER), reason='needs the Debian packages chromium and chromium-driver')
@needs_gradio
@pytest.mark.xdist_group('browser')
def test_page_in_a_browser(page, inferencer, film, tmp_path, monkeypatch):
    """Two users at the same time: one in a browser, who uploads, watches, downloads, then records; one over the API."""
    from gradio_client import Client, handle_file
    monkeypatch.setattr('mmdet.apis.web_demo.PREVIEW_SECONDS', 0)
    expected = outcome(inferencer, str(film), tmp_path / 'alone', thresh=0.01).json.read_text()
    other = Client(page, verbose=False, download_files=str(tmp_path / 'other'))
    with Browser(tmp_path / 'profile', FAKE_CAMERA) as browser:
        user = User(browser, page)
        browser.click('#start')
        user.wait('return document.querySelector("#summary").innerText.includes("Error: choose or record a video")')
        browser.upload('#video input[type=file]', film)
        user.wait('return !!document.querySelector("#video video")')
        shown = [threading.Event(), threading.Event()]
        monkeypatch.setattr('mmdet.apis.web_demo.annotate', lambda *args, **options: paced(shown, *args, **options))
        job = other.submit(handle_file(str(film)), 'toy', 0.01, [], api_name='/annotate')
        user.start(shown)
        assert all(event.is_set() for event in shown)
        assert user.download('json', tmp_path).read_text() == expected
        assert user.download('mp4', tmp_path).read_bytes()[4:8] == b'ftyp'
        rows = browser.run('return document.querySelectorAll("#timeline .row").length')
        assert rows == min(100, len(json.loads(expected)))
        assert Path(job.result(timeout=WAITED)[4]['value']).read_text() == expected
        assert f'{FRAMES} frames' in browser.run('return document.querySelector("#summary").innerText')
        _, _, timeline, *files, summary = job.outputs()[0]  # the page is cleared first
        assert timeline == summary == '' and not any(file['interactive'] for file in files)
        # the webcam: recorded by the browser, then processed
        user = User(browser, page)
        user.open_camera()
        user.record()
        user.press_stop()  # at once, perhaps before the camera's first picture
        user.wait(RECORDED)
        user.start()
        # Stop ends the processing
        stopped = threading.Event()
        monkeypatch.setattr('mmdet.apis.web_demo.annotate', lambda *args, **options: endless(stopped))
        browser.click('#start')
        user.wait('return document.querySelector("#picture img")?.src')
        browser.click('#stop')
        user.wait_for_text('#summary', 'No video is being processed; press Start.')
        user.wait('return !document.querySelector("#picture img") && !!document.querySelector("#result")')
        assert stopped.wait(WAITED)
        assert browser.run(SHOWN_MARK) == 'none'  # which Gradio shows after some of the stopped requests
        hosts = {url.split('/')[2].split(':')[0] for url in browser.requests() if url.startswith('http')}
        assert hosts == {'127.0.0.1'}


@pytest.mark.slow
@pytest.mark.skipif(not (CHROMIUM and DRIVER), reason='needs the Debian packages chromium and chromium-driver')
@needs_gradio
@pytest.mark.xdist_group('browser')
def test_a_camera_that_is_slow_denied_or_disconnected(page, tmp_path):
    """The page waits for a slow camera, where Gradio's recorder would upload an empty file, or says what is wrong."""
    with Browser(tmp_path / 'profile', FAKE_CAMERA) as browser:
        browser.devtools('Page.addScriptToEvaluateOnNewDocument', source=SLOW_CAMERA)
        user = User(browser, page)
        user.open_camera()
        user.record()  # before the list of cameras has been read
        browser.run('showList()')
        user.press_stop()
        user.press_stop()
        user.wait_for_text('#camera', 'Waiting for the first picture of the camera')
        assert not browser.run(RECORDED)
        browser.run('showPictures()')
        user.wait(RECORDED)
        assert browser.run('return document.querySelector("#camera").innerText').strip() == ''
        user.start()
        user.wait_for_text('#summary', 'above 0.01')

        user = User(browser, page)
        user.open_camera()
        user.record()
        user.press_stop()
        browser.run('disconnect()')
        user.wait_for_text('#camera', 'Error: the camera was disconnected before its first picture; record again.')
        user.wait(RECORDED)
        browser.click('#start')
        user.wait_for_text('#summary', 'Error: sample.webm: is empty (0 bytes); copy or record it again')

        for reason, words in (('denied', 'its use is not allowed; allow it in the settings of the browser'),
                              ('insecure', 'browsers allow it only at 127.0.0.1, localhost and https:// addresses')):
            user = User(browser, f'{page}?{reason}')
            user.open_camera()
            user.wait_for_text('#camera', f'Error: the camera cannot be used: {words}')
