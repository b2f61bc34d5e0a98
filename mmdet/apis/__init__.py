"""The public functions and classes, which train.py, test_video.py and notebooks call.

They are imported on first use, so that the command lines report wrong flags before torch is imported.
"""
import gc
from importlib import import_module
from types import ModuleType
from typing import Any

_HOME = dict(train='training', test='testing', init_model='inference', load_config='config',
             VideoInferencer='video_inferencer', write_report='reporting', export_result='exporting')
__all__ = ['VideoInferencer', 'export_result', 'init_model', 'load_config', 'test', 'train', 'write_report']


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith('__'))})


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(_imported(f'mmdet.apis.{_HOME[name]}'), name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def _imported(name: str) -> ModuleType:
    """Import a module without collecting garbage, which takes a fifth of the time: thousands of modules all remain."""
    collects = gc.isenabled()
    gc.disable()
    try:
        return import_module(name)
    finally:
        if collects:
            gc.enable()
