"""modpo-hpc: align a language model to several objectives, judged by personas, on a Slurm cluster."""

__version__ = "0.1.0"
