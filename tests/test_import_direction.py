"""Imports within ``mmdet`` point down the list of docs/architecture.md only."""
from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FORBIDDEN_TO_MODELS = {'datasets', 'evaluation', 'visualization', 'video'}


def documented_layers() -> dict[str, int]:
    """Layer of each part of ``mmdet``, 0 at the top, as the arrows of the documentation say."""
    text = (ROOT / 'docs/architecture.md').read_text()
    line, = (line for line in text.splitlines() if line.startswith('scripts and tools →'))
    groups = [re.findall(r'`(\w+)`', group) for group in line.split('→')[1:]]
    return {part: layer for layer, group in enumerate(groups) for part in group}


LAYERS = documented_layers()


def part_of(path: Path) -> str:
    """The part of ``mmdet`` that a file belongs to."""
    return path.relative_to(ROOT / 'mmdet').parts[0].removesuffix('.py')


def imported_modules(path: Path) -> set[str]:
    """Full names of the modules that a file imports anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
            if node.module == 'mmdet':
                names |= {f'mmdet.{alias.name}' for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names


def test_every_part_is_in_the_documented_list():
    parts = {part_of(path) for path in (ROOT / 'mmdet').rglob('*.py')} - {'__init__'}
    assert parts == set(LAYERS), 'docs/architecture.md names the layer of every part of mmdet'


@pytest.mark.parametrize('part', sorted(LAYERS))
def test_imports_point_down(part):
    wrong = set()
    for path in (ROOT / 'mmdet').rglob('*.py'):
        if part_of(path) != part:
            continue
        for name in imported_modules(path):
            top, _, rest = name.partition('.')
            target = rest.split('.')[0]
            up = LAYERS.get(target, LAYERS[part]) < LAYERS[part]
            forbidden = part == 'models' and target in FORBIDDEN_TO_MODELS
            if top in ('tests', 'tools', 'train', 'test_video') or (top == 'mmdet' and (up or forbidden)):
                wrong.add((str(path.relative_to(ROOT)), name))
    assert wrong == set()


def loaded_at_import(module: str) -> set[str]:
    """Full names of the modules that importing one of ``mmdet`` loads, as far as the project's own files tell."""
    found: set[str] = set()
    remaining = [module]
    while remaining:
        name = remaining.pop()
        if name in found:
            continue
        found.add(name)
        stem = ROOT / name.replace('.', '/')
        file = next((file for file in (stem.with_suffix('.py'), stem / '__init__.py') if file.is_file()), None)
        if name.split('.')[0] != 'mmdet' or file is None:
            continue
        remaining.append(name.rpartition('.')[0] or name)  # a module's package is imported before it
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.Import):
                remaining += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                remaining += [node.module, *(f'{node.module}.{alias.name}' for alias in node.names)]
    return found


@pytest.mark.parametrize(('module', 'heavy'), [
    ('mmdet.datasets', {'torchvision', 'scipy', 'timm', 'av', 'huggingface_hub', 'safetensors', 'matplotlib'}),
    ('mmdet.evaluation', {'torchvision', 'scipy', 'timm', 'av', 'huggingface_hub', 'safetensors', 'matplotlib'}),
    ('mmdet.models', {'scipy', 'av', 'huggingface_hub', 'matplotlib'}),
])
def test_heavy_packages_load_only_where_they_are_used(module, heavy):
    """Importing torchvision takes 130 MB and 2 s, scipy.optimize 35 MB."""
    loaded = loaded_at_import(module)
    assert 'mmdet.structures.boxes' in loaded  # the imports are followed
    assert heavy & {name.split('.')[0] for name in loaded} == set()


@pytest.mark.parametrize('tool', ['tools/vis_eval.py', 'tools/analysis_tools/error_analysis.py'])
def test_scoring_does_not_wait_for_the_import_of_models(tool):
    names = {name for module in imported_modules(ROOT / tool) for name in loaded_at_import(module)}
    parts = {name.split('.')[1] for name in names if name.startswith('mmdet.')}
    assert 'evaluation' in parts and not parts & {'models', 'engine', 'datasets'}
