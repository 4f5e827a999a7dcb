"""The machinery behind the notebooks: plain functions on rows."""

import logging

logging.getLogger("bitsandbytes").setLevel(
    logging.ERROR
)  # its import tells a CPU to fetch kernels from the hub
