"""A worker a core: each computes with one thread, since threads that share a core wait for each other."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
