"""Which names get values, which are refused, which are removed; and what a value may hold."""

import pytest

from secret_agent_client.dotenv import parse_dotenv
from secret_agent_client.environment import (
    MAX_VALUE,
    Asked,
    Plan,
    child_environment,
    plan_environment,
)
from secret_agent_client.errors import InvalidError, UsageError
from secret_agent_client.manifest import Manifest, ManifestFile, parse_manifest

MANIFEST = b"""
version = 1
[env]
FROM_MANIFEST = "secret://payments/db#url"
OPTIONAL = { ref = "secret://payments/maybe", required = false }
[stage.test.env]
FROM_MANIFEST = "secret://sandbox/db#url"
ONLY_IN_TEST = "secret://sandbox/key"
"""


def manifest(data: bytes = MANIFEST) -> Manifest:
    return parse_manifest(ManifestFile("/repo/secrets.toml", data))


def wanted(plan: Plan) -> dict[str, str]:
    return {each.name: str(each.reference) for each in plan.wanted}


class TestNames:
    @pytest.mark.parametrize(
        "name",
        [
            "LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT", "PATH", "PYTHONSTARTUP", "PYTHONPATH",
            "BASH_ENV", "ENV", "GIT_SSH_COMMAND", "GIT_CONFIG_COUNT", "IFS", "SHELLOPTS", "PS4",
            "NODE_OPTIONS", "PERL5OPT", "RUBYOPT", "JAVA_TOOL_OPTIONS", "PROMPT_COMMAND", "EDITOR",
            "DYLD_INSERT_LIBRARIES", "GCONV_PATH", "GLIBC_TUNABLES", "SECRET_AGENT_SOCK",
        ],
    )  # fmt: skip
    def test_a_name_that_decides_what_runs_gets_no_value(self, name: str) -> None:
        for asked in (
            Asked(env=(f"{name}=a/b",)),
            Asked(files=(f"{name}=a/b",)),
            Asked(env_files=(parse_dotenv(f"{name}=secret://a/b".encode()),)),
            Asked(env_files=(parse_dotenv(f"{name}=plain".encode()),)),
        ):
            with pytest.raises(InvalidError, match=f"{name} decides what programs run"):
                plan_environment({}, asked)
        with pytest.raises(InvalidError, match=f"{name} decides"):
            plan_environment({name: "secret://a/b"}, Asked())
        text = f'version = 1\n[env]\n{name} = "secret://a/b"\n'.encode()
        with pytest.raises(InvalidError, match=f"secrets.toml: {name} decides"):
            plan_environment({}, Asked(), manifest(text))

    @pytest.mark.parametrize(
        "name", ["", "A B", "x y", "1A", "A-B", "BASH_FUNC_x%%", "Ä", "A\n", "A.B", "A\0"]
    )
    def test_what_is_no_name_is_refused(self, name: str) -> None:
        with pytest.raises(InvalidError, match="a name must be letters"):
            plan_environment({}, Asked(env=(f"{name}=a/b",)))

    def test_a_second_equals_sign_belongs_to_no_reference(self) -> None:
        with pytest.raises(InvalidError, match="--env A: 'B' at position 0"):
            plan_environment({}, Asked(env=("A=B=a/b",)))

    @pytest.mark.parametrize("text", ["", "A", "a/b"])
    def test_an_option_without_a_name_says_how_it_is_written(self, text: str) -> None:
        with pytest.raises(UsageError, match="--file takes NAME=REF") as caught:
            plan_environment({}, Asked(files=(text,)))
        assert caught.value.remedy == "secret-agent run --file NAME=REF -- CMD"

    @pytest.mark.parametrize("name", ["DATABASE_URL", "_", "a", "KUBECONFIG", "PGPASSWORD"])
    def test_ordinary_names_are_taken(self, name: str) -> None:
        assert wanted(plan_environment({}, Asked(env=(f"{name}=a/b",)))) == {name: "secret://a/b"}


