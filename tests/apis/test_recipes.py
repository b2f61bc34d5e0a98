"""The recipes of docs/recipes.md do what they say: each is trained with for a step or two on a tiny toy set."""
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.hooks import EarlyStoppingHook, Hook
from PIL import Image

from mmdet import apis
from mmdet.apis import load_config, train
from mmdet.apis.run_checks import check_backends
from mmdet.engine.freezing import freeze
from mmdet.errors import UserError
from mmdet.registry import HOOKS

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / 'docs/recipes.md').read_text()
SECTIONS = dict(re.findall(r'^## ([^\n]+)\n(.*?)(?=^## |\Z)', TEXT, re.M | re.S))
RECIPES = {f'{title} {number}' if number else title: code for title, section in SECTIONS.items()
           for number, code in enumerate(re.findall(r'^```python\n(.*?)^```', section, re.M | re.S))}
# few channels, one or two steps, no processes
TINY = """
_base_ = './recipe.py'
model = dict(backbone=dict(embed_dims=32, num_heads=2, depth=DEPTH),
             neck=dict(in_channels=[32, 32, 32], out_channels=32),
             bbox_head=dict(in_channels=32, stacked_convs=1, test_cfg=dict(score_thr=0.0)))
default_hooks = dict(logger=dict(interval=1))
"""


@HOOKS.register_module()
class RecipeRecorder(Hook):
    """Keeps what the tests ask for; the latest is ``RecipeRecorder.last``."""

    last: 'RecipeRecorder'

    def __init__(self) -> None:
        RecipeRecorder.last = self
        self.rates: list[list[float]] = []
        self.shapes: list[tuple] = []
        self.labels: list[int] = []
        self.weights: list[torch.Tensor] = []

    def before_run(self, runner) -> None:
        self.runner = runner

    def before_train(self, runner) -> None:
        self.start = {name: value.detach().clone() for name, value in runner.model.named_parameters()}

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        self.rates.append([group['lr'] for group in runner.optim_wrapper.param_groups])
        for clip, samples in zip(data_batch['inputs'], data_batch['data_samples']):
            self.shapes.append(tuple(clip.shape[-2:]))
            self.labels += [int(label) for sample in samples for label in sample.gt_instances.labels]

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        self.training = {name for name, module in runner.model.named_modules() if module.training}
        self.weights.append(runner.model.bbox_head.fcos_cls.weight.detach().clone()
                            if hasattr(runner.model.bbox_head, 'fcos_cls') else next(runner.model.parameters()).clone())

    def changed(self) -> set[str]:
        return {name for name, value in self.runner.model.named_parameters()
                if not torch.equal(value, self.start[name])}


@pytest.fixture(scope='module')
def coco_root(tmp_path_factory):
    """Four images of COCO's form, with a frisbee, a tv, a pizza and a cat each."""
    root = tmp_path_factory.mktemp('coco')
    (root / 'annotations').mkdir()
    (root / 'train2017').mkdir()
    rng = np.random.default_rng(0)
    names = ('frisbee', 'tv', 'pizza', 'cat')
    coco_ids = dict(frisbee=34, tv=72, pizza=59, cat=17, clock=85, book=84)
    images, annotations = [], []
    for number in range(4):
        Image.fromarray(rng.integers(0, 255, (96, 160, 3), np.uint8)).save(root / f'train2017/{number}.jpg')
        images.append(dict(id=number, file_name=f'{number}.jpg', height=96, width=160))
        for place, name in enumerate(names):
            x = 4 + 38 * place
            annotations.append(dict(id=len(annotations) + 1, image_id=number, category_id=coco_ids[name], iscrowd=0,
                                    bbox=[x, 20, 30, 40], area=1200,
                                    segmentation=[[x, 20, x + 30, 20, x + 30, 60, x, 60]]))
    categories = [dict(id=number, name=name) for name, number in coco_ids.items()]
    (root / 'annotations/instances_train2017.json').write_text(json.dumps(dict(
        images=images, annotations=annotations, categories=categories)))
    return root


