"""`otel-ttf mask` by the real command line: what comes out, what is said of it, and that nothing else is."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from typing import NamedTuple

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from otel_ttf.cli import main
from otel_ttf.difference import Shown
from otel_ttf.otlp import json as otlp_json
from otel_ttf.otlp.batch import Batch
from otel_ttf.otlp.wire import SIGNALS, decode
from otel_ttf.pii.keys import key_id, new, parse
from otel_ttf.pii.masking import ValueHashes
from otel_ttf.pii.pseudonym import Pseudonyms, SubjectConfig
from otel_ttf.processors import pipeline
from otel_ttf.processors.mask import MaskConfig
from otel_ttf.processors.pseudonymise import PseudonymiseConfig

THROW_AWAY = "hashes and pseudonyms are made with keys of this run alone"


class Told(NamedTuple):
    code: int
    out: str
    err: str


def mask(given: str | bytes, *arguments: str, env: dict[str, str] | None = None) -> Told:
    done = CliRunner().invoke(main, ["mask", *arguments], input=given, env=env)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return Told(done.exit_code, done.stdout, done.stderr)


def process(*arguments: str, **options) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "otel_ttf", "mask", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONWARNINGS": "error"},
        **options,
    )


def pairs(**attributes: object) -> list[dict[str, object]]:
    kinds = {str: "stringValue", bool: "boolValue", int: "intValue"}
    return [
        {"key": key.replace("__", "."), "value": {kinds[type(value)]: value}}
        for key, value in attributes.items()
    ]


def logs(*records: dict[str, object], resource: list | None = None) -> str:
    return json.dumps(
        {
            "resourceLogs": [
                {"resource": {"attributes": resource or []}, "scopeLogs": [{"logRecords": list(records)}]}
            ]
        }
    )


def test_it_is_a_filter_of_lines():
    told = mask("mail jane@example.com\n\nnothing here\nlast without an end: Bearer sk_abcdefgh12345678")
    assert told == (0, "mail [EMAIL]\n\nnothing here\nlast without an end: Bearer [TOKEN]\n", "")


def test_json_that_is_no_request_stays_json_byte_for_byte_but_for_what_is_found():
    line = '{ "at":1,  "user":{"email":"jane@example.com"}, "password":"x","ok":true}\n'
    assert mask(line).out == line.replace("jane@example.com", "[EMAIL]").replace('"x"', '"[REDACTED]"')


@pytest.mark.parametrize("by", ["--data-dir", "--key-file", "--set"])
def test_hashes_and_pseudonyms_are_those_of_the_server(tmp_path, by):
    file = tmp_path / "keys"
    file.write_text(new())
    keys = parse(file.read_text())
    given = {"--data-dir": str(tmp_path), "--key-file": str(file), "--set": f"privacy.key_file={file}"}[by]
    told = mask(logs({"attributes": pairs(user__id="ada", session__id="s1")}), by, given)
    hashes = ValueHashes(key_id(keys.subjects[0]), keys.subjects[0])
    assert (told.code, told.err) == (0, "")
    (record,) = json.loads(told.out)["resourceLogs"][0]["scopeLogs"][0]["logRecords"]
    assert record["attributes"] == pairs(
        user__id=Pseudonyms(keys).token("ada"), session__id=f"[ID:{hashes.of('s1')}]"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["keys"]


def test_keys_of_one_run_are_said_to_be_so_once_and_only_if_they_were_used():
    user = logs({"attributes": pairs(user__id="ada")})
    assert mask(f"{user}\n{user}\n").err.count(THROW_AWAY) == 1
    assert mask("jane@example.com\n").err == ""


def test_an_explanation_says_what_was_found_where_by_which_rule_and_what_became_of_it():
    record = {
        "body": {"stringValue": "mail jane@example.com"},
        "attributes": [
            *pairs(client__address="203.0.113.77", api_key="k", n="n"),
            {"key": "order", "value": {"kvlistValue": {"values": pairs(note="from joe@example.com")}}},
        ],
    }
    told = mask(logs(record), "--explain")
    assert told.code == 0
    assert told.out.splitlines()[1:] == [
        "  -:1: log.body: detector email: [EMAIL]",
        "  -:1: log.attributes client.address: registry client.address: 203.0.113.0",
        "  -:1: log.attributes api_key: words `api key`: [REDACTED]",
        "  -:1: log.attributes order.note: detector email: [EMAIL]",
    ]
    assert '"stringValue": "mail [-jane@example.com-]{+[EMAIL]+}"' in told.out
    assert '"203.0.113.[-77-]{+0+}"' in told.out
    assert [line.split() for line in told.err.splitlines()[1:-1]] == [
        ["detector", "email", "log.attributes", "1"],
        ["detector", "email", "log.body", "1"],
        ["registry", "client.address", "log.attributes", "1"],
        ["words", "`api", "key`", "log.attributes", "1"],
    ]
    assert told.err.splitlines()[-1] == "1 of 1 line changed, 4 found."


def test_what_was_found_stands_in_the_line_and_nowhere_else():
    lines = ["jane@example.com", '{"joe@example.com": {"password": "hunter2"}}']
    told = mask("\n".join(lines), "--explain")
    for raw in ("jane@example.com", "joe@example.com", "hunter2"):
        assert told.out.count(raw) == 1
        assert raw not in told.err
    assert "  -:2: log.body [EMAIL].password: words `pass word`: [REDACTED]" in told.out


def test_keys_are_told_as_they_go_on():
    line = logs({"attributes": pairs(**{"ORD-12345678": "jane@example.com"})})
    told = mask(line, "--explain", "--set", "processors.mask.custom={order: {pattern: 'ORD-[0-9]{8}'}}")
    assert told.out.count("ORD-12345678") == 1
    assert "  -:1: log.attributes [ORDER]: detector email: [EMAIL]" in told.out


USER = pairs(user__id="ada")
SPAN = {"traceId": "0" * 31 + "1", "spanId": "0" * 15 + "1", "name": "s"}


def metrics(points: list) -> str:
    gauge = {"name": "m", "gauge": {"dataPoints": points}}
    return json.dumps({"resourceMetrics": [{"scopeMetrics": [{"metrics": [gauge]}]}]})


def spans(**of_the_span: object) -> str:
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [{**SPAN, **of_the_span}]}]}]})


@pytest.mark.parametrize(
    ("line", "place"),
    [
        pytest.param(logs({}, resource=USER), "resource.attributes user.id", id="a resource"),
        pytest.param(logs({"attributes": USER}), "log.attributes user.id", id="a log record"),
        pytest.param(
            logs(
                {
                    "body": {
                        "kvlistValue": {"values": [{"key": "a", "value": {"kvlistValue": {"values": USER}}}]}
                    }
                }
            ),
            "log.body a.user.id",
            id="a map in a body",
        ),
        pytest.param(spans(attributes=USER), "span.attributes user.id", id="a span"),
        pytest.param(
            spans(events=[{"name": "e", "attributes": USER}]),
            "span_event.attributes user.id",
            id="a span event",
        ),
        pytest.param(
            spans(links=[{"traceId": "0" * 31 + "2", "spanId": "0" * 15 + "2", "attributes": USER}]),
            "link.attributes user.id",
            id="a link",
        ),
        pytest.param(
            metrics([{"asInt": "1", "attributes": USER}]),
            "number_data_point.attributes user.id",
            id="a point",
        ),
    ],
)
def test_user_ids_are_explained_once_each_wherever_they_stand(line, place):
    told = mask(line, "--explain")
    said = [one for one in told.out.splitlines() if "subject.from" in one]
    assert len(said) == 1
    assert said[0].startswith(f"  -:1: {place}: subject.from user.id: u1_")
    assert '"[-ada-]{+u1_' in told.out


def test_what_is_dropped_is_shown_as_gone_with_its_key():
    told = mask(
        logs({"attributes": pairs(a="1", nickname="jj", b="2")}),
        "--explain",
        "--set",
        "processors.mask.keys=[{key: nickname, action: drop}]",
    )
    assert '[-{"key": "nickname", "value": {"stringValue": "jj"}}-]' in told.out
    assert "  -:1: log.attributes nickname: config keys[0]: dropped" in told.out


def test_a_vendor_does_not_get_what_must_not_be_sold():
    line = logs(
        {"body": {"stringValue": "kept"}},
        {"body": {"stringValue": "sold"}, "attributes": pairs(ttf__consent__do_not_sell=True)},
    )
    assert "sold" in mask(line).out
    told = mask(line, "--for", "vendor", "--explain")
    assert '[-{"body": {"stringValue": "sold"}' in told.out
    assert "  -:1: vendor: what must not be sold was left out" in told.out
    assert '"sold"' not in mask(line, "--for", "vendor").out
    only = logs({"attributes": pairs(ttf__consent__do_not_sell=True)})
    assert mask(only, "--for", "vendor").out == ""


def test_records_of_people_who_have_denied_are_said_to_be_gone():
    line = logs({"body": {"stringValue": "x"}, "attributes": pairs(user__id="ada", ttf__consent="deny")})
    told = mask(line, "--explain")
    assert "  -:1: consent: denied, 1 record not written" in told.out
    assert "ada" not in mask(line).out


def test_a_request_that_is_none_is_named_by_its_line_and_the_others_go_on():
    wrong = ['{"resourceLogs": [{"hunter2"', '{"resourceSpans": {"hunter2": 1}}']
    told = mask("\n".join(["first", *wrong, "last"]))
    assert told.code == 1
    assert told.out == "first\nlast\n"
    assert told.err.splitlines() == [
        "-:2: expected an OTLP request in JSON, found something else",
        "-:3: resourceSpans: expected an array, found an object",
        "otel-ttf: 2 lines cannot be read and left out, see above.",
    ]


def test_a_document_over_several_lines_comes_out_as_one(tmp_path):
    document = json.loads(logs({"body": {"stringValue": "jane@example.com"}}))
    file = tmp_path / "pretty.json"
    file.write_text(json.dumps(document, indent=2) + "\n")
    told = mask("", str(file))
    assert told.code == 0
    assert told.out.count("\n") == 1
    body = json.loads(told.out)["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0]["body"]
    assert body == {"stringValue": "[EMAIL]"}


def test_a_broken_document_over_several_lines_is_named_by_its_line(tmp_path):
    file = tmp_path / "pretty.json"
    file.write_text('{\n  "resourceLogs": [\n    jane@example.com\n  ]\n}\n')
    told = mask("", str(file))
    assert told == (
        1,
        "",
        f"otel-ttf: {file}: line 3: expected one OTLP request in JSON, found something else.\n",
    )


def test_text_that_begins_like_a_document_is_text():
    assert mask("{\njane@example.com\n}\n").out == "{\n[EMAIL]\n}\n"


def test_gzip_is_seen_through_in_files_and_pipes(tmp_path):
    data = gzip.compress(b"jane@example.com\n")
    file = tmp_path / "a.log.gz"
    file.write_bytes(data)
    assert mask("", str(file)).out == "[EMAIL]\n"
    out, err = process("-").communicate(data, timeout=60)
    assert (out, err) == (b"[EMAIL]\n", b"")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        pytest.param(gzip.compress(b"jane@example.com\n" * 9)[:-9], "expected gzip to its end", id="cut off"),
        pytest.param(None, "no such file or directory", id="not there"),
    ],
)
def test_files_that_cannot_be_read_are_named(tmp_path, data, said):
    file = tmp_path / "a.gz"
    if data is not None:
        file.write_bytes(data)
    told = mask("", str(file))
    assert told.code == 1
    assert str(file) in told.err
    assert said in told.err


def test_several_files_come_one_after_the_other_and_a_dash_is_standard_input(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_text(f"{name}@example.com {name}\n")
    told = mask("c@example.com c\n", str(tmp_path / "a"), "-", str(tmp_path / "b"), "--explain")
    assert [line.split(": ")[0] for line in told.out.splitlines() if "detector" in line] == [
        f"  {tmp_path}/a:1",
        "  -:1",
        f"  {tmp_path}/b:1",
    ]


def test_lines_come_out_as_they_come_in():
    with process() as running:  # a pipe that stays open
        assert running.stdin is not None
        assert running.stdout is not None
        running.stdin.write(b"jane@example.com\n")
        running.stdin.flush()
        assert running.stdout.readline() == b"[EMAIL]\n"
        running.stdin.close()
        assert running.wait(60) == 0


@pytest.mark.parametrize("arguments", [[], ["--explain"]])
def test_a_reader_that_goes_away_ends_it_without_a_traceback(tmp_path, arguments):
    file = tmp_path / "long"
    file.write_text("jane@example.com\n" * 20_000)
    with process(str(file), *arguments) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.readline()
        running.stdout.close()
        assert b"Traceback" not in running.stderr.read()
        running.wait(60)


@pytest.mark.parametrize(
    ("arguments", "env", "colored"),
    [
        pytest.param(["--color", "always"], {"NO_COLOR": "1"}, True, id="always"),
        pytest.param(["--color", "never"], {}, False, id="never"),
        pytest.param([], {}, False, id="no terminal"),
    ],
)
def test_colour(arguments, env, colored):
    told = mask("jane@example.com", "--explain", *arguments, env=env)
    assert ("\x1b[31m[-jane@example.com-]\x1b[0m\x1b[32m{+[EMAIL]+}\x1b[0m" in told.out) is colored
    assert ("\x1b" in told.out) is colored


def test_what_a_terminal_would_obey_is_escaped_in_an_explanation():
    told = mask('\x1b[2J jane@example.com\n{"\\u001b[2J": "joe@example.com"}', "--explain")
    assert "\x1b" not in told.out
    assert "\\x1b[2J" in told.out


def test_encrypted_values_have_their_form_and_nothing_is_written(tmp_path):
    (tmp_path / "keys").write_text(new())
    told = mask(
        logs({"attributes": pairs(user__id="ada", mail="jane@example.com")}),
        "--data-dir",
        str(tmp_path),
        "--set",
        "processors.mask.detectors.email=encrypt",
    )
    (record,) = json.loads(told.out)["resourceLogs"][0]["scopeLogs"][0]["logRecords"]
    assert record["attributes"][1]["value"]["stringValue"].startswith("e1_")
    assert [path.name for path in tmp_path.iterdir()] == ["keys"]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        pytest.param(["--set", "processors.mask.kes=[]"], 2, "processors.mask.kes", id="a wrong setting"),
        pytest.param(["--key-file", "/nowhere"], 2, "the key file /nowhere cannot be read", id="no key file"),
        pytest.param(["--for", "friends"], 2, "'friends'", id="an unknown reader"),
    ],
)
def test_wrong_calls(arguments, code, said):
    told = mask("", *arguments)
    assert told.code == code
    assert said in told.err


RECORD = {
    "body": {"stringValue": "jane@example.com pays 4111 1111 1111 1111"},
    "attributes": pairs(user__id="ada", password="x", session__id="s"),
}
EXAMPLES = {
    "logs": logs(RECORD, {"eventName": "signup", "attributes": pairs(plan="pro")}),
    "traces": spans(attributes=USER, events=[{"name": "jane@example.com", "attributes": pairs(token="x")}]),
    "metrics": metrics([{"asInt": "1", "attributes": pairs(user__id="ada", email="jane@example.com")}]),
}


@pytest.mark.parametrize("signal", SIGNALS)
def test_a_request_becomes_what_the_server_makes_of_it(signal, tmp_path):
    (tmp_path / "keys").write_text(new())
    keys = parse((tmp_path / "keys").read_text())
    configs = {"pseudonymise": PseudonymiseConfig(), "mask": MaskConfig()}
    way = pipeline(configs, keys, SubjectConfig(), engine="re2")
    raw = otlp_json.decode(signal, EXAMPLES[signal].encode())
    expected = decode(signal, way(Batch(signal, raw, 1)).finish())
    told = mask(EXAMPLES[signal], "--data-dir", str(tmp_path))
    assert decode(signal, otlp_json.decode(signal, told.out.encode())) == expected


texts = st.text(st.characters(categories=["L", "N", "P", "Zs"]))


@given(texts, texts)
def test_a_shown_difference_holds_both_texts(before, after):
    nothing, itself = (lambda text: ""), (lambda text: text)
    plain = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in after)
    assert Shown(nothing, itself).of(before, after) == plain
    assert Shown(itself, nothing).of(after, before) == plain


def test_a_difference_of_long_texts_is_found_in_time_linear_in_them():
    words = [f"word{n}" for n in range(200_000)]
    other = [*words]
    other[5], other[199_990] = "[EMAIL]", "[CARD]"
    shown = Shown(lambda text: f"<{len(text)}>", lambda text: text).of(" ".join(words), " ".join(other))
    assert "word4 <" in shown
