"""Requests to the page through Gradio, without a browser, and what they must not reach."""
import re
import socket
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from mmdet.apis.web_demo import check_upload
from mmdet.errors import UserError, counted
from mmdet.visualization import Mp4Writer
from tests.helpers.web_page import FRAMES, WAITED, needs_gradio, outcome, until

SHAPES = Path(__file__).resolve().parents[3] / 'data/shapes.mp4'
PLAYLIST = '#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{}\n#EXT-X-ENDLIST\n'


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
