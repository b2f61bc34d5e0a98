"""Choice of activation checkpointing by the memory of the GPU. Built from ``default_hooks`` of the large configs."""
from __future__ import annotations

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmdet.registry import HOOKS


@HOOKS.register_module()
class ActivationMemoryHook(Hook):
    """Turns activation checkpointing on where a GPU does not hold all activations of a batch.

    Checkpointing recomputes activations in the backward pass: less memory, more time, and no CUDA graphs of the
    training (``graph_training='auto'``). It is turned on by ``with_cp`` of the modules that read it in every forward
    pass, before the first step. What a config turns on stays on, and nothing changes on a CPU.

    Args:
        gib_per_item: memory that an item of a batch, such as a key/reference pair, needs without checkpointing, in GiB;
            with a batch of ``n`` items, GPUs with less than ``n * gib_per_item`` use checkpointing.
    """

    def __init__(self, gib_per_item: float) -> None:
        self.gib_per_item = gib_per_item

    def before_train(self, runner: Runner) -> None:
        device = next(runner.model.parameters()).device
        if device.type != 'cuda':
            return
        items = runner.train_dataloader.batch_sampler.batch_size
        needed, there = items * self.gib_per_item, torch.cuda.get_device_properties(device).total_memory / 2 ** 30
        if there >= needed:
            return
        for module in runner.model.modules():
            if hasattr(module, 'with_cp'):
                module.with_cp = True
        runner.logger.info(f'Activation checkpointing is on: {items} items a step need about {needed:.0f} GiB without '
                           f'it, and the GPU has {there:.0f} GiB')
