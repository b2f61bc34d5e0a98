"""Readability of the central model: size of its import closure, call depth from ``loss`` to the losses, file length."""
from __future__ import annotations

import ast
import sys
from pathlib import Path
from types import FrameType

from mmdet.models.dense_heads.base_dense_head import BaseDenseHead
from mmdet.models.detectors.single_stage import SingleStageDetector
from mmdet.models.memory import CNPMemory
from tests.helpers.golden import golden_pairs
from tests.helpers.models import build_memcnp

ROOT = Path(__file__).resolve().parents[2]
MODELS = ROOT / 'mmdet' / 'models'


def imported(path: Path) -> set[Path]:
    """The files of ``mmdet`` that a file names in its import statements."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names |= {f'{node.module}.{alias.name}' for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    stems = [ROOT / name.replace('.', '/') for name in names if name.split('.')[0] == 'mmdet']
    return {file for stem in stems for file in (stem.with_suffix('.py'), stem / '__init__.py') if file.is_file()}


def closure(path: Path) -> set[Path]:
    """The files of ``mmdet/models``, without ``__init__`` files, that must be read to know what a file does."""
    found, remaining = set(), [path]
    while remaining:
        file = remaining.pop()
        if file not in found and MODELS in file.parents:
            found.add(file)
            remaining += imported(file)
    return {file for file in found if file.name != '__init__.py'}


def test_the_import_closure_of_the_memcnp_head_has_at_most_fifteen_files():
    names = sorted(str(file.relative_to(MODELS)) for file in closure(MODELS / 'dense_heads/cnp_contrast_head.py'))
    assert 'memory/cnp_memory.py' in names  # the closure is followed
    assert len(names) <= 15, names
    assert not any('graph' in name for name in names)  # CUDA graphs are applied outside of the head


def test_no_import_for_type_checking_only():
    """Such an import would mean a circular dependency between two files."""
    assert [str(file) for file in MODELS.rglob('*.py') if 'TYPE_CHECKING' in file.read_text()] == []


def test_no_file_is_longer_than_400_lines():
    lengths = {str(file.relative_to(ROOT)): file.read_text().count('\n') for file in (ROOT / 'mmdet').rglob('*.py')}
    assert {name: length for name, length in lengths.items() if length > 400} == {}


def test_at_most_six_functions_are_called_from_loss_to_the_losses():
    """Counted are the methods of detector, head and memory; not the functions of tensors that these call."""
    walk: list[str] = []

    def profile(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        owner = frame.f_locals.get('self')
        if (event == 'call' and not code.co_name.startswith('<') and code.co_filename.startswith(str(MODELS))
                and isinstance(owner, SingleStageDetector | BaseDenseHead | CNPMemory)):
            walk.append(code.co_qualname)

    model = build_memcnp(embed_dims=32, channels=32).train()
    inputs, clips = golden_pairs(seed=11, height=64, width=96, batch=1)
    sys.setprofile(profile)
    try:
        model.loss(inputs, clips)
    finally:
        sys.setprofile(None)
    assert walk == ['SipMaskMem.loss', 'SingleStageDetector.extract_feat', 'CNPContrastHead.loss',
                    'CNPContrastHead.forward', 'CNPMemory.forward', 'CNPContrastHead.criterion']
