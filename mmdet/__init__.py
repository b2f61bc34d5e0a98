"""MemCNP-VIS: online video instance segmentation with a memory-based conditional neural process."""
import os as _os
import sys as _sys
from importlib import metadata as _metadata

__version__ = '1.0.0'


def _report_namesake() -> None:
    """Print one line if OpenMMLab's mmdetection, whose package is also called ``mmdet``, is installed here, too."""
    try:
        version = _metadata.version('mmdet')  # the name of its distribution; that of this project is memcnp-vis
    except _metadata.PackageNotFoundError:
        return
    if _os.environ.get('LOCAL_RANK', '0') == '0':  # of several processes of one machine, one reports it
        print(f"warning: OpenMMLab's mmdetection {version} is installed in this environment, and its package is called "
              'mmdet as that of MemCNP-VIS: each overwrites files of the other; pip uninstall mmdet and install '
              'memcnp-vis again, or use an environment for each', file=_sys.stderr)


_report_namesake()
