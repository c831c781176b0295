"""The same promises with podman as root has it, for the lane of tests that run as root.

Elsewhere the tests of test_podman_scope run as whoever runs them, which is rootless podman.
"""

import pytest

from real.test_podman_mounts import test_the_agents_own_socket_serves_no_container
from real.test_podman_scope import (
    test_a_user_inside_that_is_not_root_is_served_when_the_scope_names_it,
    test_a_user_inside_that_the_scope_does_not_name_is_refused,
    test_the_user_that_made_the_scope_needs_nothing_said,
    test_what_it_does_not_allow_does_not_exist_and_is_audited_with_the_container,
)
from support.container_fixtures import desk, engine, first_desk, lone_desk

__all__ = [
    "desk",
    "engine",
    "first_desk",
    "lone_desk",
    "test_a_user_inside_that_is_not_root_is_served_when_the_scope_names_it",
    "test_a_user_inside_that_the_scope_does_not_name_is_refused",
    "test_the_agents_own_socket_serves_no_container",
    "test_the_user_that_made_the_scope_needs_nothing_said",
    "test_what_it_does_not_allow_does_not_exist_and_is_audited_with_the_container",
]
pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.root]
