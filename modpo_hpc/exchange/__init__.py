"""The paper's data into a run, and a run's data out of it: the authors' formats, datasets, adapters."""
