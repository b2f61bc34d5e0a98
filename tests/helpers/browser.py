"""A real Chromium without a window, over the WebDriver protocol; for tests of HTML pages."""
import base64
import json
import re
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

CHROMIUM, DRIVER = shutil.which('chromium'), shutil.which('chromedriver')
FLAGS = ('--headless', '--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking',
         '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage')

OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # the driver is on this machine


class Browser:
    """A context manager; ``folder`` takes the profile and is deleted by the caller; ``flags`` are further ones."""

    def __init__(self, folder: Path, flags: Sequence[str] = ()) -> None:
        self.folder, self.flags = folder, flags

    def __enter__(self) -> 'Browser':
        self.driver = subprocess.Popen([DRIVER, '--port=0'], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                       text=True)
        line = next(line for line in self.driver.stdout if 'successfully on port' in line)
        self.address = f'http://127.0.0.1:{re.search(r"port ([0-9]+)", line)[1]}/session'
        options = dict(binary=CHROMIUM, args=[*FLAGS, *self.flags, f'--user-data-dir={self.folder}'])
        try:
            created = self._call('', dict(capabilities=dict(alwaysMatch={
                'goog:chromeOptions': options, 'goog:loggingPrefs': {'browser': 'ALL', 'performance': 'ALL'}})))
        except BaseException:
            self.driver.terminate()
            self.driver.wait()
            raise
        self.address += f'/{created["sessionId"]}'
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._call('', method='DELETE')
        finally:
            self.driver.terminate()
            self.driver.wait()

    def open(self, url: str, width: int, height: int = 900, dark: bool = False) -> None:
        """Load a page in a window of this size; below 500 pixels, emulate a phone."""
        self.devtools('Emulation.setDeviceMetricsOverride', width=width, height=height, deviceScaleFactor=1,
                      mobile=width < 500)
        scheme = dict(name='prefers-color-scheme', value='dark' if dark else 'light')
        self.devtools('Emulation.setEmulatedMedia', features=[scheme])
        self._call('/url', dict(url=url))

    def run(self, script: str):
        """Run a script and return the value of its ``return``."""
        return self._call('/execute/sync', dict(script=script, args=[]))

    def click(self, selector: str) -> None:
        self._call(f'/element/{self._find(selector)}/click', {})

    def upload(self, selector: str, path: Path) -> None:
        """Choose a file in an ``input type=file``."""
        self._call(f'/element/{self._find(selector)}/value', dict(text=str(path)))

    def _find(self, selector: str) -> str:
        element, = self._call('/element', {'using': 'css selector', 'value': selector}).values()
        return element

    def screenshot(self, path: Path) -> Path:
        """Return the whole page as PNG."""
        width, height = self.run('const e = document.documentElement; return [e.clientWidth, e.scrollHeight]')
        clip = dict(x=0, y=0, width=width, height=height, scale=1)
        data = self.devtools('Page.captureScreenshot', format='png', captureBeyondViewport=True, clip=clip)['data']
        path.write_bytes(base64.b64decode(data))
        return path

    def complaints(self) -> list[str]:
        """Return the messages of the console."""
        return [entry['message'] for entry in self._call('/se/log', dict(type='browser'))]

    def requests(self) -> list[str]:
        """Return the addresses that pages requested, without data: ones and the browser's own."""
        logged = self._call('/se/log', dict(type='performance'))
        events = [json.loads(entry['message'])['message'] for entry in logged]
        urls = [event['params']['request']['url'] for event in events if event['method'] == 'Network.requestWillBeSent']
        return [url for url in urls if not url.startswith(('data:', 'chrome:'))]

    def devtools(self, command: str, **parameters):
        return self._call('/goog/cdp/execute', dict(cmd=command, params=parameters))

    def _call(self, path: str, body: dict | None = None, method: str = 'POST'):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.address + path, data, {'Content-Type': 'application/json'}, method=method)
        try:
            with OPENER.open(request, timeout=60) as answer:
                return json.load(answer)['value']
        except urllib.error.HTTPError as error:
            raise AssertionError(f'{path}: {error.read().decode()[:500]}') from error
