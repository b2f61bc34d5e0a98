"""TorchvisionTracker through test_video.py: scores, result files, pictures and report, like any detector."""
import json
from pathlib import Path

import pytest
import torch
from pycocotools import mask as coco_mask

from mmdet.apis import init_model

FEW = dict(rpn_post_nms_top_n_test=15, box_detections_per_img=4, box_score_thresh=0.0)


@pytest.mark.slow
@pytest.mark.xdist_group('command lines')
def test_a_test_scores_draws_and_reports(toy_root, command, tmp_path):
    config = tmp_path / 'tiny.py'
    base = Path('configs/maskrcnn_r50_fpn_coco.py').resolve()
    config.write_text(f"""
_base_ = '{base}'
model = dict(num_classes=3, min_size=48, max_size=80, net_args=dict({', '.join(f'{k}={v}' for k, v in FEW.items())}))
train_dataloader = dict(num_workers=0, persistent_workers=False)
test_dataloader = dict(num_workers=1, dataset=dict(data_root='{toy_root}', metainfo=dict(_delete_=True)))
val_dataloader = test_dataloader
val_evaluator = dict(ann_file='{toy_root}/annotations/instances_valid.json')
test_evaluator = val_evaluator
""")
    torch.manual_seed(0)
    torch.save(init_model(config, device='cpu').state_dict(), tmp_path / 'random.pth')
    done = command('test_video.py', config, tmp_path / 'random.pth', '--out', tmp_path / 'result.pkl', '--eval', 'segm',
                   '--show', '--save_vis_path', tmp_path / 'pictures', '--thresh', '0.01', '--report',
                   tmp_path / 'report', '--amp', '--gpus', '0', '--work_dir', tmp_path / 'work')
    assert 'AP' in done.stdout
    entries = json.loads((tmp_path / 'result.pkl.json').read_text())
    assert entries and {entry['category_id'] for entry in entries} <= {5, 6, 7}
    masks = [mask for entry in entries for mask in entry['segmentations'] if mask]
    assert masks and all(mask['size'] == [96, 160] for mask in masks) and coco_mask.area(masks[0]) >= 0
    assert len(list((tmp_path / 'pictures').glob('*/*.png'))) == 8  # two videos of four frames
    assert (tmp_path / 'report/index.html').stat().st_size > 10_000
