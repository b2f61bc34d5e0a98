"""Process groups on GPUs (NCCL) or CPUs (Gloo), and gradients as DistributedDataParallel expects them."""
from __future__ import annotations

import gc
import os

import torch
import torch.distributed as dist
from mmengine.dist import init_dist
from torch import Tensor, nn

from mmdet.errors import UserError

# environment variables of rank, number of processes and rank on this machine
_VARIABLES = {
    'pytorch': ('RANK', 'WORLD_SIZE', 'LOCAL_RANK'),
    'slurm': ('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_LOCALID'),
    'mpi': ('OMPI_COMM_WORLD_RANK', 'OMPI_COMM_WORLD_SIZE', 'OMPI_COMM_WORLD_LOCAL_RANK'),
}
_STARTER = {'pytorch': 'torchrun (tools/dist_train.sh)', 'slurm': 'srun (tools/slurm_train.sh)', 'mpi': 'mpirun'}


def init_processes(launcher: str) -> None:
    """Join the process group of the job that a launcher started; do nothing for ``'none'``.

    Raises:
        UserError: the launcher's variables are missing, or this machine has more processes than GPUs.
    """
    if launcher == 'none' or dist.is_initialized():
        return
    missing = [name for name in _VARIABLES[launcher] if name not in os.environ]
    if missing:
        raise UserError(f'--launcher {launcher}: the variable {missing[0]} is not set; start the command with '
                        f'{_STARTER[launcher]}, or use --gpus N')
    for name in ('OMP_NUM_THREADS', 'MKL_NUM_THREADS'):
        os.environ.setdefault(name, '1')  # as mmengine does, with a warning of each process
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
    """Destroy the process group after a successful run; after a failure the other processes may not answer.

    Models wrapped in ``DistributedDataParallel`` reference the group and are part of reference cycles. They are
    collected first, since with Gloo a group that lives until the interpreter exits may abort the process. The caller
    must hold no reference to one.
    """
    if dist.is_initialized():
        gc.collect()
        dist.destroy_process_group()


def match_grad_strides(model: nn.Module) -> None:
    """Give the gradients of 1×1 convolutions the strides of their weights, for ``DistributedDataParallel``.

    For feature maps in channels-last format, cuDNN returns such a gradient (O, I, 1, 1) with the strides (I, 1, I, I).
    The memory layout is the same as with the weight's strides, (I, 1, 1, 1), but DDP compares the strides and warns
    about slow copies. To be called before the model is wrapped.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1) and module.weight.requires_grad:
            module.weight.register_hook(_with_plain_strides)


def _with_plain_strides(grad: Tensor) -> Tensor:
    return grad.flatten(1)[:, :, None, None]
