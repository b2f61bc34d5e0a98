"""Joining and leaving the processes of one job, on GPUs (NCCL) or CPUs (Gloo), before and after a run."""
from __future__ import annotations

import os

import torch
import torch.distributed as dist
from mmengine.dist import init_dist

from mmdet.errors import UserError

# rank, number of processes, rank on this machine
_VARIABLES = {
    'pytorch': ('RANK', 'WORLD_SIZE', 'LOCAL_RANK'),
    'slurm': ('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_LOCALID'),
    'mpi': ('OMPI_COMM_WORLD_RANK', 'OMPI_COMM_WORLD_SIZE', 'OMPI_COMM_WORLD_LOCAL_RANK'),
}
_STARTER = {'pytorch': 'torchrun (tools/dist_train.sh)', 'slurm': 'srun (tools/slurm_train.sh)', 'mpi': 'mpirun'}


def init_processes(launcher: str) -> None:
    """Makes this process part of the job that a launcher started; nothing to do for ``'none'``.

    Raises:
        UserError: the launcher's variables are missing, or this machine has more processes than GPUs.
    """
    if launcher == 'none' or dist.is_initialized():
        return
    missing = [name for name in _VARIABLES[launcher] if name not in os.environ]
    if missing:
        raise UserError(f'--launcher {launcher}: the variable {missing[0]} is not set; start the command with '
                        f'{_STARTER[launcher]}, or use --gpus N')
    rank, world_size, local_rank = (os.environ[name] for name in _VARIABLES[launcher])
    if launcher == 'mpi':
        os.environ.setdefault('MASTER_ADDR', '127.0.0.1')
    if torch.cuda.is_available():
        if int(local_rank) >= torch.cuda.device_count():
            raise UserError(f'process {local_rank} of this machine has no GPU of its own: there are '
                            f'{torch.cuda.device_count()}; start at most that many processes')
        init_dist(launcher, backend='nccl')
        return
    os.environ.update(RANK=rank, WORLD_SIZE=world_size, LOCAL_RANK=local_rank)
    os.environ.setdefault('MASTER_ADDR', '127.0.0.1')
    os.environ.setdefault('MASTER_PORT', '29500')
    dist.init_process_group('gloo')


def leave_processes() -> None:
    """Ends this process's part in the job, after a run that went well: after a fault the others may not answer."""
    if dist.is_initialized():
        dist.destroy_process_group()
