"""Closing Slicer while a training runs: one question for each attempt."""

from __future__ import annotations

import pytest

from Testing.slicer.panel.support import follow, settle
from Testing.slicer.panel.trainings import STARTED, STOPPED, progress


def test_closing_slicer_while_it_trains_asks_first(training, makeWidget, monkeypatch, slicerQt):
    training.begin()
    training.tell(STARTED, progress())
    widget = makeWidget()
    window, asked = slicerQt.util.mainWindow(), []
    window.show()
    monkeypatch.setattr(slicerQt.util, "confirmOkCancelDisplay", lambda text: bool(asked.append(text)))
    assert not window.close()
    assert "continues it" in asked[0]
    settle()
    monkeypatch.setattr(slicerQt.util, "confirmOkCancelDisplay", lambda text: True)
    assert window.close()
    training.end(STOPPED)
    follow(widget, lambda: not widget.training)
    window.show()
    monkeypatch.setattr(slicerQt.util, "confirmOkCancelDisplay", lambda text: pytest.fail("nothing runs"))
    assert window.close()


class TestQuitting:
    """One attempt to quit may send the main window several close events, as it does on macOS."""

    @pytest.fixture
    def attempt(self, training, makeWidget, monkeypatch, slicerQt):
        """Sends the window a close event, and gives whether it was accepted; `asked` are the questions."""
        from Testing.slicer.qt_standin import qt

        training.begin()
        training.tell(STARTED, progress())
        self.widget = makeWidget()
        self.window, self.asked, self.answer = slicerQt.util.mainWindow(), [], True
        self.window.show()

        def ask(text):
            self.asked.append(text)
            assert not self.answer or not send()  # the user presses the keys again while the question is open
            return self.answer

        def send() -> bool:
            event = qt.QCloseEvent()
            slicerQt.qt.QApplication.sendEvent(self.window, event)
            return event.isAccepted()

        monkeypatch.setattr(slicerQt.util, "confirmOkCancelDisplay", ask)
        return send

    def test_two_events_of_one_attempt_are_one_question(self, attempt):
        assert [attempt(), attempt()] == [True, True]
        assert len(self.asked) == 1

    def test_a_refusal_holds_for_both_events_and_the_next_attempt_asks_again(self, attempt):
        self.answer = False
        assert [attempt(), attempt()] == [False, False]
        settle()
        assert len(self.asked) == 1
        self.answer = True
        assert attempt()
        assert len(self.asked) == 2

    def test_the_event_that_follows_when_the_window_is_closed_asks_nothing(self, attempt):
        assert self.window.close()
        settle()
        assert attempt()
        assert len(self.asked) == 1

    def test_an_attempt_that_slicer_gives_up_is_asked_again_the_next_time(self, attempt):
        assert attempt()  # and then the user does not want to quit without saving the scene
        settle()
        assert attempt()
        assert len(self.asked) == 2
