import threading
from concurrent.futures import CancelledError

import pytest

from vonmodel.studio.scheduler import MAX_BACKGROUND_QUEUE, BusyError, RequestSequence, Scheduler, SupersededError


@pytest.fixture
def scheduler():
    scheduler = Scheduler(max_queue=4)
    yield scheduler
    scheduler.close()


@pytest.fixture
def held(scheduler):
    """Blocks the scheduler's thread in one job until the test releases it."""
    go, began = threading.Event(), threading.Event()

    def hold():
        began.set()
        assert go.wait(20)

    scheduler.submit(hold)
    assert began.wait(20)
    yield go
    go.set()


def test_work_is_done_in_one_thread_in_its_order(scheduler):
    order, threads = [], set()

    def work(number):
        order.append(number)
        threads.add(threading.get_ident())
        return number

    answers = [scheduler.submit(lambda number=number: work(number)) for number in range(3)]
    assert [answer.result(20) for answer in answers] == order == [0, 1, 2]
    assert len(threads) == 1
    assert threading.get_ident() not in threads


def test_errors_reach_only_the_client_that_asked(scheduler):
    with pytest.raises(ZeroDivisionError):
        scheduler.submit(lambda: 1 // 0).result(20)
    assert scheduler.submit(lambda: 5).result(20) == 5


def test_of_a_clients_queued_requests_only_the_newest_runs(scheduler, held):
    done = []
    answers = [
        scheduler.submit(lambda number=number: done.append(number), RequestSequence("a", number))
        for number in range(3)
    ]
    other = scheduler.submit(lambda: done.append("b"), RequestSequence("b", 0))
    held.set()
    for answer in answers[:2]:
        with pytest.raises(SupersededError):
            answer.result(20)
    answers[2].result(20)
    other.result(20)
    assert done == [2, "b"]


def test_a_request_that_comes_late_is_not_answered(scheduler, held):
    newer = scheduler.submit(lambda: "newer", RequestSequence("a", 5))
    with pytest.raises(SupersededError):
        scheduler.submit(lambda: "older", RequestSequence("a", 4)).result(20)
    held.set()
    assert newer.result(20) == "newer"


def test_what_was_cancelled_is_not_computed(scheduler, held):
    done = []
    answer = scheduler.submit(lambda: done.append("cancelled"))
    assert answer.cancel()
    held.set()
    scheduler.submit(lambda: done.append("next")).result(20)
    assert done == ["next"]


def test_too_many_requests_are_refused(scheduler, held):
    waiting = [scheduler.submit(lambda: None) for _ in range(4)]
    with pytest.raises(BusyError, match="4 requests are waiting already"):
        scheduler.submit(lambda: None)
    waiting[0].cancel()
    scheduler.submit(lambda: None)
    for _ in range(MAX_BACKGROUND_QUEUE):
        scheduler.submit_background(lambda: None)
    with pytest.raises(BusyError, match="photos and films are waiting"):
        scheduler.submit_background(lambda: None)


def test_a_newer_request_takes_the_place_of_the_old_one_in_a_full_queue(scheduler, held):
    for number in range(4):
        scheduler.submit(lambda: None, RequestSequence(number, 0))
    newer = scheduler.submit(lambda: "newer", RequestSequence(3, 1))
    held.set()
    assert newer.result(20) == "newer"


def test_interactive_jobs_run_during_a_background_job(scheduler):
    go = threading.Event()
    work = scheduler.submit_background(lambda: go.wait(20))
    assert scheduler.submit(lambda: "quick").result(20) == "quick"
    assert not work.done()
    go.set()
    assert work.result(20)


def test_a_background_job_yields_between_its_steps(scheduler, held):
    order = []

    def long():
        order.append("begins")
        threading.Timer(0.1, held.set).start()
        scheduler.yield_to_interactive()
        order.append("ends")

    quick = scheduler.submit(lambda: order.append("quick"))
    scheduler.submit_background(long).result(20)
    quick.result(20)
    assert order == ["begins", "quick", "ends"]


def test_interactive_jobs_do_not_stop_a_background_job_for_good(scheduler, held, monkeypatch):
    monkeypatch.setattr("vonmodel.studio.scheduler.MAX_YIELD_S", 0.05)
    scheduler.submit_background(scheduler.yield_to_interactive).result(20)


def test_a_closed_scheduler_answers_no_request(held, scheduler):
    waiting = scheduler.submit(lambda: None)
    threading.Timer(0.1, held.set).start()
    scheduler.close()
    with pytest.raises(CancelledError):
        waiting.result(20)
    with pytest.raises(BusyError, match="closing"):
        scheduler.submit(lambda: None)
