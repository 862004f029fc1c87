"""One thread: problems here are small, and threads that wait for each other on a busy machine make them a hundred times slower."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
