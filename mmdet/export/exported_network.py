"""Open and run a file that :mod:`mmdet.export.writing` has written."""
from __future__ import annotations

import importlib.util
import json
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmdet.checkpoint.reading import EXPORT_ENDINGS
from mmdet.errors import UserError
from mmdet.paths import shown

METADATA = 'memcnp.json'  # name of the metadata in the file


class ExportedNetwork:
    """A network in a file.

    Args:
        path: the file.
        metadata: its metadata.
        run: from the tensors to the outputs, all on ``device``.
        device: device of the network.
    """

    def __init__(self, path: Path, metadata: dict[str, Any], run: Callable[..., Sequence[Tensor]],
                 device: torch.device) -> None:
        self.path, self.metadata, self.device = path, metadata, device
        self._run = run

    @torch.no_grad()
    def __call__(self, images: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
        """Compute the outputs, named ``metadata['outputs']``, of the inputs, named ``metadata['inputs']``.

        Raises:
            UserError: the file was exported for other sizes, or from another config.
        """
        height, width = images.shape[-2:]
        size, least, most = (self.metadata[name] for name in ('size', 'least', 'most'))
        if size is not None and [height, width] != size:
            raise UserError(f'{shown(self.path)}: was exported for inputs of {size[1]}x{size[0]} pixels, and the video '
                            f'needs {width}x{height}; export with --size {height} {width}, or without --fixed_size')
        if size is None and not (least <= min(height, width) and max(height, width) <= most):
            raise UserError(f'{shown(self.path)}: takes heights and widths from {least} to {most} pixels, and the '
                            f'video needs {width}x{height}; export with --size {height} {width} --fixed_size')
        try:
            return tuple(self._run(images, *others))
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # of onnxruntime or torch, about the number or the shapes of the inputs
            reason = (str(error).splitlines() or [''])[0][:150]
            raise UserError(f'{shown(self.path)}: cannot run with these inputs ({type(error).__name__}: {reason}); '
                            'give the config from which it was exported') from error


def open_exported(path: str | os.PathLike, device: str | torch.device) -> ExportedNetwork:
    """Open a file by its ending: ``.pt2`` with torch, ``.onnx`` with onnxruntime.

    Raises:
        UserError: the file is missing, damaged or of another program, or onnxruntime is not installed.
    """
    path, device = Path(path), torch.device(device)
    if not path.is_file():
        raise UserError(f'{shown(path)}: no such file; tools/export.py writes one')
    opened = _open_torch if path.suffix == EXPORT_ENDINGS['torch'] else _open_onnx
    try:
        text, run = opened(path, device)
        metadata = json.loads(text)
    except UserError:
        raise
    except Exception as error:  # of the archive, the graph or the metadata
        raise UserError(f'{shown(path)}: is not a file of tools/export.py, or is damaged '
                        f'({type(error).__name__}); export it again') from error
    return ExportedNetwork(path, metadata, run, device)


def _open_torch(path: Path, device: torch.device) -> tuple[str, Callable[..., Sequence[Tensor]]]:
    extra = {METADATA: ''}
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # the archive's buffers are read-only, and nothing writes to them
        program = torch.export.load(path, extra_files=extra)
    if device.type != 'cpu':
        from torch.export.passes import move_to_device_pass
        program = move_to_device_pass(program, str(device))
    return extra[METADATA], program.module()


def _open_onnx(path: Path, device: torch.device) -> tuple[str, Callable[..., Sequence[Tensor]]]:
    if importlib.util.find_spec('onnxruntime') is None:
        raise UserError(f'{shown(path)}: needs onnxruntime: pip install onnxruntime')
    import onnxruntime

    providers: list[Any] = ['CPUExecutionProvider']
    if device.type == 'cuda':
        if 'CUDAExecutionProvider' not in onnxruntime.get_available_providers():
            raise UserError('--device cuda: this onnxruntime has no CUDA; pip install onnxruntime-gpu, or give '
                            '--device cpu')
        providers.insert(0, ('CUDAExecutionProvider', {'device_id': device.index or 0}))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    names = [value.name for value in session.get_inputs()]

    def run(*tensors: Tensor) -> list[Tensor]:
        arrays = {name: tensor.detach().cpu().numpy() for name, tensor in zip(names, tensors, strict=True)}
        return [torch.from_numpy(output).to(device) for output in session.run(None, arrays)]

    return session.get_modelmeta().custom_metadata_map[METADATA], run
