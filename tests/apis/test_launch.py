"""One process per GPU: who is started, and what becomes of their exit statuses."""
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest
import torch

from mmdet.apis.launch import start_processes
from mmdet.errors import UserError


@pytest.fixture
def gpus(monkeypatch):
    """Makes this machine seem to have so many GPUs."""
    return lambda count: monkeypatch.setattr(torch.cuda, 'device_count', lambda: count)


@pytest.mark.parametrize(('available', 'asked'), [(0, None), (0, 1), (1, None), (4, 1)])
def test_one_process_is_this_one(gpus, capsys, available, asked):
    gpus(available)
    assert start_processes(asked, 'none', ['x.py']) is None
    assert capsys.readouterr().out.count('CPU') == (available == 0)


def test_zero_gpus_means_the_cpu(monkeypatch):
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '0')
    assert start_processes(0, 'none', ['x.py']) is None
    assert os.environ['CUDA_VISIBLE_DEVICES'] == ''


@pytest.mark.parametrize(('available', 'asked'), [(0, 2), (1, 2), (4, 5), (2, -1)])
def test_more_gpus_than_there_are(gpus, available, asked):
    gpus(available)
    with pytest.raises(UserError, match=f'--gpus {asked}: this machine has {available}'):
        start_processes(asked, 'none', ['x.py'])


def test_a_launcher_has_started_the_processes_already(gpus):
    gpus(0)
    assert start_processes(8, 'slurm', ['x.py']) is None


def write(tmp_path, body):
    script = tmp_path / 'job.py'
    script.write_text('import os, signal, sys, time\nrank = os.environ["RANK"]\n' + textwrap.dedent(body))
    return str(script)


def test_every_gpu_gets_a_process_with_the_command(gpus, tmp_path):
    gpus(2)
    script = write(tmp_path, f"open(f'{tmp_path}/' + rank, 'w').write(' '.join(sys.argv[1:]))")
    assert start_processes(2, 'none', [script, 'config.py', '--gpus', '2']) == 0
    texts = [(tmp_path / rank).read_text() for rank in '01']
    assert texts == ['config.py --gpus 2 --launcher pytorch'] * 2


@pytest.mark.parametrize('status', [2, 75, 3])
def test_the_first_failing_status_ends_all(gpus, tmp_path, capfd, status):
    gpus(2)
    script = write(tmp_path, f"sys.exit({status}) if rank == '1' else time.sleep(60)")
    start = time.monotonic()
    assert start_processes(2, 'none', [script]) == status
    assert time.monotonic() - start < 30
    assert ('GPU 1 ended with status 3' in capfd.readouterr().err) == (status == 3)


def test_sigterm_reaches_the_processes_which_save(tmp_path):
    script = write(tmp_path, f"""
        signal.signal(signal.SIGTERM, lambda *_: (open(f'{tmp_path}/saved' + rank, 'w'), sys.exit(75)))
        open(f'{tmp_path}/ready' + rank, 'w')
        time.sleep(60)
        """)
    parent = subprocess.Popen([sys.executable, '-c', textwrap.dedent(f"""
        import sys, torch
        from mmdet.apis.launch import start_processes
        torch.cuda.device_count = lambda: 2
        sys.exit(start_processes(2, 'none', [{script!r}]))
        """)])
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob('ready*'))) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    parent.send_signal(signal.SIGTERM)
    assert parent.wait(60) == 75
    assert len(list(tmp_path.glob('saved*'))) == 2
