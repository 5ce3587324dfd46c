"""What a record says of where a run was made."""

import subprocess

from clustering_common import results


def git(folder, *args):
    who = ["-c", "user.name=A", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    done = subprocess.run(
        ["git", *who, *args], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_the_commit_says_whether_the_tree_was_changed(tmp_path):
    assert results._commit(tmp_path) is None
    git(tmp_path, "init", "-q")
    (tmp_path / "a.py").write_text("1\n")
    git(tmp_path, "add", "a.py")
    git(tmp_path, "commit", "-q", "-m", "A")
    commit = git(tmp_path, "rev-parse", "HEAD")
    (tmp_path / "results.csv").write_text("what runs leave\n")
    assert results._commit(tmp_path) == commit
    (tmp_path / "a.py").write_text("2\n")
    assert results._commit(tmp_path) == f"{commit}+changes"


def test_a_checkout_that_git_cannot_read_has_no_commit(tmp_path, monkeypatch):
    (tmp_path / ".git").write_text("gitdir: /nowhere\n")
    assert results._commit(tmp_path) is None
    monkeypatch.setenv("PATH", "")
    assert results._commit(tmp_path) is None
