"""`pip install .`: the wheel carries everything and declares its needs; its console commands work from any folder."""
import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import mmdet
from mmdet import commands, shipped
from mmdet.apis.config import load_config
from mmdet.checkpoint import find_checkpoint

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']
SOURCES = ('mmdet', 'configs', 'tools', 'checkpoints', 'data/shapes.mp4', 'setup.py', 'pyproject.toml', 'README.md',
           'LICENSE', 'MANIFEST.in', 'train.py', 'test_video.py')


def normal(name: str) -> str:
    return re.sub(r'[-_.]+', '-', name).lower()


@pytest.fixture(scope='module')
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of a copy of the project, without the compiled operator, as where there is no compiler."""
    folder = tmp_path_factory.mktemp('wheel')
    for name in SOURCES:
        (folder / 'source' / name).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
        copy(ROOT / name, folder / 'source' / name)
    pip('wheel', '--no-deps', '--no-build-isolation', '--no-index', '--wheel-dir', folder, folder / 'source')
    return next(folder.glob('*.whl'))


def pip(*arguments: object) -> None:
    done = subprocess.run([sys.executable, '-m', 'pip', '--disable-pip-version-check', *map(str, arguments)],
                          env=os.environ | {'CXX': 'no-compiler'}, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


@pytest.fixture(scope='module')
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the wheel; its other packages are those that run the tests."""
    folder = tmp_path_factory.mktemp('environment')
    subprocess.run([sys.executable, '-m', 'venv', '--without-pip', folder], check=True, timeout=120)
    site, = folder.glob('lib/python*/site-packages')
    # the folders that hold packages, wherever PYTHONPATH or pip's --target has put them
    folders = dict.fromkeys(str(package.locate_file('')) for package in metadata.distributions())
    # addsitedir() also reads their .pth files: from Python 3.12, setuptools' is what provides distutils
    (site / 'packages.pth').write_text('\n'.join(f'import site; site.addsitedir({path!r})' for path in folders
                                                 if Path(path).resolve() != ROOT))
    # without compiling, which would take longer than what is tested
    pip('--python', folder / 'bin/python', 'install', '--no-compile', '--no-deps', '--no-index', wheel)
    return folder


def call(environment: Path, folder: Path, command: str, *arguments: object) -> subprocess.CompletedProcess:
    variables = {name: value for name, value in os.environ.items() if name != 'PYTHONPATH'}
    return subprocess.run([environment / 'bin' / command, *map(str, arguments)], cwd=folder, text=True, timeout=300,
                          env=variables | {'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': '', 'COLUMNS': '200'},
                          capture_output=True)


@pytest.mark.slow
def test_the_wheel_holds_the_files_of_the_project(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    ignored = ('csrc', '__pycache__', '.so')
    inside = {str(path.relative_to(ROOT)) for path in (ROOT / 'mmdet').rglob('*.*') if path.is_file()}
    beside = {f'mmdet/.mim/{path.relative_to(ROOT)}' for top in ('configs', 'tools', 'checkpoints')
              for path in (ROOT / top).rglob('*.*') if path.is_file()}
    beside |= {f'mmdet/.mim/{name}' for name in ('train.py', 'test_video.py', 'data/shapes.mp4')}
    assert {name for name in inside | beside if not any(part in name for part in ignored)} <= names
    assert not {name for name in names if not name.startswith(('mmdet/', 'memcnp_vis-'))}  # nothing else at the top


# the entry points of several commands, one after the other, so that PyTorch is imported once
IN_TURN = """
import json, sys
from mmdet import commands
for function, *words in json.loads(sys.argv[1]):
    sys.argv = [f'memcnp-{function}', *words]
    try:
        getattr(commands, function)()
    except SystemExit as end:
        print(f'{function} ended with {end.code}', flush=True)
"""


@pytest.mark.slow
def test_the_commands_work_from_any_folder(environment, tmp_path):
    mask = dict(size=[270, 480], counts=[270 * 100 + 100, 50, 270 * 380 - 150])
    truth = dict(categories=[dict(id=number, name=str(number)) for number in range(1, 7)],
                 videos=[dict(id=1, height=270, width=480, file_names=['0.png', '1.png'])],
                 annotations=[dict(id=1, video_id=1, category_id=1, iscrowd=0, areas=[50, 50],
                                   bboxes=[[100, 100, 1, 50]] * 2, segmentations=[mask, mask])])
    (tmp_path / 'truth.json').write_text(json.dumps(truth))
    calls = [['video', 'data/shapes.mp4', 'memcnp_toy_shapes', 'checkpoints/memcnp_toy_shapes.pth', '--end', '2',
              '--outputs', 'json', '--thresh', '0.1'],
             ['evaluate', 'demo_output/shapes.json', 'truth.json'],
             ['train', 'memcnp_toy', '--gpus', '0']]
    done = call(environment, tmp_path, 'python', '-c', IN_TURN, json.dumps(calls))
    assert re.findall(r'^(\w+) ended with (\d)$', done.stdout, re.M) == [
        ('video', '0'), ('evaluate', '0'), ('train', '2')], done.stdout + done.stderr
    assert 'shapes, 2 frames' in done.stdout and 'AP50' in done.stdout
    tracks = json.loads((tmp_path / 'demo_output/shapes.json').read_text())
    assert {tuple(mask['size']) for track in tracks for mask in track['segmentations'] if mask} == {(270, 480)}
    # the config was found, the data were not
    assert 'data/toy' in done.stderr.splitlines()[-1] and 'Traceback' not in done.stderr


@pytest.mark.slow
def test_the_commands_have_help(environment, tmp_path):
    for command in ('memcnp-train', 'memcnp-test', 'memcnp-video', 'memcnp-eval'):
        assert f'usage: {command} ' in call(environment, tmp_path, command, '--help').stdout
    assert 'check_dataset' in call(environment, tmp_path, 'memcnp-tool').stdout
    assert 'usage: ' in call(environment, tmp_path, 'memcnp-tool', 'weights', '--help').stdout


def test_every_console_command_exists():
    assert {'memcnp-train', 'memcnp-test', 'memcnp-video', 'memcnp-eval'} <= set(PROJECT['scripts'])
    assert all(callable(getattr(commands, entry.removeprefix('mmdet.commands:')))
               for entry in PROJECT['scripts'].values())


def test_every_script_takes_shipped_configs_by_name():
    scripts = [ROOT / 'train.py', ROOT / 'test_video.py', *(ROOT / 'tools').rglob('*.py')]
    kinds = {path.name: kind for path in scripts
             for kind in re.findall(r"add_argument\('config', .*?type=(\w+)", path.read_text())}
    assert {'export.py', 'web_demo.py', 'train.py'} <= set(kinds)
    assert set(kinds.values()) <= {'config_file', 'config_or_record'}, kinds


def test_an_unknown_tool_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['memcnp-tool', 'nothing'])
    with pytest.raises(SystemExit) as stop:
        commands.tool()
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith('error: memcnp-tool nothing: no such tool; there are benchmark')


