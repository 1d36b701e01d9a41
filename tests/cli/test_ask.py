"""Questions to the API of a server that runs, and its answers as tables."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from local_http import LocalHttp, Request, reply

from otel_ttf.api import models
from otel_ttf.cli import main

TIME = "2026-01-02T03:04:05.000000006Z"
NOW = {"as_of": TIME, "lag_seconds": 0.0}
STAGE = {"name": "project", "milestone": "first_project_created", "target_minutes": 5.0}
JOURNEY = {"journey": "onboarding", "version": "0a1b2c3d", "complete_since": None}

USER = models.UserAnswer.model_validate(
    NOW
    | JOURNEY
    | {
        "user_id": "a/b [bold]",
        "subject": "u1_abcd_x",
        "key": [],
        "keys": 1,
        "state": "in_progress",
        "started_at": TIME,
        "completed_at": None,
        "flags": ["out_of_order"],
        "segments": {"plan": "pro"},
        "stages": [
            STAGE | {"minutes": 4.25, "reached_at": TIME},
            STAGE | {"minutes": None, "reached_at": None},
        ],
        "ttf_project_minutes": 4.25,
        "ttf_complete_minutes": None,
        "ttf_efficiency_score": 95.83,
    }
)
SUMMARY = models.FiguresAnswer.model_validate(
    NOW
    | {
        "cohort": {},
        "journeys": [
            JOURNEY
            | {
                "timezone": "UTC",
                "target_minutes": 60.0,
                "started": 40,
                "completed": 10,
                "completion_rate": 0.25,
                "in_progress": 29,
                "expired": 1,
                "entered_late": 2,
                "median_minutes_of_completed": 30.0,
                "p90_minutes_of_completed": 55.5,
                "mean_score_of_completed": None,
                "within_target": 0.5,
                "within_target_of": 38,
                "stages": [
                    STAGE
                    | {
                        "reached": 33,
                        "median_minutes": 4.0,
                        "p90_minutes": None,
                        "within_target": None,
                        "within_target_of": 0,
                    }
                ],
            }
        ],
    }
)
STUCK = models.StuckAnswer.model_validate(
    NOW
    | {
        "journey": "onboarding",
        "version": "0a1b2c3d",
        "items": [
            {
                "subject": "u1_abcd_x",
                "key": [],
                "stage": "agent",
                "milestone": "first_agent_created",
                "since": TIME,
                "minutes": 61.0,
                "target_minutes": None,
                "started_at": TIME,
            }
        ],
        "next": "more",
    }
)
SEEN = models.NamesAnswer.model_validate(
    NOW
    | {
        "names": [
            {
                "kind": "event",
                "name": "signup",
                "count": 3,
                "last_seen": TIME,
                "milestones": ["onboarding.signup"],
            },
            {"kind": "span", "name": "[red]GET /", "count": 9, "last_seen": TIME, "milestones": []},
        ]
    }
)
ANSWERS = {
    "/api/v1/ttf/a%2Fb%20%5Bbold%5D": USER,
    "/api/v1/ttf": SUMMARY,
    "/api/v1/stuck": STUCK,
    "/api/v1/events/names": SEEN,
}


class Api(LocalHttp):
    """Answers in the shapes of the API's own models; remembers what it was asked in `asked`."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def answer(self, request: Request) -> None:
        self.asked.append(request.path)
        path = request.path.partition("?")[0]
        if path == "/api/v1/ttf/html":
            reply(request, 200, b"<html>")
        elif path in ANSWERS:
            reply(request, 200, ANSWERS[path].model_dump_json().encode())
        else:
            problem = "urn:otel-ttf:problem:no-milestone" if path.endswith("/nobody") else "about:blank"
            detail = "no milestone of that user is known"
            told = {"type": problem, "title": "Not Found", "detail": detail}
            reply(request, 404, json.dumps(told).encode())


@pytest.fixture
def api():
    with Api() as running:
        yield running


def ask(api, *arguments: str, env=None):
    return CliRunner(env={"COLUMNS": "120", **(env or {})}).invoke(main, [*arguments, "--url", api.address])


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        pytest.param(
            ["ttf", "a/b [bold]"],
            [
                "a/b [bold]: in_progress in onboarding (plan pro)",
                "4.2",
                "score 95.8",
                "flags: out_of_order",
            ],
            id="a user",
        ),
        pytest.param(
            ["ttf", "--summary"],
            [
                "onboarding: 40 started, 10 completed (25.0%), 29 in progress",
                "within target 50.0% of 38",
                "55.5",
            ],
            id="everybody",
        ),
        pytest.param(["stuck"], ["u1_abcd_x", "agent", "61.0", "there are more"], id="who is stuck"),
        pytest.param(["seen"], ["[red]GET /", "onboarding.signup"], id="names that came"),
    ],
)
def test_answers_are_tables(api, arguments, lines):
    result = ask(api, *arguments)
    assert result.exit_code == 0
    assert [line for line in (*lines, "as of 2026-01-02 03:04:05Z") if line not in result.output] == []


@pytest.mark.parametrize("arguments", [["ttf", "a/b [bold]"], ["ttf", "--summary"], ["stuck"], ["seen"]])
@pytest.mark.parametrize(
    ("since", "weight", "line"),
    [
        pytest.param(None, 5.0, "0.2 of all users followed; each here stands for 5", id="always"),
        pytest.param(
            TIME,
            None,
            "0.2 of all users followed since 2026-01-02 03:04:05Z; before that it was another share",
            id="changed",
        ),
    ],
)
def test_tables_say_which_share_of_the_users_they_are_of(api, monkeypatch, arguments, since, weight, line):
    sampled = {"sampled": 0.2, "sampled_since": since, "weight": weight}
    for path, answer in ANSWERS.items():
        monkeypatch.setitem(ANSWERS, path, answer.model_copy(update=sampled))
    assert line in ask(api, *arguments).output


def test_json_is_the_answer_as_it_is(api):
    result = ask(api, "stuck", "--format", "json")
    assert json.loads(result.output) == STUCK.model_dump()


def test_options_are_passed_on(api):
    ask(api, "stuck", "--journey", "onboarding", "--stage", "agent", "--over", "30m")
    assert api.asked == ["/api/v1/stuck?journey=onboarding&stage=agent&over=30m"]


def test_what_the_api_says_is_wrong_is_said(api):
    result = ask(api, "ttf", "other")
    assert (result.exit_code, result.stderr) == (1, "otel-ttf: no milestone of that user is known\n")


def test_who_asks_about_nobody_is_told_where_to_look(api):
    assert ask(api, "ttf", "nobody").stderr == (
        "otel-ttf: no milestone of that user is known; 'otel-ttf seen' shows what came in\n"
    )


def test_something_else_that_answers_is_no_api(api):
    result = ask(api, "ttf", "html")
    assert result.exit_code == 1
    assert "is no API of otel-ttf" in result.stderr


def test_a_proxy_is_no_way_to_this_machine(api):
    assert ask(api, "seen", env={"http_proxy": "http://127.0.0.1:1", "no_proxy": ""}).exit_code == 0


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "nonsense", "ftp://x"])
def test_no_server_is_said_in_one_sentence(url):
    result = CliRunner().invoke(main, ["seen", "--url", url])
    assert result.exit_code == 1
    assert result.stderr.startswith(f"otel-ttf: no server answers at {url}: start one with 'otel-ttf run'")
    assert len(result.stderr.splitlines()) == 1
