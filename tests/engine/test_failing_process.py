"""One process of a job fails: all end soon, its error on top. Two processes on the CPU, talking through Gloo."""
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from mmdet.errors import EXIT_PREEMPTED
from tests.helpers.processes import with_search_path

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group('failing process')]
HERE = Path(__file__).parent
LIMIT = 30.0  # seconds from the fault to the end
LAUNCH = 'import sys; from mmdet.apis.launch import _run_on_gpus; sys.exit(_run_on_gpus(2, sys.argv[1:]))'


def run_job(folder, fault):
    """Exit status, error output, and seconds from the first line of it to the end."""
    environment = dict(os.environ, CUDA_VISIBLE_DEVICES='', PYTHONPATH=with_search_path(HERE, HERE.parents[1]))
    for name in ('OMP_NUM_THREADS', 'MKL_NUM_THREADS', 'PYTHONWARNINGS'):
        environment.pop(name, None)
    with (folder / 'output.txt').open('w') as output:
        job = subprocess.Popen([sys.executable, '-c', LAUNCH, HERE / 'job_process.py', folder, fault], text=True,
                               stdout=output, stderr=subprocess.PIPE, env=environment, cwd=HERE.parents[1])
    try:
        lines = [job.stderr.readline()]
        start = time.monotonic()
        lines += job.stderr.read().splitlines(keepends=True)
        return job.wait(60), ''.join(lines), time.monotonic() - start
    finally:
        job.kill()


@pytest.mark.parametrize(('fault', 'status', 'message'), [
    ('killed', 137, 'error: the process of GPU 1 ended with status -9'),
    ('stuck neighbour', 1, 'RuntimeError: the fault of process 1'),
])
def test_all_processes_end_with_the_error_of_the_one(tmp_path, fault, status, message):
    code, errors, seconds = run_job(tmp_path, fault)
    assert code == status, errors
    assert message in errors
    # nothing that other processes say stands above it
    above = errors[:errors.index(message)]
    assert 'rror: ' not in above, errors
    assert seconds < LIMIT


def test_a_bad_loss_of_one_process_stops_both_and_is_dumped_once(tmp_path):
    code, errors, _ = run_job(tmp_path, 'bad loss')
    assert code == 2
    # there are no warnings of the setup before it
    assert errors.startswith('error: iteration 3: not finite: loss_slope in the batch of')
    assert 'warning' not in (tmp_path / 'output.txt').read_text().lower()
    assert [path.name for path in tmp_path.glob('*.pth')] == ['bad_loss_iter_3_rank_1.pth']
    assert torch.load(tmp_path / 'bad_loss_iter_3_rank_1.pth', weights_only=True)['meta']['rank'] == 1


# the module alone: the package would load torch
STUCK = """
import threading
import runpy
StopSignal = runpy.run_path('mmdet/engine/stop_signal.py')['StopSignal']
with StopSignal(stuck_after=0.5) as stop:
    print('ready', flush=True)
    {work}
raise SystemExit(stop.exit_status)
"""
STUCK_IN_PYTHON = 'threading.Event().wait()'
STUCK_IN_C = "import ctypes; library = ctypes.CDLL(None); lock = (ctypes.c_char * 64)(); " \
             "library.pthread_mutex_lock(lock); library.pthread_mutex_lock(lock)"
BUSY = 'import time\n    end = time.monotonic() + 2\n    while time.monotonic() < end: stop.received; time.sleep(0.1)'
SAVING = 'import time\n    while not stop.received: time.sleep(0.1)\n    stop.no_limit(); time.sleep(2)'


@pytest.mark.parametrize(('work', 'status'), [
    (STUCK_IN_PYTHON, 128 + signal.SIGTERM), (STUCK_IN_C, 128 + signal.SIGTERM), (BUSY, EXIT_PREEMPTED),
    (SAVING, EXIT_PREEMPTED)], ids=['stuck in Python', 'stuck in C', 'busy', 'saving'])
def test_a_told_process_ends_when_it_is_stuck_and_only_then(work, status):
    process = subprocess.Popen([sys.executable, '-c', STUCK.format(work=work)], stdout=subprocess.PIPE,
                               cwd=HERE.parents[1])
    try:
        process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == status
    finally:
        process.kill()
