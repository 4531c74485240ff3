"""Threads are limited for few rows and put back, told in a process that has two of them."""

import os
import subprocess
import sys
from pathlib import Path

CHECKS = Path(__file__).with_name("with_two_threads.py")


def test_few_rows_have_one_thread_and_nothing_else_changes() -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(CHECKS)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
