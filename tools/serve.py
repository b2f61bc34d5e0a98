#!/usr/bin/env python
"""Find and track objects over HTTP: python tools/serve.py CONFIG CHECKPOINT; see --help and docs/serving.md."""
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mmdet.apis.cli import CommandParser, checkpoint_source, config_file, positive_int, run_command
from mmdet.video.video_options import check_video_options


def build_parser() -> CommandParser:
    parser = CommandParser(prog='tools/serve.py', description=(
        'Serves POST /videos (body: a video file; response: a JSON line for each frame) and POST /streams/NAME (body: '
        'an image, the next frame of that stream; response: JSON). Several requests may be processed at the same time. '
        'There is no authentication, see --host.'))
    parser.add_argument('config', type=config_file, help='config file')
    parser.add_argument('checkpoint', type=checkpoint_source,
                        help='trained weights: path, address (https://, hf://) or name (tools/weights.py list)')
    parser.add_argument('--host', default='127.0.0.1',
                        help='address to listen on (default: 127.0.0.1, which only this machine can access)')
    parser.add_argument('--port', type=int, default=8000, help='port; 0 selects a free one (default: 8000)')
    parser.add_argument('--thresh', type=float, default=0.5,
                        help='send objects with a score above this (default: 0.5)')
    parser.add_argument('--batch', type=positive_int, default=1, metavar='N',
                        help='number of frames in a batch of the network (default: 1)')
    parser.add_argument('--max_size', type=int, metavar='PIXELS',
                        help='maximum longer side of the network input')
    parser.add_argument('--max_streams', type=positive_int, default=64, metavar='N',
                        help='number of streams kept; the least recently used is dropped for a new one (default: 64)')
    parser.add_argument('--device', help='cpu, cuda, cuda:1, ... (default: a GPU if there is one)')
    parser.add_boolean('--amp', help='use mixed precision')
    parser.add_boolean('--full_float32', help='use float32 instead of TF32 for convolutions on a GPU (slower)')
    parser.add_config_options()
    return parser


def main(argv: Sequence[str] | None) -> int:
    args = build_parser().parse_args(argv)
    check_video_options(thresh=args.thresh, batch=args.batch, max_size=args.max_size)
    from mmdet.apis import VideoInferencer, load_config
    from mmdet.apis.config_options import UNREAD_BY_INFERENCE, report_unread
    from mmdet.apis.server import TrackingServer
    from mmdet.engine import use_full_float32

    report_unread(args.cfg_options, UNREAD_BY_INFERENCE, 'serve.py')
    if args.full_float32:
        use_full_float32()
    inferencer = VideoInferencer(load_config(args.config, args.cfg_options), args.checkpoint, device=args.device,
                                 batch=args.batch, max_size=args.max_size, amp=args.amp)
    with TrackingServer((args.host, args.port), inferencer, args.thresh, args.max_streams) as server:
        print(f'listening on http://{args.host}:{server.server_port}; Ctrl-C ends', flush=True)
        server.serve_forever()
    return 0


if __name__ == '__main__':
    run_command(main)
