"""The line that says what a measurement ran on."""
import os
import re

import torch

from tools.analysis_tools.measures.hardware import hardware


def test_processor_threads_and_versions():
    line = hardware(torch.device('cpu'))
    name, cores, threads = re.match(r'(.+), (\d+) cores, (\d+) threads; Python 3\.\d+\.\d+, torch ', line).groups()
    assert name.strip() and int(threads) == torch.get_num_threads()
    assert int(cores) == len(os.sched_getaffinity(0))
    assert torch.__version__ in line and '\n' not in line
