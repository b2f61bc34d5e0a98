"""Hooks of training and testing. Built by the runner, most from configs/_base_/default_runtime.py."""
from mmdet.engine.hooks.activation_memory_hook import ActivationMemoryHook
from mmdet.engine.hooks.checkpoint_hook import AtomicCheckpointHook
from mmdet.engine.hooks.ema_hook import EMAHook
from mmdet.engine.hooks.finite_loss_hook import FiniteLossHook
from mmdet.engine.hooks.iteration_seed_hook import IterationSeedHook
from mmdet.engine.hooks.memory_init_hook import MemoryInitHook
from mmdet.engine.hooks.progress_hook import ProgressHook
from mmdet.engine.hooks.show_hook import ShowHook
from mmdet.engine.hooks.stop_hook import StopHook
from mmdet.engine.hooks.stream_hook import StreamHook

__all__ = ['ActivationMemoryHook', 'AtomicCheckpointHook', 'EMAHook', 'FiniteLossHook', 'IterationSeedHook',
           'MemoryInitHook', 'ProgressHook', 'ShowHook', 'StopHook', 'StreamHook']
