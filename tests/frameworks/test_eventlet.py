"""eventlet: monkey-patched before and after memcache is imported, given as memcache.socket, and import_patched."""

import pytest

pytestmark = [pytest.mark.frameworks, pytest.mark.slow, pytest.mark.slow]
LIBRARY = "eventlet"
ORDERS = ["patched-first", "imported-first", "used-first", "assigned", "import-patched"]


@pytest.mark.parametrize("order", ORDERS)
class TestGreenlets:
    def test_every_kind_of_call(self, greenlets, order):
        greenlets(order, "calls")

    def test_many_greenlets_share_a_client(self, greenlets, order):
        seen = greenlets(order, "shared")
        assert seen["wrong"] == []
        assert seen["total"] == 50 * 25
        assert seen["connections"] <= 50, "more connections than greenlets"

    def test_what_replaced_methods_hold_is_the_greenlets_own(self, greenlets, order):
        assert greenlets(order, "replaced")["wrong"] == []

    def test_native_threads_beside_greenlets(self, greenlets, order):
        assert greenlets(order, "native_threads")["wrong"] == []

    def test_each_greenlet_has_its_own_attributes_where_local_is_patched(self, greenlets, order):
        seen = greenlets(order, "attributes")
        if order in ("patched-first", "import-patched"):
            assert seen["seen"] == [[number, {"gets": number}, 1] for number in range(1, 6)]
            assert seen["here"] == [{"set": 1}, 0]
        else:
            assert seen["here"] == [{"set": 1, "gets": 15}, 1]

    def test_a_call_that_a_timeout_interrupts_leaves_no_reply_behind(self, greenlets, order):
        greenlets(order, "interrupted")

    def test_each_connection_says_its_name_and_password_once(self, greenlets, order):
        seen = greenlets(order, "authenticated")
        for kind in ("Client", "Own"):
            # The socket that listens is counted, too.
            assert seen[kind]["auth_cmds"] == seen[kind]["total_connections"] - 1
            assert seen[kind]["auth_errors"] == (1 if kind == "Own" else 0)
        assert 0.9 <= seen["elapsed"] < 10 and seen["gap"] < seen["elapsed"] - 0.5, seen

    @pytest.mark.parametrize("where", ["silent", "connect", "receive", "send"])
    def test_the_hub_runs_on_while_a_server_stalls(self, greenlets, order, where):
        seen = greenlets(order, f"stall_{where}")
        assert 0.9 <= seen["elapsed"] < 10, seen
        assert seen["gap"] < seen["elapsed"] - 0.5, "the hub stood still while a call waited"
        assert seen["ticks"] > 5, seen  # of a hundred: a busy machine has few
