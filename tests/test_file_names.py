"""File names identify a module: no two modules of the package have the same one."""
from collections import defaultdict
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / 'mmdet'


def test_module_names_are_unique():
    found = defaultdict(list)
    for path in PACKAGE.rglob('*.py'):
        if path.name != '__init__.py':
            found[path.name].append(str(path.relative_to(PACKAGE)))
    assert not {name: paths for name, paths in found.items() if len(paths) > 1}
