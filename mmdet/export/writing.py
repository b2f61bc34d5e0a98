"""Write a network to a file of torch.export or ONNX, and compare the file with the network."""
from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmdet.checkpoint.reading import EXPORT_ENDINGS
from mmdet.errors import UserError
from mmdet.export.comparison import Difference, compare
from mmdet.export.exported_network import METADATA, ExportedNetwork, open_exported
from mmdet.export.networks import FrameNetwork
from mmdet.paths import shown

FORMATS = tuple(EXPORT_ENDINGS)
MULTIPLE = 32  # heights and widths are multiples of this many pixels
MOST = 4096  # largest symbolic height or width, in pixels
_NEEDED = {'torch': (), 'onnx': ('onnx', 'onnxscript', 'onnxruntime')}


def check_format(kind: str, path: Path) -> None:
    """Raise UserError if the format is unknown, its packages are missing, or the file has the ending of another."""
    if kind not in FORMATS:
        raise UserError(f'--format {kind}: choose from {", ".join(FORMATS)}')
    if path.suffix != EXPORT_ENDINGS[kind]:
        raise UserError(f'--out {path}: a file of --format {kind} ends in {EXPORT_ENDINGS[kind]}')
    missing = [name for name in _NEEDED[kind] if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f'--format {kind} needs {", ".join(missing)}: pip install {" ".join(missing)}')


def export_network(network: FrameNetwork, images: Tensor, kind: str, path: Path, metadata: dict[str, Any],
                   dynamic: bool = True) -> Difference:
    """Write a network to a file, and compare the file's outputs with the network's.

    Args:
        network: the network, on the CPU, in float32.
        images: (1, 3, H, W) normalised, an example; H and W are multiples of ``MULTIPLE``.
        kind: ``'torch'`` or ``'onnx'``.
        path: the file.
        metadata: values that JSON can represent, written to the file besides the names and sizes of the inputs.
        dynamic: heights and widths may vary between ``network.least`` and ``MOST``; else they are those of ``images``.

    Returns:
        The largest differences, for the example and, if ``dynamic``, for its transpose, which has another shape.

    Raises:
        UserError: a package is missing, the file cannot be written, the network cannot be exported, or the file does
            not run with one of the two shapes.
    """
    check_format(kind, path)
    if dynamic and min(images.shape[2:]) < network.least:
        raise UserError(f'--size {images.shape[2]} {images.shape[3]}: at least {network.least} pixels are needed for '
                        'variable sizes; give a larger size, or --fixed_size')
    metadata = {**metadata, 'inputs': network.inputs, 'outputs': network.outputs, 'multiple': MULTIPLE,
                'size': None if dynamic else list(images.shape[2:]), 'least': network.least, 'most': MOST}
    with torch.no_grad(), _quiet():
        program = _export(network, network.example(images), dynamic)
        path.parent.mkdir(parents=True, exist_ok=True)
        write = _write_torch if kind == 'torch' else _write_onnx
        write(program, network, path, json.dumps(metadata))
    exported = open_exported(path, 'cpu')
    results = []
    for example in (images, images.transpose(2, 3).contiguous()) if dynamic else (images,):
        tensors = network.example(example)
        with torch.no_grad():
            results.append(compare(network, network(*tensors), _run(exported, tensors)))
    return Difference({name: max(result.largest[name] for result in results) for name in network.outputs},
                      sum(result.number for result in results))


def _export(network: FrameNetwork, example: tuple[Tensor, ...], dynamic: bool) -> torch.export.ExportedProgram:
    shapes: Any = None
    if dynamic:
        sides = [MULTIPLE * torch.export.Dim(name, min=-(-network.least // MULTIPLE), max=MOST // MULTIPLE)
                 for name in ('height', 'width')]
        shapes = ({2: sides[0], 3: sides[1]}, *[None] * (len(example) - 1))
    try:
        return torch.export.export(network, example, dynamic_shapes=shapes, strict=False)
    except Exception as error:  # many kinds, depending on the operator
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        remedy = 'try --fixed_size' if dynamic else 'its backbone uses operators that torch.export does not support'
        raise UserError(f'the network cannot be exported ({reason}); {remedy}') from error


def _run(exported: ExportedNetwork, tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    try:
        return exported(*tensors)
    except UserError as error:  # the tracer took a symbolic size for a constant, for example
        height, width = tensors[0].shape[2:]
        reason = next(iter(str(error.__cause__ or error).splitlines()), '')[:150]
        raise UserError(f'{shown(exported.path)}: does not run with inputs of {width}x{height} pixels ({reason}); do '
                        'not use it, and try --fixed_size') from error


def _write_torch(program: torch.export.ExportedProgram, network: FrameNetwork, path: Path, metadata: str) -> None:
    torch.export.save(program, path, extra_files={METADATA: metadata})


def _write_onnx(program: torch.export.ExportedProgram, network: FrameNetwork, path: Path, metadata: str) -> None:
    converted: Any = torch.onnx.export(program, dynamo=True, input_names=network.inputs, output_names=network.outputs,
                                       verbose=False)
    converted.model.metadata_props[METADATA] = metadata
    converted.save(path)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the exporters' progress and warnings, which concern their developers."""
    former = logging.root.manager.disable
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter('ignore')
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(former)
