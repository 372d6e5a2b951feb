"""A first profile from what sinfo says: functions of its text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import yaml

from modpo_hpc.launch.cluster import gpus_in, read_partitions


@dataclass(frozen=True)
class Partition:
    """A partition: its limit in minutes, and the GPUs of the node that has the most."""

    name: str
    minutes: float
    gpus: int
    default: bool


def read_sinfo(text: str) -> list[Partition]:
    """Lines of ``sinfo --format=%R|%l|%c|%m|%G|%P``; nodes of one partition that differ come as several lines."""
    found: dict[str, Partition] = {}
    for line in text.splitlines():
        name, limit, _, _, gres, starred = line.strip().split("|")
        one = Partition(name, read_partitions(f"{name}|{limit}")[name], gpus_in(gres), starred.endswith("*"))
        before = found.get(name, one)
        found[name] = replace(one, gpus=max(one.gpus, before.gpus), default=one.default or before.default)
    return list(found.values())


def draft_profile(sinfo: str, max_array_size: int, accounts: Sequence[str]) -> dict[str, Any]:
    """The fields of a profile: the default partition, and the one with GPUs that allows the longest jobs.

    What a shard takes, GPUs too, is left to the study: a demo on a GPU cluster wants none.
    """
    partitions = read_sinfo(sinfo)
    general = next((one for one in partitions if one.default), partitions[0])
    with_gpus = [one for one in partitions if one.gpus]
    gpu = max(with_gpus, key=lambda one: (one.minutes, one.default, one.gpus), default=None)
    fields: dict[str, Any] = {"description": "drafted from sinfo", "partition": general.name}
    if gpu is not None:
        fields["gpu_partition"] = gpu.name
    if accounts:
        fields["account"] = accounts[0]
    fields["limits"] = {"array_size": min(1000, max_array_size), "throttle": 32, "timeouts": 3, "preemptions": 50}
    return fields


def with_speeds(text: str, speeds: Mapping[str, float]) -> str:
    """The profile ``text`` with these ``speeds`` among its own; every other character stays, comments too."""
    for name, value in speeds.items():
        text = _with_speed(text, name, f"{value:.12g}")
    return text


def _with_speed(text: str, name: str, value: str) -> str:
    node = yaml.compose(text)
    fields = {key.value: (key, of) for key, of in node.value} if isinstance(node, yaml.MappingNode) else {}
    if "speeds" not in fields:
        return f"{text.rstrip()}\nspeeds: {{{name}: {value}}}\n".lstrip()
    key, there = fields["speeds"]
    known = {one.value: old for one, old in there.value} if isinstance(there, yaml.MappingNode) else {}
    if not known:
        start, end, new = key.start_mark, there.end_mark, f"speeds: {{{name}: {value}}}"
    elif name in known:
        start, end, new = known[name].start_mark, known[name].end_mark, value
    else:
        start = end = there.value[0][0].start_mark
        new = f"{name}: {value}" + (", " if there.flow_style else "\n" + " " * start.column)
    return text[: start.index] + new + text[end.index :]
