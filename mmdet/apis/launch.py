"""Start of one process per GPU by torch's launcher (``--gpus``). Called first by the command lines."""
from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Sequence

from mmdet.errors import EXIT_PREEMPTED, UserError


def start_processes(gpus: int | None, launcher: str, argv: Sequence[str]) -> int | None:
    """Start one process per GPU and return their exit status, or return None if this process runs the job itself.

    Args:
        gpus: value of ``--gpus``.
        launcher: value of ``--launcher``; with any other value than ``'none'``, the processes are already running.
        argv: the command to run in every process: script and arguments.

    Raises:
        UserError: more GPUs are requested than exist.
    """
    if launcher != 'none':
        return None
    if gpus == 0:
        os.environ['CUDA_VISIBLE_DEVICES'] = ''  # before torch initialises CUDA
    import torch
    available = torch.cuda.device_count()
    if gpus is not None and (gpus < 0 or gpus > max(available, 1)):
        remedy = f'ask for at most {available}' if available else 'leave --gpus out, or give 0 for the CPU'
        raise UserError(f'--gpus {gpus}: this machine has {available} GPUs; {remedy}')
    if not available:
        print('No GPU is used: running on the CPU in one process.', flush=True)
    return _run_on_gpus(gpus, argv) if gpus is not None and gpus > 1 else None


def _run_on_gpus(count: int, argv: Sequence[str]) -> int:
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch
    # the processes report their own errors; the launcher's log lines would hide them
    logging.getLogger('torch.distributed.elastic').setLevel(logging.CRITICAL)
    config = LaunchConfig(min_nodes=1, max_nodes=1, nproc_per_node=count, rdzv_backend='c10d',
                          rdzv_endpoint='localhost:0', run_id=str(os.getpid()), max_restarts=0)
    try:
        elastic_launch(config, sys.executable)('-u', *argv, '--launcher', 'pytorch')
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        status = failure.exitcode
        if status not in (2, EXIT_PREEMPTED):
            print(f'error: the process of GPU {rank} ended with status {status}; its message is above',
                  file=sys.stderr)
        return status if status > 0 else 128 - status
    except SignalException as stop:
        return EXIT_PREEMPTED if stop.sigval == signal.SIGTERM else 128 + stop.sigval
    return 0
