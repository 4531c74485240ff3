"""Settings that must stand before torch is imported, here and in the processes that tests start."""

import os

# One thread each: two of them wait for each other, spinning, whenever something else keeps a core busy.
os.environ.setdefault("OMP_NUM_THREADS", "1")
