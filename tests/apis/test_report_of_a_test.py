"""``test_video.py --report``: the page of a test on toy videos, and what is refused before the test starts."""
import json

import pytest
import torch

import test_video
from mmdet import apis
from mmdet.apis import init_model, load_config
from mmdet.errors import UserError


@pytest.mark.slow
@pytest.mark.xdist_group('command lines')
def test_page_of_a_test_and_of_its_stored_results(toy_config, command, tmp_path):
    torch.manual_seed(0)
    model = init_model(toy_config, device='cpu')
    torch.nn.init.constant_(model.bbox_head.fcos_cls.bias, -1.0)
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'tiny.pth')
    log = tmp_path / '20260101_000000/vis_data/scalars.json'
    log.parent.mkdir(parents=True)
    log.write_text('{"loss": 2.0, "step": 1}\n{"loss": 1.0, "step": 2}\n')
    done = command('test_video.py', toy_config, tmp_path / 'tiny.pth', '--report', tmp_path / 'report', '--thresh',
                   '0.01', '--work_dir', tmp_path / 'work', '--gpus', '0', '--formats', 'masks', 'mot', 'mots', 'jsonl')
    for kind, pattern, count in (('masks', '*/*.png', 8), ('mot', '*.txt', 2), ('mots', '*.txt', 2),
                                 ('jsonl', '*.jsonl', 2)):
        files = list((tmp_path / f'report/result.pkl.{kind}').glob(pattern))
        assert len(files) == count and any(path.stat().st_size for path in files)
    page = (tmp_path / 'report/index.html').read_text()
    assert f'Report: {tmp_path}/report/index.html' in done.stdout
    assert '<title>tiny, tiny.pth</title>' in page and 'id="training"' in page and page.count('data:image/webp') == 2
    assert json.loads((tmp_path / 'report/result.pkl.json').read_text())
    assert 'Where AP is lost' in page

    apis.test(load_config(toy_config), load_result=str(tmp_path / 'report/result.pkl'), report=str(tmp_path / 'again'),
              thresh=0.01)
    again = (tmp_path / 'again/index.html').read_text()
    assert 'id="training"' not in again and page.count('<figure data-score') == again.count('<figure data-score')
    assert page[page.index('id="scores"'):page.index('id="training"')] == again[
        again.index('id="scores"'):again.index('id="gallery"')].rpartition('<section')[0] + '<section '


def test_ground_truth_is_asked_for_first(toy_config, toy_root, tmp_path):
    truth = json.loads((toy_root / 'annotations/instances_valid.json').read_text())
    (tmp_path / 'secret.json').write_text(json.dumps(truth | dict(annotations=[])))
    cfg = load_config(toy_config, [('test_evaluator.ann_file', str(tmp_path / 'secret.json'))])
    with pytest.raises(UserError, match=r'secret\.json: has no annotations'):
        apis.test(cfg, 'no checkpoint', report=str(tmp_path))


def test_images_have_no_report(tmp_path):
    cfg = load_config('configs/fcos_vitmae_1x.py')
    with pytest.raises(UserError, match='reports are of videos'):
        apis.test(cfg, 'no checkpoint', report=str(tmp_path))


def test_flag():
    args = test_video.build_parser().parse_args(['setup.py', 'MODEL', '--report', 'page'])
    assert args.report == 'page'
