"""One process of a job of two, on the CPU, started by torch's launcher for test_failing_process.py.

``job_process.py FOLDER FAULT``: process 1 meets the fault in its third iteration.
"""
import os
import sys
import threading
from pathlib import Path

import torch
from mmengine.hooks import Hook
from noisy_training import build

from mmdet.apis.cli import run_command
from mmdet.engine import init_processes
from mmdet.engine.stop_signal import StopSignal
from mmdet.registry import HOOKS


@HOOKS.register_module()
class FaultHook(Hook):
    def __init__(self, fault):
        self.fault = fault

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter != 2:
            return
        if runner.rank == 0 and self.fault == 'stuck neighbour':
            threading.Lock().acquire()
            threading.Event().wait()  # as in a collective that nobody answers
        if runner.rank == 1:
            if self.fault == 'killed':
                os.kill(os.getpid(), 9)
            raise RuntimeError('the fault of process 1')


def main(argv):
    torch.set_num_threads(1)
    folder, fault, *_ = sys.argv[1:]
    init_processes('pytorch')
    if fault == 'stuck neighbour':
        StopSignal.of_job = classmethod(lambda cls, processes: cls(stuck_after=2.0))
    losses = {'bad_at': (2,)} if fault == 'bad loss' and os.environ['RANK'] == '1' else {}
    hooks = [] if fault == 'bad loss' else [{'type': 'FaultHook', 'fault': fault}]
    build(Path(folder), model=losses, launcher='pytorch', custom_hooks=hooks).train()
    return 0


if __name__ == '__main__':
    run_command(main)
