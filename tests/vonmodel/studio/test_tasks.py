import pytest

from vonmodel.studio.scheduler import PATIENCE_S, TASKS_KEPT, Task, TaskBoard, UnknownTaskError


def test_a_task_tells_how_it_goes():
    task = Task()
    assert task.look()["state"] == "waiting"
    task.progress(0.25, "fitting")
    assert task.look() == {"id": task.id, "state": "working", "share": 0.25, "doing": "fitting"}
    task.succeed({"shape": "~"})
    assert (task.look()["state"], task.look()["result"]) == ("done", {"shape": "~"})
    task.fail("a sentence")
    assert (task.look()["state"], task.look()["error"]) == ("failed", "a sentence")


def test_a_cancelled_task_is_to_stop():
    task = Task()
    task.progress(0.5, "fitting")
    assert not task.cancelled()
    task.cancel()
    assert task.cancelled()
    assert task.look()["state"] == "working"
    task.stopped()
    assert task.look()["state"] == "cancelled"
    waiting = Task()
    waiting.cancel()
    assert waiting.look()["state"] == "cancelled"


def test_a_task_that_nobody_asks_for_is_to_stop():
    now = [100.0]
    task = Task(now=lambda: now[0])
    now[0] += PATIENCE_S - 1
    assert not task.cancelled()
    task.look()
    now[0] += PATIENCE_S - 1
    assert not task.cancelled()
    now[0] += 2
    assert task.cancelled()


def test_the_board_keeps_the_newest_tasks():
    board = TaskBoard()
    tasks = [board.add() for _ in range(TASKS_KEPT + 1)]
    with pytest.raises(UnknownTaskError, match="no such task"):
        board.find(tasks[0].id)
    assert tasks[0].cancelled()
    assert board.find(tasks[-1].id) is tasks[-1]
    board.cancel_all()
    assert all(task.cancelled() for task in tasks)
