"""The setting of glibc's allocator: freed blocks are used again instead of being mapped anew."""
import os
import subprocess
import sys

import pytest

PROBE = """
import resource
from mmdet.apis.allocator import keep_freed_memory

keep_freed_memory()
blocks = [b'x' * 2 ** 22 for _ in range(12)]  # 48 MiB, which glibc would return when they are freed
del blocks
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
blocks = [b'x' * 2 ** 22 for _ in range(12)]
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != 'linux' or 'glibc' not in os.confstr('CS_GNU_LIBC_VERSION'), reason='needs glibc')
@pytest.mark.parametrize(('variables', 'kept'), [
    ({}, True),
    ({'MALLOC_TRIM_THRESHOLD_': '131072'}, False),  # the user's own setting
])
def test_freed_blocks_are_used_again(variables, kept):
    result = subprocess.run([sys.executable, '-c', PROBE], env=os.environ | variables, capture_output=True, text=True,
                            check=True)
    pages = 12 * 2 ** 22 // os.sysconf('SC_PAGE_SIZE')
    assert int(result.stdout) < pages / 10 if kept else int(result.stdout) > pages / 2
