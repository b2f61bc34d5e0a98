"""Download weights atomically, with verification and resumption, once for all processes that need a file.

huggingface_hub handles HTTP, redirects, proxies, tokens and progress bars. Called by :mod:`mmdet.checkpoint` and
``tools/weights.py``.
"""
from __future__ import annotations

import errno
import functools
import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mmdet.errors import UserError
from mmdet.zoo import HUB_SCHEME, LOCAL_FOLDER, PublicWeights, find_weights, hub_parts, near_names

CACHE_VARIABLE = 'MEMCNP_HOME'
_RANK_VARIABLES = ('RANK', 'SLURM_PROCID', 'OMPI_COMM_WORLD_RANK')
_TIMEOUT = 30  # seconds to wait for the metadata of a file
_MIB = 2 ** 20


def cache_folder() -> Path:
    """Return the folder of downloaded weights: ``$MEMCNP_HOME/checkpoints``, else that of torch.hub and torchvision."""
    home = os.environ.get(CACHE_VARIABLE)
    if not home:
        import torch
        home = torch.hub.get_dir()
    return Path(home).expanduser() / 'checkpoints'


def local_file(entry: PublicWeights) -> Path | None:
    """Return the path of a file in ``data/weights`` or, if it is not there, in the cache; None if it is in neither."""
    return next((path for path in (LOCAL_FOLDER / entry.file, cache_folder() / entry.file) if path.is_file()), None)


def fetch(weights: str | PublicWeights, otherwise: str = '') -> Path:
    """Return the local path of published weights; download them first if needed.

    A licence that restricts the use is printed once per run.

    Args:
        weights: name in :data:`mmdet.zoo.WEIGHTS`, ``https://`` address, ``hf://owner/repository/file`` or an entry.
        otherwise: alternative to the file for the error message, such as ``'leave --load_from out'``.

    Raises:
        UserError: the name or the file does not exist, there is no network, the hash is wrong, or the disk is full.
    """
    entry = weights if isinstance(weights, PublicWeights) else find_weights(weights)
    if entry is None:
        raise UserError(f'{weights}: no published weights have this name{near_names(str(weights))}')
    path = local_file(entry) or download(entry, cache_folder(), otherwise)
    if entry.restricted and all(os.environ.get(name, '0') == '0' for name in _RANK_VARIABLES):
        _print_licence(entry)
    return path


@functools.cache
def _print_licence(entry: PublicWeights) -> None:
    print(f'Licence of the weights {entry.name}: {entry.licence}.', flush=True)


def download(entry: PublicWeights, folder: Path, otherwise: str = '') -> Path:
    """Download a file to a folder unless it exists; of several processes, one downloads and the others wait.

    An interrupted download is resumed.

    Raises:
        UserError: see :func:`fetch`.
    """
    from huggingface_hub.utils import WeakFileLock
    target = folder / entry.file
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with WeakFileLock(folder / f'.{entry.file}.lock'):
            if not target.is_file():
                with _errors_in_one_line(entry, otherwise):
                    _download(entry, target)
    except OSError as error:
        raise UserError(f'{folder}: cannot be written ({error.strerror or error}); name another folder for weights in '
                        f'{CACHE_VARIABLE}') from error
    return target


@dataclass
class _Remote:
    """Metadata of a file on a server, requested before the download; None: unknown."""

    url: str
    headers: dict[str, str]
    size: int | None
    etag: str | None


def _download(entry: PublicWeights, target: Path) -> None:
    from huggingface_hub.file_download import http_get
    remote = _request_metadata(entry)
    # the name contains the version, so that a download is never resumed with another version of the file
    version = hashlib.sha256(f'{entry.address} {remote.etag}'.encode()).hexdigest()[:8]
    partial = target.with_name(f'.{target.name}.{version}.partial')
    done = partial.stat().st_size if partial.is_file() else 0
    if remote.size is not None and done > remote.size:
        partial.unlink()
        done = 0
    if remote.size is not None and remote.size - done > shutil.disk_usage(target.parent).free:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    size = f', {remote.size / _MIB:.1f} MiB' if remote.size else ''
    print(f'Downloading {entry.address}{size} to {target}'
          + (f', {done / _MIB:.1f} MiB are there' if done else ''), flush=True)
    with partial.open('ab') as file:
        http_get(remote.url, file, resume_size=done, headers=remote.headers, expected_size=remote.size,
                 displayed_filename=entry.file)
        file.flush()
        os.fsync(file.fileno())
    _check(entry, partial, remote)
    partial.replace(target)
    for abandoned in target.parent.glob(f'.{_escaped(target.name)}.*.partial'):
        abandoned.unlink(missing_ok=True)


