"""Paths that cannot be written are found before a model is built or read, and trying leaves nothing behind."""
import os

import pytest

from mmdet import apis
from mmdet.apis import load_config
from mmdet.engine import VideoRunner
from mmdet.errors import UserError
from mmdet.files import atomic_open, check_writable
from tools import video_demo


def everything_below(folder):
    return sorted(str(path) for path in folder.rglob('*'))


@pytest.mark.parametrize('place', ['x.pkl', 'new/folders/x.pkl', 'old.pkl'])
def test_good_paths_pass_and_stay_as_they_are(tmp_path, place):
    (tmp_path / 'old.pkl').write_text('old')
    before = everything_below(tmp_path)
    check_writable(tmp_path / place, '--out x')
    assert everything_below(tmp_path) == before and (tmp_path / 'old.pkl').read_text() == 'old'
    with atomic_open(tmp_path / place):
        pass


@pytest.mark.parametrize(('place', 'reason'), [
    ('file/x.pkl', 'Not a directory'), ('file/new/x.pkl', 'Not a directory'), ('folder', 'Is a directory'),
    ('broken/x.pkl', 'No such file or directory'), ('x' * 300, 'File name too long')])
def test_bad_paths_are_one_line_and_leave_nothing(tmp_path, place, reason):
    (tmp_path / 'file').touch()
    (tmp_path / 'folder').mkdir()
    (tmp_path / 'broken').symlink_to(tmp_path / 'nowhere')
    before = everything_below(tmp_path)
    with pytest.raises(UserError, match=rf'^--out it: .* cannot be written \({reason}, .*choose another') as caught:
        check_writable(tmp_path / place, '--out it')
    assert '\n' not in str(caught.value) and everything_below(tmp_path) == before
    with pytest.raises(UserError), atomic_open(tmp_path / place):
        pass


@pytest.mark.skipif(os.geteuid() == 0, reason='root may write anywhere')
def test_folders_without_permission(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match='Permission denied'):
        check_writable(tmp_path / 'x.pkl', '--out x')


@pytest.mark.parametrize(('arguments', 'message'), [
    (dict(out='{}/file/x.pkl'), r'--out .*/file/x\.pkl'), (dict(report='{}/file'), r'--report .*/file/index\.html'),
    (dict(out='{}/y.pkl'), r'--out .*/y\.pkl\.json'), (dict(out='{}/file/x.pkl', load_result='r.pkl'), '--out')])
def test_a_test_refuses_before_anything_is_built(toy_config, tmp_path, monkeypatch, arguments, message):
    (tmp_path / 'file').touch()
    (tmp_path / 'y.pkl.json').mkdir()
    for name in ('find_checkpoint', '_score_file'):
        monkeypatch.setattr(f'mmdet.apis.testing.{name}', lambda *_: pytest.fail('the test went on'))
    monkeypatch.setattr(VideoRunner, 'from_cfg', lambda _: pytest.fail('the model was built'))
    with pytest.raises(UserError, match=f'{message}.*choose another path'):
        apis.test(load_config(toy_config), 'weights.pth',
                  **{name: value.format(tmp_path) for name, value in arguments.items()})


def test_video_demo_refuses_before_the_model_loads(toy_root, toy_config, tmp_path, monkeypatch):
    (tmp_path / 'file').touch()
    monkeypatch.setattr('mmdet.apis.VideoInferencer', lambda *_, **__: pytest.fail('the model was built'))
    frames = sorted((toy_root / 'valid_images').iterdir())[0]
    for out in ('file', 'file/new'):
        with pytest.raises(UserError, match=rf'--out .*/{out}: .*Not a directory.*choose another path'):
            video_demo.main([str(frames), str(toy_config), str(toy_config), '--out', str(tmp_path / out)])


@pytest.mark.parametrize('name', ['l' * 255, '猫' * 85, '猫' * 80 + '.json'])
def test_names_up_to_the_limit_of_file_systems_are_written(name, tmp_path):
    check_writable(tmp_path / name, '--out')
    with atomic_open(tmp_path / name, 'w') as file:
        file.write('whole')
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize('name', ['l' * 256, '猫' * 86])
def test_names_beyond_it_are_refused_before_any_work(name, tmp_path):
    with pytest.raises(UserError, match='File name too long'):
        check_writable(tmp_path / name, '--out')
