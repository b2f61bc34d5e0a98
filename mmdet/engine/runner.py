"""mmengine's Runner with safe and strict loading of weights. Built by ``mmdet.apis.train`` and ``mmdet.apis.test``."""
from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from itertools import count
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.logging import MMLogger
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, Runner
from torch import nn
from torch.utils.data import DataLoader

from mmdet.arguments import faults_of, wrong_arguments
from mmdet.checkpoint import load_initial_weights, load_model, read_checkpoint, trained_classes
from mmdet.console import shorten_console
from mmdet.engine.determinism import refusals_in_one_line
from mmdet.engine.distributed import match_grad_strides
from mmdet.engine.freezing import FrozenModeHook, freeze
from mmdet.engine.hooks.ema_hook import EMAHook
from mmdet.engine.hooks.memory_init_hook import MemoryInitHook
from mmdet.engine.hooks.stream_hook import StreamHook
from mmdet.engine.paramwise import check_paramwise
from mmdet.engine.schedule import (
    check_resumable_optimizer,
    coverage,
    follow_config,
    hyperparameters,
    schedule_changes,
)
from mmdet.engine.test_loop import InterruptibleTestLoop
from mmdet.engine.workers import WorkerStart, check_number_of_workers, stop_workers
from mmdet.errors import UserError, counted, shortened
from mmdet.ops.device import initialise_gpu


