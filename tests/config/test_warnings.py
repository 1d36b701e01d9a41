"""What is allowed and probably not meant."""

from __future__ import annotations

import pytest

from otel_ttf.config import load

JOURNEY = "journeys: {a: {milestones: [{name: x, match: %s}, {name: y, match: {event: y}}], segments: [%s]}}"


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        pytest.param(
            "api: {endpoint: '0.0.0.0:8080', insecure: true}",
            "api.endpoint: other machines reach it, and nobody is asked who they are (insecure: true)",
            id="an open door",
        ),
        pytest.param(
            "service: {pipelines: {traces: {processors: [pseudonymise, mask]}}}",
            "service.pipelines.traces.processors: consent is not in the list, so nobody's denial counts there",
            id="a pipeline without consent",
        ),
        pytest.param(
            JOURNEY % ("{attributes: {customer.card_number: a}}", "plan"),
            "journeys.a.milestones[0].match: it asks for customer.card_number, but the mask processor "
            "replaces it; "
            "derive what is needed with the enrich processor",
            id="a condition on what is masked",
        ),
        pytest.param(
            JOURNEY % ("{event: x}", "api_key"),
            "journeys.a.segments[0]: api_key will not tell users apart: the mask processor replaces it; "
            "derive what is needed with the enrich processor",
            id="a segment on what is masked",
        ),
        pytest.param(
            JOURNEY % ("{event: x}", "plan") + "\nprocessors: {mask: {keys: [{glob: 'pla*', action: hash}]}}",
            "journeys.a.segments[0]: plan will not tell users apart: the mask processor replaces it; "
            "derive what is needed with the enrich processor",
            id="a segment on what a key rule masks",
        ),
        pytest.param(
            JOURNEY % ("{attributes: {shop.tier: a}}", "plan") + "\nprocessors: {mask: {keys: [shop tier]}}",
            "journeys.a.milestones[0].match: it asks for shop.tier, but the mask processor replaces it; "
            "derive what is needed with the enrich processor",
            id="a condition on what words mask",
        ),
        pytest.param(
            "processors: {filter: {rules: [{name: a, drop: {attributes: {api_key: x}}}]}}",
            "processors.filter.rules[0].drop: it asks for api_key, but the mask processor replaces it; "
            "derive what is needed with the enrich processor",
            id="a rule on what is masked",
        ),
        pytest.param(
            "processors: {enrich: {attributes: {a: b}}}\nservice: {pipelines: {logs: &p {processors: [pseudonymise, "
            "consent, mask]}, traces: *p, metrics: *p}}",
            "processors.enrich: it is configured, and no pipeline names it",
            id="a processor that is in no pipeline",
        ),
        pytest.param(
            "{processors: {sample: {by: subject, ratio: 0.5}}, "
            "service: {pipelines: {traces: {processors: [pseudonymise, consent, mask]}}}}",
            "service.pipelines.traces.processors: sample is not in the list: of users who are sampled out this signal "
            "goes on",
            id="users who are sampled in one signal only",
        ),
        pytest.param(
            "processors: {enrich: {environment: {user_id: USER}}}",
            "processors.enrich.environment.user_id: it names a user: every record that names nobody becomes "
            "this user's",
            id="a user for those who are nobody's",
        ),
        pytest.param(
            JOURNEY % ("{event: x}", "user.id"),
            "journeys.a.segments[0]: user.id will not tell users apart: as a user id it becomes a token; "
            "derive what is needed with the enrich processor",
            id="a segment on the user id",
        ),
        pytest.param(
            "privacy: {subject: keep}",
            "privacy.subject: user ids are not masked: they stand in the event log, the store, its backups and all "
            "answers as senders wrote them, for whoever can read these; destroying a key forgets nobody",
            id="user ids in plain",
        ),
    ],
)
def test_warnings(tmp_path, text, warning):
    file = tmp_path / "c.yaml"
    file.write_text(text)
    assert list(map(str, load([str(file)]).warnings)) == [f"{file}:1: {warning}"]


def test_a_key_rule_that_keeps_raises_no_warning(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text(
        JOURNEY % ("{attributes: {customer.card_number: a}}", "api_key")
        + "\nprocessors: {mask: {keys: [{key: customer.card_number, action: keep}, {glob: api_*, action: keep}]}}"
    )
    assert load([str(file)]).warnings == ()


def test_ordinary_attributes_raise_no_warning(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text(
        JOURNEY % ("{attributes: {http.route: /projects}, resource: {service.name: shop}}", "plan, channel")
    )
    assert load([str(file)]).warnings == ()


def test_a_segment_on_the_user_id_sees_it_where_it_is_kept(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text(JOURNEY % ("{event: x}", "user.id") + "\nprivacy: {subject: keep}")
    assert [str(warning).split(": ")[1] for warning in load([str(file)]).warnings] == ["privacy.subject"]


def test_a_part_of_the_key_that_the_mask_replaces_tells_no_journeys_apart(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text(
        (JOURNEY % ("{event: x}", "plan")).replace("milestones", "key: [subject, api_key], milestones", 1)
    )
    (warning,) = load([str(file)]).warnings
    assert str(warning).endswith("api_key will not tell journeys apart: the mask processor replaces it")