@pytest.fixture
def recipe(tmp_path, toy_root, coco_root, monkeypatch):
    """Writes a recipe as a reader would, beside the configs, and loads it with the tiny model."""
    monkeypatch.setenv('WANDB_MODE', 'offline')

    def load(title: str, *options: tuple[str, str], tiny: bool = True, items: int = 1, with_indices: bool = True,
             depth: int = 4):
        folder = tmp_path / 'configs'
        folder.mkdir()
        for path in (ROOT / 'configs').iterdir():
            (folder / path.name).symlink_to(path)
        code = RECIPES[title].replace('data/coco/', f'{coco_root}/').replace('data/toy/', f'{toy_root}/')
        (folder / 'recipe.py').write_text(code)
        (folder / 'tiny.py').write_text(TINY.replace('DEPTH', str(depth)))
        cfg = load_config(folder / ('tiny.py' if tiny else 'recipe.py'), options)
        loaders = [cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader]
        for loader in loaders:
            loader.update(num_workers=0, persistent_workers=False)
            if 'data_root' in loader.dataset and loader.dataset.data_root == 'data/toy/':
                loader.dataset.data_root = str(toy_root)
        if with_indices and 'indices' not in cfg.train_dataloader.dataset:
            cfg.train_dataloader.dataset.update(indices=items)
        for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
            evaluator.ann_file = f'{toy_root}/annotations/instances_valid.json'
        cfg.custom_hooks = [*cfg.get('custom_hooks', []), dict(type='RecipeRecorder')]
        cfg.experiment_name = tmp_path.name
        cfg.work_dir = str(tmp_path / 'work')
        cfg.env_cfg.mp_cfg.mp_start_method = 'fork'
        return cfg

    return load


def trained(cfg, **arguments) -> RecipeRecorder:
    train(cfg, **arguments)
    return RecipeRecorder.last


def test_every_recipe_is_a_config(recipe):
    assert len(RECIPES) >= 16 and all(code.startswith("_base_ = './") for code in RECIPES.values())


def test_the_average_is_saved(recipe):
    cfg = recipe('Average of the weights (EMA)', ('train_cfg.max_epochs', '1'), ('train_dataloader.batch_size', '1'),
                 items=2)
    recorder = trained(cfg)
    saved = torch.load(f'{cfg.work_dir}/epoch_1.pth', weights_only=True)
    name = next(name for name in recorder.changed() if name in saved['state_dict'] and name.endswith('weight'))
    now = dict(recorder.runner.model.named_parameters())[name].detach()
    ema = saved['state_dict'][name]
    assert not torch.equal(ema, now)  # the first step's weights, moved by 0.002 towards the second's
    assert (ema - now).norm() > 100 * (ema - (now + (ema - now) / 0.998)).norm()


def test_training_stops_early(recipe):
    cfg = recipe('Early stopping', ('train_cfg.max_epochs', '4'), ('custom_hooks.0.patience', '1'),
                 ('optim_wrapper.optimizer.lr', '1e-9'), items=1)
    cfg.val_dataloader.dataset.indices = 1
    recorder = trained(cfg, validate=True)
    assert any(isinstance(hook, EarlyStoppingHook) for hook in recorder.runner.hooks)
    assert recorder.runner.epoch == 2  # of four: the second validation is no better than the first


def test_gradients_are_accumulated(recipe, recwarn):
    recorder = trained(recipe('Gradient accumulation', ('train_cfg.max_epochs', '1'), items=5))
    steps = [not torch.equal(one, other) for one, other in zip(recorder.weights, recorder.weights[1:])]
    assert len(recorder.shapes) == 5 and recorder.runner.optim_wrapper._accumulative_counts == 4
    assert steps == [False, False, True, True]  # after the fourth batch, and after the rest
    assert not [warning for warning in recwarn if 'optimizer.step()' in str(warning.message)]


def test_frozen_parameters_stay(recipe):
    recorder = trained(recipe('Freezing', ('train_cfg.max_epochs', '1'), depth=12))
    changed = recorder.changed()
    assert changed and not any(re.match(r'backbone\.(patch_embed|blocks\.[0-5]\.)|neck\.', name) for name in changed)
    assert any(name.startswith('backbone.blocks.6.') for name in changed)
    assert 'neck' not in recorder.training and 'backbone.blocks.0' not in recorder.training
    assert 'backbone.blocks.6' in recorder.training


@pytest.mark.parametrize(('patterns', 'message'), [
    (['backbon'], "'backbon' matches no parameter of the model; their names begin with 0"),
    (['('], 'is not a regular expression'), (['0', '1'], 'leaves no parameter to train')])
def test_wrong_patterns_are_refused(patterns, message):
    with pytest.raises(UserError, match=re.escape(message)):
        freeze(torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.BatchNorm1d(1)), patterns)


def test_a_pattern_matches_whole_parts_of_names():
    model = torch.nn.Sequential(*(torch.nn.Linear(1, 1) for _ in range(12)))
    frozen = freeze(model, '1')
    assert [name for name, value in model.named_parameters() if not value.requires_grad] == ['1.weight', '1.bias']
    assert frozen == [model[1]]


def test_rates_by_name(recipe):
    recorder = trained(recipe('Learning rates by layer', ('train_cfg.max_epochs', '1')))
    rates = recorder.rates[0]
    assert min(rates) == pytest.approx(0.1 * max(rates))


def test_rates_by_depth(recipe):
    rates = sorted(set(trained(recipe('Learning rates by layer 1', ('train_cfg.max_epochs', '1'), depth=12)).rates[0]))
    assert len(rates) == 12  # the last block's is that of the other parts
    assert np.allclose(np.divide(rates[:-1], rates[1:]), 0.75)