@contextmanager
def _frozen_objects() -> Iterator[None]:
    """Exclude all present objects from garbage collections within the context, and for ever in processes forked there.

    mmengine collects garbage for each data set; and a collection in a worker would copy the memory that it shares with
    this process.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


class VideoRunner(Runner):
    """mmengine's Runner, except that checkpoints cannot execute code, unsuitable weights are an error, and resuming
    is exact.
    """

    _frozen_modules: Sequence[nn.Module] = ()
    _changes: Sequence[str] = ()  # differences between the schedules of checkpoint and config
    _test_loop: Any
    _reading: Future[dict] | None = None  # the checkpoint of a test, which is read while the model is built

    _numbers = count()  # of the runs of this process

    def __init__(self, *args: Any, cfg: Config | None = None, experiment_name: str | None = None,
                 **kwargs: Any) -> None:
        if number := next(self._numbers):
            # mmengine finds logger, curves and scope by name and second; several runs may start within one
            experiment_name = f'{experiment_name or Path(getattr(cfg, "filename", None) or "run").stem}_{number}'
        try:
            super().__init__(*args, cfg=cfg, experiment_name=experiment_name, **kwargs)
        except BaseException:
            self._stop_workers()
            raise

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """Build the logger, name its file on the console, and print nothing else that only the file should contain."""
        logger = super().build_logger(*args, **kwargs)
        shorten_console(logger)
        logger.info(f'Settings and log: {logger.log_file}')
        return logger

    def build_model(self, model: nn.Module | dict) -> nn.Module:
        """Build the model. When a checkpoint is tested, start what can be done meanwhile.

        The workers of the data loader load the first batches; they are started first, since a fork takes longer with a
        model and a GPU in use. Then one thread reads the checkpoint, another one initialises the GPU.
        """
        if self._train_loop is None and self._test_loop is not None and self._load_from:
            with torch.random.fork_rng(devices=[]), _frozen_objects():  # initial weights do not depend on the loader
                self._test_loop = loop = self.build_test_loop(self._test_loop)
                if isinstance(loop, InterruptibleTestLoop):
                    loop.start_loading()
            threads = ThreadPoolExecutor(2, 'start')
            self._reading = threads.submit(read_checkpoint, self._load_from, 'cpu')
            if get_device() == 'cuda':
                threads.submit(initialise_gpu, torch.device('cuda', torch.cuda.current_device()))
            threads.shutdown(wait=False)
        with wrong_arguments('model'):
            return super().build_model(model)

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """Move the model to its device; with several processes wrap it in DistributedDataParallel, on CPUs as well.

        Before that, the config's ``frozen`` parameters are frozen, because DistributedDataParallel expects gradients of
        all others.
        """
        if self._train_dataloader is None:
            return model.to(get_device())
        self._frozen_modules = freeze(model, self.cfg.get('frozen') or [])
        if self.distributed:
            match_grad_strides(model)
        if self.distributed and get_device() == 'cpu':
            # mmengine always sets a GPU
            model_wrapper_cfg = {'type': 'MMDistributedDataParallel', 'broadcast_buffers': False,
                                 'find_unused_parameters': self.cfg.get('find_unused_parameters', False),
                                 **(model_wrapper_cfg or {}), 'device_ids': None}
        return super().wrap_model(model_wrapper_cfg, model)

    def register_hooks(self, default_hooks: dict | None = None, custom_hooks: list | None = None) -> None:
        """Register the config's hooks, :class:`StreamHook` and, unless the config has it, :class:`MemoryInitHook`."""
        with faults_of('default_hooks or custom_hooks'):
            super().register_hooks(default_hooks, custom_hooks)
        self.register_hook(StreamHook())
        if self._frozen_modules:
            self.register_hook(FrozenModeHook(self._frozen_modules))
        if not any(isinstance(hook, MemoryInitHook) for hook in self.hooks):
            self.register_hook(MemoryInitHook())

    def train(self) -> nn.Module:
        """Train, then stop the workers of the data loaders."""
        # built first, so that an error in its config is reported before data sets are read
        self.optim_wrapper: Any = self.build_optim_wrapper(self.optim_wrapper)
        try:
            with refusals_in_one_line(), warnings.catch_warnings():
                # with gradient accumulation, schedulers step before the optimizer does for the first time
                warnings.filterwarnings('ignore', r'Detected call of `scheduler\.step', UserWarning)
                return super().train()
        finally:
            self._stop_workers()

    def test(self) -> dict[str, float]:
        """Test, then stop the workers of the data loader."""
        try:
            return super().test()
        finally:
            self._stop_workers()

    def _stop_workers(self) -> None:
        for name in ('_train_loop', '_val_loop', '_test_loop'):
            loop = getattr(self, name, None)
            if isinstance(loop, InterruptibleTestLoop):
                loop.stop_loading()
            stop_workers(getattr(loop, 'dataloader', None))

    def build_optim_wrapper(self, optim_wrapper: Any) -> OptimWrapper:
        """Build the optimizer wrapper; raise UserError if its config is invalid."""
        if warning := check_paramwise(optim_wrapper, self.model):
            self.logger.warning(warning)
        with faults_of('optim_wrapper'):
            return super().build_optim_wrapper(optim_wrapper)

    def build_visualizer(self, visualizer: Any = None) -> Any:
        """Build the visualizer; raise UserError if its config is invalid."""
        with faults_of('visualizer'):
            return super().build_visualizer(visualizer)

    @staticmethod
    def build_dataloader(dataloader: DataLoader | dict, seed: int | None = None,
                         diff_rank_seed: bool = False) -> DataLoader:
        """Build a data loader whose workers are stopped only by this process, see :class:`WorkerStart`."""
        if isinstance(dataloader, dict) and not torch.cuda.is_available():
            dataloader = dict(dataloader, pin_memory=False)  # without a GPU, True raises a warning
        if isinstance(dataloader, dict) and not dataloader.get('num_workers'):
            dataloader = dict(dataloader, num_workers=0, persistent_workers=False)  # True needs workers
        check_number_of_workers(dataloader)
        loader = Runner.build_dataloader(dataloader, seed, diff_rank_seed)
        loader.worker_init_fn = WorkerStart(loader.worker_init_fn)
        return loader

    def load_checkpoint(self, filename: str, map_location: str | Callable = 'cpu', strict: bool = True,
                        revise_keys: Sequence = ()) -> dict:
        """Load the model's weights. Training may also start from a backbone alone or from weights for other classes.

        Args:
            filename: path of the file.
            map_location: as in ``torch.load``.
            strict, revise_keys: unused, part of mmengine's signature; loading is always strict.

        Raises:
            UserError: see :func:`mmdet.checkpoint.load_model`, and at the start of a training
                :func:`mmdet.checkpoint.load_initial_weights`. When resuming, also for a file that is not a checkpoint
                of a training; when testing, also for one that was trained on other classes than those of the test set.
        """
        reading, self._reading = self._reading, None
        checkpoint = reading.result() if reading is not None else read_checkpoint(filename, map_location)
        if self._resume:
            self._check_resumable(filename, checkpoint)
            if isinstance(self.param_schedulers, list):
                self._changes = schedule_changes(self.optim_wrapper, self.param_schedulers, checkpoint)
        if self._train_loop is None:
            self._check_classes(filename, checkpoint)
        self.call_hook('after_load_checkpoint', checkpoint=checkpoint)
        model = self._bare_model
        if self._train_loop is not None and not self._resume:
            classes = getattr(self.train_dataloader.dataset, 'metainfo', {}).get('classes') or ()
            load_initial_weights(model, filename, checkpoint, classes)
        else:
            load_model(model, filename, checkpoint)
        self._has_loaded = True
        self.logger.info(f'Loaded {filename}')
        return checkpoint

    @property
    def _bare_model(self) -> nn.Module:
        return self.model.module if is_model_wrapper(self.model) else self.model

    def _check_classes(self, filename: str, checkpoint: dict) -> None:
        """Raise UserError unless the checkpoint was trained on the classes of the test set.

        The names are compared, because YouTube-VIS 2019 and 2021 both have 40 classes, but in another order.
        """
        trained = trained_classes(checkpoint)
        dataset = self.test_dataloader.dataset
        tested = dataset.metainfo.get('classes') or ()
        differing = [(old, new) for old, new in zip(trained, tested) if old != new]
        if differing:
            raise UserError(f'{filename} was trained on other classes than {dataset.ann_file} has: {len(differing)} '
                            f'differ, the first is {differing[0][0]!r} there and {differing[0][1]!r} here; test it on '
                            'the data set that it was trained for')

    def _check_resumable(self, filename: str, checkpoint: dict) -> None:
        meta = checkpoint.get('meta', {})
        complete = {'optimizer', 'param_schedulers', 'message_hub'} <= set(checkpoint) and 'seed' in meta
        if not complete or 'iterations_per_epoch' not in checkpoint['message_hub'].get('runtime_info', {}):
            raise UserError(f'{filename}: cannot be resumed, it lacks the training\'s state; start from its weights '
                            'with --load_from')
        if meta['seed'] != self.seed:
            raise UserError(f'{filename} was trained with --seed {meta["seed"]}, not {self.seed}: resume with the same')
        if 'ema_state_dict' in checkpoint and not any(isinstance(hook, EMAHook) for hook in self.hooks):
            raise UserError(f'{filename}: was trained with an average of the weights (EMAHook), and its state_dict is '
                            'the average; resume with the same custom_hooks, or start from the average with '
                            '--load_from')
        # before the optimizer, whose remedy applies to weights that fit, and before hooks read the weights
        load_model(self._bare_model, filename, checkpoint)
        check_resumable_optimizer(self.optim_wrapper, checkpoint['optimizer'], filename)
        meta.pop('config', None)  # mmengine's resume would execute this text

    def resume(self, filename: str, resume_optimizer: bool = True, resume_param_scheduler: bool = True,
               map_location: str | Callable = 'default') -> None:
        """Resume a training at the iteration at which it was saved.

        Learning rate and schedule are those of the checkpoint, or with ``new_schedule=True`` in the config, those of
        the config. If they differ, one line is logged.
        """
        new_schedule = bool(self.cfg.get('new_schedule'))
        values = hyperparameters(self.optim_wrapper)
        super().resume(filename, resume_optimizer, resume_param_scheduler and not new_schedule, map_location)
        self.train_loop.restore(self.message_hub.get_info('iterations_per_epoch'))
        if new_schedule:
            follow_config(self.optim_wrapper, values, self.param_schedulers or [], self.iter,
                          len(self.train_dataloader))
        if self._changes:
            followed, other = ('the config\'s', 'its') if new_schedule else ('its', 'the config\'s')
            remedy = '' if new_schedule else '. --new_schedule follows the config'
            self.logger.warning(f'{filename}: continues with {followed} learning rate and schedule, not {other}: '
                                f'{shortened(self._changes)}{remedy}')

    def call_hook(self, fn_name: str, **kwargs: Any) -> None:
        """Call the hooks; raise UserError if a hook cannot build its parts from the config at the start of a run."""
        with faults_of('custom_hooks') if fn_name == 'before_run' else nullcontext():
            super().call_hook(fn_name, **kwargs)

    def load_or_resume(self) -> None:
        """Load or resume from the config's checkpoint; warn in one line if training and schedule differ in length."""
        resumes = self._resume and not self._has_loaded
        super().load_or_resume()
        loop: Any = self._train_loop
        if not isinstance(loop, BaseLoop):
            return
        in_epochs = isinstance(loop, EpochBasedTrainLoop)
        done, length, unit = ((loop.epoch, loop.max_epochs, 'epoch') if in_epochs else
                              (loop.iter, loop.max_iters, 'iteration'))
        if resumes and done >= length:
            key = 'max_epochs' if in_epochs else 'max_iters'
            self.logger.warning(f'{self._load_from} is the end of a training of {counted(done, unit)}: nothing is left '
                                f'to do; for more, add --cfg-options train_cfg.{key}=N')
        elif isinstance(self.param_schedulers, list):
            configs = self.cfg.get('param_scheduler') or []
            note = coverage(self.param_schedulers, [configs] if isinstance(configs, dict) else configs, length,
                            len(self.train_dataloader), resumes and not self.cfg.get('new_schedule'), unit)
            if note:
                self.logger.warning(note)
