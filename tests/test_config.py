"""The configuration: which source wins, what a wrong key or value is told, and that no secret gets out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from bridge.calls.events import CallEnded
from bridge.config import Address, Config, HostPort, Listener, Media, PortRange, keys, load
from bridge.errors import ConfigurationError
from bridge.net.certificates import TlsFiles
from bridge.settings.sources import KeyPath
from bridge.sip.digest import Ha1, make_ha1
from tests.support.certificates import Authority

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # of the Standard Webhooks documentation
NOTHING: Mapping[KeyPath, tuple[str, Sequence[str]]] = {}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "bridge.yaml"


def read(file: Path, text: str, *, environ: Mapping[str, str] | None = None) -> Config:
    file.write_text(text)
    return load(file=file, environ=environ or {}, options=NOTHING)


def from_environment(**environ: str) -> Config:
    return load(file=None, environ=environ, options=NOTHING)


def complaint(file: Path, text: str) -> str:
    """The one line that this file's mistake gets, without the file's directory."""
    with pytest.raises(ConfigurationError) as caught:
        read(file, text)
    lines = str(caught.value).splitlines()
    assert len(lines) == 1, lines
    return lines[0].replace(str(file.parent) + "/", "")


class TestSources:
    def test_without_any_the_defaults_hold(self) -> None:
        config = from_environment()
        assert config.sip.listen == (Listener(uri="udp:0.0.0.0:5060"),)
        assert str(config.api.listen) == "127.0.0.1:8080"
        assert config.store.is_embedded
        assert config.webhooks.schedule == (0, 5, 30, 120, 600, 1800, 3600, 10800, 21600, 43200)

    def test_command_line_beats_environment_beats_file_beats_default(self, file: Path) -> None:
        file.write_text("log: {level: error, format: json}\nlimits: {max_calls: 7}\nstore: {retention_s: 60}")
        config = load(
            file=file,
            environ={"BRIDGE_LOG__LEVEL": "warning", "BRIDGE_LIMITS__MAX_CALLS": "8"},
            options={("log", "level"): ("--log.level", ["debug"])},
        )
        assert (config.log.level, config.limits.max_calls, config.store.retention_s) == ("debug", 8, 60)
        assert config.log.format == "json"  # a stronger source replaces keys, not whole sections
        assert config.media.timeout_s == 60

    def test_a_list_in_the_environment_is_text_between_commas_or_json(self) -> None:
        config = from_environment(
            BRIDGE_SIP__DOMAINS="Example.com, example.org.",
            BRIDGE_SIP__LISTEN='[{"uri": "udp:127.0.0.1", "advertise": "sip.example.com:5070"}]',
            BRIDGE_MEDIA__PORTS="20000-20999,30000-30099",
        )
        assert config.sip.domains == ("example.com", "example.org")
        assert config.sip.listen[0].uri == "udp:127.0.0.1:5060"
        assert str(config.sip.listen[0].advertise) == "sip.example.com:5070"
        assert config.media.ports == (PortRange(20000, 20999), PortRange(30000, 30099))

    def test_a_repeated_option_is_a_list(self) -> None:
        options = {("sip", "listen"): ("--listen", ["udp:127.0.0.1:5060", "tcp:[::1]:5060"])}
        config = load(file=None, environ={}, options=options)
        assert [listener.address.host for listener in config.sip.listen] == ["127.0.0.1", "::1"]
        assert [listener.transport for listener in config.sip.listen] == ["udp", "tcp"]

    def test_an_empty_variable_is_not_set(self) -> None:
        assert from_environment(BRIDGE_NODE_ID="").node_id is None

    def test_what_kubernetes_sets_for_a_service_called_bridge_is_not_ours(self) -> None:
        config = from_environment(
            BRIDGE_SERVICE_HOST="10.0.0.1",
            BRIDGE_SERVICE_PORT_SIP="5060",
            BRIDGE_SIP_PORT_5060_UDP_ADDR="10.0.0.1",
            BRIDGE_PORT="udp://10.0.0.1:5060",
            BRIDGE_CONFIG="/etc/bridge.yaml",
        )
        assert config == from_environment()

    def test_an_empty_file_changes_nothing(self, file: Path) -> None:
        assert read(file, "# nothing yet\n") == from_environment()


class TestComplaints:
    @pytest.mark.parametrize(
        ("text", "told"),
        [
            ("sip:\n  lisen: udp:0.0.0.0:5060", "bridge.yaml:2: sip.lisen: no such key; did you mean sip.listen?"),
            ("webhook: http://x", "bridge.yaml:1: webhook: no such key; did you mean webhooks.url?"),
            (
                "health:\n  zzz: 1",
                "bridge.yaml:2: health.zzz: no such key; here can stand: listen",
            ),
            ("sip: {ports: 1-2}", "bridge.yaml:1: sip.ports: no such key; did you mean media.ports?"),
            ("sip: {local_nets: []}", "bridge.yaml:1: sip.local_nets: not in this release (0.1.0) yet: remove it"),
            (
                "sip:\n  listen:\n  - udp:127.0.0.1:5060\n  - wss:127.0.0.1:5061",
                "bridge.yaml:1: sip: wss:127.0.0.1:5061 needs sip.tls.certificate and sip.tls.key: the files of a "
                "certificate and its key",
            ),
            (
                "sip: {websocket: {origins: [app.example.com]}, listen: [ws:127.0.0.1:5062]}",
                "bridge.yaml:1: sip.websocket.origins: expected scheme://host[:port] of a page, such as "
                "https://app.example.com, or * for any",
            ),
            (
                "sip: {websocket: {origins: ['*']}}",
                "bridge.yaml:1: sip: sip.websocket is for nobody: add ws:… or wss:… to sip.listen, or remove it",
            ),
            (
                "sip: {listen: 5060}",
                "bridge.yaml:1: sip.listen: Input should be a valid tuple",
            ),
            (
                "sip: {listen: [sctp:1.2.3.4]}",
                "bridge.yaml:1: sip.listen[0].uri: expected udp:, tcp:, tls:, ws: or wss:host:port, such as udp:0.0.0.0:5060",
            ),
            (
                "media:\n  latching: loose",
                "bridge.yaml:2: media.latching: Input should be 'strict', 'learn' or 'off'",
            ),
            (
                "media: {ports: 20001-20001}",
                "bridge.yaml:1: media.ports[0]: expected at least an even port and the odd one after it, between 1024 and 65535",
            ),
            (
                "media: {ports: [20000-20010, 20005-20020]}",
                "bridge.yaml:1: media.ports: 20000-20009 and 20006-20019 overlap",
            ),
            (
                "sip: {advertise: 0.0.0.0}",
                "bridge.yaml:1: sip.advertise: nobody can send to 0.0.0.0: give the address or name under which others "
                "reach this host",
            ),
            (
                "media: {advertise: sip.example.com}",
                "bridge.yaml:1: media.advertise: expected an IP address that phones can send to; SDP should carry no name",
            ),
            ("sip: {timers: {t1_s: 5}}", "bridge.yaml:1: sip.timers: t1_s must not be longer than t2_s"),
            (
                "store: {url: redis+sentinel://a}",
                "bridge.yaml:1: store.url: expected the name that the Sentinels know it by: "
                "redis+sentinel://host:port,host:port/name/db",
            ),
            (
                "store: {url: redis+cluster://a/1}",
                "bridge.yaml:1: store.url: a Redis Cluster has database 0 only",
            ),
            (
                "store: {url: postgres://a}",
                "bridge.yaml:1: store.url: expected embedded://, memory://, redis://host:port/db, unix:///path/to/socket, "
                "redis+sentinel://host:port,host:port/name/db, redis+cluster://host:port,host:port",
            ),
            (
                "api: {listen: '0.0.0.0:8080'}",
                "bridge.yaml:1: api: 0.0.0.0:8080 is open to the network and api.keys is empty: give a key, or listen on "
                "127.0.0.1",
            ),
            (
                "api: {listen: '127.0.0.1'}",
                "bridge.yaml:1: api.listen: expected a port too, such as 127.0.0.1:8080",
            ),
            (
                "webhooks: {url: 127.0.0.1:3000}",
                "bridge.yaml:1: webhooks.url: expected an http or https URL, such as http://127.0.0.1:3000/calls",
            ),
            (
                "webhooks:\n  secrets: [hunter2]",
                "bridge.yaml:2: webhooks.secrets[0]: a webhook secret begins with 'whsec_'",
            ),
            ("log: {level: info}\nlog: {}", "bridge.yaml:2: log: given twice"),
            ("- a", "bridge.yaml:1: expected `key: value` lines, such as `sip: {listen: ...}`"),
            ("sip: [", "bridge.yaml:1: not YAML: expected the node content, but found '<stream end>'"),
        ],
    )
    def test_a_wrong_file_is_told_where_what_and_what_would_be_right(self, file: Path, text: str, told: str) -> None:
        assert complaint(file, text) == told

    def test_every_mistake_is_told_at_once(self, file: Path) -> None:
        with pytest.raises(ConfigurationError) as caught:
            read(file, "log: {level: loud}\nmedia: {workers: none}\nfoo: 1")
        assert [line.split(": ")[1] for line in str(caught.value).splitlines()] == ["media.workers", "log.level", "foo"]

    def test_a_variable_is_told_by_its_name_and_corrected_in_its_spelling(self) -> None:
        with pytest.raises(ConfigurationError, match=r"^BRIDGE_SIP_LISTEN: .*did you mean BRIDGE_SIP__LISTEN\?$"):
            from_environment(BRIDGE_SIP_LISTEN="udp:0.0.0.0:5060")

    def test_an_option_is_told_by_its_name(self) -> None:
        with pytest.raises(ConfigurationError, match=r"^--webhook: webhooks\.url: expected an http"):
            load(file=None, environ={}, options={("webhooks", "url"): ("--webhook", ["nonsense"])})

    def test_a_value_that_a_stronger_source_replaced_is_not_blamed(self, file: Path) -> None:
        file.write_text("log: {level: info}")
        with pytest.raises(ConfigurationError, match=r"^BRIDGE_LOG__LEVEL: "):
            load(file=file, environ={"BRIDGE_LOG__LEVEL": "loud"}, options=NOTHING)

    def test_a_missing_file_is_named(self, file: Path) -> None:
        with pytest.raises(ConfigurationError, match=r"bridge\.yaml: cannot read it: No such file"):
            load(file=file, environ={}, options=NOTHING)

    def test_an_alias_that_contains_itself_ends(self, file: Path) -> None:
        assert "nested deeper than" in complaint(file, "sip: &a {listen: *a}")


class TestOutboundProxy:
    def test_it_is_a_loose_route(self, file: Path) -> None:
        config = read(file, "sip: {outbound_proxy: 'sip:proxy.example.com:5080;transport=UDP;lr'}")
        assert config.sip.outbound_proxy == "sip:proxy.example.com:5080;transport=UDP;lr"
        assert read(file, "").sip.outbound_proxy is None

    @pytest.mark.parametrize("uri", ["sip:proxy.example.com", "proxy.example.com", "tel:+1;lr", "sip:p;lr?Subject=x"])
    def test_anything_else_is_refused(self, file: Path, uri: str) -> None:
        told = complaint(file, f"sip: {{outbound_proxy: '{uri}'}}")
        assert "expected a SIP URI with ;lr, such as sip:proxy.example.com;lr" in told

    @pytest.mark.parametrize("uri", ["sip:p.example;transport=tcp;lr", "sips:p.example;lr"])
    def test_it_has_to_be_reached_by_some_listener(self, file: Path, uri: str) -> None:
        told = complaint(file, f"sip: {{outbound_proxy: '{uri}'}}")
        assert "sip.outbound_proxy is reached by t" in told

    def test_a_transport_of_the_far_future(self, file: Path) -> None:
        told = complaint(file, "sip: {outbound_proxy: 'sip:p.example;transport=sctp;lr'}")
        assert "expected transport=udp, tcp or tls" in told


class TestSecrets:
    def test_any_secret_can_stand_in_a_file_beside_the_configuration(self, file: Path) -> None:
        (file.parent / "key").write_text("  s3cret \n")
        (file.parent / "hook").write_text(SECRET)
        (file.parent / "url").write_text("redis://:pw@host/0\n")
        config = read(
            file,
            "api: {keys: [{name: ops, key: {file: key}, scopes: admin}]}\n"
            "cluster: {secret: {file: key}}\n"
            "webhooks: {secrets: {file: hook}}\n"
            "store: {url: {file: url}}\n",
        )
        assert config.api.keys[0].key.get_secret_value() == "s3cret"
        assert config.store.url.get_secret_value() == "redis://:pw@host/0"
        assert set(config.all_secrets) == {"s3cret", SECRET}

    def test_a_password_of_a_fallback_is_one_and_reaches_the_process_that_needs_it(self, file: Path) -> None:
        to = "{uri: 'sip:b@example.org', auth: {username: desk, password: hunter2}}"
        config = read(file, _application("desk", more=f"fallback: [{{action: dial, to: [{to}]}}]"))
        assert "hunter2" in config.all_secrets
        assert "hunter2" not in repr(config) + str(config.model_dump()) + config.model_dump_json()
        (action,) = Config.from_json(config.to_json()).applications[0].fallback
        assert action == config.applications[0].fallback[0]

    def test_a_secret_file_that_is_not_there_is_named(self, file: Path) -> None:
        told = complaint(file, "cluster: {secret: {file: /nowhere/secret}}")
        assert told == "bridge.yaml:1: cluster.secret: cannot read /nowhere/secret: No such file or directory"

    def test_an_empty_secret_file_is_refused(self, file: Path) -> None:
        (file.parent / "empty").write_text("\n")
        assert complaint(file, "cluster: {secret: {file: empty}}") == "bridge.yaml:1: cluster.secret: empty is empty"

    @pytest.mark.parametrize(
        "text",
        [
            "cluster: {secret: [hunter2]}",
            "cluster: {secret: {fiel: hunter2}}",
            "store: {url: 'redi://:hunter2@host'}",
            "webhooks: {secrets: [hunter2]}",
            "api: {keys: [{name: a, key: hunter2, scopes: [root]}]}",
        ],
    )
    def test_no_complaint_repeats_a_value(self, file: Path, text: str) -> None:
        with pytest.raises(ConfigurationError) as caught:
            read(file, text)
        assert "hunter2" not in str(caught.value)
        assert caught.value.__suppress_context__  # pydantic's own text would repeat it in a traceback

    def test_printing_shows_none(self, file: Path) -> None:
        config = read(
            file,
            f"cluster: {{secret: hunter2}}\nwebhooks: {{secrets: [{SECRET}]}}\nstore: {{url: 'redis://:hunter2@h'}}",
        )
        shown = f"{config!r} {config} {config.model_dump()} {config.model_dump_json()}"
        assert "hunter2" not in shown
        assert SECRET not in shown

    def test_the_signalling_process_gets_everything(self, file: Path) -> None:
        config = read(
            file,
            f"""
            sip: {{listen: ["udp:[::1]:5060"], advertise: "[2001:db8::1]:5070", domains: [a.example]}}
            media: {{ports: [20000-20009, 30000-30009], workers: 3}}
            api: {{keys: [{{name: ops, key: hunter2, scopes: [read, control]}}]}}
            cluster: {{secret: hunter3}}
            webhooks: {{url: "http://127.0.0.1:3000/calls", secrets: [{SECRET}]}}
            applications:
            - name: desk
              match: {{users: ["100", "49*"]}}
              webhooks: [{{id: desk, url: "https://desk.example/", decision: true, events: [call.ended]}}]
              fallback: [{{action: ring}}, {{action: reject, code: 486, reason: Later}}]
            """,
        )
        handed_over = Config.from_json(config.to_json())
        assert handed_over.to_json() == config.to_json()
        assert handed_over.all_secrets == ("hunter2", SECRET, "hunter3")
        assert handed_over.sip == config.sip
        assert handed_over.applications == config.applications


class TestApplications:
    def test_the_shortest_start_is_one_application_that_takes_every_call(self) -> None:
        (application,) = from_environment(BRIDGE_WEBHOOKS__URL="http://127.0.0.1:3000/calls").all_applications
        assert (application.name, application.match.users, application.match.domains) == ("default", (), ())
        assert [(hook.url, hook.decision) for hook in application.webhooks] == [("http://127.0.0.1:3000/calls", True)]
        assert [(action.action, action.code) for action in application.fallback if action.action == "reject"] == [
            ("reject", 480)
        ]

    def test_it_comes_after_the_configured_ones(self, file: Path) -> None:
        config = read(file, f"webhooks: {{url: 'http://a'}}\n{_application('desk')}")
        assert [application.name for application in config.all_applications] == ["desk", "default"]

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            ("[{id: a, url: 'http://a'}]", "exactly one webhook needs `decision: true`; 0 have it"),
            (
                "[{id: a, url: 'http://a', decision: true}, {id: b, url: 'http://b', decision: true}]",
                "exactly one webhook needs `decision: true`; 2 have it",
            ),
            (
                "[{id: a, url: 'http://a', decision: true, events: [call.over]}]",
                "no such event type: call.over; there are",
            ),
        ],
    )
    def test_its_webhooks_are_checked(self, file: Path, text: str, told: str) -> None:
        assert told in complaint(file, f"applications: [{{name: desk, webhooks: {text}}}]")

    def test_every_event_type_there_is_can_be_wanted(self, file: Path) -> None:
        config = read(file, _application("desk", hook=f"events: [{CallEnded.type}]"))
        assert config.applications[0].webhooks[0].events == ("call.ended",)

    def test_an_action_that_is_not_built_cannot_be_a_fallback(self, file: Path) -> None:
        told = complaint(file, _application("desk", more="fallback: [{action: play}]"))
        assert "applications[0].fallback[0]" in told
        assert "'ring', 'answer', 'reject', 'redirect', 'proxy', 'pause', 'park', 'hangup'" in told

    def test_two_of_one_name_or_id_are_refused(self, file: Path) -> None:
        assert "two applications have the same name" in complaint(
            file, f"webhooks: {{url: 'http://a'}}\n{_application('default')}"
        )
        twice = _application("a") + _application("b", hook_id="a").removeprefix("applications:\n")
        assert "two webhooks have the same id" in complaint(file, twice)


def _application(name: str, *, hook: str = "", hook_id: str | None = None, more: str = "") -> str:
    hook_fields = f"id: {hook_id or name}, url: 'http://127.0.0.1:3000/', decision: true{', ' if hook else ''}{hook}"
    return f"applications:\n- name: {name}\n  webhooks: [{{{hook_fields}}}]\n  {more}\n"


class TestUsers:
    def test_a_user_has_a_password_or_what_stands_for_it(self, file: Path) -> None:
        (file.parent / "bob").write_text("battery\n")
        config = read(
            file,
            "sip: {domains: example.com}\n"
            "users:\n- {username: alice, password: horse}\n- {username: bob, password: {file: bob}}\n"
            f"- {{username: carol, ha1: {{md5: {'AB' * 16}}}, aor: sip:100@example.com}}",
        )
        alice, bob, carol = config.users
        assert alice.proof("example.com") == make_ha1("alice", "example.com", "horse")
        assert bob.proof("example.com") == make_ha1("bob", "example.com", "battery")
        assert (carol.proof("example.com"), carol.aor) == (Ha1(md5="ab" * 16), "sip:100@example.com")
        assert "horse" not in repr(config)

    def test_passwords_are_for_the_first_domain_unless_a_realm_is_given(self, file: Path) -> None:
        assert read(file, "").sip.effective_realm == "sip-bridge"
        assert read(file, "sip: {domains: 'a.example,b.example'}").sip.effective_realm == "a.example"
        assert read(file, "sip: {domains: a.example, realm: phones}").sip.effective_realm == "phones"

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            ("users: [{username: a}]", "give either password or ha1"),
            (f"users: [{{username: a, password: b, ha1: {{md5: {'a' * 32}}}}}]", "give either password or ha1"),
            ("users: [{username: a, ha1: {md5: abc}}]", "expected 32 hexadecimal digits"),
            ("users: [{username: a, password: b, aor: a}]", "expected sip:user@host"),
            ("users: [{username: 'a b', password: b}]", "users[0].username"),
            ("users: [{username: a, password: b}, {username: a, password: c}]", "two users have the same username"),
            (
                f"sip: {{registrar: {{digest: SHA-256}}}}\nusers: [{{username: a, ha1: {{md5: {'a' * 32}}}}}]",
                "no ha1 for SHA-256",
            ),
            ("sip: {registrar: {digest: 'MD5,MD5'}}", "given twice"),
            ("sip: {registrar: {digest: SHA-1}}", "sip.registrar.digest"),
            ("sip: {registrar: {min_expires_s: 90, default_expires_s: 60}}", "expected min_expires_s"),
            ("sip: {realm: 'a\"b'}", "sip.realm"),
            ("sip: {authenticate: some}", "sip.authenticate"),
        ],
    )
    def test_what_cannot_be(self, file: Path, text: str, told: str) -> None:
        assert told in complaint(file, text)

    def test_they_reach_the_signalling_process(self, file: Path) -> None:
        config = read(file, "users: [{username: alice, password: horse}]")
        assert Config.from_json(config.to_json()).users == config.users


class TestCluster:
    def test_a_node_is_alone_where_nothing_is_said(self) -> None:
        cluster = from_environment().cluster
        assert (cluster.listen, cluster.advertise, cluster.secret) == (None, None, None)

    def test_where_others_connect_and_where_they_find_it(self, file: Path) -> None:
        cluster = read(file, 'cluster: {listen: "0.0.0.0:7070", advertise: node-1.bridge, secret: hunter2}').cluster
        assert cluster.listen == Address("0.0.0.0", 7070)
        assert cluster.advertise == HostPort("node-1.bridge", None)

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            ('{listen: "127.0.0.1:7070"}', "give cluster.secret too, the same at each"),
            ("{advertise: node-1, secret: hunter2}", "give cluster.listen too"),
            ("{listen: 127.0.0.1, secret: hunter2}", "expected a port too"),
            ('{listen: "127.0.0.1:7070", advertise: 0.0.0.0, secret: hunter2}', "nobody can send to 0.0.0.0"),
        ],
    )
    def test_what_does_not_go_together(self, file: Path, text: str, told: str) -> None:
        complained = complaint(file, f"cluster: {text}")
        assert told in complained
        assert "hunter2" not in complained


class TestMediaPorts:
    @pytest.mark.parametrize(
        ("ports", "workers", "slices"),
        [
            ("20000-20007", 1, ["20000-20007"]),
            ("20000-20007", 2, ["20000-20003", "20004-20007"]),
            ("20000-20009", 2, ["20000-20003", "20004-20009"]),
            ("20000-20003,30000-30003", 1, ["20000-20003,30000-30003"]),
            ("20000-20003,30000-30007", 2, ["20000-20003,30000-30001", "30002-30007"]),
            ("20000-20003", 8, ["20000-20001", "20002-20003"]),  # a worker without a port would be of no use
            ("20001-20004", 1, ["20002-20003"]),  # pairs begin at even ports (RFC 3550 §11)
        ],
    )
    def test_each_worker_gets_its_share_of_whole_pairs(self, ports: str, workers: int, slices: list[str]) -> None:
        media = Media.model_validate({"ports": ports, "workers": workers})
        assert [",".join(map(str, share)) for share in media.slices()] == slices

    def test_no_port_is_lost_or_given_twice(self) -> None:
        media = Media.model_validate({"ports": "10000-32767,40000-40001", "workers": 7})
        given = [port for share in media.slices() for one in share for port in range(one.first, one.last + 1)]
        assert sorted(given) == [*range(10000, 32768), 40000, 40001]


class TestTls:
    @pytest.fixture
    def authority(self, tmp_path: Path) -> Authority:
        return Authority(tmp_path)

    def test_its_files_may_be_named_in_two_ways_and_stand_beside_the_configuration(
        self, file: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pair, more = authority.pair(file="one"), authority.pair(file="two")
        monkeypatch.chdir(file.parent)
        config = read(
            file,
            f"""
            sip:
              listen: ["udp:127.0.0.1", "tls:127.0.0.1", "tls:[::1]:5071"]
              tls:
                certificate: {{file: one.crt}}
                key: one.key
                certificates: [{{certificate: {more.certificate}, key: {{file: two.key}}}}]
                ca: {authority.path}
                verify_client: optional
            """,
        )
        assert [each.uri for each in config.sip.listen] == [
            "udp:127.0.0.1:5060",
            "tls:127.0.0.1:5061",
            "tls:[::1]:5071",
        ]
        assert config.sip.tls.files == TlsFiles((pair, more), authority.path, "optional", verify_server=True)
        again = Config.from_json(config.to_json())
        assert again.sip.tls.files == config.sip.tls.files
        pair.key.unlink()
        assert Config.from_json(config.to_json()) == again  # only who reads the files can say what is wrong with them

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            (
                "sip: {listen: ['tls:127.0.0.1']}",
                "bridge.yaml:1: sip: tls:127.0.0.1:5061 needs sip.tls.certificate and sip.tls.key: the files of a "
                "certificate and its key",
            ),
            (
                "sip: {tls: {certificate: one.crt, key: one.key}}",
                "bridge.yaml:1: sip: sip.tls is for nobody: add tls:0.0.0.0:5061 to sip.listen, or remove it",
            ),
            (
                "sip: {listen: 'tls:127.0.0.1', tls: {certificate: one.crt}}",
                "bridge.yaml:1: sip.tls: key is missing: a certificate and its key come together",
            ),
            (
                "sip:\n  listen: tls:127.0.0.1\n  tls:\n    certificate: {file: one.crt}\n    key: {file: none.key}",
                "bridge.yaml:5: sip.tls.key: cannot read none.key: No such file or directory",
            ),
            (
                "sip:\n  listen: tls:127.0.0.1\n  tls:\n    certificate: {file: one.crt}\n    key: {file: two.key}",
                "bridge.yaml:5: sip.tls.key: the key in two.key does not belong to the certificate in one.crt",
            ),
            (
                "sip:\n  listen: tls:127.0.0.1\n  tls:\n    certificate: {file: one.crt}\n    key: {file: one.key}\n"
                "    certificates:\n    - certificate: {file: two.crt}\n      key: {file: one.crt}",
                "bridge.yaml:8: sip.tls.certificates[0].key: one.crt has no private key: expected PEM, not encrypted",
            ),
            (
                "sip: {listen: 'tls:127.0.0.1', tls: {certificate: {file: one.crt}, key: {file: one.key}, ca: {file: one.key}}}",
                "bridge.yaml:1: sip.tls.ca: one.key has no certificate: expected PEM, one or more authorities to trust",
            ),
            (
                "sip: {listen: 'tls:127.0.0.1', tls: {certificate: '-----BEGIN CERTIFICATE-----', key: one.key}}",
                "bridge.yaml:1: sip.tls.certificate: expected the path of a file with PEM, not what stands in it: it is "
                "read again when it changes",
            ),
            (
                "sip: {listen: 'tls:127.0.0.1', tls: {certificate: {path: one.crt}, key: one.key}}",
                "bridge.yaml:1: sip.tls.certificate: expected the path of a file with PEM, or {file: path}",
            ),
            (
                "sip: {listen: 'tls:127.0.0.1', tls: {certificate: {file: one.crt}, key: {file: one.key}, verify_client: required}}",
                "bridge.yaml:1: sip.tls: verify_client required needs ca: with those of the system, anybody's certificate "
                "would do",
            ),
        ],
    )
    def test_what_is_wrong_with_it(self, file: Path, authority: Authority, text: str, expected: str) -> None:
        for name in ("one", "two"):
            authority.pair(file=name)
        assert complaint(file, text) == expected


def test_the_configuration_that_the_contract_shows(file: Path) -> None:
    config = read(
        file,
        f"""
sip:      {{listen: ["udp:127.0.0.1:5060", "tcp:127.0.0.1:5060"], advertise: "192.0.2.10"}}
media:    {{ports: "20000-20999", workers: 1}}
store:    {{url: "redis://127.0.0.1:6379/0"}}
api:      {{listen: "127.0.0.1:8080", keys: [{{name: ops, key: "…", scopes: [admin]}}]}}
cluster:  {{listen: "127.0.0.1:7070", secret: "…"}}
webhooks: {{url: "http://127.0.0.1:3000/calls", secrets: ["{SECRET}"]}}
""",
    )
    assert [listener.transport for listener in config.sip.listen] == ["udp", "tcp"]
    assert str(config.sip.advertise) == "192.0.2.10"
    assert config.media.slices() == ((PortRange(20000, 20999),),)
    assert config.store.url.get_secret_value() == "redis://127.0.0.1:6379/0"
    assert str(config.cluster.listen) == "127.0.0.1:7070"


def test_every_key_says_what_it_is_for() -> None:
    listed = list(keys())
    assert len(listed) > 30
    assert [key.name for key in listed if not key.description] == []
    assert {key.name: key.default for key in listed}["sip.listen"] == "udp:0.0.0.0:5060"
