"""The page in a browser, where Chromium is installed: uploads, downloads, recording with a camera."""
import json
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from mmdet.apis.web_demo import Step, annotate
from tests.helpers.browser import CHROMIUM, DRIVER, Browser
from tests.helpers.web_page import FRAMES, WAITED, needs_gradio, outcome, until

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
