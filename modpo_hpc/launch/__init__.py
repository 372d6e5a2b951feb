"""How shards get run: locally, by Slurm, with Ray and DeepSpeed."""
