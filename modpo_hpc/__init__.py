"""modpo-hpc: align a language model to several objectives, judged by personas, on a Slurm cluster.

.. include:: ../docs/api.md
"""

__version__ = "0.1.0"
