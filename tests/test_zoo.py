"""The table of public weights agrees with the configs, torchvision and timm; its names are accepted everywhere."""
import re
from pathlib import Path

import pytest
import torch
import torchvision.models
from timm.models import get_pretrained_cfg

from mmdet.apis import init_model, load_config
from mmdet.apis.config import pretrained_nodes
from mmdet.apis.training import _choose_start
from mmdet.checkpoint import StrictPretrainedInit, find_checkpoint
from mmdet.errors import UserError
from mmdet.models.backbones import ResNet
from mmdet.zoo import WEIGHTS, find_weights
from tests.helpers.file_server import serve
from tools import video_demo, weights
from train import build_parser

ROOT = Path(__file__).parent.parent
CONFIGS = sorted(path.name for path in (ROOT / 'configs').glob('*.py'))


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Set up an empty cache."""
    monkeypatch.setenv('MEMCNP_HOME', str(tmp_path / 'home'))
    monkeypatch.setenv('NO_PROXY', '127.0.0.1')
    folder = tmp_path / 'home' / 'checkpoints'
    folder.mkdir(parents=True)
    return folder


def test_names_and_files_are_unique():
    for field in ('name', 'file', 'address'):
        assert len({getattr(entry, field) for entry in WEIGHTS.values()}) == len(WEIGHTS)


def test_every_config_starts_from_weights_of_the_table_which_names_the_config():
    found = {config: [find_weights(node.init_cfg.checkpoint) for _, node in
                      pretrained_nodes(load_config(ROOT / 'configs' / config))] for config in CONFIGS}
    assert all(entry is not None for entries in found.values() for entry in entries)
    named = {(entry.name, config) for entry in WEIGHTS.values() for config in entry.configs}
    assert named == {(entry.name, config) for config, entries in found.items() for entry in entries}


@pytest.mark.parametrize(('name', 'enum'), [
    ('resnet18', 'ResNet18_Weights.IMAGENET1K_V1'), ('resnet50', 'ResNet50_Weights.IMAGENET1K_V2'),
    ('resnet101', 'ResNet101_Weights.IMAGENET1K_V2'), ('mobilenet_v2', 'MobileNet_V2_Weights.IMAGENET1K_V1'),
    ('maskrcnn_resnet50_fpn_coco', 'MaskRCNN_ResNet50_FPN_Weights.COCO_V1'),
    ('maskrcnn_resnet50_fpn_v2_coco', 'MaskRCNN_ResNet50_FPN_V2_Weights.COCO_V1')])
def test_torchvision_has_the_same_addresses_and_sizes(name, enum):
    theirs = torchvision.models.get_weight(enum)
    assert (WEIGHTS[name].address, WEIGHTS[name].size) == (theirs.url, theirs.meta['_file_size'])
    assert WEIGHTS[name].sha256 == torch.hub.HASH_REGEX.search(theirs.url)[1]


@pytest.mark.parametrize('name', [name for name in WEIGHTS if name.startswith('dinov2')])
def test_timm_has_the_same_repositories(name):
    entry = WEIGHTS[name]
    theirs = get_pretrained_cfg(Path(entry.file).stem)
    assert entry.address == f'hf://{theirs.hf_hub_id}/model.safetensors'
    assert entry.licence.lower() == theirs.license


@pytest.mark.parametrize(('name', 'architecture'), [
    ('mae_vit_base', 'vit_base_patch16_224.mae'), ('mae_vit_large', 'vit_large_patch16_224.mae'),
    ('swin_small', 'swin_small_patch4_window7_224.ms_in1k'),
    ('swin_large', 'swin_large_patch4_window12_384.ms_in22k')])
def test_timm_names_the_same_original_addresses_and_licences(name, architecture):
    theirs = get_pretrained_cfg(architecture)
    assert WEIGHTS[name].address == theirs.url
    assert re.sub('[ -]', '-', WEIGHTS[name].licence.lower()).startswith(theirs.license.rsplit('-', 1)[0])


@pytest.mark.parametrize('argument', ['resnet50', 'hf://owner/name/x.pth', 'https://example.org/x.pth',
                                      'data/weights/mae_pretrain_vit_base.pth'])
def test_command_lines_take_names_and_addresses(argument):
    config = str(ROOT / 'configs/memcnp_toy.py')
    assert build_parser().parse_args([config, '--load_from', argument]).load_from == argument
    assert video_demo.parse(['a.mp4', config, argument, '--out', 'x']).checkpoint == argument


@pytest.mark.parametrize('path', sorted([*(ROOT / 'tools').glob('**/*.py'), ROOT / 'train.py', ROOT / 'test_video.py']),
                         ids=lambda path: path.stem)
def test_no_command_line_takes_checkpoints_as_paths_only(path):
    assert not re.search(r"'(checkpoint|--load_from)'[^)]*existing_file", path.read_text())


def test_a_training_downloads_what_its_config_names_before_it_starts(home, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    source = ResNet(50)
    torch.save(source.state_dict(), tmp_path / 'x.pth')
    with serve({'/x.pth': (tmp_path / 'x.pth').read_bytes()}) as server:
        address = f'{server.address}/x.pth'
        cfg = load_config(ROOT / 'configs/masktrack_rcnn_r50_fpn_1x_yvis.py',
                          [('model.backbone.init_cfg.checkpoint', address)])
        _choose_start(cfg, None, None)
    backbone = ResNet(50)
    StrictPretrainedInit(address)(backbone)  # from the cache: the server is gone
    assert torch.equal(backbone.conv1.weight, source.conv1.weight)


def test_a_model_is_loaded_from_an_address_and_from_the_hub(home, monkeypatch):
    shipped = (ROOT / 'checkpoints/memcnp_toy_shapes.pth').read_bytes()
    with serve({'/x.pth': shipped, '/owner/name/resolve/main/x.pth': shipped}, headers={'ETag': '"1"'}) as server:
        monkeypatch.setenv('HF_ENDPOINT', server.address)
        for address in (f'{server.address}/x.pth', 'hf://owner/name/x.pth'):
            model = init_model(ROOT / 'configs/memcnp_toy_shapes.py', address, 'cpu')
            assert len(model.dataset_meta['classes']) == 6


def test_a_backbone_by_name_is_no_trained_model(home):
    torch.save(ResNet(50).state_dict(), home / 'resnet50-11ad3fa6.pth')
    with pytest.raises(UserError, match='resnet50 holds a backbone only, not a trained MaskTrackRCNN'):
        init_model(ROOT / 'configs/masktrack_rcnn_r50_fpn_1x_yvis.py', 'resnet50', 'cpu')


def test_a_missing_file_of_data_weights_is_taken_from_the_cache(home, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (home / 'mae_pretrain_vit_base.pth').touch()
    for name in ('data/weights/mae_pretrain_vit_base.pth', './data/weights/mae_pretrain_vit_base.pth', 'mae_vit_base'):
        assert find_checkpoint(name) == home / 'mae_pretrain_vit_base.pth'


def test_a_misspelt_name_is_one_line_with_near_ones():
    with pytest.raises(UserError, match='mae_vit_bas: no such checkpoint file; did you mean mae_vit_base'):
        find_checkpoint('mae_vit_bas')


def test_weights_list_shows_address_licence_and_place(home, capsys):
    (home / 'resnet18-f37072fd.pth').touch()
    assert weights.main(['list']) == 0
    text = capsys.readouterr().out
    assert all(entry.name in text and entry.address in text and entry.licence in text for entry in WEIGHTS.values())
    assert f'is at {home / "resnet18-f37072fd.pth"}' in text


def test_weights_get_downloads_to_the_cache_or_a_folder(home, tmp_path, capsys):
    with serve({'/x.pth': b'x'}) as server:
        assert weights.main(['get', f'{server.address}/x.pth']) == 0
        assert weights.main(['get', f'{server.address}/x.pth', '--out', str(tmp_path / 'here')]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [Path(line).read_bytes() for line in (lines[-3], lines[-1])] == [b'x', b'x']
    assert Path(lines[-1]).parent == tmp_path / 'here'


def test_weights_get_names_an_unknown_name_before_any_download(home):
    with serve({'/x.pth': b'x'}) as server, pytest.raises(UserError, match='no published weights'):
        weights.main(['get', f'{server.address}/x.pth', 'nonsense'])
    assert server.requests == []


def test_weights_verify_reports_right_wrong_and_unverified(home, capsys, monkeypatch):
    monkeypatch.chdir(home)  # the project's own data/weights may have files
    (home / 'resnet18-f37072fd.pth').write_bytes(b'x')
    (home / 'mae_pretrain_vit_base.pth').write_bytes(b'x')
    assert weights.main(['verify']) == 2
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert re.match(r'mae_vit_base: unverified, .* has SHA-256 2d711642', lines[0])
    assert re.match(r'resnet18: WRONG, .* has SHA-256 2d711642.*expected f37072fd', lines[1])
    assert weights.main(['verify', 'mae_vit_base']) == 0
    assert weights.main(['verify', 'resnet50']) == 2
    assert 'resnet50: not there' in capsys.readouterr().out
