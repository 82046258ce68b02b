"""django-cachalot keeps the answers of queries in Django's cache, and drops them where a table was written."""

import django
import pytest
from django.conf import settings

settings.configure(
    CACHES={"default": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}},
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    DEFAULT_AUTO_FIELD="django.db.models.AutoField",
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "cachalot"],
    SECRET_KEY="x",
    SILENCED_SYSTEM_CHECKS=["cachalot.W001"],
)
django.setup()

from django.contrib.auth.models import Group  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import connection  # noqa: E402
from django.test import override_settings  # noqa: E402
from django.test.utils import CaptureQueriesContext  # noqa: E402


@pytest.fixture
def database(server):
    ours = {"BACKEND": "mcext.django.MemcachedCache", "LOCATION": server.address}
    with override_settings(CACHES={"default": ours}):
        call_command("check", verbosity=0)
        call_command("migrate", verbosity=0)
        yield connection


def names():
    with CaptureQueriesContext(connection) as asked:
        found = sorted(Group.objects.values_list("name", flat=True))
    return found, len(asked)


def test_a_query_is_asked_once_until_its_table_is_written(database):
    Group.objects.create(name="one")
    assert names() == (["one"], 1)
    assert names() == (["one"], 0)
    Group.objects.create(name="two")
    assert names() == (["one", "two"], 1)
    assert names() == (["one", "two"], 0)
    Group.objects.filter(name="one").delete()
    assert names() == (["two"], 1)
