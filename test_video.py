"""Test a model on videos: ``python test_video.py CONFIG CHECKPOINT [--out X.pkl] [--eval segm] ...``; see --help."""
import sys
from collections.abc import Sequence

from mmdet.apis.allocator import keep_freed_memory
from mmdet.apis.cli import CommandParser, add_launch_arguments, config_file, run_command
from mmdet.apis.launch import start_processes
from mmdet.video.video_options import RESULT_FORMATS


def build_parser() -> CommandParser:
    parser = CommandParser(prog='test_video.py', description='Test a model on videos. Flags may contain - for _.')
    parser.add_argument('config', type=config_file, help='for example configs/vitmae_cnp_contrast_ms_1x.py')
    parser.add_argument('checkpoint', nargs='?',
                        help='trained weights: path, address (https://, hf://) or name (tools/weights.py list); not '
                             'needed with --load_result')
    parser.add_argument('--out', metavar='X.pkl', help='write the results of each frame and the result file X.pkl.json')
    parser.add_argument('--eval', nargs='+', choices=('bbox', 'segm'), default=[], help='compute AP and AR of these')
    parser.add_argument('--formats', nargs='+', choices=RESULT_FORMATS, default=[], help=(
        'also write X.pkl.masks/<video>/<frame>.png, index masks; X.pkl.mot/<video>.txt, X.pkl.mots/<video>.txt, '
        'X.pkl.jsonl/<video>.jsonl'))
    parser.add_argument('--fps', type=float,
                        help='with --formats jsonl: frames per second, for the times in seconds (default: no times)')
    parser.add_boolean('--class_agnostic', help='with --eval and --report: evaluate all categories as one')
    parser.add_boolean('--show', help='draw the results: PNG frames and a GIF for each video')
    parser.add_boolean('--uncertainty', help='with --show: draw the uncertainty of boxes as ellipses at their corners')
    parser.add_argument('--save_vis_path', metavar='DIR',
                        help='folder for --show (default: visualisations, beside the checkpoint)')
    parser.add_argument('--thresh', type=float, default=0.5,
                        help='draw and, with --formats, write objects with a score above this (default: 0.5)')
    parser.add_argument('--load_result', metavar='X.pkl', help='evaluate results of an earlier --out; no testing')
    parser.add_boolean('--dump_bbox', help='add the boxes to X.pkl.json')
    parser.add_boolean('--zip', help='also write X.pkl.zip, which evaluation servers accept')
    parser.add_argument('--report', metavar='DIR',
                        help='write DIR/index.html: scores, curves, annotations beside predictions')
    parser.add_boolean('--full_float32', help='use float32 instead of TF32 for convolutions on a GPU (slower)')
    parser.add_boolean('--amp', help='use mixed precision')
    parser.add_argument('--work_dir', help='folder for logs (default: work_dirs/<config>)')
    add_launch_arguments(parser)
    parser.add_config_options()
    return parser


def main(argv: Sequence[str] | None) -> int:
    args = build_parser().parse_args(argv)
    status = start_processes(args.gpus, args.launcher, sys.argv)
    if status is not None:
        return status
    keep_freed_memory()
    from mmdet.apis import load_config, test
    from mmdet.apis.config_options import report_unread
    from mmdet.apis.testing import UNREAD
    cfg = load_config(args.config, args.cfg_options)
    report_unread(args.cfg_options, UNREAD, 'test_video.py')
    test(cfg, args.checkpoint, out=args.out, metrics=args.eval, show=args.show, save_vis_path=args.save_vis_path,
         thresh=args.thresh, uncertainty=args.uncertainty, load_result=args.load_result, dump_bbox=args.dump_bbox,
         zip_result=args.zip, report=args.report, formats=args.formats, fps=args.fps,
         class_agnostic=args.class_agnostic, amp=args.amp, full_float32=args.full_float32, work_dir=args.work_dir,
         launcher=args.launcher)
    return 0


if __name__ == '__main__':
    run_command(main)
