"""Train one policy of a study: join its examples, fill in the reference, run the loop."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from modpo_hpc.alignment.adapter import adapter_config, attach_adapter
from modpo_hpc.alignment.checkpoint import latest_checkpoint, read_layout
from modpo_hpc.alignment.engine import Engine, PlainEngine
from modpo_hpc.alignment.examples import Dropped, Example, join_examples, split_by_question
from modpo_hpc.alignment.margins import report_margins
from modpo_hpc.alignment.objective import Objective
from modpo_hpc.alignment.reference import LogProbs, ReferenceCache, model_key
from modpo_hpc.alignment.training import Trained, Watch, train
from modpo_hpc.alignment.trees import Tree, pack
from modpo_hpc.errors import InputError
from modpo_hpc.models import base_model_path
from modpo_hpc.prompts import response_tokens, therapist_prompt
from modpo_hpc.run import Run
from modpo_hpc.study.alignment import Training