def test_a_schedule_by_epochs(recipe):
    cfg = recipe('A schedule by epochs', ('param_scheduler.0.end', '2'), ('param_scheduler.1.milestones', '[2, 3]'),
                 ('param_scheduler.1.end', '4'), ('train_cfg.max_epochs', '4'))
    cfg.default_hooks.checkpoint = None
    assert [rates[0] for rates in trained(cfg).rates] == pytest.approx([2e-6, 2e-4, 2e-5, 2e-6])


def test_a_schedule_by_iterations(recipe, capfd):
    cfg = recipe('A schedule by iterations', ('train_cfg.max_iters', '3'), ('param_scheduler.0.end', '3'),
                 ('param_scheduler.0.T_max', '3'), ('default_hooks.checkpoint.interval', '2'))
    recorder = trained(cfg)
    assert 'end of the dataloader' not in ''.join(capfd.readouterr())  # three passes over the data
    assert recorder.runner.iter == 3 and (Path(cfg.work_dir) / 'iter_2.pth').is_file()
    assert [rates[0] for rates in recorder.rates] == pytest.approx([2e-4, 2e-6 + 0.75 * 1.98e-4, 2e-6 + 0.25 * 1.98e-4])


def test_image_size(recipe):
    recorder = trained(recipe('Image size', ('train_cfg.max_epochs', '1')))
    assert set(recorder.shapes) <= {(192, 320), (224, 373), (256, 427)}


def test_the_rate_follows_the_batch(recipe):
    recorder = trained(recipe('Batch size and learning rate', ('train_cfg.max_epochs', '1'), ('param_scheduler', '[]')))
    assert recorder.rates[0][0] == pytest.approx(1e-4)


def test_other_classes(recipe, caplog):
    cfg = recipe('Fine-tuning to other classes', ('train_cfg.max_epochs', '1'), ('train_dataloader.batch_size', '1'),
                 tiny=False, items=1)
    recorder = trained(cfg)
    shipped = torch.load(ROOT / 'checkpoints/memcnp_toy_shapes.pth', weights_only=True)['state_dict']
    layer, = (name for name, value in recorder.start.items() if name.endswith('cls.weight') and len(value) == 3)
    assert torch.allclose(recorder.start[layer], shipped[layer][:3].float())  # disc, square, triangle


def test_some_of_the_categories(recipe, tmp_path):
    cfg = recipe('Some of the categories', ('train_cfg.max_epochs', '1'), ('default_hooks.checkpoint.interval', '1'),
                 items=4)
    recorder = trained(cfg)
    assert set(recorder.labels) <= {0, 1}
    dataset = recorder.runner.train_dataloader.dataset
    assert dataset.metainfo['classes'] == ('triangle', 'disc') and dataset.cat_ids == (7, 5)
    test = cfg.copy()
    test.custom_hooks = []
    out = tmp_path / 'result.pkl'
    scores = apis.test(test, f'{cfg.work_dir}/epoch_1.pth', out=str(out), work_dir=str(tmp_path / 'test'),
                       report=str(tmp_path / 'report'))
    assert {track['category_id'] for track in json.loads(Path(f'{out}.json').read_text())} <= {5, 7}
    assert apis.test(test, load_result=str(out)) == scores and 'segm_AP' in scores
    assert 'square' not in (tmp_path / 'report/index.html').read_text()


def test_coco_by_name(recipe):
    cfg = recipe('COCO, mapped to your own classes', ('train_cfg.max_epochs', '1'))
    recorder = trained(cfg)
    assert sorted(set(recorder.labels)) == [0, 1, 2]  # no cat
    assert recorder.runner.train_dataloader.dataset.metainfo['classes'] == ('disc', 'square', 'triangle')


def test_several_data_sets(recipe):
    cfg = recipe('Several data sets at once', ('train_cfg.max_epochs', '1'), with_indices=False)
    cfg.train_dataloader.dataset.datasets[0].indices = 3
    recorder = trained(cfg)
    assert len(recorder.runner.train_dataloader.dataset) == 3 + 1


@pytest.mark.parametrize(('title', 'package'), [('Weights and Biases', 'wandb'), ('MLflow', 'mlflow')])
def test_loggers_need_their_package(recipe, title, package, monkeypatch):
    cfg = recipe(title)
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    with pytest.raises(UserError, match=f'pip install {package}'):
        check_backends(cfg)


def test_without_tensorboard(recipe):
    cfg = recipe('TensorBoard', ('train_cfg.max_epochs', '1'), items=1)
    trained(cfg)
    assert list(Path(cfg.work_dir).glob('*/vis_data/scalars.json'))
    assert not list(Path(cfg.work_dir).rglob('events.out.tfevents*'))
