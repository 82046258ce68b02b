"""The tests that `make tls` leaves out, by the reason."""

from fnmatch import fnmatch
from pathlib import Path

# The name of a file, * for any letters; or of a test in it, behind ::, and it may be of several the common beginning.
REASONS = {
    "python-memcached speaks no TLS": (
        "test_counts.py::test_calls_are_counted_while_nobody_looks",
        "test_counts.py::test_the_dict_that_the_caller_holds_counts_on",
        "test_differential.py::test_the_two_clients_agree",
        "test_readme.py::test_a_queue_that_answers_under_a_shorter_name_is_named_as_a_case_to_look_for",
        "test_readme.py::test_cas_without_cache_cas_overwrites_as_python_memcached_does",
        "test_readme.py::test_flags_beside_a_known_bit_are_read_as_python_memcached_reads_them",
        "test_readme.py::test_the_clients_refusal_of_a_value_leaves_the_old_one_and_memcacheds_removes_it",
        "test_codecs.py::test_no_bytes_are_stored_as_what_every_client_reads_and_no_lease_looks_like",
        "test_surface.py::test_a_host_name_that_is_not_ascii_is_looked_up_in_its_idna_form",
        "test_surface.py::test_a_hosts_socket_waits_no_longer_than_the_hosts_timeout",
        "test_switch.py",
        "test_upstream.py",
        "test_values.py::test_python_memcached_and_cache_read_what_the_other_stores",
    ),
    "aiomcache speaks no TLS": (
        "test_aiocache_backend.py::test_aiocaches_own_cache_reads_what_it_stores_and_it_what_that_stores",
    ),
    "the client is an example's, which makes it in the clear": ("test_fastapi_example.py", "test_frameworks_guide.py"),
    "twemproxy speaks no TLS": (
        "test_get_or_set_failures.py::test_through_a_twemproxy_a_lease_stands_beside_the_key",
        "test_live_fleets.py::test_twemproxy",
        "test_proxies.py::test_twemproxy",
    ),
    "the test's server is a plain socket of its own": (
        "test_failures.py::test_a_large_value_that_goes_out_in_part_is_a_connection_lost",
        "test_ownership.py::test_a_request_is_not_completed_on_a_connection_of_the_signal_handler",
        "test_ownership.py::test_a_request_sent_in_part_is_never_completed_by_another",
        "test_streams.py::test_a_broken_pipe_never_kills_the_process",
    ),
    "the client's socket is an object of the test's, or tells the test what is sent": (
        "test_overrides.py::test_a_connection_is_of_one_socket_class_and_not_of_its_address",
        "test_overrides.py::test_a_mock_as_the_socket_class",
        "test_overrides.py::test_a_replaced_socket_class_carries_all_io",
        "test_overrides.py::test_an_end_of_file_of_another_type_is_asked_for_its_length_alone",
        "test_overrides.py::test_quit_all_says_quit_through_a_subclass_of_the_real_socket",
        "test_overrides.py::test_what_a_sockets_own_methods_do_to_a_call_in_whose_middle_they_are_spoils_that_call_alone",
        "test_ownership.py::test_a_reply_to_a_marker_is_not_shown_as_the_answer",
        "test_ownership.py::test_a_server_is_not_blamed_for_the_time_that_sending_to_another_took",
        "test_ownership.py::test_a_signal_beside_an_exception_of_a_socket_is_heard_behind_it",
        "test_secrets.py::test_an_exception_that_passes_through_a_connect_shows_nothing",
    ),
    "no certificate of the test's servers has the name that is asked for": (
        "test_differences.py::test_a_name_is_resolved_at_each_connect",
        "test_server_life.py::test_a_name_that_moved_to_another_address_is_followed",
        "test_sources.py::test_each_address_of_a_name_is_a_server_as_its_name_server_says",
    ),
    "a tenth of a second, where a machine is loaded, is too short for a handshake": (
        "test_customised.py::test_a_reply_that_comes_too_late_is_for_nobody",
    ),
    "its server or proxy sees what comes in the clear": (
        "test_async_secrets.py::test_a_wrong_password_ends_all_calls_and_the_server_is_left_alone[False]",
        "test_async_secrets.py::test_the_password_is_asked_for_at_each_connect[False]",
        "test_async_streams.py::test_a_server_that_does_not_read_holds_back_what_is_not_written",
        "test_async_streams.py::test_what_one_turn_asks_leaves_in_one_write",
        "test_cancellation.py::test_cancelled_while_the_stream_is_opened_nothing_is_sent",
        "test_coroutines.py::test_a_lease_that_somebody_has_on_a_cold_key_is_no_value",
    ),
    "an idle stream of an AsyncCache is not looked at there: what lies in it may be a ticket": (
        "test_async_failures.py::test_a_stream_that_ended_while_it_was_idle_costs_no_call",
    ),
    "it is about TLS itself, or has runs over TLS, in any case": (
        "test_chaos.py",
        "test_expiries.py",
        "test_testing.py",
        "test_tls*.py",
    ),
    "the constructors have other signatures here": (
        "test_surface.py::test_the_constructor_has_python_memcacheds_parameters_and_the_new_ones",
    ),
    "the constructors are called by a line of the tests' support here": (
        "test_discovery.py::test_a_placement_by_modulo_is_warned_of_at_the_line_of_the_application",
    ),
    "the command speaks TLS where its own options say so": ("test_cli_*.py",),
    "it opens no connection": ("test_documents.py", "test_package.py", "test_typing.py", "test_fuzz_corpus.py"),
}
PLAIN_CONNECT = "python-memcached's own connect, which some tests copy, makes a plain stream"


def reason_for(item):
    """Why this test is not run over TLS, or None."""
    file = Path(item.fspath).name
    if "_get_socket" in item.name and file == "test_customised.py":
        return PLAIN_CONNECT
    for reason, names in REASONS.items():
        for name in names:
            if fnmatch(file, name) or ("::" in name and f"{file}::{item.name}".startswith(name)):
                return reason
    return None
