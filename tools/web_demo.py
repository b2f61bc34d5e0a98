#!/usr/bin/env python
"""A page in the browser to find and track the objects of videos: python tools/web_demo.py; see docs/web_demo.md."""
from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mmdet.apis.cli import CommandParser, checkpoint_source, config_file, positive_int, run_command
from mmdet.trained_models import DEFAULT, MODELS
from mmdet.video.video_options import check_video_options


def build_parser() -> CommandParser:
    parser = CommandParser(
        prog='tools/web_demo.py', usage='%(prog)s [CONFIG CHECKPOINT] [--models NAME ...] [flags]', description=(
            'Serves a page: upload or record a video, choose a model, a threshold and classes, watch the progress, see '
            'and download the annotated video and the results. Several people may use it at the same time. There is no '
            'authentication, see --host.'))
    parser.add_argument('config', nargs='?', type=config_file, help='config file of a model of yours')
    parser.add_argument('checkpoint', nargs='?', type=checkpoint_source,
                        help='its weights: path, address (https://, hf://) or name (tools/weights.py list)')
    parser.add_argument('--models', nargs='*', choices=MODELS, metavar='NAME', help=(
        f'trained models to offer as well, each downloaded at its first use: {", ".join(MODELS)} (default: all)'))
    parser.add_argument('--host', default='127.0.0.1',
                        help='address to listen on (default: 127.0.0.1, which only this machine can access)')
    parser.add_argument('--port', type=int, default=7860, help='port; 0 selects a free one (default: 7860)')
    parser.add_argument('--thresh', type=float, default=0.5, help='preselected threshold (default: 0.5)')
    parser.add_argument('--jobs', type=positive_int, default=2, metavar='N',
                        help='number of videos that are processed at the same time; others wait (default: 2)')
    parser.add_argument('--max_frames', type=positive_int, default=3000, metavar='N',
                        help='number of frames of a video that are processed (default: 3000)')
    parser.add_argument('--max_upload', type=positive_int, default=500, metavar='MB',
                        help='maximum size of a video in MB (default: 500)')
    parser.add_argument('--batch', type=positive_int, default=1, metavar='N',
                        help='number of frames in a batch of the network (default: 1)')
    parser.add_argument('--max_size', type=int, metavar='PIXELS', help='maximum longer side of the network input')
    parser.add_argument('--device', help='cpu, cuda, cuda:1, ... (default: a GPU if there is one)')
    parser.add_boolean('--amp', help='use mixed precision')
    return parser


def main(argv: Sequence[str] | None) -> int:
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.config and not args.checkpoint:
        parser.error(f'CHECKPOINT is missing after {args.config}')
    names = list(MODELS if args.models is None else args.models)
    if not (names or args.config):
        parser.error('the page has no model; give CONFIG CHECKPOINT or --models NAME')
    check_video_options(thresh=args.thresh, batch=args.batch, max_size=args.max_size)
    from mmdet.apis.web_demo import Models, build_page, import_gradio, launch_page
    import_gradio()
    from mmdet.apis import VideoInferencer, load_config

    def load(config: str | Path, checkpoint: str) -> VideoInferencer:
        return VideoInferencer(load_config(config), checkpoint, device=args.device, batch=args.batch,
                               max_size=args.max_size, amp=args.amp)

    def classes_of(config: str | Path) -> tuple[str, ...]:
        return tuple((load_config(config).test_dataloader.dataset.get('metainfo') or {}).get('classes') or ())

    sources = {}
    if args.config:
        sources[Path(args.config).stem] = ((args.config, args.checkpoint), classes_of(args.config))
    for name in sorted(names, key=lambda name: name != DEFAULT):
        sources[name] = ((MODELS[name].config, MODELS[name].weights), classes_of(MODELS[name].config))
    models = Models(sources, load)
    if args.config:
        models.load(models.names[0])  # reports wrong weights before the page is served
    page = build_page(models, thresh=args.thresh, max_frames=args.max_frames, jobs=args.jobs)
    launch_page(page, host=args.host, port=args.port or None, max_upload=args.max_upload)
    return 0


if __name__ == '__main__':
    run_command(main)
