#!/usr/bin/env python
"""Export the network of a model: python tools/export.py CONFIG CHECKPOINT --format torch|onnx --out FILE."""
from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mmdet.apis.cli import CommandParser, checkpoint_source, config_file, existing_file, positive_int, run_command
from mmdet.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor


def build_parser() -> CommandParser:
    parser = CommandParser(prog='tools/export.py', description=(
        'Writes the per-frame network of MemCNP, SipMask, FCOS or VidEoMT to a file of torch.export or ONNX, and '
        'compares the results of the file with those of the model. The video tools take the file in place of '
        'CHECKPOINT; docs/export.md describes its inputs and outputs.'))
    parser.add_argument('config', type=config_file, help='config file')
    parser.add_argument('checkpoint', type=checkpoint_source,
                        help='trained weights: path, address (https://, hf://) or name (tools/weights.py list)')
    parser.add_argument('--format', choices=('onnx', 'torch'), default='onnx', help='format (default: onnx)')
    parser.add_argument('--out', type=Path, metavar='FILE',
                        help='file that ends in .pt2 (torch) or .onnx (default: exported.pt2 or exported.onnx)')
    parser.add_argument('--size', type=positive_int, nargs=2, metavar=('HEIGHT', 'WIDTH'), help=(
        'size in pixels of the example, rounded up to a multiple of 32 (default: the scale of the test pipeline)'))
    parser.add_boolean('--fixed_size', help='take frames of this size only; by default, height and width may vary')
    parser.add_argument('--image', type=existing_file, metavar='FILE',
                        help='image for the comparison (default: toy shapes)')
    parser.add_config_options()
    return parser


def main(argv: Sequence[str] | None) -> int:
    args = build_parser().parse_args(argv)
    from mmdet.apis import init_model, load_config
    from mmdet.apis.config_options import UNREAD_BY_INFERENCE, report_unread
    from mmdet.checkpoint.reading import EXPORT_ENDINGS
    from mmdet.export import TOLERANCE, detector_name, export_network, frame_network
    from mmdet.export.writing import check_format
    from mmdet.files import check_writable

    out = (args.out or Path(f'exported{EXPORT_ENDINGS[args.format]}')).expanduser()
    check_format(args.format, out)
    check_writable(out, '--out')
    cfg = load_config(args.config, args.cfg_options)
    report_unread(args.cfg_options, UNREAD_BY_INFERENCE, 'export.py')
    model: Any = init_model(cfg, args.checkpoint, 'cpu')
    network = frame_network(model)
    height, width = args.size or _test_size(cfg)
    images = _example(model.data_preprocessor, height, width, args.image)
    preprocessor = model.data_preprocessor
    metadata = dict(detector=detector_name(model), config=Path(args.config).name, dataset_meta=model.dataset_meta,
                    mean=preprocessor.mean.flatten().tolist(), std=preprocessor.std.flatten().tolist(),
                    bgr_to_rgb=preprocessor.bgr_to_rgb)
    print(f'Exporting {detector_name(model)} for inputs of {"" if args.fixed_size else "variable size, for example "}'
          f'{images.shape[3]}x{images.shape[2]} pixels; this takes from seconds to some minutes', flush=True)
    difference = export_network(network, images, args.format, out, metadata, dynamic=not args.fixed_size)
    print(f'{out}: inputs {", ".join(network.inputs)}; outputs {", ".join(network.outputs)}')
    print(f'Largest differences to the model, relative to max(1, |value|): {difference} (tolerance {TOLERANCE:g}; '
          f'{difference.number} objects or candidates compared)')
    if not difference.number:
        print('The model found nothing in the example, so that only empty results were compared; give --image FILE')
    if not difference.within():
        raise UserError(f'{out}: differs from the model by more than the tolerance; do not use it')
    return 0


def _test_size(cfg: Any) -> tuple[int, int]:
    """Return height and width of the scale of the test pipeline, for a landscape video."""
    scales = [step['scale'] for step in cfg.test_dataloader.dataset.pipeline if 'scale' in step]
    if not scales:
        raise UserError('the test pipeline has no scale; give --size HEIGHT WIDTH')
    return min(scales[-1]), max(scales[-1])


def _example(preprocessor: Any, height: int, width: int, image: str | None) -> Tensor:
    """Return a normalised image (1, 3, H, W), with H and W rounded up to multiples of 32."""
    import cv2
    import torch

    from mmdet.export.writing import MULTIPLE

    height, width = (-(-side // MULTIPLE) * MULTIPLE for side in (height, width))
    picture = _shapes(height, width) if image is None else cv2.imread(image)
    if picture is None:
        raise UserError(f'--image {image}: cannot be read; give a JPEG or PNG file')
    pixels = torch.from_numpy(cv2.resize(picture, (width, height))).permute(2, 0, 1).float()
    pixels = pixels.flip(0) if preprocessor.bgr_to_rgb else pixels
    return ((pixels - preprocessor.mean.cpu()) / preprocessor.std.cpu())[None]


def _shapes(height: int, width: int) -> Any:
    """Return an image with a disc, a rectangle and a triangle on noise."""
    import cv2
    import numpy as np

    picture = np.random.default_rng(0).integers(90, 130, (height, width, 3), dtype=np.uint8)
    side = min(height, width)
    cv2.circle(picture, (width // 4, height // 3), side // 6, (40, 60, 220), -1)
    cv2.rectangle(picture, (width // 2, height // 2, side // 4, side // 3), (60, 200, 60), -1)
    corners = np.array([[3 * width // 4, height // 8], [7 * width // 8, height // 2], [5 * width // 8, height // 2]])
    cv2.fillPoly(picture, [corners], (220, 120, 30))
    return picture


if __name__ == '__main__':
    run_command(main)
