#!/usr/bin/env python
"""Makes a checkpoint small enough to share: weights and class names only, in half precision if asked.

    python tools/model_converters/publish_model.py work_dirs/x/epoch_12.pth memcnp.pth [--half]
"""
import argparse
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmdet.checkpoint import read_checkpoint, weights_of
from mmdet.errors import UserError


def publish(source: str, target: str, half: bool = False) -> None:
    """Write ``state_dict`` and ``meta`` (class names, config) of a checkpoint; ``half``: float32 tensors as float16."""
    checkpoint = read_checkpoint(source)
    weights = {name: tensor.half() if half and tensor.dtype == torch.float32 else tensor
               for name, tensor in weights_of(checkpoint, source).items()}
    meta = {key: value for key, value in checkpoint.get('meta', {}).items() if key in ('dataset_meta', 'cfg', 'epoch')}
    torch.save({'meta': meta, 'state_dict': weights}, target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('source', help='checkpoint of a training')
    parser.add_argument('target', help='file to write')
    parser.add_argument('--half', action='store_true', help='store float16: half the size, loads like any other')
    args = parser.parse_args()
    try:
        publish(args.source, args.target, args.half)
    except UserError as error:
        print(f'error: {error}', file=sys.stderr)
        sys.exit(2)
    print(f'{args.target}: {Path(args.target).stat().st_size / 2 ** 20:.1f} MiB')


if __name__ == '__main__':
    main()
