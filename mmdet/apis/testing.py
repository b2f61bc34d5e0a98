"""Testing from a config and a checkpoint. Called by test_video.py."""
from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from mmengine.config import Config, ConfigDict
from mmengine.dist import is_main_process
from mmengine.evaluator import Evaluator
from mmengine.logging import print_log
from mmengine.registry import init_default_scope

from mmdet.apis.config import chosen_classes, find_scored_annotations, pretrained_nodes, require
from mmdet.apis.run_checks import check_backends, infer_rules
from mmdet.apis.training import amp_dtype, default_work_dir, make_work_dir
from mmdet.arguments import require_number
from mmdet.checkpoint import find_checkpoint
from mmdet.console import shorten_console
from mmdet.engine import VideoRunner, init_processes, leave_processes, use_full_float32
from mmdet.errors import UserError
from mmdet.evaluation.result_files import check_result_name
from mmdet.files import check_writable

# keys of a config that testing does not read
UNREAD = ('train_dataloader', 'train_cfg', 'optim_wrapper', 'param_scheduler', 'auto_scale_lr', 'val_dataloader',
          'val_cfg', 'val_evaluator')


def test(cfg: Config, checkpoint: str | None = None, *, out: str | None = None, metrics: Sequence[str] = ('segm',),
         show: bool = False, save_vis_path: str | None = None, thresh: float = 0.5, uncertainty: bool = False,
         load_result: str | None = None, dump_bbox: bool = False, zip_result: bool = False, report: str | None = None,
         formats: Sequence[str] = (), fps: float | None = None, class_agnostic: bool = False, amp: bool = False,
         full_float32: bool = False, work_dir: str | None = None, launcher: str = 'none') -> dict[str, float]:
    """Run a trained model on the config's test set, write the results and evaluate them.

    Args:
        cfg: result of :func:`mmdet.apis.load_config`.
        checkpoint: trained weights, as :func:`mmdet.checkpoint.find_checkpoint` accepts them; not needed with
            ``load_result``.
        out: path ``X.pkl`` for the results of each frame; the result file for YouTube-VIS servers is ``X.pkl.json``.
        metrics: any of ``'segm'`` and ``'bbox'``; empty: no evaluation.
        show: draw the results.
        save_vis_path: folder for the drawn frames; None: ``visualisations`` beside the checkpoint, or in ``work_dir``
            if the checkpoint was downloaded.
        thresh: score threshold in [0, 1]; only objects with a higher score are drawn.
        uncertainty: with ``show``, draw the uncertainty of boxes as ellipses at their corners, for detectors that
            estimate it.
        load_result: evaluate this ``X.pkl`` of an earlier test instead of running the model.
        dump_bbox: also write boxes to ``X.pkl.json``.
        zip_result: also write ``X.pkl.zip``.
        report: folder for a page of scores, curves and videos (:func:`mmdet.apis.write_report`). Unless ``out`` is
            given, the results are also written there, as ``result.pkl``.
        formats: also write the results in these formats, with ``thresh``, see :func:`mmdet.apis.export_result`: to
            ``X.pkl.masks``, ``X.pkl.mot`` and so on.
        fps: frames per second, for the times of the format ``jsonl`` in seconds; None: no times.
        class_agnostic: evaluate all categories as one, also in the report.
        amp: use mixed precision, see :func:`mmdet.apis.train`.
        full_float32: on a GPU, compute convolutions in float32 instead of PyTorch's default, TF32.
        work_dir: folder for logs; None: the config's, else ``work_dirs/<name of the config>``.
        launcher: ``'none'``, ``'pytorch'``, ``'slurm'`` or ``'mpi'``.

    Returns:
        The statistics by name (``segm_AP``, ...), in [0, 1], or -1 if undefined; empty without ``metrics``.

    Raises:
        UserError: the config, the data, the checkpoint or the result file is invalid.
    """
    if not (out or metrics or show or report or formats):
        raise UserError('nothing to do with the results: give --out X.pkl, --eval segm, --report DIR or --show')
    if out:
        check_result_name(out)
    if (save_vis_path or uncertainty) and not show:
        raise UserError('--save_vis_path and --uncertainty have no effect without --show: add --show')
    if (dump_bbox or zip_result) and not (out or report):
        raise UserError('--dump_bbox and --zip have no effect without --out: add --out X.pkl')
    if formats and not (out or load_result or report):
        raise UserError('--formats has no effect without --out: add --out X.pkl')
    if class_agnostic and not (metrics or report):
        raise UserError('--class_agnostic has no effect without --eval and --report: add --eval segm')
    require_number('--thresh', thresh)
    if not 0 <= thresh <= 1:
        raise UserError(f'--thresh {thresh}: scores lie between 0 and 1')
    cfg = cfg.copy()
    require(cfg, 'test_dataloader', 'test_cfg', 'test_evaluator', 'default_hooks')
    find_scored_annotations(cfg.test_evaluator)
    if report:
        from mmdet.apis.reporting import check_report, report_test  # matplotlib: half a second
        check_report(cfg)
        page = Path(report).expanduser()
        check_writable(page / 'index.html', f'--report {report}')
        out = out or str(page / 'result.pkl')
    if out:
        for ending in ('', '.json', '.zip')[:3 if zip_result else 2]:
            check_writable(f'{out}{ending}', f'--out {out}')
    if formats:
        _check_formats(cfg, out or load_result or '', formats, thresh, fps)
    cfg.test_evaluator.update(metric=list(metrics), out=out, dump_bbox=dump_bbox, zip=zip_result,
                              class_agnostic=class_agnostic)
    if load_result:
        statistics = _score_file(cfg, load_result, show)
        if report and out:
            report_test(cfg, out, report, checkpoint, thresh, class_agnostic)
        _write_formats(cfg, out or load_result, formats, thresh, fps)
        return statistics
    if not checkpoint:
        raise UserError('no checkpoint: give the trained weights after the config, or --load_result X.pkl')
    weights = find_checkpoint(checkpoint)
    _prepare(cfg, str(weights), work_dir, launcher)
    check_backends(cfg)
    infer_rules(cfg)
    if full_float32:
        use_full_float32()
    if amp:
        cfg.test_cfg.amp_dtype = amp_dtype()
    if show:
        # beside the checkpoint, but not in the cache of downloads
        beside = weights.parent if Path(checkpoint).expanduser() == weights else Path(cfg.work_dir)
        _add_pictures(cfg, save_vis_path or str(beside / 'visualisations'), thresh, uncertainty)
    init_processes(launcher)
    make_work_dir(cfg.work_dir)
    statistics = VideoRunner.from_cfg(cfg).test()
    if report and out and is_main_process():
        report_test(cfg, out, report, str(weights), thresh, class_agnostic)
    if out and is_main_process():
        _write_formats(cfg, out, formats, thresh, fps)
    leave_processes()
    return statistics


