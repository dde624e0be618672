import pytest

from vonmodel.studio.scheduler import MAX_TASKS, TASK_TIMEOUT_S, BackgroundTask, TaskRegistry, UnknownTaskError


def test_a_task_reports_its_progress():
    task = BackgroundTask()
    assert task.status()["state"] == "waiting"
    task.progress(0.25, "fitting")
    assert task.status() == {"id": task.id, "state": "working", "share": 0.25, "doing": "fitting"}
    task.succeed({"shape": "~"})
    assert (task.status()["state"], task.status()["result"]) == ("done", {"shape": "~"})
    task.fail("a sentence")
    assert (task.status()["state"], task.status()["error"]) == ("failed", "a sentence")


def test_a_cancelled_task_is_stopped():
    task = BackgroundTask()
    task.progress(0.5, "fitting")
    assert not task.cancelled()
    task.cancel()
    assert task.cancelled()
    assert task.status()["state"] == "working"
    task.stopped()
    assert task.status()["state"] == "cancelled"
    waiting = BackgroundTask()
    waiting.cancel()
    assert waiting.status()["state"] == "cancelled"


def test_a_task_without_status_requests_is_stopped():
    now = [100.0]
    task = BackgroundTask(now=lambda: now[0])
    now[0] += TASK_TIMEOUT_S - 1
    assert not task.cancelled()
    task.status()
    now[0] += TASK_TIMEOUT_S - 1
    assert not task.cancelled()
    now[0] += 2
    assert task.cancelled()


def test_the_board_keeps_the_newest_tasks():
    board = TaskRegistry()
    tasks = [board.add() for _ in range(MAX_TASKS + 1)]
    with pytest.raises(UnknownTaskError, match="no such task"):
        board.find(tasks[0].id)
    assert tasks[0].cancelled()
    assert board.find(tasks[-1].id) is tasks[-1]
    board.cancel_all()
    assert all(task.cancelled() for task in tasks)
