"""Additions to mmengine's Runner: exact resuming, stopping, processes, determinism. Called by mmdet.apis."""
from mmdet.engine.atomic_backend import ATOMIC, AtomicBackend
from mmdet.engine.determinism import prepare_cublas, use_full_float32
from mmdet.engine.distributed import init_processes, leave_processes
from mmdet.engine.hooks import *  # noqa: F403
from mmdet.engine.layer_decay import LayerDecayConstructor
from mmdet.engine.optim_wrapper import BFloat16OptimWrapper
from mmdet.engine.runner import VideoRunner
from mmdet.engine.stop_signal import StopSignal
from mmdet.engine.test_loop import InterruptibleTestLoop
from mmdet.engine.train_loop import ResumableTrainLoop
from mmdet.engine.warmup_poly import WarmupPolyLR

__all__ = ['ATOMIC', 'AtomicBackend', 'BFloat16OptimWrapper', 'InterruptibleTestLoop', 'LayerDecayConstructor',
           'ResumableTrainLoop', 'StopSignal', 'VideoRunner', 'WarmupPolyLR', 'init_processes', 'leave_processes',
           'prepare_cublas', 'use_full_float32']