def _check_formats(cfg: Config, result: str, formats: Sequence[str], thresh: float, fps: float | None) -> None:
    from mmdet.apis.exporting import check_export
    if cfg.test_evaluator.type != 'YouTubeVISMetric':
        raise UserError(f'--formats: {cfg.filename} is scored by {cfg.test_evaluator.type}; the formats are of videos')
    check_export(formats, [_folder_of(result, kind) for kind in formats], thresh, fps)


def _write_formats(cfg: Config, result: str, formats: Sequence[str], thresh: float, fps: float | None) -> None:
    if formats:
        from mmdet.apis.exporting import export_result
        folders = export_result(cfg.test_evaluator.ann_file, result, formats, partial(_folder_of, result),
                                thresh=thresh, fps=fps, classes=chosen_classes(cfg))
        print_log(f'Results written to {", ".join(map(str, folders))}', logger='current')


def _folder_of(result: str, kind: str) -> Path:
    return Path(f'{result}.{kind}').expanduser()


def _prepare(cfg: Config, checkpoint: str, work_dir: str | None, launcher: str) -> None:
    """Change the config so that the runner only tests."""
    cfg.launcher = launcher
    cfg.work_dir = default_work_dir(cfg, work_dir)
    cfg.load_from, cfg.resume = checkpoint, False
    for name in UNREAD:
        cfg[name] = None
    for _, node in pretrained_nodes(cfg):
        node.init_cfg = None  # the checkpoint contains all weights
    if cfg.get('visualizer'):
        # a test logs no curves, and importing TensorBoard takes a second
        cfg.visualizer.vis_backends = [backend for backend in cfg.visualizer.get('vis_backends') or []
                                       if backend.type != 'TensorboardVisBackend']
    cfg.default_hooks = {name: hook for name, hook in cfg.default_hooks.items()
                         if name in ('timer', 'logger', 'progress')} | dict.fromkeys(
                             ('sampler_seed', 'param_scheduler', 'checkpoint'))


def _score_file(cfg: Config, path: str, show: bool) -> dict[str, float]:
    if show:
        raise UserError('--show draws what the model finds and cannot be used with --load_result')
    init_default_scope('mmdet')
    shorten_console()
    metric, = Evaluator(cfg.test_evaluator).metrics
    if (classes := chosen_classes(cfg)) is not None:
        metric.dataset_meta = {'classes': classes}
    return metric.score_file(path)


def _add_pictures(cfg: Config, folder: str, thresh: float, uncertainty: bool) -> None:
    steps = [step for step in cfg.test_dataloader.dataset.pipeline if step.type == 'LoadTrackFrames']
    for step in steps:
        step.keep_original = True
    hook = ConfigDict(type='ShowHook', folder=folder, score_thr=thresh, draw_uncertainty=uncertainty)
    cfg.custom_hooks = [*cfg.get('custom_hooks', []), hook]
