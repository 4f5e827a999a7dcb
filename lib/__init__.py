"""The machinery behind the notebooks: plain functions on rows."""

import logging

# its import tells a CPU to fetch kernels from the hub
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
