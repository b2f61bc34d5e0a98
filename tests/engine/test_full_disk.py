"""Checkpoints appear whole or not at all, whatever happens while they are written."""
import errno
import os
import stat

import pytest
import torch
from noisy_training import build

from mmdet.checkpoint import newest_whole_checkpoint
from mmdet.engine.atomic_backend import AtomicBackend
from mmdet.errors import UserError


@pytest.fixture
def full_disk(monkeypatch):
    """Function that makes the disk full: the data never gets there."""
    def fill(number=errno.ENOSPC):
        def fail(descriptor):
            raise OSError(number, os.strerror(number))
        monkeypatch.setattr(os, 'fsync', fail)
    return fill


@pytest.mark.parametrize('number', [errno.ENOSPC, errno.EDQUOT])
def test_the_former_file_stays_and_no_part_is_left(tmp_path, full_disk, number):
    path = tmp_path / 'epoch_1.pth'
    AtomicBackend().put(b'old', path)
    full_disk(number)
    with pytest.raises(UserError, match=r'epoch_1\.pth: not written, the disk is full; .* is intact: make room'):
        AtomicBackend().put(b'new', path)
    assert path.read_bytes() == b'old' and os.listdir(tmp_path) == ['epoch_1.pth']


def test_file_systems_that_cannot_sync_folders(tmp_path, monkeypatch):
    synced, sync = [], os.fsync

    def files_only(descriptor):
        synced.append(stat.S_ISDIR(os.fstat(descriptor).st_mode))
        if synced[-1]:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        sync(descriptor)

    monkeypatch.setattr(os, 'fsync', files_only)
    AtomicBackend().put(b'new', tmp_path / 'a')
    assert synced == [False, True] and (tmp_path / 'a').read_bytes() == b'new'


def test_other_faults_are_not_called_a_full_disk(tmp_path, full_disk):
    full_disk(errno.EIO)
    with pytest.raises(UserError, match=r'a: cannot be written \(Input/output error\)'):
        AtomicBackend().put(b'new', tmp_path / 'a')
    assert not os.listdir(tmp_path)


def test_training_ends_with_that_line_and_resumes(tmp_path, full_disk, monkeypatch):
    build(tmp_path, train_cfg={'type': 'ResumableTrainLoop', 'max_epochs': 1}).train()
    before = (tmp_path / 'epoch_1.pth').read_bytes()
    with monkeypatch.context():
        full_disk()
        with pytest.raises(UserError, match=r'epoch_2\.pth: not written, the disk is full'):
            build(tmp_path, tmp_path / 'epoch_1.pth').train()
    assert (tmp_path / 'epoch_1.pth').read_bytes() == before
    assert newest_whole_checkpoint(tmp_path) == tmp_path / 'epoch_1.pth'


def test_a_kill_while_writing_leaves_the_former_file(tmp_path):
    """What SIGKILL leaves of a half-written file has another name and is not taken for a checkpoint."""
    path = tmp_path / 'epoch_1.pth'
    torch.save({'a': torch.ones(3)}, path)
    child = os.fork()
    if not child:
        os.fsync = lambda descriptor: os.kill(os.getpid(), 9)
        AtomicBackend().put(b'half', path)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == 9
    assert torch.load(path, weights_only=True)['a'].tolist() == [1, 1, 1]
    assert newest_whole_checkpoint(tmp_path) == path and len(os.listdir(tmp_path)) == 2
