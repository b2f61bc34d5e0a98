#!/usr/bin/env python
"""Make a checkpoint small enough to share: python tools/model_converters/publish_model.py SOURCE TARGET [--half]."""
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmdet.apis.cli import CommandParser, checkpoint_source, run_command


def build_parser() -> CommandParser:
    parser = CommandParser(prog='tools/model_converters/publish_model.py', description=(
        'Removes the training state from a checkpoint, so that only weights, class names and config remain.'))
    parser.add_argument('source', type=checkpoint_source, help='checkpoint of a training: path, address or name')
    parser.add_argument('target', help='output file')
    parser.add_boolean('--half', help='store weights in float16: half the size; it is loaded like other checkpoints')
    return parser


def publish(source: str, target: str, half: bool = False) -> None:
    """Write ``state_dict`` and ``meta`` (class names, config) of a checkpoint; ``half``: convert float32 to float16."""
    import torch

    from mmdet.checkpoint import find_checkpoint, read_checkpoint, weights_of
    from mmdet.errors import UserError
    from mmdet.files import atomic_open

    if Path(target).expanduser().resolve() == find_checkpoint(source).resolve():
        raise UserError(f'{target} itself would be overwritten and could not be resumed; name another file to write')
    checkpoint = read_checkpoint(source)
    weights = {name: tensor.half() if half and tensor.dtype == torch.float32 else tensor
               for name, tensor in weights_of(checkpoint, source).items()}
    meta = {key: value for key, value in checkpoint.get('meta', {}).items() if key in ('dataset_meta', 'cfg', 'epoch')}
    with atomic_open(target) as file:
        torch.save({'meta': meta, 'state_dict': weights}, file)


def main(argv: Sequence[str] | None) -> int:
    args = build_parser().parse_args(argv)
    publish(args.source, args.target, args.half)
    print(f'{args.target}: {Path(args.target).stat().st_size / 2 ** 20:.1f} MiB')
    return 0


if __name__ == '__main__':
    run_command(main)
