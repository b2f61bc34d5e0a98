"""Downloads of weights from a server on the loopback device: complete, verified, resumed, once."""
import hashlib
import socket
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub.utils import close_session

from mmdet import download as download_module
from mmdet.download import cache_folder, fetch, local_file
from mmdet.errors import UserError
from mmdet.zoo import WEIGHTS, find_weights
from tests.helpers.file_server import serve

CONTENT = bytes(range(256)) * 4000  # 1 MB
DIGEST = hashlib.sha256(CONTENT).hexdigest()
ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Set up an empty cache, no proxy, and a current folder without ``data/weights``."""
    monkeypatch.setenv('MEMCNP_HOME', str(tmp_path / 'home'))
    monkeypatch.setenv('NO_PROXY', '127.0.0.1')
    for name in ('HF_TOKEN', 'HF_ENDPOINT', 'HTTP_PROXY', 'http_proxy', 'HF_HUB_OFFLINE'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr('huggingface_hub.file_download.time.sleep', lambda seconds: None)
    monkeypatch.setattr('huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE', 100_000)  # unit that is kept
    monkeypatch.chdir(tmp_path)
    download_module._print_licence.cache_clear()
    close_session()  # it keeps the proxies of the environment in which it was made
    yield tmp_path / 'home' / 'checkpoints'
    close_session()


def listed(server, **changes):
    """Return the entry of ResNet-18 with the address of the local server."""
    return replace(WEIGHTS['resnet18'], address=f'{server.address}/resnet18.pth', **{'sha256': DIGEST[:8], **changes})


def test_a_file_is_downloaded_once_and_verified(home):
    with serve({'/resnet18.pth': CONTENT}) as server:
        path = fetch(listed(server))
        assert path == home / 'resnet18-f37072fd.pth' and path.read_bytes() == CONTENT
        assert fetch(listed(server)) == path and len(server.downloads) == 1
    assert [file.name for file in home.iterdir() if 'partial' in file.name] == []


def test_an_address_outside_the_table_gets_a_name_of_its_own(home):
    with serve({'/a/model.pth': b'a', '/b/model.pth': b'b'}) as server:
        paths = [fetch(f'{server.address}/{folder}/model.pth') for folder in 'ab']
    assert [path.read_bytes() for path in paths] == [b'a', b'b']
    assert all(path.parent == home and path.name.startswith('model-') for path in paths)


def test_a_file_in_data_weights_comes_before_the_cache_and_the_network(tmp_path):
    mine = Path('data/weights/resnet18-f37072fd.pth')
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b'mine')
    assert fetch('resnet18') == fetch('data/weights/resnet18-f37072fd.pth') == mine


def test_without_the_variable_the_cache_is_that_of_torch_hub(monkeypatch, tmp_path):
    monkeypatch.delenv('MEMCNP_HOME')
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch'))
    assert cache_folder() == tmp_path / 'torch' / 'hub' / 'checkpoints'


def test_a_wrong_hash_is_refused_and_the_file_removed(home):
    with serve({'/resnet18.pth': CONTENT}) as server, pytest.raises(
            UserError, match=rf'SHA-256 .* starts with {DIGEST[:8]}, expected 01234567; it was removed'):
        fetch(listed(server, sha256='01234567'))
    assert [file.name for file in home.iterdir() if not file.name.endswith('.lock')] == []


def test_a_cut_connection_is_resumed_at_once(home):
    with serve({'/resnet18.pth': CONTENT}, cuts=[300_000]) as server:
        assert fetch(listed(server)).read_bytes() == CONTENT
        assert server.downloads == [None, 'bytes=300000-']


def test_an_interrupted_download_is_resumed_in_the_next_run(home, monkeypatch):
    with serve({'/resnet18.pth': CONTENT}, cuts=[400_000, *[0] * 8]) as server:
        with pytest.raises(UserError, match='repeat the command, which resumes') as error:
            fetch(listed(server))
        assert '\n' not in str(error.value) and local_file(listed(server)) is None
        server.cuts.clear()
        server.requests.clear()
        assert fetch(listed(server)).read_bytes() == CONTENT
        assert server.downloads == ['bytes=400000-']


def test_the_rest_of_another_version_is_not_appended(home):
    with serve({'/resnet18.pth': b'x' * len(CONTENT)}, headers={'ETag': '"one"'}, cuts=[1000, *[0] * 8]) as server:
        with pytest.raises(UserError):
            fetch(listed(server))
        server.cuts.clear()
        server.files['/resnet18.pth'], server.headers['ETag'] = CONTENT, '"two"'
        assert fetch(listed(server)).read_bytes() == CONTENT
    assert not list(home.glob('.*.partial'))


def test_a_server_without_head_is_asked_for_the_file_itself(home):
    with serve({'/resnet18.pth': CONTENT}, heads=False) as server:
        assert fetch(listed(server)).read_bytes() == CONTENT


@pytest.mark.parametrize('heads', [True, False])
def test_a_missing_file_is_one_line_with_address_place_and_remedy(heads):
    with serve({}, heads=heads) as server, pytest.raises(UserError) as error:
        fetch(listed(server), 'leave --load_from out')
    text = str(error.value)
    assert '\n' not in text
    for part in (f'{server.address}/resnet18.pth: the server answers 404', 'check the address',
                 'at data/weights/resnet18-f37072fd.pth', 'or leave --load_from out'):
        assert part in text


def test_without_network_one_line_names_address_place_and_flag():
    with socket.socket() as closed:  # bound and not listening: connections are refused
        closed.bind(('127.0.0.1', 0))
        entry = replace(WEIGHTS['resnet18'], address=f'http://127.0.0.1:{closed.getsockname()[1]}/resnet18.pth')
        with pytest.raises(UserError) as error:
            fetch(entry, 'start from random weights with --cfg-options model.backbone.init_cfg=None')
    text = str(error.value)
    assert '\n' not in text
    for part in (entry.address, 'tools/weights.py get resnet18', 'at data/weights/resnet18-f37072fd.pth',
                 'random weights with --cfg-options model.backbone.init_cfg=None'):
        assert part in text


def test_a_web_page_in_place_of_the_file_names_the_page_for_a_browser(home):
    page = b'<!DOCTYPE html><html>Google Drive can\'t scan this file for viruses</html>'
    with serve({'/download': page}) as server:
        entry = replace(WEIGHTS['memcnp'], address=f'{server.address}/download?id=1')
        with pytest.raises(UserError, match=r'web page.*drive\.google\.com/file/d/[\w-]+ with a browser.*memcnp\.pth'):
            fetch(entry)
    assert local_file(entry) is None


def test_two_processes_download_a_file_once(home):
    with serve({'/resnet18.pth': CONTENT}, delay=1) as server:  # both are there before the first one is done
        script = textwrap.dedent(f"""
            from mmdet.download import fetch
            print(fetch('{server.address}/resnet18.pth').read_bytes() == {'bytes(range(256)) * 4000'})
        """)
        runs = [subprocess.Popen([sys.executable, '-c', script], cwd=ROOT, stdout=subprocess.PIPE, text=True)
                for _ in range(2)]
        outputs = [run.communicate(timeout=60)[0] for run in runs]
    assert [output.splitlines()[-1] for output in outputs] == ['True', 'True']
    assert len(server.downloads) == 1


def test_a_proxy_is_honoured(monkeypatch, home):
    address = 'http://weights.invalid/resnet18.pth'
    with serve({address: CONTENT}) as proxy:
        monkeypatch.setenv('HTTP_PROXY', proxy.address)
        close_session()
        assert fetch(replace(WEIGHTS['resnet18'], address=address, sha256=DIGEST)).read_bytes() == CONTENT


HUB_FILE = '/owner/name/resolve/main/folder/model.safetensors'


def test_requests_to_the_hub_have_token_and_endpoint_and_its_hash_is_verified(monkeypatch, home):
    headers = {'ETag': f'"{DIGEST}"', 'X-Repo-Commit': '0' * 40}
    with serve({HUB_FILE: CONTENT}, headers=headers, token='secret') as hub:
        monkeypatch.setenv('HF_ENDPOINT', hub.address)
        with pytest.raises(UserError, match=r'answers 401.*set HF_TOKEN'):
            fetch('hf://owner/name/folder/model.safetensors')
        monkeypatch.setenv('HF_TOKEN', 'secret')
        assert fetch('hf://owner/name/folder/model.safetensors').read_bytes() == CONTENT


def test_the_hub_redirects_to_another_server_which_does_not_get_the_token(monkeypatch, home):
    monkeypatch.setenv('HF_TOKEN', 'secret')
    with serve({'/blob': CONTENT}) as store, serve(
            {}, token='secret', redirects={HUB_FILE: f'{store.address}/blob'},
            headers={'X-Linked-Etag': f'"{DIGEST}"', 'X-Linked-Size': str(len(CONTENT))}) as hub:
        monkeypatch.setenv('HF_ENDPOINT', hub.address)
        assert fetch('hf://owner/name/folder/model.safetensors').read_bytes() == CONTENT
        assert set(hub.tokens) == {'Bearer secret'} and set(store.tokens) == {None}


def test_a_damaged_file_of_the_hub_is_refused(monkeypatch, home):
    with serve({HUB_FILE: CONTENT[::-1]}, headers={'ETag': f'"{DIGEST}"'}) as hub:
        monkeypatch.setenv('HF_ENDPOINT', hub.address)
        with pytest.raises(UserError, match='SHA-256'):
            fetch('hf://owner/name/folder/model.safetensors')
    assert local_file(find_weights('hf://owner/name/folder/model.safetensors')) is None


def test_the_token_is_not_sent_elsewhere(monkeypatch, home):
    monkeypatch.setenv('HF_TOKEN', 'secret')
    with serve({'/resnet18.pth': CONTENT}) as server:
        fetch(listed(server))
    assert set(server.tokens) == {None}


@pytest.mark.parametrize(('weights', 'message'), [
    ('resnet_50', 'did you mean resnet50'), ('hf://owner/file.pth', 'expected hf://owner/repository/file'),
    ('https://example.org/', 'names no file'), ('https:///x.pth', 'names no file')])
def test_misspelt_names_and_addresses_are_one_line(weights, message):
    with pytest.raises(UserError, match=message):
        fetch(weights)


def test_a_cache_that_cannot_be_written_is_named(monkeypatch, tmp_path):
    (tmp_path / 'file').touch()
    monkeypatch.setenv('MEMCNP_HOME', str(tmp_path / 'file'))
    with pytest.raises(UserError, match=r'cannot be written.*MEMCNP_HOME'):
        fetch('resnet18')


def test_a_full_disk_is_found_before_the_download(monkeypatch, home):
    monkeypatch.setattr('shutil.disk_usage', lambda path: type('Usage', (), {'free': 10}))
    with serve({'/resnet18.pth': CONTENT}) as server, pytest.raises(UserError, match=r'disk of .* is full'):
        fetch(listed(server))
    assert server.downloads == []


def test_a_licence_that_restricts_the_use_is_printed_once(capsys, home):
    with serve({'/resnet18.pth': CONTENT}) as server:
        entry = listed(server, restricted=True, licence='CC BY-NC 4.0: no commercial use')
        fetch(entry)
        fetch(entry)
        fetch(listed(server))
    assert capsys.readouterr().out.count('Licence of') == 1
