import threading
from concurrent.futures import CancelledError

import pytest

from vonmodel.studio.scheduler import MOST_LONG_WAITING, BusyError, Desk, SupersededError, Turn


@pytest.fixture
def desk():
    desk = Desk(most_waiting=4)
    yield desk
    desk.close()


@pytest.fixture
def held(desk):
    """Keeps the desk's thread at one job until the test lets it go."""
    go, began = threading.Event(), threading.Event()

    def hold():
        began.set()
        assert go.wait(20)

    desk.ask(hold)
    assert began.wait(20)
    yield go
    go.set()


def test_work_is_done_in_one_thread_in_its_order(desk):
    order, threads = [], set()

    def work(number):
        order.append(number)
        threads.add(threading.get_ident())
        return number

    answers = [desk.ask(lambda number=number: work(number)) for number in range(3)]
    assert [answer.result(20) for answer in answers] == order == [0, 1, 2]
    assert len(threads) == 1
    assert threading.get_ident() not in threads


def test_errors_reach_who_asked_and_nobody_else(desk):
    with pytest.raises(ZeroDivisionError):
        desk.ask(lambda: 1 // 0).result(20)
    assert desk.ask(lambda: 5).result(20) == 5


def test_of_one_askers_waiting_questions_only_the_newest_is_answered(desk, held):
    done = []
    answers = [desk.ask(lambda number=number: done.append(number), Turn("a", number)) for number in range(3)]
    other = desk.ask(lambda: done.append("b"), Turn("b", 0))
    held.set()
    for answer in answers[:2]:
        with pytest.raises(SupersededError):
            answer.result(20)
    answers[2].result(20)
    other.result(20)
    assert done == [2, "b"]


def test_a_question_that_comes_late_is_not_answered(desk, held):
    newer = desk.ask(lambda: "newer", Turn("a", 5))
    with pytest.raises(SupersededError):
        desk.ask(lambda: "older", Turn("a", 4)).result(20)
    held.set()
    assert newer.result(20) == "newer"


def test_what_was_cancelled_is_not_computed(desk, held):
    done = []
    answer = desk.ask(lambda: done.append("cancelled"))
    assert answer.cancel()
    held.set()
    desk.ask(lambda: done.append("next")).result(20)
    assert done == ["next"]


def test_too_many_are_told_so(desk, held):
    waiting = [desk.ask(lambda: None) for _ in range(4)]
    with pytest.raises(BusyError, match="4 questions are waiting already"):
        desk.ask(lambda: None)
    waiting[0].cancel()
    desk.ask(lambda: None)
    for _ in range(MOST_LONG_WAITING):
        desk.ask_long(lambda: None)
    with pytest.raises(BusyError, match="photos are waiting"):
        desk.ask_long(lambda: None)


def test_a_newer_question_takes_the_place_of_the_old_one_in_a_full_queue(desk, held):
    for number in range(4):
        desk.ask(lambda: None, Turn(number, 0))
    newer = desk.ask(lambda: "newer", Turn(3, 1))
    held.set()
    assert newer.result(20) == "newer"


def test_quick_questions_are_answered_in_the_midst_of_long_work(desk):
    go = threading.Event()
    work = desk.ask_long(lambda: go.wait(20))
    assert desk.ask(lambda: "quick").result(20) == "quick"
    assert not work.done()
    go.set()
    assert work.result(20)


def test_long_work_lets_questions_pass_between_its_steps(desk, held):
    order = []

    def long():
        order.append("begins")
        threading.Timer(0.1, held.set).start()
        desk.let_pass()
        order.append("ends")

    quick = desk.ask(lambda: order.append("quick"))
    desk.ask_long(long).result(20)
    quick.result(20)
    assert order == ["begins", "quick", "ends"]


def test_questions_do_not_stop_long_work_for_good(desk, held, monkeypatch):
    monkeypatch.setattr("vonmodel.studio.scheduler.MOST_LET_PASS_S", 0.05)
    desk.ask_long(desk.let_pass).result(20)


def test_a_closed_desk_answers_nobody(held, desk):
    waiting = desk.ask(lambda: None)
    threading.Timer(0.1, held.set).start()
    desk.close()
    with pytest.raises(CancelledError):
        waiting.result(20)
    with pytest.raises(BusyError, match="closing"):
        desk.ask(lambda: None)
