"""mmengine's test loop with mixed precision, which writes partial results when it is interrupted.

Built by the runner from ``test_cfg``.
"""
from __future__ import annotations

from collections.abc import Iterator

import torch
from mmengine.evaluator import Evaluator
from mmengine.runner import Runner, TestLoop
from torch.utils.data import DataLoader

from mmdet.engine.stop_signal import StopSignal
from mmdet.engine.test_steps import run_test_steps
from mmdet.engine.workers import stop_pass
from mmdet.registry import LOOPS

_DTYPES = {None: None, 'bfloat16': torch.bfloat16, 'float16': torch.float16}


@LOOPS.register_module()
class InterruptibleTestLoop(TestLoop):
    """Test loop that Ctrl-C and SIGTERM end after the current batch; the partial results are written.

    Each clip is passed with the stream state of its video, see :class:`mmdet.engine.hooks.StreamHook`.

    Args:
        runner: the runner.
        dataloader: the test data loader or its config.
        evaluator: the metrics or their config.
        amp_dtype: ``'bfloat16'`` or ``'float16'`` for mixed precision, None for float32.
        overlap: launch a batch on the GPU before the results of the batch before are processed; see
            :func:`mmdet.engine.test_steps.run_test_steps`.
    """

    def __init__(self, runner: Runner, dataloader: DataLoader | dict, evaluator: Evaluator | dict | list,
                 amp_dtype: str | None = None, overlap: bool | None = None) -> None:
        super().__init__(runner, dataloader, evaluator)
        self.amp_dtype, self.overlap = _DTYPES[amp_dtype], overlap
        self._loaded: Iterator[dict] | None = None

    def start_loading(self) -> None:
        """Start the workers of the loader, which load the first batches before :meth:`run` is called."""
        self._loaded = iter(self.dataloader)

    def stop_loading(self) -> None:
        """Stop the workers that :meth:`start_loading` has started, unless :meth:`run` was called."""
        stop_pass(self._loaded)
        self._loaded = None

    def run(self) -> dict:
        """Return the metrics; raise SystemExit (75 after SIGTERM, 130 after Ctrl-C) if the pass was interrupted."""
        self.runner.call_hook('before_test')
        self.runner.call_hook('before_test_epoch')
        model = self.runner.model.eval()
        model = getattr(model, 'module', model)
        if self.amp_dtype is not None and hasattr(model, 'halve_weights'):
            model.halve_weights(self.amp_dtype)
        with StopSignal.of_job(self.runner.world_size) as stop:
            steps = run_test_steps(model, self._batches(stop), self.amp_dtype, self.overlap)
            for index, (batch, outputs) in enumerate(steps):
                self.evaluator.process(data_samples=outputs, data_batch=batch)
                self.runner.call_hook('after_test_iter', batch_idx=index, data_batch=batch, outputs=outputs)
            if stop.received:
                stop.no_limit()
                self._write_partial()
                raise SystemExit(stop.exit_status)
            metrics = self.evaluator.evaluate(len(self.dataloader.dataset))
        self.runner.call_hook('after_test_epoch', metrics=metrics)
        self.runner.call_hook('after_test')
        return metrics

    def _batches(self, stop: StopSignal) -> Iterator[dict]:
        """Yield the batches until a signal is received; those that were yielded are processed to the end."""
        loaded, self._loaded = iter(self.dataloader) if self._loaded is None else self._loaded, None
        for index, batch in enumerate(loaded):
            self.runner.call_hook('before_test_iter', batch_idx=index, data_batch=batch)
            yield batch
            if stop.received:
                return

    def _write_partial(self) -> None:
        for metric in self.evaluator.metrics:
            metric.write_partial()
