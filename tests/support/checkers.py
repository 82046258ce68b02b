"""Which checker this Python runs under, for tests that cannot run there."""

import sysconfig

import pytest

THREAD_SANITIZER = "--with-thread-sanitizer" in (sysconfig.get_config_var("CONFIG_ARGS") or "")


def not_under_thread_sanitizer(reason):
    """Mark a test that ThreadSanitizer keeps from saying anything."""
    return pytest.mark.skipif(THREAD_SANITIZER, reason=f"under ThreadSanitizer {reason}")