def imported_packages(*folders: str) -> set[str]:
    """Names of the modules outside of the project and the standard library that its files import."""
    found = set()
    for path in (file for folder in folders for file in (ROOT / folder).rglob('*.py')):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.split('.')[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.split('.')[0])
    return found - set(sys.stdlib_module_names) - {'mmdet', 'tools', 'tests'}


def test_every_package_that_is_imported_is_declared():
    extras = [line for lines in PROJECT['optional-dependencies'].values() for line in lines]
    declared = {normal(Requirement(line).name) for line in PROJECT['dependencies'] + extras}
    # of torch on Linux; compared with by a benchmark if it is there; of Gradio, which is served by it
    declared |= {'triton', 'transformers', 'starlette'}
    declared.add('opencv-python-headless')  # the same module, without windows
    distributions = metadata.packages_distributions()
    missing = {name for name in imported_packages('mmdet', 'tools')
               if declared.isdisjoint(normal(owner) for owner in distributions.get(name, [name]))}
    assert not missing


def test_dependencies_start_at_the_tested_versions():
    pins = dict(line.split('==') for line in (ROOT / 'env_pip.txt').read_text().splitlines() if '==' in line)
    versions = {normal(name): version for name, version in pins.items()}
    for line in PROJECT['dependencies']:
        requirement = Requirement(line)
        tested = versions[normal(requirement.name)]
        assert requirement.specifier.contains(tested), line
        lower = [one for one in requirement.specifier if one.operator == '>=']
        assert not lower or lower[0].version == tested, f'{line}: {tested} is tested'
    build = tomllib.loads((ROOT / 'pyproject.toml').read_text())['build-system']['requires']
    assert 'torch==2.11.*' in build and 'torch==2.11.*' in PROJECT['dependencies']  # one C++ interface


def test_shipped_files_are_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = ROOT / 'configs/memcnp_toy.py'
    for name in ('memcnp_toy', 'memcnp_toy.py', 'configs/memcnp_toy.py', config):
        assert load_config(name).filename == str(config)
    weights = ROOT / 'checkpoints/memcnp_toy_shapes.pth'
    assert find_checkpoint('checkpoints/memcnp_toy_shapes.pth') == weights
    assert shipped.find_shipped('data/shapes.mp4') == ROOT / 'data/shapes.mp4'
    for path in ('README.md', 'configs/nowhere.py', 'configs/../README.md', 'configs'):
        assert shipped.find_shipped(path) == Path(path)


def test_own_files_come_before_shipped_ones(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'configs').mkdir()
    (tmp_path / 'configs/memcnp_toy.py').write_text('model = dict(type="FCOS")')
    assert shipped.find_config('configs/memcnp_toy.py') == Path('configs/memcnp_toy.py')


def test_a_config_of_ones_own_inherits_from_a_shipped_one(tmp_path):
    path = tmp_path / 'mine.py'
    path.write_text("_base_ = '{{$MEMCNP_CONFIGS:}}/memcnp_toy.py'\nmodel = dict(bbox_head=dict(num_classes=4))\n")
    cfg = load_config(path)
    assert cfg.model.bbox_head.num_classes == 4 and cfg.model.type == 'SipMaskMem'


def test_another_package_of_the_same_name_is_reported_in_one_line(monkeypatch, capsys):
    mmdet._report_namesake()
    assert capsys.readouterr().err == ''
    monkeypatch.setattr(metadata, 'version', {'mmdet': '3.3.0'}.__getitem__)
    mmdet._report_namesake()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("warning: OpenMMLab's mmdetection 3.3.0 is installed")
    assert 'pip uninstall mmdet' in lines[0]


def test_the_listing_of_the_public_interface_is_complete():
    import mmdet.apis
    assert [name for name in dir(mmdet.apis) if not name.startswith('_')] == mmdet.apis.__all__
    assert all(callable(getattr(mmdet.apis, name)) for name in mmdet.apis.__all__)
