"""Many who wait make one prompt; its outcome answers all of them."""

import pytest
import trio
import trio.testing

from secret_agent.prompt_desk import PromptDesk
from secret_agent_client.errors import LockedError


async def test_one_asks_and_the_others_go_on_when_the_session_opens() -> None:
    desk, answers = PromptDesk(), []

    async def wait(number: int) -> None:
        answers.append((number, await desk.claim(number)))

    async with trio.open_nursery() as nursery:
        for number in range(30):
            nursery.start_soon(wait, number)
        await trio.testing.wait_all_tasks_blocked()
        assert [asks for _, asks in answers] == [True]
        desk.opened()
    assert sorted(number for number, _ in answers) == list(range(30))
    assert sum(asks for _, asks in answers) == 1


async def test_a_dismissed_prompt_answers_all_who_wait() -> None:
    desk, refused = PromptDesk(), []
    assert await desk.claim("asker")

    async def wait() -> None:
        with pytest.raises(LockedError, match="dismissed"):
            await desk.claim("waiter")
        refused.append(1)

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        desk.dismissed("somebody else")
        await trio.testing.wait_all_tasks_blocked()
        assert refused == []
        desk.dismissed("asker")
    assert len(refused) == 5


async def test_the_asker_may_ask_again_and_after_it_another_may() -> None:
    desk = PromptDesk()
    assert await desk.claim("asker")
    assert await desk.claim("asker")
    desk.dismissed("asker")
    assert await desk.claim("another")


async def test_one_who_stops_waiting_is_forgotten() -> None:
    desk = PromptDesk()
    assert await desk.claim("asker")
    with trio.move_on_after(0):
        await desk.claim("waiter")
    desk.opened()
    assert await desk.claim("waiter")
