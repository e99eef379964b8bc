"""The files that hold what MLflow has not received."""

import json
from pathlib import Path

import pytest

from mura_skorch.tracking.offline import spool as spool_module
from mura_skorch.tracking.offline.send_records import batch
from mura_skorch.tracking.offline.spool import Spool, SpoolFile, decode, encode, find_spools

HEADER = {"key": "0" * 32, "run_id": None, "name": "wrist 1/2", "start_time": 5}


def numbered(*numbers):
    return [{"time": n, "metrics": {"a": float(n)}} for n in numbers]


def values(file):
    return [record["time"] for record, _ in file.pending()]


@pytest.fixture
def file(tmp_path):
    file = SpoolFile(tmp_path / "records.jsonl")
    for record in numbered(1, 2, 3):
        file.append(record)
    return file


def test_decoding_gives_what_was_encoded_and_where_it_ends():
    records = [{"tags": {"note": "line\nbreak, ä"}}, {"metrics": {"a": 1e-300}}]
    data = b"".join(map(encode, records))
    assert data.count(b"\n") == 2
    assert decode(data) == [(records[0], len(encode(records[0]))), (records[1], len(data))]


def test_line_that_is_being_written_is_left_and_a_damaged_one_skipped():
    data = encode({"a": 1}) + b'{"b": \n' + encode({"c": 3})
    assert [record for record, _ in decode(data + b'{"d": 4')] == [{"a": 1}, {"c": 3}]
    assert decode(b"") == decode(b"{") == []


def test_file_continues_after_what_was_sent(file):
    assert values(file) == [1, 2, 3]
    file.mark_sent(file.pending()[1][1])
    assert values(file) == [3]
    file.append(numbered(4)[0])
    assert values(file) == [3, 4]


def test_file_is_empty_once_all_is_sent(file):
    file.mark_sent(file.pending()[-1][1])
    assert file.path.stat().st_size == 0
    file.append(numbered(4)[0])
    assert values(file) == values(SpoolFile(file.path)) == [4]


def test_new_process_starts_with_the_first_record_since_the_file_was_empty(file):
    file.mark_sent(file.pending()[1][1])
    assert values(SpoolFile(file.path)) == [1, 2, 3]


def test_record_after_a_torn_line_is_whole(file):
    with file.path.open("ab") as opened:
        opened.write(b'{"time": 4, "met')
    again = SpoolFile(file.path)
    again.append(numbered(5)[0])
    assert values(again) == [1, 2, 3, 5]


def test_record_larger_than_one_read_is_found(file):
    assert [record["time"] for record, _ in file.pending(n_bytes=3)] == [1, 2, 3]


def test_batch_holds_metrics_or_one_other_record():
    metrics, tag = {"metrics": {"a": 1.0}, "step": 1, "time": 1}, {"tags": {"a": "b"}, "time": 1}
    assert batch([metrics, metrics, tag, metrics]) == 2
    assert batch([tag, tag, metrics]) == 1
    assert batch([metrics] * 1500) == 1000
    many = {"metrics": dict.fromkeys(map(str, range(999)), 1.0), "time": 1}
    assert batch([many, metrics, metrics]) == 2
    assert batch([{**many, "metrics": many["metrics"] | {"x": 1.0, "y": 2.0}}, metrics]) == 1


def test_spool_is_used_by_one_process_and_removed_when_it_is_finished():
    spool = Spool.create(HEADER)
    assert spool.folder.parent.name == "mlflow_offline"
    assert spool.folder.name.startswith("wrist_1_2-")
    assert json.loads((spool.folder / "run.json").read_text()) == HEADER
    assert Spool.open(spool.folder) is None, "it is in use"
    spool.append(numbered(1)[0])
    spool.close()
    again = Spool.open(spool.folder)
    assert values(again.records) == [1]
    again.records.mark_sent(again.records.pending()[-1][1])
    again.close()
    assert not Path("mlflow_offline").exists()


def test_spool_holds_copies_of_files(tmp_path):
    (tmp_path / "source" / "sub").mkdir(parents=True)
    file = tmp_path / "source" / "sub" / "notes.txt"
    file.write_text("then")
    spool = Spool.create(HEADER)
    record = {"files": ["sub/notes.txt"], "artifact_path": "report"}
    spool.append(record, tmp_path / "source")
    file.write_text("now")
    assert (spool.artifacts_of(record) / "sub" / "notes.txt").read_text() == "then"
    assert spool.records.pending() == []
    assert [found for found, _ in spool.files.pending()] == [record]


def test_rejected_record_stays_until_it_is_sent_again():
    spool = Spool.create(HEADER)
    spool.reject(numbered(1)[0])
    assert spool.is_empty
    assert not spool.is_finished
    spool.close()
    again = Spool.open(spool.folder)
    again.retry_rejected()
    assert values(again.records) == [1]
    assert not (again.folder / "rejected.jsonl").exists()


def test_run_finds_the_spool_that_an_earlier_process_left_of_it():
    spool = Spool.create(HEADER | {"run_id": "1" * 32})
    assert Spool.of_run("run_id", "1" * 32) is None, "it is in use"
    spool.append(numbered(1)[0])
    spool.close()
    assert Spool.of_run("run_id", "2" * 32) is None
    assert Spool.of_run("run_id", "1" * 32).folder == spool.folder


def test_spools_are_found_by_folder_the_oldest_run_first(tmp_path):
    late = Spool.create(HEADER | {"start_time": 9})
    early = Spool.create(HEADER | {"start_time": 1})
    assert find_spools(tmp_path / "mlflow_offline") == [early.folder, late.folder]
    assert find_spools(late.folder) == [late.folder]
    assert find_spools(tmp_path / "missing") == []


def test_spool_is_among_temporary_files_where_the_folder_is_closed(monkeypatch, tmp_path):
    Path("mlflow_offline").write_text("in the way")
    monkeypatch.setattr(spool_module.tempfile, "tempdir", str(tmp_path))
    assert Spool.create(HEADER).folder.parent.name.startswith("mlflow_offline-")
