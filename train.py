"""Train a model: ``python train.py CONFIG [--work_dir DIR] [--gpus N] ...``; ``--help`` lists the flags."""
import sys
from collections.abc import Sequence
from contextlib import nullcontext

from mmdet.apis.allocator import keep_freed_memory
from mmdet.apis.cli import CommandParser, add_launch_arguments, checkpoint_source, config_file, run_command
from mmdet.apis.launch import start_processes


def build_parser() -> CommandParser:
    parser = CommandParser(prog='train.py', description='Train a model. Flags may be written with - for _.')
    parser.add_argument('config', type=config_file, help='for example configs/vitmae_cnp_contrast_ms_1x.py')
    parser.add_argument('--work_dir', help='folder for checkpoints and logs (default: work_dirs/<config>)')
    parser.add_argument('--load_from', type=checkpoint_source, metavar='WEIGHTS',
                        help='start from these weights of a detector or a backbone: path, address (https://, hf://) '
                             'or name (tools/weights.py list)')
    parser.add_argument('--resume_from', nargs='?', const='auto', metavar='CHECKPOINT',
                        help='resume from this checkpoint; without a path, from the newest complete one')
    parser.add_argument('--resume', dest='resume_from', action='store_const', const='auto',
                        help='the same as --resume_from without a path')
    parser.add_boolean('--new_schedule', help='with --resume: use the learning rate and schedule of the config instead '
                                              'of those of the checkpoint')
    parser.add_boolean('--validate', help='evaluate on the validation set after each epoch, keep the best checkpoint')
    parser.add_argument('--seed', type=int, help='seed of all random numbers (default: the config\'s, 42)')
    parser.add_boolean('--deterministic', help='use deterministic algorithms, so that runs are reproducible (slower)')
    parser.add_boolean('--full_float32', help='use float32 instead of TF32 for convolutions on a GPU (slower)')
    parser.add_boolean('--amp', help='use mixed precision')
    add_launch_arguments(parser)
    parser.add_config_options()
    return parser


def main(argv: Sequence[str] | None) -> int:
    args = build_parser().parse_args(argv)
    status = start_processes(args.gpus, args.launcher, sys.argv)
    if status is not None:
        return status
    keep_freed_memory()
    from mmdet.apis import load_config, train
    from mmdet.apis.config_options import report_unread
    from mmdet.apis.training import UNREAD, UNREAD_WITHOUT_VALIDATION
    from mmdet.engine.stop_signal import exit_on_sigterm
    cfg = load_config(args.config, args.cfg_options)
    report_unread(args.cfg_options, UNREAD + (() if args.validate else UNREAD_WITHOUT_VALIDATION), 'train.py')
    with exit_on_sigterm() if args.launcher == 'none' else nullcontext():
        train(cfg, work_dir=args.work_dir, load_from=args.load_from, resume_from=args.resume_from,
              new_schedule=args.new_schedule, validate=args.validate, seed=args.seed,
              deterministic=args.deterministic, full_float32=args.full_float32, amp=args.amp, launcher=args.launcher)
    return 0


if __name__ == '__main__':
    run_command(main)