class TestPrecedence:
    def test_an_option_is_stronger_than_the_manifest_and_that_than_the_environment(self) -> None:
        inherited = {"FROM_MANIFEST": "secret://x/y", "ONLY_HERE": "secret://x/z"}
        plan = plan_environment(inherited, Asked(), manifest())
        assert wanted(plan) == {
            "FROM_MANIFEST": "secret://payments/db#url",
            "ONLY_HERE": "secret://x/z",
            "OPTIONAL": "secret://payments/maybe",
        }
        plan = plan_environment(inherited, Asked(env=("FROM_MANIFEST=a/b",)), manifest())
        assert wanted(plan)["FROM_MANIFEST"] == "secret://a/b"

    def test_a_plain_value_of_an_env_file_is_stronger_than_the_manifest(self) -> None:
        asked = Asked(env_files=(parse_dotenv(b"FROM_MANIFEST=plain\nX=secret://a/b"),))
        plan = plan_environment({}, asked, manifest())
        assert "FROM_MANIFEST" not in wanted(plan)
        assert child_environment(plan, {})[b"FROM_MANIFEST"] == b"plain"

    @pytest.mark.parametrize(
        "asked",
        [
            Asked(env=("A=a/b", "A=a/c")),
            Asked(env=("A=a/b",), files=("A=a/b",)),
            Asked(env=("A=a/b",), env_files=(parse_dotenv(b"A=plain"),)),
            Asked(env_files=(parse_dotenv(b"A=plain"), parse_dotenv(b"A=secret://a/b"))),
        ],
    )
    def test_asking_twice_for_one_name_is_an_error(self, asked: Asked) -> None:
        with pytest.raises(UsageError, match="A is asked for twice"):
            plan_environment({}, asked)

    def test_the_stage_chooses_the_table_of_the_manifest(self) -> None:
        plan = plan_environment({}, Asked(), manifest(), stage="test")
        assert wanted(plan)["FROM_MANIFEST"] == "secret://sandbox/db#url"
        assert wanted(plan)["ONLY_IN_TEST"] == "secret://sandbox/key"

    def test_where_it_is_optional_the_plan_says_so(self) -> None:
        plan = plan_environment({}, Asked(), manifest())
        assert {each.name: each.required for each in plan.wanted}["OPTIONAL"] is False

    def test_a_file_and_an_env_are_told_apart(self) -> None:
        plan = plan_environment({}, Asked(env=("A=a/b",), files=("B=a/b",)))
        assert {each.name: each.as_file for each in plan.wanted} == {"A": False, "B": True}


class TestRemoval:
    def test_a_name_of_another_stage_is_taken_out_of_the_environment(self) -> None:
        inherited = {"ONLY_IN_TEST": "an old value", "KEPT": "x"}
        plan = plan_environment(inherited, Asked(), manifest())
        assert child_environment(plan, {}) == {b"KEPT": b"x"}

    def test_an_optional_name_without_its_secret_is_unset_and_not_the_old_one(self) -> None:
        plan = plan_environment({"OPTIONAL": "an old value"}, Asked(), manifest())
        assert b"OPTIONAL" not in child_environment(plan, {"FROM_MANIFEST": b"new"})

    def test_a_reference_never_reaches_the_child(self) -> None:
        plan = plan_environment({"A": "secret://a/b", "B": "x"}, Asked())
        assert child_environment(plan, {"A": b"value"}) == {b"A": b"value", b"B": b"x"}

    def test_what_only_looks_like_a_reference_within_is_left(self) -> None:
        inherited = {"A": "see secret://a/b", "B": "SECRET://a"}
        plan = plan_environment(inherited, Asked())
        assert plan.wanted == ()
        assert plan.kept == inherited

    def test_a_broken_reference_in_the_environment_is_named_by_its_variable(self) -> None:
        with pytest.raises(InvalidError, match=r"TOKEN in the environment: .* position"):
            plan_environment({"TOKEN": "secret://A"}, Asked())

    def test_everything_else_passes_as_it_is(self) -> None:
        inherited = {"PATH": "/bin", "BASH_FUNC_x%%": "() { :; }", "ODD": "\udcff"}
        environment = child_environment(plan_environment(inherited, Asked()), {})
        assert environment == {b"PATH": b"/bin", b"BASH_FUNC_x%%": b"() { :; }", b"ODD": b"\xff"}


class TestValues:
    @pytest.mark.parametrize(
        ("value", "why"),
        [
            (b"a\0b", "has a NUL"),
            (b"\xff\xfe", "is not UTF-8"),
            (b"x" * MAX_VALUE, "has 131071 bytes"),
        ],
    )
    def test_what_no_environment_holds_is_refused_and_a_file_advised(
        self, value: bytes, why: str
    ) -> None:
        plan = plan_environment({}, Asked(env=("NAME=a/b",)))
        with pytest.raises(InvalidError, match=f"the value for NAME {why}") as caught:
            child_environment(plan, {"NAME": value})
        assert caught.value.remedy == "secret-agent run --file NAME=REF -- CMD"
        assert repr(value)[2:6] not in str(caught.value)

    @pytest.mark.parametrize("value", [b"", b"line\nline\r\n", "ä€".encode(), b"x" * 100_000])
    def test_everything_else_is_kept_to_the_byte(self, value: bytes) -> None:
        plan = plan_environment({}, Asked(env=("NAME=a/b",)))
        assert child_environment(plan, {"NAME": value}) == {b"NAME": value}

    def test_a_line_of_an_env_file_that_fits_nothing_stops_everything(self) -> None:
        with pytest.raises(InvalidError, match="--env-file: line 2: no NAME=value"):
            plan_environment({}, Asked(env_files=(parse_dotenv(b"A=1\nhunter2\n"),)))

    def test_a_plan_does_not_show_what_it_holds(self) -> None:
        asked = Asked(env_files=(parse_dotenv(b"A=hunter2"),))
        assert "hunter2" not in repr(plan_environment({"B": "hunter2"}, asked))
