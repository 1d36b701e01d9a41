"""What every book of consent does."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otel_ttf.pii.consent import DENIED, NOT_FOR_SALE, Book, ConsentRefused, Marks, mark

JANE, BOB, EVE = (b"u1_abcd_" + letter * 32 for letter in (b"j", b"b", b"e"))
DENY, GRANT = Marks(analytics=mark(10, strict=True)), Marks(analytics=mark(10, strict=False))
NO_SALE, SALE = Marks(sale=mark(10, strict=True)), Marks(sale=mark(10, strict=False))


def at(time: int, marks: Marks) -> Marks:
    """The same statements at another time."""
    return Marks(*(mark(time, strict=bool(one & 1)) if one else 0 for one in marks))


statements = st.tuples(
    st.sampled_from([JANE, BOB, EVE]), st.integers(1, 5), st.sampled_from([DENY, GRANT, NO_SALE, SALE])
)


class BookContract:
    """A subclass brings `make`: options -> an empty book."""

    @pytest.fixture
    def make(self) -> Callable[..., Book]:
        raise NotImplementedError

    def test_silence_is_the_default(self, make):
        book = make()
        assert book.silent
        assert book.flags([JANE]) == 0
        assert book.state(JANE) == Marks()

    def test_silence_may_be_a_denial(self, make):
        book = make(usual=DENIED)
        assert not book.silent
        assert book.flags([JANE]) == DENIED
        book.save(book.join({JANE: GRANT, BOB: NO_SALE}))
        assert book.flags([JANE]) == 0
        assert book.flags([BOB]) == DENIED | NOT_FOR_SALE

    @pytest.mark.parametrize(
        ("said", "flags"),
        [
            pytest.param([(1, DENY)], DENIED, id="denied"),
            pytest.param([(1, DENY), (2, GRANT)], 0, id="denied, then granted"),
            pytest.param([(2, DENY), (1, GRANT)], DENIED, id="a grant that is older than the denial"),
            pytest.param([(1, GRANT), (1, DENY)], DENIED, id="at the same time the stricter one"),
            pytest.param([(1, DENY), (2, SALE)], DENIED, id="the two dimensions are apart"),
            pytest.param([(1, NO_SALE), (2, GRANT)], NOT_FOR_SALE, id="a grant does not sell"),
            pytest.param([(1, NO_SALE), (2, SALE)], 0, id="not to be sold, then to be sold"),
            pytest.param([(1, DENY), (1, NO_SALE)], DENIED | NOT_FOR_SALE, id="both"),
        ],
    )
    def test_the_latest_counts(self, make, said, flags):
        book = make()
        for time, marks in said:
            book.save(book.join({JANE: at(time, marks)}))
        assert book.flags([JANE]) == book.flags([BOB, JANE]) == flags
        assert book.flags([BOB]) == 0

    def test_a_statement_counts_before_it_is_saved(self, make):
        book = make()
        number = book.join({JANE: DENY})
        assert book.flags([JANE]) == DENIED
        book.join({JANE: at(20, GRANT)})
        assert book.flags([JANE]) == 0
        book.save(number)
        assert book.flags([JANE]) == 0

    @settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(statements, max_size=8), st.data(), st.sampled_from([0, DENIED]))
    def test_order_and_repetition_change_nothing(self, make, said, data, usual):
        one, other = make(usual=usual), make(usual=usual)
        again = data.draw(st.permutations(said + said))
        for book, some in ((one, said), (other, again)):
            for token, time, marks in some:
                number = book.join({token: at(time, marks)})
                if data.draw(st.booleans()):
                    book.save(number)
        assert [one.state(token) for token in (JANE, BOB, EVE)] == [
            other.state(token) for token in (JANE, BOB, EVE)
        ]
        assert one.exceptions == other.exceptions
        one.close()
        other.close()

    def test_beyond_the_limit_a_new_exception_is_refused(self, make):
        book = make(limit=2)
        book.save(book.join({JANE: DENY, BOB: DENY}))
        with pytest.raises(ConsentRefused, match="max_subjects"):
            book.join({EVE: DENY, JANE: at(20, GRANT)})
        assert book.flags([EVE]) == 0
        assert book.flags([JANE]) == DENIED
        book.save(book.join({EVE: GRANT, JANE: at(20, GRANT)}))  # no exceptions
        book.save(book.join({EVE: at(20, DENY)}))  # there is room again
        assert book.flags([EVE]) == DENIED

    @pytest.mark.parametrize("time", [-5, 0, 2**62, 2**64 - 1])
    def test_any_time_can_be_kept(self, make, time):
        book = make()
        book.save(book.join({JANE: Marks(mark(time, strict=True), mark(time, strict=False))}))
        assert book.flags([JANE]) == DENIED

    def test_many_may_speak_at_once(self, make):
        book = make()
        tokens = [b"u1_abcd_%032d" % number for number in range(1201)]
        book.save(book.join(dict.fromkeys(tokens, DENY)))
        assert book.exceptions == dict.fromkeys(tokens, DENIED)
        book.save(book.join(dict.fromkeys(tokens, at(20, GRANT))))
        assert book.silent

    def test_threads_share_it(self, make):
        book = make()
        tokens = [b"u1_abcd_%032d" % number for number in range(200)]

        def say(part: Any) -> None:
            for token in part:
                book.save(book.join({token: DENY, JANE: DENY}))

        threads = [threading.Thread(target=say, args=(tokens[start::4],)) for start in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert book.exceptions == dict.fromkeys([*tokens, JANE], DENIED)