def _escaped(name: str) -> str:
    """Escape a file name for :meth:`Path.glob`."""
    return re.sub(r'([\[*?])', r'[\1]', name)


def _request_metadata(entry: PublicWeights) -> _Remote:
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.utils import build_hf_headers, get_session
    plain = {'Accept-Encoding': 'identity'}  # a compressed response has no size and cannot be resumed
    if entry.address.startswith(HUB_SCHEME):
        repository, file = hub_parts(entry.address)
        url = hf_hub_url(repository, file, endpoint=os.environ.get('HF_ENDPOINT') or None)
        found = get_hf_file_metadata(url, timeout=_TIMEOUT)
        return _Remote(url, build_hf_headers() | plain, found.size, found.etag)
    answer = get_session().head(entry.address, headers=plain, timeout=_TIMEOUT, follow_redirects=True)
    if answer.is_error:  # some servers support only GET, whose response then contains the error
        return _Remote(entry.address, plain, None, None)
    length = answer.headers.get('Content-Length', '')
    return _Remote(entry.address, plain, int(length) if length.isdecimal() else None, answer.headers.get('ETag'))


def _check(entry: PublicWeights, path: Path, remote: _Remote) -> None:
    """Raise UserError and remove the file if its hash is not that of the table or the hub, or it is a web page."""
    with path.open('rb') as file:
        start = file.read(512).lstrip().lower()
    if start.startswith((b'<!doctype html', b'<html')):
        path.unlink()
        raise UserError(f'{entry.address}: answered with a web page, not with the file; download it from '
                        f'{entry.page or entry.address} with a browser and put it at {LOCAL_FOLDER / entry.file}')
    # the hub's ETag of a large file is its SHA-256
    on_hub = entry.address.startswith(HUB_SCHEME) and re.fullmatch('[0-9a-f]{64}', remote.etag or '')
    expected = entry.sha256 or (remote.etag if on_hub else None)
    digest = sha256_of(path) if expected else ''
    if expected and not digest.startswith(expected):
        path.unlink()
        raise UserError(f'{entry.address}: the SHA-256 of what was downloaded starts with {digest[:len(expected)]}, '
                        f'expected {expected}; it was removed. Repeat the command, or put a file that you trust at '
                        f'{LOCAL_FOLDER / entry.file}')


def sha256_of(path: Path) -> str:
    """Compute the hexadecimal SHA-256 digest of a file."""
    with path.open('rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()


@contextmanager
def _errors_in_one_line(entry: PublicWeights, otherwise: str) -> Iterator[None]:
    from httpx2 import HTTPError, InvalidURL
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled
    source = f'{entry.page} in a browser' if entry.page else f'tools/weights.py get {entry.name} on another machine'
    instead = f'put the file ({source}) at {LOCAL_FOLDER / entry.file}' + (f', or {otherwise}' if otherwise else '')
    try:
        yield
    except HfHubHTTPError as error:
        status = error.response.status_code
        remedy = {401: 'it needs an account: set HF_TOKEN', 403: 'it needs an account with access: set HF_TOKEN',
                  404: 'check the address'}.get(status, 'try again later')
        raise UserError(f'{entry.address}: the server answers {status} ({error.response.reason_phrase}); {remedy}, or '
                        f'{instead}') from error
    except (HTTPError, InvalidURL, OfflineModeIsEnabled) as error:
        reason = ' '.join(str(error).split())[:150] or type(error).__name__
        raise UserError(f'{entry.address}: cannot be downloaded ({reason}); once there is a network, repeat the '
                        f'command, which resumes; without one, {instead}') from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(f'{entry.address}: the disk of {cache_folder()} is full; make room, or name another folder '
                            f'in {CACHE_VARIABLE}') from error
        if error.errno is None:  # raised by huggingface_hub if the file has another size than announced
            raise UserError(f'{entry.address}: the connection ended too early; repeat the command, which resumes, or '
                            f'{instead}') from error
        raise
