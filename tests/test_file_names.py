"""A file name says which file is meant: no two modules of the package share one."""
from collections import defaultdict
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / 'mmdet'


def test_module_names_are_unique():
    """Operators are left out: each has the same files (``ops.py``, ``kernels.py``) in a folder of its own."""
    found = defaultdict(list)
    for path in PACKAGE.rglob('*.py'):
        if path.name != '__init__.py' and PACKAGE / 'ops' not in path.parents:
            found[path.name].append(str(path.relative_to(PACKAGE)))
    assert not {name: paths for name, paths in found.items() if len(paths) > 1}
