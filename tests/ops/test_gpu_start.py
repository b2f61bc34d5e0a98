"""A GPU can be initialised in a thread, before anything else uses it. Needs a GPU."""
import subprocess
import sys
from pathlib import Path

import pytest

# in a process of its own, in which no GPU is in use before
CHECK = """
import threading, torch
from mmdet.ops.device import initialise_gpu
before = torch.get_rng_state()
thread = threading.Thread(target=initialise_gpu, args=(torch.device('cuda', 0),))
thread.start()
torch.cuda.init()  # at the same time
thread.join()
assert torch.cuda.memory_reserved() and torch.get_rng_state().equal(before)
print('initialised')
"""


@pytest.mark.cuda
def test_a_gpu_is_initialised_in_a_thread():
    done = subprocess.run([sys.executable, '-c', CHECK], capture_output=True, text=True, timeout=120,
                          cwd=Path(__file__).resolve().parents[2])
    assert done.stdout == 'initialised\n', done.stderr
