"""A pack: read by plain tar, the same twice, and telling of every change."""

from __future__ import annotations

import subprocess
import tarfile
from pathlib import Path

import pytest

from modpo_hpc.cli.main import main
from modpo_hpc.launch.entry import run_shard
from modpo_hpc.packing import DamagedPack, pack, verify_pack
from modpo_hpc.run import Run
from tests.generation.runs import started_run, study_of, write_posts


@pytest.fixture
def run(tiny_model: Path, tmp_path: Path) -> Run:
    started = started_run(tmp_path / "run", study_of(tiny_model, write_posts(tmp_path / "posts.csv")))
    run_shard(str(started.root), "personas", "all")
    return started


def test_an_unfinished_run_is_packed_only_on_purpose(run, tmp_path, capsys):
    target = tmp_path / "x.tar"
    assert main(["pack", str(run.root), "--to", str(target)]) == 3
    assert "responses are not finished" in capsys.readouterr().err
    assert not target.exists()
    assert main(["pack", str(run.root), "--to", str(target), "--partial"]) == 0
    assert main(["pack", "--verify", str(target)]) == 0
    assert "every file is what was packed" in capsys.readouterr().out.lower()


def test_plain_tar_gives_the_run_back(run, tmp_path):
    target = tmp_path / "x.tar"
    pack(run, target, partial=True)
    subprocess.run(["tar", "xf", str(target), "-C", str(tmp_path)], check=True)
    again = Run.open(tmp_path / "tiny")
    assert again.study == run.study
    assert again.table("questions").equals(run.table("questions"))
    assert again.missing("questions") == []


def test_the_same_run_gives_the_same_bytes(run, tmp_path):
    (run.folder("questions") / ".work").mkdir(exist_ok=True)
    (run.folder("questions") / ".work/left").write_text("scratch")
    first, second = tmp_path / "1.tar", tmp_path / "2.tar"
    pack(run, first, partial=True)
    (run.folder("questions") / ".work/left").write_text("other scratch")
    pack(run, second, partial=True)
    assert first.read_bytes() == second.read_bytes()
    with tarfile.open(first) as tar:
        assert not [name for name in tar.getnames() if ".work" in name]


def test_a_changed_output_is_not_packed(run, tmp_path):
    path = run.table_path("questions", "all")
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(DamagedPack, match="not what its shard made"):
        pack(run, tmp_path / "x.tar", partial=True)
    assert not (tmp_path / "x.tar").exists()


@pytest.mark.parametrize("where", [0.2, 0.5, 0.8])
def test_a_damaged_pack_is_told(run, tmp_path, where, capsys):
    target = tmp_path / "x.tar"
    pack(run, target, partial=True)
    whole = target.read_bytes()
    with tarfile.open(target) as tar:
        members = [one for one in tar if one.size]
    member = members[int(where * len(members))]
    place = member.offset_data + member.size // 2
    target.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    assert main(["pack", "--verify", str(target)]) in (1, 2)
    target.write_bytes(whole[: int(where * len(whole))])
    assert main(["pack", "--verify", str(target)]) == 2
    assert "Copy it again" in capsys.readouterr().err


def test_weights_can_stay_behind(run, tmp_path):
    pack(run, tmp_path / "x.tar", leave_out=("questions",), partial=True)
    with tarfile.open(tmp_path / "x.tar") as tar:
        names = tar.getnames()
    assert "tiny/questions/markers/all.json" in names
    assert "tiny/questions/questions.parquet" not in names
    assert verify_pack(tmp_path / "x.tar").name == "tiny"
